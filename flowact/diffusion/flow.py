"""Rectified flow: x = (1 - s) x0 + s e, velocity v = e - x0, s in [0, 1] (design 3).

``level`` broadcasts against the latents; ``expand`` makes [B, F] levels do so.
"""

from torch import Tensor


def expand(level: Tensor) -> Tensor:
    """[B, F] -> [B, 1, F, 1, 1]."""
    return level[:, None, :, None, None]


def add_noise(clean: Tensor, noise: Tensor, level: Tensor | float) -> Tensor:
    """The point at ``level`` on the straight line from ``clean`` (0) to ``noise`` (1)."""
    return clean + level * (noise - clean)


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """dx/ds along that line: what the model learns."""
    return noise - clean


def clean_from_velocity(x: Tensor, v: Tensor, level: Tensor | float) -> Tensor:
    """x0 = x - s v."""
    return x - level * v


def noise_from_velocity(x: Tensor, v: Tensor, level: Tensor | float) -> Tensor:
    """e = x + (1 - s) v."""
    return x + (1 - level) * v


def noise_from_clean(x: Tensor, clean: Tensor, level: Tensor | float) -> Tensor:
    """e of x = (1 - s) x0 + s e, for s above 0."""
    return clean + (x - clean) / level


def euler(x: Tensor, v: Tensor, level: Tensor | float, target: Tensor | float) -> Tensor:
    """One Euler step from ``level`` to ``target``."""
    return x + (target - level) * v
