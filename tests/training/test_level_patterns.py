"""The noise levels that training windows are given."""

import pytest
import torch
from window_training import make_draws

from flowact.diffusion.levels import Levels, unshift_level
from flowact.training.levels import draw_levels, staircase
from flowact.training.window_settings import LevelsConfig

MANY = make_draws(range(2000))
SHIFT = 3.0


def only(pattern, **changes):
    return LevelsConfig(
        **({"staircase": 0, "independent": 0, "common": 0} | {pattern: 1} | changes)
    )


def draw(config, draws=MANY, ages=(2, 1, 0), depth=3):
    return draw_levels(config, draws, ages, depth, SHIFT)


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("micro_steps", [1, 4])
def test_staircases_hold_the_levels_of_the_stream(depth, micro_steps):
    """Before micro-step j of m, every chunk of the queue has u0 = 1 - j / m of its segment."""
    levels = Levels(depth, micro_steps, SHIFT)
    for ages in (range(depth - 1, -1, -1), [0], [1, 0]):
        for micro_step in range(micro_steps):
            u = staircase(torch.tensor([1 - micro_step / micro_steps]), ages, depth)
            shifted = [levels.shifted(float(value)) for value in u[0]]
            # u is rounded to float32 on the one side.
            assert shifted == pytest.approx([levels.at(a, micro_step) for a in ages], abs=1e-6)


def test_the_segments_start_as_often_as_asked():
    drawn = draw(only("staircase", segment_start=0.25))
    starts = drawn[:, -1] == 1
    at_start = torch.tensor([Levels(3, 1, SHIFT).at(age) for age in (2, 1, 0)])
    # Thirds are rounded to float32 on the one side.
    assert (drawn[starts] - at_start).abs().max() < 1e-6
    # Five standard deviations of a binomial count of 2000.
    assert abs(starts.float().mean() - 0.25) < 5 * (0.25 * 0.75 / 2000) ** 0.5
    u = unshift_level(drawn.double(), SHIFT)
    # All chunks are equally far within their segments; float32 levels are off by 1e-7 or so.
    assert torch.allclose(u[:, 1:] - u[:, :-1], torch.full((1,), 1 / 3).double(), atol=1e-5)


def test_patterns_are_what_they_say():
    common = draw(only("common"))
    assert torch.equal(common, common[:, :1].expand(-1, 3))
    independent = unshift_level(draw(only("independent")), SHIFT)
    correlation = torch.corrcoef(independent.T) - torch.eye(3)
    assert correlation.abs().max() < 5 / 2000**0.5  # five standard deviations of no correlation


@pytest.mark.parametrize("pattern", ["staircase", "independent", "common"])
def test_levels_are_noise(pattern):
    """Zero is a finished latent's, and never in the stream."""
    drawn = draw(only(pattern))
    assert drawn.dtype == torch.float32
    assert drawn.min() > 0
    assert drawn.max() <= 1


def test_patterns_are_mixed_as_asked():
    drawn = draw(LevelsConfig(staircase=0.5, independent=0.3, common=0.2))
    u = unshift_level(drawn, SHIFT)
    steps = u[:, 1:] - u[:, :-1]
    common = (drawn == drawn[:, :1]).all(1).float().mean()
    stairs = ((steps - 1 / 3).abs() < 1e-5).all(1).float().mean()
    for share, odds in ((common, 0.2), (stairs, 0.5)):
        assert abs(share - odds) < 5 * (odds * (1 - odds) / 2000) ** 0.5


def test_a_sample_has_its_levels_in_any_batch():
    whole = draw(LevelsConfig(), make_draws(range(8)))
    parts = [draw(LevelsConfig(), make_draws(part)) for part in ((0, 1, 2), (3,), (4, 5, 6, 7))]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, draw(LevelsConfig(), make_draws(range(8), seed=1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"common": 0.3}, r"levels.staircase.* are 0.6, 0.2, 0.3; .*sum to 1"),
        ({"staircase": 1.2, "independent": -0.4}, "0 or more"),
        ({"segment_start": 1.5}, r"levels.segment_start is 1.5"),
    ],
)
def test_odds_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LevelsConfig(**changes)
