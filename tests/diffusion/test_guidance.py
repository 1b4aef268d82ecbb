"""Guidance is uncond + w (cond - uncond), whatever other code calls w."""

import pytest
import torch

from flowact.diffusion.guidance import UncondGuidance

# Three products and sums in float32, of values up to about 10.
ROUNDING = 1e-5


@pytest.fixture
def passes():
    torch.manual_seed(0)
    return torch.randn(3, 2, 4, 5, 6, 7).unbind(0)


def test_ends_of_a_scale(passes):
    uncond, with_text, full = passes
    assert torch.equal(UncondGuidance(0.0, 0.0).together(uncond, full), uncond)
    for scale, expected in (
        (UncondGuidance(1.0, 0.0), with_text),
        (UncondGuidance(1.0, 1.0), full),
    ):
        made = scale.apart(uncond, with_text, full)
        torch.testing.assert_close(made, expected, atol=ROUNDING, rtol=0)


def test_three_passes_with_one_scale_are_two(passes):
    uncond, with_text, full = passes
    guidance = UncondGuidance(2.5, 2.5)
    made, expected = guidance.apart(uncond, with_text, full), guidance.together(uncond, full)
    torch.testing.assert_close(made, expected, atol=ROUNDING, rtol=0)


def test_scales_of_the_other_convention(passes):
    """cond + w (cond - uncond) with w = 3 is uncond + w (cond - uncond) with w = 4."""
    uncond, _, full = passes
    theirs = full + 3.0 * (full - uncond)
    guidance = UncondGuidance.from_cond(text=3.0, audio=0.5)
    assert (guidance.text, guidance.audio) == (4.0, 1.5)
    torch.testing.assert_close(guidance.together(uncond, full), theirs, atol=ROUNDING, rtol=0)


def test_each_sample_may_have_its_own(passes):
    uncond, with_text, full = passes
    scales = torch.tensor([1.0, 3.0])[:, None, None, None, None]
    made = UncondGuidance(scales, 2 * scales).apart(uncond, with_text, full)
    for n, scale in enumerate((1.0, 3.0)):
        alone = UncondGuidance(scale, 2 * scale).apart(uncond[n], with_text[n], full[n])
        torch.testing.assert_close(made[n], alone, atol=ROUNDING, rtol=0)
