"""Which clip and window shape a sample has, and which process draws it: functions of its index.

Nothing is counted and nothing saved: sample n is the same whoever asks, so that a run resumes at
its ``samples_seen`` and the number of processes changes nothing (design 9).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from flowact.data.windows import Shape, WindowsConfig, shapes
from flowact.geometry import Geometry
from flowact.seeds import stable_seed

# Shares are rounded to one micro-batch in so many.
PERIOD = 1000
# Four rounds of a Feistel network with random round functions make a pseudo-random permutation.
ROUNDS = 4


def permuted(place: int, n: int, *key: int | str) -> int:
    """Where a permutation of ``range(n)``, drawn by ``key``, sends ``place``; without its table.

    A Feistel network on the least even number of bits that holds ``n`` values; what falls
    outside of them is sent on until it falls inside.
    """
    half = ((n - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for number in range(ROUNDS):
            left, right = right, left ^ (stable_seed(*key, number, right) & mask)
        place = left << half | right
        if place < n:
            return place


@dataclass(frozen=True)
class Pool:
    """Clips of one folder and picture size that are long enough for a shape of window.

    Attributes:
        folder: its number.
        shape: of the windows.
        clips: numbers in the folder.
        share: of the samples; a sampler's pools share out all of them.
    """

    folder: int
    shape: Shape
    clips: NDArray[np.int64]
    share: float


def pools_of_folder(
    folder: int,
    share: float,
    clip_chunks: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    geometry: Geometry,
    long_term_stride: int,
    config: WindowsConfig,
    chunks: int | None = None,
) -> list[Pool]:
    """The pools of a folder, by the chunks and the picture size of each clip.

    ``config.start`` says how often windows begin at the start of a clip; all the others are
    equally likely. Windows for which all clips are too short leave their share to those that fit.
    """
    starts, others = shapes(geometry, long_term_stride, chunks)
    windows = {
        (size, shape): np.array(
            [
                len(shape.oldest(of_clip)) * (own == size)
                for of_clip, own in zip(clip_chunks, sizes, strict=True)
            ]
        )
        for size in sorted(set(sizes))
        for shape in (*starts, *others)
    }
    groups = [([shape], odds) for shape, odds in zip(starts, config.start, strict=True)]
    groups.append((others, 1 - sum(config.start)))
    odds_of: dict[tuple[tuple[int, int], Shape], float] = {}
    for group, odds in groups:
        numbers = {key: int(n.sum()) for key, n in windows.items() if key[1] in group}
        total = sum(numbers.values())
        odds_of |= {key: odds * n / total for key, n in numbers.items() if odds * n > 0}
    total_odds = sum(odds_of.values())
    return [
        Pool(folder, shape, np.flatnonzero(windows[size, shape]), share * odds / total_odds)
        for (size, shape), odds in odds_of.items()
    ]


@dataclass(frozen=True)
class Draw:
    """The clip, by its number in a numbered folder, and the window shape of a sample."""

    folder: int
    clip: int
    shape: Shape


class Draws:
    """The clip and window shape of every sample.

    A micro-batch is of one pool, and so of one shape. Pools take turns in an order drawn by key,
    each with its share of every period; a pool goes through its clips again and again, in a new
    order each time, and every clip comes once in a pass.

    Args:
        pools: whose clips are drawn; none is empty.
        micro_batch: samples that go through the model together.
        seed: of the draws.

    Attributes:
        period: micro-batches in which each pool has its share, about ``PERIOD``.
    """

    def __init__(self, pools: Sequence[Pool], micro_batch: int, seed: int) -> None:
        self.pools = pools
        self.micro_batch = micro_batch
        self.seed = seed
        # At least one, so that no clip is left out for being of a rare size.
        self._turns = tuple(max(1, round(PERIOD * pool.share)) for pool in pools)
        self.period = sum(self._turns)

    def __getitem__(self, sample: int) -> Draw:
        batch, row = divmod(sample, self.micro_batch)
        period, turn = divmod(batch, self.period)
        order, earlier = _turns_of_period(self._turns, self.seed, period)
        number = int(order[turn])
        pool = self.pools[number]
        batches_before = period * self._turns[number] + int(earlier[turn])
        n_clips = len(pool.clips)
        done, place = divmod(batches_before * self.micro_batch + row, n_clips)
        clip = pool.clips[permuted(place, n_clips, self.seed, "clips", number, done)]
        return Draw(pool.folder, int(clip), pool.shape)


@lru_cache(maxsize=4)
def _turns_of_period(
    turns: tuple[int, ...], seed: int, period: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pool of each micro-batch of a period, and how many it had earlier in the period."""
    rng = np.random.default_rng(stable_seed(seed, "pools", period))
    order = rng.permutation(np.repeat(np.arange(len(turns)), turns))
    earlier = np.empty_like(order)
    for pool, n_turns in enumerate(turns):
        earlier[order == pool] = np.arange(n_turns)
    return order, earlier


class WindowSampler(Sampler[list[int]]):
    """The micro-batches of one process, without end: a ``batch_sampler`` for ``DataLoader``.

    A step is ``global_batch`` samples in the order of their indices. Its micro-batches are dealt
    out one by one, so that those which run at the same time follow each other. A micro-batch has
    one window shape, whichever process has it.

    Args:
        global_batch: samples of a step, of all processes together.
        micro_batch: samples that go through the model together.
        rank, ranks: this process, and how many there are.
        samples_seen: of all processes together, before; the first step begins there.

    Raises:
        ValueError: the sizes do not divide each other.
    """

    def __init__(
        self,
        global_batch: int,
        micro_batch: int,
        rank: int = 0,
        ranks: int = 1,
        samples_seen: int = 0,
    ) -> None:
        if micro_batch < 1 or global_batch < 1 or global_batch % (micro_batch * ranks):
            raise ValueError(
                f"global_batch is {global_batch}; it must be a multiple of {micro_batch * ranks}, "
                f"micro_batch {micro_batch} on {ranks} processes"
            )
        if samples_seen % micro_batch:
            raise ValueError(
                f"samples_seen is {samples_seen}, not a multiple of micro_batch {micro_batch}; "
                "resume with the micro_batch of the run before"
            )
        self.micro_batch = micro_batch
        self.rank = rank
        self.ranks = ranks
        self.samples_seen = samples_seen

    def __iter__(self) -> Iterator[list[int]]:
        first = self.samples_seen + self.rank * self.micro_batch
        for start in count(first, self.ranks * self.micro_batch):
            yield list(range(start, start + self.micro_batch))
