"""The level grid, in closed form."""

from itertools import pairwise

import pytest

from flowact.diffusion.levels import Levels, shift_level, unshift_level


def test_three_calls_at_480p():
    levels = Levels(depth=3, micro_steps=1, shift=5.0)
    grid = [levels.at(age) for age in range(3)] + [levels.at(2, 1)]
    assert grid == pytest.approx([1, 10 / 11, 5 / 7, 0])
    assert [round(level, 3) for level in grid] == [1.0, 0.909, 0.714, 0.0]


@pytest.mark.parametrize(("depth", "steps"), [(3, 1), (3, 4), (4, 2)])
def test_one_age_ends_where_the_next_begins(depth, steps):
    levels = Levels(depth, steps, shift=3.0)
    for age in range(depth - 1):
        assert levels.at(age, steps) == levels.at(age + 1, 0)
    assert levels.at(0, 0) == 1
    assert levels.at(depth - 1, steps) == 0
    walk = [levels.at(age, step) for age in range(depth) for step in range(steps)]
    assert walk == sorted(walk, reverse=True)
    assert len(set(walk)) == depth * steps


def test_shift_of_one_is_even():
    levels = Levels(depth=3, micro_steps=2, shift=1.0)
    assert [levels.at(1, 0), levels.at(1, 1)] == pytest.approx([4 / 6, 3 / 6])


@pytest.mark.parametrize("shift", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("u", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_shift_and_its_inverse(shift, u):
    assert unshift_level(shift_level(u, shift), shift) == pytest.approx(u)


@pytest.mark.parametrize("steps", [1, 4])
def test_repair_goes_from_its_start_to_zero(steps):
    levels = Levels(depth=3, micro_steps=steps, shift=5.0).repair(0.3)
    assert levels[0] == 0.3
    assert levels[-1] == 0
    assert len(levels) == steps + 1
    even = [unshift_level(level, 5.0) for level in levels]
    gaps = [a - b for a, b in pairwise(even)]
    assert gaps == pytest.approx([even[0] / steps] * steps)
