"""Noise levels of the stream: a shifted grid, cut into one segment per age (paper 2.1, 2.4)."""

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Level = TypeVar("Level", float, Tensor)


def shift_level(u: Level, shift: float) -> Level:
    """s = k u / (1 + (k - 1) u): the larger the latent, the longer it stays noisy (design 3)."""
    return shift * u / (1 + (shift - 1) * u)


def unshift_level(level: float, shift: float) -> float:
    """The inverse of ``shift_level``."""
    return level / (shift - (shift - 1) * level)


@dataclass(frozen=True)
class Levels:
    """The levels a chunk passes through in its life in the stream.

    A chunk of age ``a`` (ticks since it entered) is in segment ``a``; a tick is ``micro_steps``
    model calls, each of which moves every chunk down one level.

    Attributes:
        depth: chunks in the stream, and segments.
        micro_steps: model calls per tick, 1 after distillation.
        shift: k of the shifted grid; it belongs to the checkpoint.
    """

    depth: int
    micro_steps: int = 1
    shift: float = 5.0

    def at(self, age: int, micro_step: int = 0) -> float:
        """Level of a chunk of ``age`` before ``micro_step`` of its tick; 1 first, 0 at the end."""
        return self.shifted(
            1 - (age * self.micro_steps + micro_step) / (self.depth * self.micro_steps)
        )

    @property
    def all(self) -> tuple[float, ...]:
        """Those that a model is called at."""
        ages, steps = range(self.depth), range(self.micro_steps)
        return tuple(self.at(age, step) for age in ages for step in steps)

    def shifted(self, u: float) -> float:
        return shift_level(u, self.shift)

    def repair(self, start: float) -> tuple[float, ...]:
        """From ``start`` to 0 in ``micro_steps`` steps even in u: memory refinement (paper 2.5)."""
        u = unshift_level(start, self.shift)
        steps = range(self.micro_steps + 1)
        return (start, *(self.shifted(u * (1 - step / self.micro_steps)) for step in steps[1:]))
