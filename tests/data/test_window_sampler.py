"""Samples are functions of their index: of no process, no order and no moment of resuming."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader
from window_folders import make_folder

from flowact.data.data_folder import Windows
from flowact.data.sampler import Draws, WindowSampler, permuted, pools_of_folder
from flowact.data.window_dataset import WindowDataset
from flowact.data.windows import WindowsConfig
from flowact.geometry import Geometry

GEOMETRY = Geometry()
CONFIG = WindowsConfig(start=(0.1, 0.1, 0.2))


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 1000])
def test_permutations_are_permutations(n):
    orders = [[permuted(place, n, "key", key) for place in range(n)] for key in range(2)]
    for order in orders:
        assert sorted(order) == list(range(n))
    if n > 10:
        assert orders[0] != orders[1]
        # A shuffle leaves about one in its place; a Poisson of mean 1 is below 9 but once in 1e6.
        assert sum(place == moved for place, moved in enumerate(orders[0])) < 9


def test_places_are_spread_evenly():
    """Over many keys, what comes first is any of n, each as often (chi-squared)."""
    n, draws = 12, 6000
    counts = Counter(permuted(0, n, key) for key in range(draws))
    expected = draws / n
    chi2 = sum((counts[value] - expected) ** 2 / expected for value in range(n))
    assert chi2 < 37  # 11 degrees of freedom: passed but once in 10,000


def draws_of(chunks, sizes=None, micro_batch=2, seed=0, folders=((0, 1.0),), config=CONFIG):
    sizes = sizes or [(2, 3)] * len(chunks)
    pools = [
        pool
        for folder, share in folders
        for pool in pools_of_folder(folder, share, chunks, sizes, GEOMETRY, 1, config)
    ]
    return Draws(pools, micro_batch, seed)


def test_every_clip_comes_once_in_a_pass():
    """Of any window shape, passes of clips follow each other, each in an order of its own."""
    chunks = [1, 2, 3, 4, 5, 6, 7, 8, 20, 20, 20]
    draws = draws_of(chunks, micro_batch=2)
    of_shape = {}
    for sample in range(4000):
        of_shape.setdefault(draws[sample].shape, []).append(draws[sample].clip)
    assert len(of_shape) == 6
    for shape, clips in of_shape.items():
        fitting = [clip for clip, n in enumerate(chunks) if len(shape.oldest(n))]
        passes = [clips[i : i + len(fitting)] for i in range(0, len(clips), len(fitting))]
        assert len(passes) > 5
        assert all(sorted(clips) == fitting for clips in passes[:-1])
        if len(fitting) > 4:
            assert passes[0] != passes[1]


def test_shapes_come_as_often_as_the_config_says():
    """And those that are not at the start as often as a clip has them."""
    draws = draws_of([20] * 5, micro_batch=1)
    counts = Counter(draws[sample].shape for sample in range(draws.period))
    starts = [n for shape, n in counts.items() if shape.last == 0]
    assert sorted(starts) == [100, 100, 200]
    # Oldest chunks 1 ... 17: one each with one and with two long-term latents, 15 with three.
    others = sorted(n for shape, n in counts.items() if shape.last != 0)
    assert others == [round(600 / 17), round(600 / 17), round(600 * 15 / 17)]


def test_a_micro_batch_has_one_shape_one_size_and_one_folder():
    chunks = [3, 6, 9, 12, 6, 9, 12, 30]
    sizes = [(2, 3), (2, 3), (3, 2), (3, 2)] * 2
    draws = draws_of(chunks, sizes, micro_batch=4, folders=((0, 0.3), (1, 0.7)))
    seen = set()
    for batch in range(300):
        rows = [draws[batch * 4 + row] for row in range(4)]
        assert len({(draw.folder, draw.shape, sizes[draw.clip]) for draw in rows}) == 1
        seen.add((rows[0].folder, rows[0].shape, sizes[rows[0].clip]))
    assert len(seen) == 2 * 6 * 2


def test_folders_are_mixed_by_their_weights():
    draws = draws_of([20] * 3, micro_batch=1, folders=((0, 0.25), (1, 0.75)))
    counts = Counter(draws[sample].folder for sample in range(draws.period))
    # Each of the 12 pools has its share to half a sample.
    assert abs(counts[0] - draws.period / 4) <= 6


def test_pools_take_turns_in_another_order_each_period():
    draws = draws_of([20] * 5, micro_batch=1)
    periods = [
        [draws[period * draws.period + n].shape for n in range(draws.period)] for period in range(2)
    ]
    assert periods[0] != periods[1]
    assert Counter(periods[0]) == Counter(periods[1])


def test_windows_too_long_leave_their_share_to_others():
    draws = draws_of([2, 2])
    assert {draws[sample].shape.chunks for sample in range(200)} == {1, 2}


def steps(ranks, n_steps, samples_seen=0, global_batch=8, micro_batch=2):
    """The micro-batches of each step as they run: in a micro-step, rank by rank."""
    samplers = [
        iter(WindowSampler(global_batch, micro_batch, rank, ranks, samples_seen))
        for rank in range(ranks)
    ]
    micro_steps = global_batch // micro_batch // ranks
    return [
        [batch for _ in range(micro_steps) for sampler in samplers for batch in islice(sampler, 1)]
        for _ in range(n_steps)
    ]


def test_any_number_of_processes_draws_the_same():
    one = steps(1, 5)
    assert [sample for batch in one[0] for sample in batch] == list(range(8))
    assert steps(2, 5) == one
    assert steps(4, 5) == one


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_run_resumes_anywhere(ranks):
    whole = steps(1, 6)
    for done in range(6):
        assert steps(ranks, 6 - done, samples_seen=8 * done) == whole[done:]


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="global_batch is 8; it must be a multiple of 6"):
        WindowSampler(8, 2, rank=0, ranks=3)
    with pytest.raises(ValueError, match="samples_seen is 3, not a multiple of micro_batch 2"):
        WindowSampler(8, 2, samples_seen=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_what_the_dataset_holds(tmp_path, workers):
    """With workers too, whichever of them reads a batch."""
    path = make_folder(tmp_path / "data", [5, 8, 9, 12])
    dataset = WindowDataset({path: 1.0}, GEOMETRY, CONFIG, micro_batch=2, seed=3)
    dataset[0]  # a file is open when the workers are forked
    loader = DataLoader(
        dataset,
        batch_sampler=WindowSampler(4, 2, rank=1, ranks=2, samples_seen=8),
        collate_fn=Windows.joined,
        num_workers=workers,
    )
    for number, batch in enumerate(islice(loader, 12)):
        first = 8 + 2 + 4 * number
        expected = Windows.joined([dataset[first], dataset[first + 1]])
        assert batch.infos == expected.infos
        for name in ("stream", "context", "audio", "memory_audio"):
            np.testing.assert_array_equal(
                getattr(batch, name).float(), getattr(expected, name).float()
            )
