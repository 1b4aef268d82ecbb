"""The memory bank: reference, long-term queue, short-term latent (paper 2.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from flowact.models.caches import ContextCache, TextCache


@dataclass(frozen=True)
class MemoryLatent:
    """A finished latent and what it was made under.

    Attributes:
        latent: [B, C, 1, H, W], normalised.
        text: the prompt it was made under; None for the reference image.
        audio: the features it was made under, [B, 1, window, feature_dim]; None likewise.
        cache: what it leaves in every layer; None until a tick has needed it.
    """

    latent: Tensor
    text: TextCache | None = None
    audio: Tensor | None = None
    cache: ContextCache | None = None


@dataclass(frozen=True)
class Memory:
    """Everything the stream remembers; a value, replaced and never changed.

    Attributes:
        reference: the image, for identity.
        long_term: former short-term latents, oldest first.
        short_term: the newest finished latent.
    """

    reference: MemoryLatent
    long_term: tuple[MemoryLatent, ...]
    short_term: MemoryLatent

    @classmethod
    def of_image(cls, latent: Tensor) -> "Memory":
        """Memory before the first frame: the clip starts at the image (paper 2.2, I2V)."""
        image = MemoryLatent(latent)
        return cls(reference=image, long_term=(), short_term=image)

    def push(self, newest: MemoryLatent, limit: int, keep: bool) -> "Memory":
        """``newest`` becomes short-term; the former one joins the long-term queue if ``keep``."""
        long_term = self.long_term
        if keep:
            long_term = (*long_term, self.short_term)[max(0, len(long_term) + 1 - limit) :]
        return Memory(self.reference, long_term, newest)

    def with_entries(self, entries: Mapping[int, MemoryLatent]) -> "Memory":
        """The same memory with these in the places of ``entries`` that they are given."""
        reference, *long_term, short_term = (
            entries.get(place, entry) for place, entry in enumerate(self.entries)
        )
        return Memory(reference, tuple(long_term), short_term)

    def refined(self, latent: Tensor) -> "Memory":
        """The short-term latent replaced by its repaired version."""
        return replace(self, short_term=replace(self.short_term, latent=latent, cache=None))

    @property
    def entries(self) -> tuple[MemoryLatent, ...]:
        """All latents in the order of ``Geometry.slots``."""
        return (*self.anchors, self.short_term)

    @property
    def anchors(self) -> tuple[MemoryLatent, ...]:
        """What guides the repair of the short-term latent (paper 2.5)."""
        return (self.reference, *self.long_term)
