"""Frame-level and token-level parallelism (paper 2.4): what a rank has, and what it sends.

By frames, each rank runs whole latents, and layers that look across latents gather all keys and
values; spatial layers send nothing. By tokens (Ulysses; Jacobs et al., arXiv 2309.14509), each rank
runs a part of every latent, and every layer turns tokens into heads and back. Text, and what
memory keeps, are on all ranks: each prompt and each context latent is sent at most once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor

from flowact.models.attention import TextKeyValue
from flowact.models.share import Place, Share
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.parallel.ranks import Ranks
from flowact.settings import LayerKind, Parallel


def share_out(model: FlowActTransformer3DModel, parallel: Parallel, ranks: Ranks) -> None:
    """Have ``model`` run its share of each call; its inputs and results are the same on all ranks.

    Raises:
        ValueError: the model cannot be shared out so.
    """
    config = model.config
    if config.attention == "full":
        raise ValueError("attention=full is an ablation, and runs on one process only")
    if parallel is Parallel.tokens and config.num_attention_heads % ranks.count:
        raise ValueError(
            f"parallel=tokens deals {config.num_attention_heads} heads out to {ranks.count} "
            "processes; start as many as divide them"
        )
    share = FrameShare.of if parallel is Parallel.frames else TokenShare
    model.share_of = partial(share, ranks=ranks)


class FrameShare(Share):
    """Neighbouring latents of the call, as many as any other rank has, or one fewer."""

    @classmethod
    def of(cls, place: Place, ranks: Ranks) -> Share:
        """A call of fewer latents than ranks, such as a repair, is run by each as a whole."""
        return Share(place) if len(place.turns) < ranks.count else cls(place, ranks)

    def __init__(self, place: Place, ranks: Ranks) -> None:
        super().__init__(place)
        self._ranks = ranks
        self._all = shares(len(place.turns), ranks.count)
        self._mine = self._all[ranks.rank]
        self._asking = place.of(self._mine)

    @property
    def context(self) -> int:
        return self._asking.context

    @property
    def streamed(self) -> slice:
        first = self.place.context
        return slice(max(0, self._mine.start - first), max(0, self._mine.stop - first))

    def tokens(self, x: Tensor) -> Tensor:
        return x[:, self._mine]

    def latents(self, x: Tensor) -> Tensor:
        return x[:, self._mine]

    def send(
        self, key: Tensor, value: Tensor, kind: LayerKind
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        if kind is LayerKind.SPATIAL:
            return super().send(key, value, kind)
        arriving = self._gather(torch.stack((key, value)).movedim(2, 0), self._all)

        def wait() -> tuple[Tensor, Tensor]:
            keys, values = arriving().movedim(0, 2)
            return keys, values

        return wait

    def asking(self) -> Place:
        return self._asking

    def seen(self, kind: LayerKind) -> Place:
        return self._asking if kind is LayerKind.SPATIAL else self.place

    def own(self, kind: LayerKind) -> slice | None:
        return None if kind is LayerKind.SPATIAL else self._mine

    def join(self, x: Tensor) -> Tensor:
        context = self.place.context
        streamed = [slice(max(s.start, context), max(s.stop, context)) for s in self._all]
        return self._gather(x.movedim(1, 0), streamed)().movedim(0, 1)

    def _gather(self, mine: Tensor, latents: Sequence[slice]) -> Callable[[], Tensor]:
        """What each rank has of its ``latents``, in their order, along the first axis."""
        return self._ranks.gather_uneven(mine, [part.stop - part.start for part in latents])


class TokenShare(Share):
    """A part of every latent's tokens on the way, a part of the heads in attention.

    Raises:
        ValueError: a latent's tokens cannot be dealt out evenly.
    """

    def __init__(self, place: Place, ranks: Ranks) -> None:
        super().__init__(place)
        self._ranks = ranks
        tokens = place.turns.shape[1]
        if tokens % ranks.count:
            raise ValueError(
                f"parallel=tokens deals the {tokens} tokens of a latent out to {ranks.count} "
                "processes; start as many as divide them"
            )
        size = tokens // ranks.count
        self._mine = slice(ranks.rank * size, (ranks.rank + 1) * size)

    def tokens(self, x: Tensor) -> Tensor:
        return x[:, :, self._mine]

    def queries(self, query: Tensor) -> Tensor:
        return self._to_heads(query[None])()[0]

    def send(
        self, key: Tensor, value: Tensor, kind: LayerKind
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        arriving = self._to_heads(torch.stack((key, value)))

        def wait() -> tuple[Tensor, Tensor]:
            keys, values = arriving()
            return keys, values

        return wait

    def text(self, text: TextKeyValue) -> TextKeyValue:
        rank, count = self._ranks.rank, self._ranks.count
        key, value = (x.chunk(count, dim=2)[rank] for x in (text.key, text.value))
        return TextKeyValue(key, value, text.mask)

    def answers(self, out: Tensor) -> Tensor:
        parts = rearrange(out, "b f (r n) h d -> r b f n h d", r=self._ranks.count)
        return rearrange(self._ranks.exchange(parts)(), "r b f n h d -> b f n (r h) d")

    def join(self, x: Tensor) -> Tensor:
        return rearrange(self._ranks.gather(x)(), "r b f n d -> b f (r n) d")

    def _to_heads(self, x: Tensor) -> Callable[[], Tensor]:
        """This rank's tokens of all heads -> all tokens of this rank's heads, [x, B, F, N, ...]."""
        parts = rearrange(x, "x b f n (r h) d -> r x b f n h d", r=self._ranks.count)
        arriving = self._ranks.exchange(parts)
        return lambda: rearrange(arriving(), "r x b f n h d -> x b f (r n) h d")


def shares(latents: int, ranks: int) -> list[slice]:
    """So many neighbouring latents for each rank, the first ranks one more."""
    stops = [0]
    for rank in range(ranks):
        stops.append(stops[-1] + latents // ranks + (rank < latents % ranks))
    return [slice(start, stop) for start, stop in pairwise(stops)]
