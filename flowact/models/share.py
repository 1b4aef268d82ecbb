"""What a rank runs of a call's tokens. One process runs them all: every method passes through."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from flowact.models.attention import TextKeyValue
from flowact.settings import LayerKind


class Place(NamedTuple):
    """Latents in their slots.

    Attributes:
        turns: of their slots, as ``rotary`` gives them.
        context: how many of them, the first ones, are context.
    """

    turns: Tensor
    context: int

    def of(self, latents: slice) -> "Place":
        """Some of them; ``latents`` has a start and a stop."""
        return Place(self.turns[latents], max(0, min(latents.stop, self.context) - latents.start))


class Share:
    """The part of a call that a process runs through the layers, here all of it (paper 2.4).

    Video tokens are [B, F, N, ...]: context latents, then those of the stream. Subclasses leave
    some to other processes, and come by what attention needs of them.

    Args:
        place: of all latents of the call.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def context(self) -> int:
        """Context latents among those of this share."""
        return self.place.context

    @property
    def streamed(self) -> slice:
        """Which of the stream's latents have tokens in this share."""
        return slice(None)

    def tokens(self, x: Tensor) -> Tensor:
        """The share of all tokens."""
        return x

    def latents(self, x: Tensor) -> Tensor:
        """The share of what is told by latent, [B, F, ...]."""
        return x

    def queries(self, query: Tensor) -> Tensor:
        """What this process asks for, of the share's queries [B, F, N, heads, head_dim]."""
        return query

    def send(
        self, key: Tensor, value: Tensor, kind: LayerKind
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """Send the share's keys and values out; a call of the result waits for all to arrive."""
        return lambda: (key, value)

    def asking(self) -> Place:
        """Where the latents of ``queries`` are."""
        return self.place

    def seen(self, kind: LayerKind) -> Place:
        """Where the latents are whose keys and values arrive."""
        return self.place

    def own(self, kind: LayerKind) -> slice | None:
        """Which of those are of the latents of ``queries``; None where they are all."""
        return None

    def text(self, text: TextKeyValue) -> TextKeyValue:
        """What this process's queries see of a prompt."""
        return text

    def answers(self, out: Tensor) -> Tensor:
        """What ``queries`` were answered, back with the tokens that asked."""
        return out

    def join(self, x: Tensor) -> Tensor:
        """All of the stream's tokens, on every process, of the shares' [B, F, N, ...]."""
        return x
