"""Takes that are all alike have collapsed; those that differ as the truth does have not."""

import dataclasses

import numpy as np
import pytest

from flowact.data.actors.clip import ActorSeeds
from flowact.data.manifest import Clip
from flowact.evaluation.diversity import TRACKS, condition, diversity, spread

WIDTHS = {"wrists": (50, 4), "gaze": (50, 2), "head": (50, 3), "blink": (50,)}


def takes(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        {name: random.normal(size=shape) for name, shape in WIDTHS.items()} for _ in range(count)
    ]


def test_spread_is_the_mean_distance_of_pairs():
    tracks = [np.zeros(10), np.ones(10), np.full(10, 3.0)]
    assert spread(tracks) == pytest.approx((1 + 3 + 2) / 3)
    assert spread([np.zeros(10), np.ones(4)]) == 1


def test_true_takes_have_diversity_one_and_copies_zero():
    true = takes(3)
    assert set(diversity(true, true).values()) == {1.0}
    copies = [true[0]] * 3
    assert set(diversity(copies, true).values()) == {0.0}


def test_each_track_is_told_apart():
    true = takes(3)
    seen = [take | {"gaze": true[0]["gaze"], "head": take["head"] / 2} for take in true]
    found = diversity(seen, true)
    assert found["diversity_gaze"] == 0
    assert found["diversity_head"] == pytest.approx(0.5)
    assert found["diversity_wrists"] == 1
    assert found["diversity"] == pytest.approx(2.5 / len(TRACKS))


def test_what_true_takes_have_in_common_is_no_diversity():
    true = [take | {"blink": np.zeros(50)} for take in takes(2)]
    assert "diversity_blink" not in diversity(takes(2, seed=1), true)


def test_takes_of_a_condition_differ_in_their_motion_alone():
    seeds = ActorSeeds.of(900_000)
    others = dataclasses.replace(seeds, motion=900_001), dataclasses.replace(seeds, voice=900_001)
    first, take, stranger = (
        condition(Clip("id", "a.mp4", 25.0, 50, seeds=dataclasses.asdict(s)))
        for s in (seeds, *others)
    )
    assert first == take != stranger
