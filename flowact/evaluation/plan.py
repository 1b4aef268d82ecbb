"""The plan of a preset: what a tick costs, how fast GPUs can be at it, and what must fit on one."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowact.evaluation.against_diffusers import steady_tick
from flowact.evaluation.budget import (
    DECODER,
    GPUS,
    MODULATION,
    REACHED,
    Gpu,
    Work,
    decoder_of,
    roofline,
    tick_work,
    without_storage,
)
from flowact.evaluation.budget_sharing import markdown as sharing_table
from flowact.evaluation.budget_sharing import sharing
from flowact.geometry import Geometry
from flowact.index import read_index
from flowact.models.vae_thin import ThinDecoder
from flowact.models.vae_thin_weights import load_thin_decoder
from flowact.runs import BenchmarkConfig
from flowact.settings import ModelConfig
from flowact.training.memory_step import LiveBytes


def plan(config: BenchmarkConfig) -> dict[str, Any]:
    """Tokens, work by kind of layer, and times and numbers of GPUs for 25 fps; without repairs.

    Raises:
        ValueError: ``config.weights`` is no folder of weights, or ``config.decoder`` no decoder.
    """
    model = config.model if config.weights is None else read_index(Path(config.weights))[0]
    stream = dataclasses.replace(config.stream.over(model.stream), refine_every=0)
    model, geometry = dataclasses.replace(model, stream=stream), model.geometry
    decoder = None if config.decoder is None else load_thin_decoder(config.decoder)
    work = tick_work(model, config.text_tokens, decoder)
    if config.fixed_levels:
        del work[MODULATION]
    joint = model.transformer.context_attention == "joint"
    context = geometry.buffer_latents - geometry.stream_latents if joint else 1
    denoiser = {kind: w for kind, w in work.items() if kind != DECODER}
    calls = model.stream.micro_steps * model.stream.passes
    return {
        "model": model.name,
        "tokens_per_latent": _tokens(model),
        "tokens_of_first_call": _tokens(model) * (geometry.stream_latents + context),
        "text_tokens": config.text_tokens,
        "calls_per_chunk": calls,
        "work": {
            kind: dataclasses.asdict(w) | {"share": w.flops / sum(v.flops for v in work.values())}
            for kind, w in work.items()
        },
        "gpus": {
            f"{name} {precision}": _on(gpu, precision, denoiser, work[DECODER], geometry)
            for name, gpu in GPUS.items()
            for precision in gpu.flops
        },
        "memory": memory(model, config.text_tokens, decoder),
        "shared": sharing(model, config.text_tokens, config.fixed_levels, config.processes),
    }


@torch.no_grad()
def memory(
    model: ModelConfig, text_tokens: int, decoder: ThinDecoder | None = None
) -> dict[str, float]:
    """Bytes on one GPU while ``model`` streams in bfloat16, encoders of text and sound aside.

    ``layers`` are the backbone's, ``modulation`` a part of them that fixed levels leave out,
    ``visiting`` two layers, which is what offloading has there of them; ``stream`` is the most that
    a tick, its text and its memory take, ``decoding`` what a chunk does.
    """
    transformer = without_storage(model)
    layers = [_bytes(block) for block in transformer.blocks]
    modulation = sum(
        _bytes(part)
        for name, part in transformer.named_modules()
        if name.endswith((".norm1.linear", ".norm1_context.linear"))
    )
    with LiveBytes() as stream:
        steady_tick(transformer, model, text_tokens)()
    autoencoder = decoder_of(model, decoder)
    chunk_size = (model.geometry.chunk_latents, *model.latent_size)
    chunk = torch.empty(
        1, model.transformer.out_channels, *chunk_size, device="meta", dtype=torch.bfloat16
    )
    with LiveBytes() as decoding:
        _, cache = autoencoder.decode(chunk)
        autoencoder.decode(chunk, cache)
    return {
        "layers": sum(layers),
        "modulation": modulation,
        "visiting": sum(sorted(layers)[-2:]),
        "other": _bytes(transformer) - sum(layers),
        "stream": stream.peak,
        "autoencoder": sum(_bytes(module) for module in autoencoder.modules),
        "decoding": decoding.peak,
    }


def _bytes(module: nn.Module) -> int:
    """Of its weights, in bfloat16."""
    return sum(2 * weight.numel() for weight in module.parameters())


def _on(
    gpu: Gpu, precision: str, denoiser: Mapping[str, Work], decoder: Work, geometry: Geometry
) -> dict[str, float]:
    tick = roofline(denoiser, gpu, precision)
    decoding = roofline({DECODER: decoder}, gpu, "bf16")
    return {
        "tick_s": tick,
        "decode_s": decoding,
        "gpus_for_25_fps": math.ceil((tick + decoding) / REACHED / geometry.chunk_seconds),
    }


def markdown(told: Mapping[str, Any]) -> str:
    """The plan as tables."""
    lines = [
        f"{told['model']}: {told['tokens_per_latent']} tokens a latent, "
        f"{told['tokens_of_first_call']} in a tick's first call, {told['text_tokens']} of text, "
        f"{told['calls_per_chunk']} calls a chunk",
        "",
        "| TFLOP a tick | linear | attention | convolution | weights, GB | moved, GB | share |",
        "|---" * 7 + "|",
    ]
    for kind, w in told["work"].items():
        counts = (w["linear"], w["attention"], w["convolution"])
        tera = " | ".join(f"{count / 1e12:.4g}" for count in counts)
        lines.append(
            f"| {kind} | {tera} | {w['weights'] / 1e9:.3g} | {w['activations'] / 1e9:.3g} "
            f"| {w['share']:.1%} |"
        )
    lines += [
        "",
        f"| at the roofline | denoiser, s | decoder, s | GPUs for 25 fps at {REACHED:.0%} of it |",
        "|---" * 4 + "|",
    ]
    for name, times in told["gpus"].items():
        lines.append(
            f"| {name} | {times['tick_s']:.3g} | {times['decode_s']:.3g} "
            f"| {times['gpus_for_25_fps']} |"
        )
    kept = told["memory"]
    whole = sum(kept[key] for key in ("layers", "other", "stream", "autoencoder", "decoding"))
    rows = {
        "all on the GPU": whole,
        "fixed_levels": whole - kept["modulation"],
        "offload": whole - kept["layers"] + kept["visiting"],
    }
    lines += ["", "| on one GPU in bf16, encoders of text and sound aside | GB |", "|---|---|"]
    lines += [f"| {name} | {size / 1e9:.3g} |" for name, size in rows.items()]
    if told["shared"]:
        lines += ["", sharing_table(told["shared"])]
    return "\n".join(lines)


def _tokens(model: ModelConfig) -> int:
    height, width = model.latent_size
    return height * width // model.transformer.patch_size**2
