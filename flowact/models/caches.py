"""What text and context leave behind for the stream: values, passed in and handed out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowact.models.attention import KeyValue, TextKeyValue


@dataclass(frozen=True)
class TextCache:
    """A prompt, ready to be attended to.

    Attributes:
        tokens: embedded and refined tokens [B, L, dim].
        mask: which of them are real, [B, L]; None if all are.
        layers: keys and values a layer; None where a layer has no text. Empty under full
            attention, where text sees the stream and nothing can be kept.
    """

    tokens: Tensor
    mask: Tensor | None
    layers: tuple[TextKeyValue | None, ...]


@dataclass(frozen=True)
class ContextCache:
    """Context latents, ready to be attended to.

    Attributes:
        latents: the latents themselves, [B, C, F, H, W].
        layers: keys (not rotated: slots change) and values a layer, [B, F, N, heads, head_dim];
            None where the stream does not look. Empty under full attention.
    """

    latents: Tensor
    layers: tuple[KeyValue | None, ...]

    @staticmethod
    def join(caches: Sequence["ContextCache"]) -> "ContextCache":
        """Caches of single latents as the cache of all: exact when each saw only itself."""
        if len(caches) == 1:
            return caches[0]
        layers = tuple(
            None
            if None in layer
            else KeyValue(*(torch.cat(part, dim=1) for part in zip(*layer, strict=True)))
            for layer in zip(*(cache.layers for cache in caches), strict=True)
        )
        return ContextCache(torch.cat([cache.latents for cache in caches], dim=2), layers)


@dataclass(frozen=True)
class PlacedContext:
    """A ``ContextCache`` in its slots: keys rotated, for all calls of one tick."""

    latents: Tensor
    positions: Tensor
    layers: tuple[KeyValue | None, ...]
