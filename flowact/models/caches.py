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

    @property
    def real(self) -> Tensor:
        """``mask``, written out."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.tokens.shape[:2], dtype=torch.bool, device=self.tokens.device)

    def of(self, prompts: Tensor) -> "TextCache":
        """The cache of a batch whose samples have these [B] of the prompts cached here."""
        mask = None if self.mask is None else self.mask[prompts]
        layers = (
            kv
            and TextKeyValue(
                kv.key.index_select(0, prompts), kv.value.index_select(0, prompts), mask
            )
            for kv in self.layers
        )
        return TextCache(self.tokens[prompts], mask, tuple(layers))


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

    def split(self) -> list["ContextCache"]:
        """``join`` undone: the cache of each latent."""
        return [
            ContextCache(
                self.latents[:, :, i : i + 1],
                tuple(None if kv is None else kv.of(slice(i, i + 1)) for kv in self.layers),
            )
            for i in range(self.latents.shape[2])
        ]


@dataclass(frozen=True)
class PlacedContext:
    """A ``ContextCache`` in its slots: keys rotated, for all calls of one tick."""

    latents: Tensor
    positions: Tensor
    layers: tuple[KeyValue | None, ...]

    def after(self, first: "PlacedContext | None") -> "PlacedContext":
        """The latents of ``first``, then these."""
        if first is None:
            return self
        layers = tuple(
            None if kv is None or kv_first is None else kv_first.before(kv)
            for kv_first, kv in zip(first.layers, self.layers, strict=True)
        )
        return PlacedContext(
            torch.cat((first.latents, self.latents), dim=2),
            torch.cat((first.positions, self.positions)),
            layers,
        )


@dataclass(frozen=True)
class StreamInputs:
    """The stream as one call of the backbone takes it.

    Attributes:
        latents: [B, C, F, H, W].
        levels: their noise levels in [0, 1], [B, F].
        positions: their slots, [F], non-negative.
        texts: the prompts in the stream.
        text_of_latent: for each latent, the index of its prompt in ``texts``.
        audio: features around each latent, [B, F, audio_window, audio_feature_dim]; zero features
            are null audio. None skips the adapter.
        guidance: text and audio scales [B, 2], for a model with ``guidance_embeds``.
        reference: the reference latent [B, C, 1, H, W], for a model with ``reference_below``; None
            is a stream without one.
    """

    latents: Tensor
    levels: Tensor
    positions: Tensor
    texts: Sequence[TextCache]
    text_of_latent: Sequence[int]
    audio: Tensor | None = None
    guidance: Tensor | None = None
    reference: Tensor | None = None
