"""Which seeds are for training and which for measuring (design 7).

Identities, voices and phrasings are drawn by seeds, so a clip made in one split never meets
another split's: a face because its seed differs, a voice or a phrasing because the pools do.
"""

from typing import Literal

from flowact.seeds import stable_seed

Split = Literal["train", "validation", "test", "reserved"]
Pool = Literal["train", "validation", "test"]

RESERVED = 1_000_000
"""Seeds from here on are for evaluation by others: nothing is trained or tuned on them."""

_RANGES: dict[Split, range] = {
    "train": range(800_000),
    "validation": range(800_000, 900_000),
    "test": range(900_000, RESERVED),
    "reserved": range(RESERVED, 2**31),
}


def split_of(seed: int) -> Split:
    """The split that ``seed`` belongs to.

    Raises:
        ValueError: ``seed`` is negative or 2**31 or more.
    """
    for split, seeds in _RANGES.items():
        if seed in seeds:
            return split
    raise ValueError(f"seed is {seed}; it must be from 0 to {2**31 - 1}")


def seeds_of(split: Split) -> range:
    """All seeds of a split."""
    return _RANGES[split]


def pool_of(seed: int) -> Pool:
    """The pool of voices and phrasings for ``seed``; reserved seeds share the test split's."""
    split = split_of(seed)
    return "test" if split == "reserved" else split


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for ``purpose`` drawn by ``seed``, in the split of ``seed``."""
    seeds = _RANGES[split_of(seed)]
    return seeds[stable_seed(seed, purpose) % len(seeds)]
