"""What a tick costs, counted from the model as it is, and how fast that can be on a GPU.

The stream runs on tensors without storage, so that any machine can count any preset. Counted are
the products: linear layers, attention and convolutions, with the bytes that they read and write.
What lies between them can be fused into them, and is left out.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from flowact.evaluation.against_diffusers import steady_tick
from flowact.geometry import Geometry
from flowact.index import read_index
from flowact.models.components import build_autoencoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import wrap_autoencoder
from flowact.models.vae_thin import ThinAutoencoder, ThinDecoder
from flowact.models.vae_thin_weights import load_thin_decoder
from flowact.runs import BenchmarkConfig
from flowact.settings import ModelConfig
from flowact.training.memory import on_cpu

F = nn.functional
DECODER, MODULATION = "decoder", "modulation"
REACHED = 0.45  # of the roofline, that good kernels reach: an assumption of the table


@dataclass
class Work:
    """Of one kind of layer in one tick.

    Attributes:
        linear, attention, convolution: floating-point operations of products.
        weights: bytes of their weights, each read once, at two bytes a number.
        activations: bytes that they read and write besides, at two bytes a number.
    """

    linear: int = 0
    attention: int = 0
    convolution: int = 0
    weights: int = 0
    activations: int = 0

    @property
    def flops(self) -> int:
        return self.linear + self.attention + self.convolution


@dataclass(frozen=True)
class Gpu:
    """Peaks of a GPU, dense: operations a second by precision, and bytes a second.

    Attention and convolutions stay in bfloat16.
    """

    flops: Mapping[str, float]
    bandwidth: float


# From NVIDIA's data sheets: A100 80 GB SXM, H100 SXM, H200 SXM.
GPUS = {
    "A100": Gpu({"bf16": 312e12, "int8": 624e12}, 2.04e12),
    "H100": Gpu({"bf16": 990e12, "int8": 1979e12, "fp8": 1979e12}, 3.35e12),
    "H200": Gpu({"bf16": 990e12, "int8": 1979e12, "fp8": 1979e12}, 4.8e12),
}


class Products(TorchFunctionMode):
    """Counts the products that run under it, by the kind of layer that ``kind_of`` tells.

    Attributes:
        work: of each kind.
    """

    def __init__(self, kind_of: Callable[[Tensor | None], str]) -> None:
        super().__init__()
        self.work: dict[str, Work] = defaultdict(Work)
        self._kind_of = kind_of

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is F.linear:
            x, weight = args[:2]
            self._count(weight, [x, made], linear=2 * x.numel() * len(weight))
        elif func in (F.conv2d, F.conv3d, torch.conv2d, torch.conv3d):
            x, weight = args[:2]
            self._count(weight, [x, made], convolution=2 * made.numel() * weight[0].numel())
        elif func is torch.bmm:  # attention where the fused kernel would be slower
            self._count(None, [*args[:2], made], attention=2 * made.numel() * args[0].shape[-1])
        elif func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, key, value = named["query"], named["key"], named["value"]
            pairs = query[..., 0].numel() * key.shape[-2]
            sizes = query.shape[-1] + value.shape[-1]
            self._count(None, [query, key, value, made], attention=2 * pairs * sizes)
        return made

    def _count(self, weight: Tensor | None, moved: list[Tensor], **flops: int) -> None:
        work = self.work[self._kind_of(weight)]
        for name, count in flops.items():
            setattr(work, name, getattr(work, name) + count)
        work.weights += 0 if weight is None else 2 * weight.numel()
        work.activations += sum(2 * tensor.numel() for tensor in moved)


def tick_work(
    model: ModelConfig, text_tokens: int, decoder: ThinDecoder | None = None
) -> dict[str, Work]:
    """Of a steady tick of a stream of ``model``, and of decoding its chunk, by kind of layer.

    Text and context are in memory, but for the short-term latent, which is new; all chunks have one
    prompt of ``text_tokens`` tokens. A thin ``decoder`` takes the place of the autoencoder's.
    """
    with torch.device("meta"):
        on_meta = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer)).eval()
        nn.Module.to(on_meta, torch.bfloat16)
        decodes = build_autoencoder(model.autoencoder).eval()
    with FakeTensorMode(allow_non_fake_inputs=True):
        transformer = on_cpu(on_meta)
    autoencoder = wrap_autoencoder(decodes, window=model.autoencoder.window)
    if decoder is not None:
        autoencoder = ThinAutoencoder(autoencoder, decoder.to("meta"))
    # Outside of the mode, so that what is not derived from weights keeps its values: whether a mask
    # hides anything decides which kernel runs.
    with torch.no_grad():
        tick = steady_tick(transformer, model, text_tokens)
        with Products(_Kinds(transformer)) as counted:
            tick()
        work = dict(counted.work)
        chunk_size = (model.geometry.chunk_latents, *model.latent_size)
        chunk = torch.empty(1, model.transformer.out_channels, *chunk_size, device="meta")
        _, cache = autoencoder.decode(chunk)
        with Products(lambda _: DECODER) as counted:
            autoencoder.decode(chunk, cache)
    return work | counted.work


class _Kinds:
    """Tells the kind of layer by its weights; attention is of the layer that had the last ones."""

    def __init__(self, transformer: FlowActTransformer3DModel) -> None:
        self._kinds: dict[int, str] = {}
        for name, parameter in transformer.named_parameters():
            kind = "before and after the layers"
            if name.startswith("transformer_blocks."):
                layer = int(name.split(".")[1])
                kind = f"{transformer.transformer_blocks[layer].kind} layers"
            if ".audio." in name or name.startswith("audio_projector."):
                kind = "audio adapter"
            elif ".norm1.linear." in name:
                kind = MODULATION
            self._kinds[id(parameter)] = kind
        self._last = ""

    def __call__(self, weight: Tensor | None) -> str:
        if weight is not None:
            self._last = self._kinds[id(weight)]
        return self._last


def roofline(work: Mapping[str, Work], gpu: Gpu, precision: str) -> float:
    """Seconds that ``work`` takes at least, each kind by its operations or by its bytes."""
    low = gpu.flops[precision]
    high = gpu.flops["bf16"]
    size = 1 if precision == "bf16" else 0.5
    return sum(
        max(
            w.linear / low + (w.attention + w.convolution) / high,
            (size * w.weights + w.activations) / gpu.bandwidth,
        )
        for w in work.values()
    )


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
    }


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
    """The plan as two tables."""
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
    return "\n".join(lines)


def _tokens(model: ModelConfig) -> int:
    height, width = model.latent_size
    return height * width // model.transformer.patch_size**2
