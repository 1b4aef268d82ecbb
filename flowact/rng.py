"""Counter-based randomness: every draw is a pure function of a key, so no generator is saved."""

import hashlib

import torch
from torch import Tensor


def stable_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as ``(seed, "stream", chunk)``; equal on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keyed_normal(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Standard normal float32 of ``shape`` on the CPU, drawn by ``key`` alone."""
    generator = torch.Generator().manual_seed(stable_seed(*key))
    return torch.randn(shape, generator=generator)


def keyed_uniform(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Uniform float32 in [0, 1) of ``shape`` on the CPU, drawn by ``key`` alone."""
    generator = torch.Generator().manual_seed(stable_seed(*key))
    return torch.rand(shape, generator=generator)
