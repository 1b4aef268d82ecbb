"""Each drift is seen where it is put, in its own unit."""

import cv2
import numpy as np
import pytest

from flowact.evaluation.appearance import appearance
from flowact.evaluation.drift import (
    appearance_drift,
    identity_distance,
    identity_drift,
    repetition,
    unit_mean,
)

FPS = 25


@pytest.fixture(scope="module")
def scene():
    """[200, 48, 64, 3]: a fixed texture, and a small square that wanders."""
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(60, 200, (12, 16, 3), np.uint8), (64, 48))
    frames = np.tile(ground, (200, 1, 1, 1))
    place = np.cumsum(random.integers(-2, 3, (200, 2)), axis=0) % 36
    for frame, (x, y) in zip(frames, place, strict=True):
        frame[y : y + 10, x : x + 10] = (200, 40, 40)
    return frames


def test_a_steady_scene_does_not_drift(scene):
    found = appearance_drift(appearance(scene), FPS, None)
    assert found["drift_colour"] < 0.5  # the square covers a few cells of 64
    assert found["drift_sharpness"] == pytest.approx(1, abs=0.2)  # the edges of the square
    assert found["drift_motion"] == pytest.approx(1, abs=0.3)  # 50 random steps each


def test_colour_is_told_in_the_units_of_lab(scene):
    """Grey 10 L* brighter is 10 away."""
    lab = np.full((1, 1, 3), [50.0, 0.0, 0.0], np.float32)
    grey, bright = (
        (cv2.cvtColor(lab + np.float32([dl, 0, 0]), cv2.COLOR_Lab2RGB) * 255).round()
        for dl in (0, 10)
    )
    frames = np.concatenate([np.tile(g, (50, 16, 16, 1)) for g in (grey, bright)]).astype(np.uint8)
    found = appearance_drift(appearance(frames), FPS, None)
    assert found["drift_colour"] == pytest.approx(10, abs=0.3)  # 8-bit rounding


def test_the_reference_is_what_the_last_quarter_is_compared_with(scene):
    tinted = (scene * 0.8).astype(np.uint8)
    seen, reference = appearance(tinted), appearance(scene[:1])
    assert appearance_drift(seen, FPS, None)["drift_colour"] < 0.5
    assert appearance_drift(seen, FPS, reference)["drift_colour"] > 5


def test_blur_that_comes_is_seen(scene):
    frames = scene.copy()
    for index in range(100, 200):
        frames[index] = cv2.GaussianBlur(frames[index], (0, 0), 1.5)
    assert appearance_drift(appearance(frames), FPS, None)["drift_sharpness"] < 0.5


def test_a_video_that_stops_has_lost_its_motion(scene):
    frames = scene.copy()
    frames[100:] = frames[100]
    found = appearance_drift(appearance(frames), FPS, None)
    assert found["drift_motion"] < 0.2
    still = appearance_drift(appearance(frames[100:]), FPS, None)
    assert still["motion_energy"] == 0
    assert still["drift_motion"] == 1


def test_a_loop_repeats_itself_and_noise_does_not():
    random = np.random.default_rng(1).gamma(2, size=1000).astype(np.float32)
    trend = np.linspace(0, 5, 1000, dtype=np.float32)
    assert repetition(np.tile(random[:100], 10) + trend, FPS) > 0.95
    # The largest of 475 correlations of 500 or more values: 0.2 is over four standard errors.
    assert repetition(random + trend, FPS) < 0.2
    assert np.isnan(repetition(random[:40], FPS))


def test_identity_is_a_cosine_distance():
    x, y = np.eye(2, 8, dtype=np.float32)
    turned = np.stack([x] * 75 + [y] * 25)
    assert identity_distance(turned, x)[[0, -1]].tolist() == [0, 1]
    assert identity_drift(turned, FPS, None)["drift_identity"] == pytest.approx(1)
    assert identity_drift(turned, FPS, y)["drift_identity"] == pytest.approx(0)
    assert np.linalg.norm(unit_mean(turned)) == pytest.approx(1)
