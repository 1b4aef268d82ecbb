"""Focus maps find what moves, and what moves with the sound."""

import pytest
import torch

from flowact.data.focus import KINDS, focus_maps
from flowact.geometry import Geometry

GEOMETRY = Geometry()
LATENTS, CHANNELS, SIZE = 60, 4, (6, 8)
MOUTH, ARM = (1, 2), (4, 6)
SAMPLES = GEOMETRY.frame_samples * GEOMETRY.temporal_stride


@pytest.fixture
def clip():
    """Latents in which a mouth follows the sound, and an arm moves on its own, and more."""
    draw = torch.Generator().manual_seed(0)
    loud = torch.rand(LATENTS, generator=draw)
    noise = torch.randn(SAMPLES * LATENTS, generator=draw)
    wave = noise * torch.exp(2 * loud - 2).repeat_interleave(SAMPLES)
    latents = 0.05 * torch.randn(CHANNELS, 1 + LATENTS, *SIZE, generator=draw)
    latents[0, 1:, *MOUTH] += loud
    latents[0, 1:, *ARM] += 4 * torch.rand(LATENTS, generator=draw)
    return latents, wave


def place_of(map):
    return divmod(int(map.argmax()), SIZE[1])


def test_sound_finds_the_mouth_and_motion_the_arm(clip):
    motion, sound = focus_maps(*clip, GEOMETRY)
    assert place_of(motion) == ARM
    assert place_of(sound) == MOUTH
    assert sound[MOUTH] > 0.9 * sound.sum()


def test_maps_have_a_mean_of_one(clip):
    maps = focus_maps(*clip, GEOMETRY)
    assert maps.shape == (len(KINDS), *SIZE)
    assert torch.allclose(maps.mean(dim=(1, 2)), torch.ones(2))
    assert (maps >= 0).all()


def test_a_louder_recording_has_the_same_maps(clip):
    latents, wave = clip
    # Only the silence that is added to the amplitude, and it is relative, could tell them apart.
    torch.testing.assert_close(
        focus_maps(latents, wave, GEOMETRY), focus_maps(latents, 0.1 * wave, GEOMETRY)
    )


def test_silence_and_stillness_have_maps_of_one(clip):
    latents, wave = clip
    _, sound = focus_maps(latents, torch.zeros_like(wave), GEOMETRY)
    assert torch.equal(sound, torch.ones(SIZE))
    still = focus_maps(torch.zeros_like(latents), wave, GEOMETRY)
    torch.testing.assert_close(still, torch.ones(2, *SIZE))
    short = focus_maps(latents[:, :2], wave, GEOMETRY)
    assert torch.equal(short, torch.ones(2, *SIZE))
