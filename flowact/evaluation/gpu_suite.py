"""Full-size speed, one switch at a time: what ``scripts/gpu_suite.sh`` measures on a CUDA machine.

A preset streams as it is, from sound and image to a file, but with random weights, and with a text
encoder of our own in place of one that exists with its weights only: a prompt is encoded once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from flowact.config import load_preset
from flowact.evaluation.benchmark import benchmark, machine
from flowact.evaluation.budget import DECODER, GPUS, MODULATION, Gpu, roofline, tick_work
from flowact.models.byte_t5 import BYTES_PER_TOKEN
from flowact.models.vae_thin import ThinDecoder, ThinSizes
from flowact.models.vae_thin_weights import save_thin_decoder
from flowact.runs import BenchmarkConfig, GpuSuiteConfig
from flowact.runtime import resolve_device
from flowact.settings import (
    AttentionBackend,
    AudioEncoderKind,
    ModelConfig,
    Precision,
    Quantize,
    TextEncoderKind,
)
from flowact.training.memory_step import build_network, make_windows
from flowact.training.objective import Draws
from flowact.training.window_loss import flow_matching
from flowact.training.window_settings import AutoregressiveConfig, LoraSettings

SIZES = {"large-v3": (1280, 32, 20)}  # of Whisper: width, layers, heads
THIN = ThinSizes(latent_channels=32, widths=(256, 128, 64, 64), time=(1, 2, 2), patch=2)
STACK = 4  # layers of a training step at full size
STEPS = 5


@dataclass(frozen=True)
class Row:
    """One way to stream a preset.

    Attributes:
        switches: keys of ``BenchmarkConfig`` that differ from its defaults.
        thin: decode with a thin decoder of TAEHV's sizes.
    """

    name: str
    switches: Mapping[str, Any] = field(default_factory=dict)
    thin: bool = False


BEST = {"compile": True, "graphs": True, "fixed_levels": True}
ROWS = (
    Row("as it is"),
    Row("thin decoder", thin=True),
    Row("fixed_levels", {"fixed_levels": True}),
    Row("graphs", {"graphs": True}),
    Row("compile", {"compile": True}),
    *(
        Row(f"attention={kind.name}", {"attention": kind})
        for kind in (
            AttentionBackend.native_cudnn,
            AttentionBackend.flash,
            AttentionBackend.flash_3,
            AttentionBackend.sage,
            AttentionBackend.flex,
        )
    ),
    Row("quantize=int8", {"quantize": Quantize.int8}),
    Row("quantize=fp8", {"quantize": Quantize.fp8}),
    Row("offload", {"offload": True}),
    Row("all, bf16", BEST, thin=True),
    Row("all, fp8", BEST | {"quantize": Quantize.fp8}, thin=True),
)


def gpu_suite(config: GpuSuiteConfig) -> dict[str, Any]:
    """All rows that fit into ``config.minutes``; what a row lacks stands in its place."""
    begun = time.monotonic()
    model = measurable(config.model)
    work = tick_work(model, config.text_tokens)
    told: dict[str, Any] = {"machine": machine(), "model": model.name, "streams": {}, "steps": {}}

    def attempt(name: str, group: str, measure: Callable[[], dict[str, Any]]) -> None:
        if time.monotonic() - begun > 60 * config.minutes:
            told[group][name] = {"left_out": f"{config.minutes} minutes were over"}
            return
        try:
            told[group][name] = measure()
        except (ValueError, ImportError, RuntimeError) as error:
            told[group][name] = {"left_out": str(error).splitlines()[0]}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    with TemporaryDirectory() as folder:
        thin = Path(folder) / "thin_decoder.safetensors"
        patch = model.geometry.spatial_stride // 2 ** len(THIN.time)
        sizes = replace(THIN, latent_channels=model.transformer.out_channels, patch=patch)
        save_thin_decoder(ThinDecoder(sizes), thin)
        for row in ROWS:
            if not config.rows or row.name in config.rows:
                attempt(row.name, "streams", partial(stream_row, row, model, config, work, thin))
    for name, layers in {"small": None, "hunyuan15": STACK}.items():
        if not config.rows or f"train {name}" in config.rows:
            attempt(f"train {name}", "steps", partial(step_row, name, layers, config))
    return told


def measurable(model: ModelConfig) -> ModelConfig:
    """``model`` of parts that can be built untrained, of the sizes that it has."""
    transformer, text, audio = model.transformer, model.text_encoder, model.audio_encoder
    if text.kind is TextEncoderKind.hunyuan15:
        width = transformer.text_embed_dim
        text = replace(
            text, kind=TextEncoderKind.byte_t5, width=width, layers=1, heads=8, max_bytes=1 << 16
        )
        transformer = replace(transformer, text_embed_2_dim=None, image_embed_dim=None)
    if audio.kind is AudioEncoderKind.whisper and audio.model in SIZES:
        width, layers, heads = SIZES[audio.model]
        audio = replace(audio, model=None, width=width, layers=layers, heads=heads)
    return replace(model, transformer=transformer, text_encoder=text, audio_encoder=audio)


def stream_row(
    row: Row, model: ModelConfig, config: GpuSuiteConfig, work: Mapping[str, Any], thin: Path
) -> dict[str, Any]:
    """A stream under the switches of ``row``: speed, memory, and share of the roofline."""
    asked = BenchmarkConfig(
        model=model,
        output="",
        seconds=config.seconds,
        ticks=0,
        device=config.device,
        precision=Precision.bf16,
        prompt="p" * (BYTES_PER_TOKEN * config.text_tokens - 1),
        decoder=str(thin) if row.thin else None,
        **row.switches,
    )
    report = benchmark(asked)
    assert report is not None, "one process runs the suite"
    chunks = max(1, len(range(0, report["frames"], model.geometry.chunk_frames)))
    tick = report["tick_s"]["p50"]
    told = {
        "tick_s": tick,
        "decode_s": report["stage_s"]["decode"] / chunks,
        "audio_and_text_s": report["stage_s"]["condition"] / chunks,
        "fps": report["fps"],
        "ttff_s": report["ttff_s"],
        "peak_gpu_mb": report.get("peak_gpu_mb"),
    }
    gpu = _peaks()
    if gpu is not None:
        kind = report["quantize"]
        least = {k: w for k, w in work.items() if k != DECODER}
        if report["fixed_levels"]:
            least.pop(MODULATION, None)
        best = roofline(least, gpu, kind if kind in gpu.flops else "bf16")
        told["share_of_roofline"] = best / tick
    return told


def step_row(preset: str, layers: int | None, config: GpuSuiteConfig) -> dict[str, Any]:
    """Forward and backward of stage 1 on one window in bf16, and the share of the peak it has."""
    device = torch.device(resolve_device(config.device))
    model = measurable(load_preset(preset))
    if layers is not None:
        model = replace(model, transformer=replace(model.transformer, num_layers=layers))
    with device:
        network = build_network(model, config.text_tokens, LoraSettings())
        windows = make_windows(model, 1, config.text_tokens)
    settings = AutoregressiveConfig()
    draws = Draws(0, "suite", 0, (0,))

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            total = flow_matching(network, windows, draws, model, settings).total
        total.backward()
        network.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with FlopCounterMode(display=False) as counted:
        step()
    step()
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    seconds = (time.perf_counter() - begun) / STEPS
    told = {"layers": model.transformer.num_layers, "step_s": seconds}
    told["tflop"] = counted.get_total_flops() / 1e12
    gpu = _peaks()
    if gpu is not None:
        told["mfu"] = counted.get_total_flops() / seconds / gpu.flops["bf16"]
    return told


def _peaks() -> Gpu | None:
    """Those of this machine's GPU, if they are known."""
    here = machine()["gpu"] or ""
    return next((peaks for name, peaks in GPUS.items() if name in here), None)


def markdown(told: Mapping[str, Any]) -> str:
    """The suite as two tables."""
    place = told["machine"]["gpu"] or told["machine"]["cpu"]
    columns = ("tick_s", "decode_s", "audio_and_text_s", "fps", "ttff_s", "share_of_roofline")
    lines = [
        f"{told['model']} on {place}, torch {told['machine']['torch']}",
        "",
        "| | tick, s | decoder, s | sound and text, s | frames/s | first frame, s "
        "| of the roofline | peak, GB |",
        "|---" * 8 + "|",
    ]
    for name, row in told["streams"].items():
        if "left_out" in row:
            lines.append(f"| {name} | left out: {row['left_out']} |" + " |" * 6)
            continue
        cells = " | ".join(_number(row.get(column)) for column in columns)
        peak = row.get("peak_gpu_mb")
        lines.append(f"| {name} | {cells} | {_number(peak and peak / 1e3)} |")
    lines += ["", "| training step | layers | s | TFLOP | of the peak |", "|---" * 5 + "|"]
    for name, row in told["steps"].items():
        if "left_out" in row:
            lines.append(f"| {name} | left out: {row['left_out']} |" + " |" * 3)
            continue
        cells = " | ".join(_number(row.get(key)) for key in ("layers", "step_s", "tflop", "mfu"))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
