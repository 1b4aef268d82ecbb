"""Counter-based randomness: every draw is a pure function of a key, so no generator is saved."""

import torch
from torch import Tensor

from flowact.seeds import stable_seed


def keyed_normal(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Standard normal float32 of ``shape`` on the CPU, drawn by ``key`` alone."""
    generator = torch.Generator().manual_seed(stable_seed(*key))
    return torch.randn(shape, generator=generator)


def keyed_uniform(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Uniform float32 in [0, 1) of ``shape`` on the CPU, drawn by ``key`` alone."""
    generator = torch.Generator().manual_seed(stable_seed(*key))
    return torch.rand(shape, generator=generator)
