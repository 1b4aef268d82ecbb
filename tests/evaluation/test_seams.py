"""Jumps at chunk borders stand out, jumps elsewhere do not, and motion alone is no seam."""

import numpy as np
import pytest

from flowact.evaluation.appearance import appearance
from flowact.evaluation.seams import seam_ratio, seam_ratios
from flowact.geometry import Geometry

PERIOD = Geometry().chunk_frames


def shift_chunks(frames, pixels, offset=0):
    """Every other chunk moved to the right."""
    odd = (np.arange(len(frames)) - offset) // PERIOD % 2 == 1
    moved = frames.copy()
    moved[odd] = np.roll(frames[odd], pixels, axis=2)
    return moved


@pytest.fixture(scope="module")
def drifting():
    """[120, 48, 64, 3]: a smooth texture that glides by."""
    x = np.arange(64)[None, None, :] + 0.7 * np.arange(120)[:, None, None]
    y = np.arange(48)[None, :, None]
    grey = 128 + 50 * np.sin(x / 5) + 50 * np.cos(y / 7)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def test_a_series_that_is_twice_as_large_at_borders_has_ratio_two():
    series = np.ones(50, np.float32)
    series[5::PERIOD] = 2
    assert seam_ratio(series, PERIOD, offset=5) == 2
    assert seam_ratio(series, PERIOD) == 1


def test_second_differences_span_two_frames_at_a_border():
    series = np.ones(50, np.float32)
    series[PERIOD::PERIOD] = series[PERIOD + 1 :: PERIOD] = 3
    assert seam_ratio(series, PERIOD, reach=2) == 3


def test_a_video_without_a_border_says_nothing():
    assert np.isnan(seam_ratio(np.ones(PERIOD, np.float32), PERIOD))


def test_smooth_motion_is_no_seam(drifting):
    found = seam_ratios(appearance(drifting), PERIOD)
    assert found["seam_change"] == pytest.approx(1, abs=0.05)  # 8-bit rounding
    assert found["seam_jerk"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("offset", [0, 7])
def test_jumps_are_found_where_chunks_begin(drifting, offset):
    seen = appearance(shift_chunks(drifting, 1, offset))
    assert seam_ratios(seen, PERIOD, offset)["seam_jerk"] > 2
    assert seam_ratios(seen, PERIOD, offset + 5)["seam_jerk"] < 1.2
