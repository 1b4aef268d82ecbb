"""Cuts are found, and clips stay inside their shots."""

import numpy as np
import pytest
from video_files import every, write_video

from flowact.data.buckets import choose_crop
from flowact.data.shots import ShotDetector, clip_spans
from flowact.data.video import inspect_video
from flowact.geometry import Geometry

GEOMETRIES = [Geometry(), Geometry(chunk_latents=2, depth=4, long_term=2)]
RED, GREEN, BLUE = (180, 40, 40), (40, 160, 60), (40, 60, 200)


def test_cuts_are_the_first_frames_of_shots(tmp_path):
    shots = [(0.0, RED), (1.2, GREEN), (1.6, BLUE), (4.0, RED)]
    path = write_video(tmp_path / "a.mp4", every(30, 5), colours=shots)
    detector = ShotDetector()
    inspect_video(path, detector.see)
    assert detector.cuts == [36, 48, 120]


def test_motion_and_fades_are_no_cuts():
    detector = ShotDetector()
    noise = np.random.default_rng(0).integers(0, 255, (72, 400, 3), dtype=np.uint8)
    noise = noise.repeat(8, axis=1)
    for i in range(80):
        moving = noise[:, 12 * i : 12 * i + 96]
        detector.see(np.ascontiguousarray(moving * min(1.0, (80 - i) / 40)).astype(np.uint8))
    assert detector.cuts == []


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "shots", [[(0, 7)], [(0, 500)], [(0, 30), (30, 61), (61, 400), (400, 999)]]
)
def test_clips_lie_in_shots_and_hold_whole_chunks(geometry, shots):
    spans = clip_spans(shots, geometry, 0.9, 4.0)
    free = 0
    for start, frames in spans:
        assert start >= free
        assert (frames - 1) % geometry.chunk_frames == 0
        assert 0.9 <= (frames - 1) / geometry.fps <= 4.0
        assert any(first <= start and start + frames <= stop for first, stop in shots)
        free = start + frames


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_little_of_a_long_shot_is_left_over(geometry):
    for length in range(100, 700, 7):
        spans = clip_spans([(0, length)], geometry, 1.0, 4.0)
        sizes = [frames for _, frames in spans]
        # A tenth; or, of short clips, what makes no whole chunk in each.
        assert length - sum(sizes) <= max(0.1 * length, len(spans) * geometry.chunk_frames)
        assert max(sizes) - min(sizes) <= geometry.chunk_frames


def test_clips_are_long_rather_than_complete():
    """Ten seconds are one clip, of which nine frames are left over."""
    assert clip_spans([(0, 250)], Geometry(), 2.0, 10.0) == [(0, 241)]
    assert clip_spans([(0, 500)], Geometry(), 2.0, 10.0) == [(0, 241), (241, 241)]


def test_clips_may_be_of_one_length():
    spans = clip_spans([(0, 1500)], Geometry(), 0.48, 0.48)
    assert spans == [(13 * i, 13) for i in range(1500 // 13)]


def test_short_shots_give_no_clip():
    assert clip_spans([(0, 12), (12, 24)], Geometry(), 0.1, 4.0) == []
    assert clip_spans([(0, 13)], Geometry(), 0.1, 4.0) == [(0, 13)]


BUCKETS = ((480, 832), (832, 480), (624, 624))


@pytest.mark.parametrize(
    ("size", "bucket"),
    [((1080, 1920), (480, 832)), ((1920, 1080), (832, 480)), ((900, 1000), (624, 624))],
)
def test_pictures_go_to_the_bucket_of_their_aspect(size, bucket):
    crop = choose_crop(*size, BUCKETS)
    assert (crop.height, crop.width) == bucket
    assert crop.scaled_height == crop.height or crop.scaled_width == crop.width
    # The aspect is kept, to the rounding of a side to whole pixels.
    assert abs(crop.scaled_height - crop.scaled_width * size[0] / size[1]) < 1


def test_crops_keep_heads():
    crop = choose_crop(1920, 1080, ((128, 128),))
    x, y, width, height = crop.box(1920, 1080)
    assert (x, width) == (0, 1080)
    assert abs(height - 1080) < 1920 / crop.scaled_height
    # An eighth of what is cut of the height comes from the top, to a scaled pixel.
    assert abs(y - (1920 - 1080) / 8) < 1920 / crop.scaled_height
    frames = np.zeros((2, crop.scaled_height, crop.scaled_width, 3), np.uint8)
    assert crop.cut(frames).shape == (2, 128, 128, 3)


def test_wide_pictures_are_cropped_on_both_sides():
    x, y, width, height = choose_crop(720, 1280, ((720, 720),)).box(720, 1280)
    assert (x, y, width, height) == (280, 0, 720, 720)
