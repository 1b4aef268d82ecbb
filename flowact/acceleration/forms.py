"""Which calls are alike: of one form are those that one compiled function, or graph, can serve."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from flowact.models.caches import ContextCache, PlacedContext, StreamInputs, TextCache

for kind in (ContextCache, PlacedContext, StreamInputs, TextCache):
    torch.export.register_dataclass(kind)


def form_of(inputs: Any) -> tuple[list[Tensor], Any]:
    """The tensors among ``inputs``, and all else, with their shapes, as a key."""
    leaves, structure = pytree.tree_flatten(inputs)
    rest = tuple(
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves
    )
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)], (structure, rest)


class Forms:
    """Tells when a form has come often enough to be worth the making.

    The ticks in which a stream's queue and memory fill up are few, and each of another form.

    Args:
        hot: how often that is.
        most: forms that are made, after which no other is; None for no limit.
    """

    def __init__(self, hot: int, most: int | None = None) -> None:
        self._hot, self._most = hot, most
        self._met: Counter[Any] = Counter()
        self._made: set[Any] = set()

    def are_hot(self, form: Any) -> bool:
        """Whether ``form`` has come so often, this time included."""
        if form in self._made:
            return True
        self._met[form] += 1
        if self._met[form] < self._hot or len(self._made) == self._most:
            return False
        self._made.add(form)
        return True
