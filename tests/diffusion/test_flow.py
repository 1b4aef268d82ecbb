"""Rectified flow against its closed forms."""

import pytest
import torch

from flowact.diffusion import flow

# One multiplication and one addition in float32, of values around 1.
ROUNDING = 1e-6


@pytest.fixture
def line():
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    level = flow.expand(torch.rand(2, 4))
    return clean, noise, level


def test_ends_of_the_line(line):
    clean, noise, _ = line
    assert torch.equal(flow.add_noise(clean, noise, 0.0), clean)
    torch.testing.assert_close(flow.add_noise(clean, noise, 1.0), noise, atol=ROUNDING, rtol=0)


def test_velocity_is_the_derivative(line):
    clean, noise, level = line
    ahead, behind = (flow.add_noise(clean, noise, level + d) for d in (0.25, -0.25))
    # A straight line: the central difference is exact, to the rounding of a sum over 0.5.
    slope = (ahead - behind) / 0.5
    torch.testing.assert_close(slope, flow.velocity(clean, noise), atol=4 * ROUNDING, rtol=0)


def test_clean_and_noise_are_recovered(line):
    clean, noise, level = line
    x, v = flow.add_noise(clean, noise, level), flow.velocity(clean, noise)
    torch.testing.assert_close(
        flow.clean_from_velocity(x, v, level), clean, atol=4 * ROUNDING, rtol=0
    )
    torch.testing.assert_close(
        flow.noise_from_velocity(x, v, level), noise, atol=4 * ROUNDING, rtol=0
    )


def test_euler_is_exact_on_a_straight_line_and_per_latent(line):
    clean, noise, level = line
    target = level / 3
    moved = flow.euler(
        flow.add_noise(clean, noise, level), flow.velocity(clean, noise), level, target
    )
    torch.testing.assert_close(
        moved, flow.add_noise(clean, noise, target), atol=4 * ROUNDING, rtol=0
    )
    assert level.shape == (2, 1, 4, 1, 1)
