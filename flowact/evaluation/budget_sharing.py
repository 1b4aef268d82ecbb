"""What a tick costs each of several GPUs that share it, and the bytes that they send."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowact.evaluation.against_diffusers import steady_tick
from flowact.evaluation.budget import GPUS, MODULATION, REACHED, Kinds, Products, roofline
from flowact.evaluation.budget import without_storage as backbone_of
from flowact.parallel.ranks import Ranks
from flowact.parallel.shares import share_out
from flowact.settings import ModelConfig, Parallel


@dataclass(frozen=True)
class Imagined(Ranks):
    """One of so many processes, of which the others send what it sends."""

    def gather(self, mine: Tensor) -> Callable[[], Tensor]:
        self.traffic.received += mine.numel() * mine.element_size() * (self.count - 1)
        return lambda: mine.expand(self.count, *mine.shape)

    def exchange(self, parts: Tensor) -> Callable[[], Tensor]:
        self.traffic.received += parts[0].numel() * parts.element_size() * (self.count - 1)
        return lambda: parts


def sharing(
    model: ModelConfig,
    text_tokens: int,
    fixed_levels: bool,
    processes: Sequence[int],
) -> list[dict[str, Any]]:
    """Each way to share a steady tick of ``model``, as far as it can be.

    Told are the bytes that a process receives, and the seconds of the one that has most to do, at
    ``REACHED`` of the roofline of each GPU, and as much longer as all that it receives takes.
    """
    told = []
    for count in processes:
        for way in Parallel:
            transformer, ranks = backbone_of(model), Imagined(0, count)
            try:
                share_out(transformer, way, ranks)
                with torch.no_grad():
                    tick = steady_tick(transformer, model, text_tokens)
                    ranks.traffic.received = 0
                    with Products(Kinds(transformer)) as counted:
                        tick()
            except ValueError:  # neither heads nor tokens are dealt out to so many
                continue
            work = dict(counted.work)
            if fixed_levels:
                del work[MODULATION]
            seconds = {
                f"{name} {precision}": roofline(work, gpu, precision) / REACHED
                + ranks.traffic.received / gpu.link
                for name, gpu in GPUS.items()
                for precision in gpu.flops
            }
            sent = {"processes": count, "parallel": way.name, "received": ranks.traffic.received}
            told.append(sent | {"tick_s": seconds})
    return told


def markdown(told: Sequence[Mapping[str, Any]]) -> str:
    """A row for each way."""
    gpus = list(told[0]["tick_s"])
    lines = [
        f"| a tick, s, at {REACHED:.0%} of the roofline | received, GB | {' | '.join(gpus)} |",
        "|---" * (2 + len(gpus)) + "|",
    ]
    for row in told:
        seconds = " | ".join(f"{row['tick_s'][gpu]:.3g}" for gpu in gpus)
        name = f"{row['processes']} GPUs by {row['parallel']}"
        lines.append(f"| {name} | {row['received'] / 1e9:.3g} | {seconds} |")
    return "\n".join(lines)
