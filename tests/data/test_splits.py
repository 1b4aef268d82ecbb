"""No seed, derived seed or pool is shared by two splits."""

import pytest

from flowact.data.actors.clip import ActorSeeds
from flowact.data.splits import RESERVED, derived_seed, pool_of, split_of

BORDERS = (0, 799_999, 800_000, 899_999, 900_000, 999_999)


@pytest.mark.parametrize(
    ("seed", "split"),
    list(zip(BORDERS, ("train", "train", "validation", "validation", "test", "test"), strict=True)),
)
def test_borders(seed: int, split: str) -> None:
    assert split_of(seed) == pool_of(seed) == split


def test_reserved_seeds_draw_from_the_test_pools() -> None:
    assert split_of(RESERVED) == "reserved"
    assert pool_of(RESERVED) == "test"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seeds_outside_all_splits_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed is {seed}; it must be"):
        split_of(seed)


@pytest.mark.parametrize("seed", BORDERS)
def test_what_a_seed_derives_stays_in_its_split(seed: int) -> None:
    seeds = ActorSeeds.of(seed)
    derived = (seeds.identity, seeds.voice, seeds.script, seeds.phrasing, seeds.motion)
    assert {split_of(each) for each in derived} == {split_of(seed)}


def test_actors_of_different_clips_are_different_people() -> None:
    assert len({ActorSeeds.of(seed).identity for seed in range(1000)}) == 1000


def test_purposes_have_seeds_of_their_own() -> None:
    assert derived_seed(5, "voice") != derived_seed(5, "script")
