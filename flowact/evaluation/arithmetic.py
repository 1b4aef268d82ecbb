"""What faster arithmetic costs: errors of layers, and of the stream of the bundled example.

An error is the norm of a difference over the norm of what is right. A layer's is of the same
inputs, those that it has in the exact stream. A stream's grows by itself, since each chunk is made
from those before it; that of bfloat16, under which people are streamed as a matter of course, is
given beside it where the exact stream is one of bfloat16.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowact.models.transformer import FlowActTransformer3DModel
from flowact.pipeline import FlowActPipeline
from flowact.runs import BenchmarkConfig
from flowact.runtime import describe, load_pipeline
from flowact.settings import AttentionBackend, Precision, Quantize

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass
class Sums:
    """Squares of differences and of what is right, added up."""

    wrong: float = 0.0
    right: float = 0.0

    def add(self, found: Tensor, expected: Tensor) -> None:
        self.wrong += (found.float() - expected.float()).square().sum().item()
        self.right += expected.float().square().sum().item()

    def plus(self, other: "Sums") -> "Sums":
        return Sums(self.wrong + other.wrong, self.right + other.right)

    @property
    def error(self) -> float:
        """0 of what is 0 and stays so, as an untrained audio adapter's output does."""
        return math.sqrt(self.wrong / self.right) if self.right else math.sqrt(self.wrong)


@dataclass
class Streamed:
    """Latents of each chunk, and frames of all, uint8."""

    latents: list[Tensor] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)


def arithmetic_errors(config: BenchmarkConfig) -> dict[str, Any]:
    """Errors of ``config.attention`` and ``config.quantize``, by kind of layer and of the stream.

    Raises:
        ValueError: as ``load_pipeline``.
    """
    exact_config = replace(
        config, errors=False, attention=AttentionBackend.native, quantize=Quantize.none
    )
    changed, exact = load_pipeline(config), load_pipeline(exact_config)
    report = describe(config, changed, torch.get_num_threads())
    with layer_errors(exact.transformer, changed.transformer) as layers:
        expected = stream_example(exact, config)
    report["layers"] = by_kind(layers)
    report["stream"] = compare_streams(stream_example(changed, config), expected)
    if exact.transformer.dtype is torch.bfloat16:
        del changed, exact  # of three models no more than two at a time
        wide = load_pipeline(replace(exact_config, precision=Precision.fp32))
        found = compare_streams(expected, stream_example(wide, config))
        report["stream_of_bfloat16_itself"] = found
    return report


@contextmanager
def layer_errors(
    exact: FlowActTransformer3DModel, changed: FlowActTransformer3DModel
) -> Iterator[dict[str, Sums]]:
    """Errors of the quantised layers of ``changed``, by name, while ``exact`` runs."""
    sums: dict[str, Sums] = {}
    hooks = []
    for name, layer in changed.named_modules():
        if isinstance(layer, nn.Linear) and type(layer.weight.data) is not Tensor:
            sums[name] = Sums()
            hook = _compare(layer, sums[name])
            hooks.append(exact.get_submodule(name).register_forward_hook(hook))
    try:
        yield sums
    finally:
        for handle in hooks:
            handle.remove()


def _compare(layer: nn.Module, sums: Sums) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_: nn.Module, inputs: Any, output: Tensor) -> None:
        sums.add(layer(*inputs), output)

    return hook


def by_kind(layers: dict[str, Sums]) -> dict[str, dict[str, Any]]:
    """Layers of all blocks together, and the worst of them: {"attn.to_q": {"error": ...}}."""
    kinds: dict[str, dict[str, Sums]] = {}
    for name, sums in layers.items():
        kinds.setdefault(re.sub(r"^transformer_blocks\.\d+\.", "", name), {})[name] = sums
    found: dict[str, dict[str, Any]] = {}
    for kind, own in kinds.items():
        total = Sums()
        for sums in own.values():
            total = total.plus(sums)
        worst = max(sums.error for sums in own.values())
        found[kind] = {"layers": len(own), "error": total.error, "worst": worst}
    return found


def stream_example(pipeline: FlowActPipeline, config: BenchmarkConfig) -> Streamed:
    """The person and the speech that ship with the package, for ``config.seconds`` at most."""
    settings = config.stream.over(pipeline.config.stream)
    session = pipeline.session(
        ASSETS / "person.png", "They talk.", seeds=(config.seed,), stream=settings
    )
    spoken = torch.cat(list(pipeline.blocks(ASSETS / "speech.flac")))
    session.push(spoken[: round(config.seconds * pipeline.config.geometry.sample_rate)])
    session.end()
    streamed = Streamed()
    while not session.done:
        tick = session.tick(session.conditions())
        if tick.finished is not None:
            streamed.latents.append(tick.finished.latents.float().cpu())
            streamed.frames.append(session.decode())
    return streamed


def compare_streams(found: Streamed, expected: Streamed) -> dict[str, float | None]:
    """Errors of the latents of the first chunk, of the last and of all; and of the pictures.

    ``psnr_db`` is None of pictures that are the same.
    """
    total, chunks = Sums(), []
    for mine, right in zip(found.latents, expected.latents, strict=True):
        chunk = Sums()
        chunk.add(mine, right)
        chunks.append(chunk.error)
        total = total.plus(chunk)
    shown, right = (torch.cat(s.frames, dim=1).float() for s in (found, expected))
    off = (shown - right).square().mean().item()
    return {
        "chunks": len(chunks),
        "first_chunk": chunks[0],
        "last_chunk": chunks[-1],
        "all_chunks": total.error,
        "psnr_db": 10 * math.log10(255**2 / off) if off else None,
    }
