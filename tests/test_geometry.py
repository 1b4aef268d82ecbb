"""The table of rates and slots, in closed form."""

import pytest

from flowact.geometry import Geometry

PAPER = Geometry()
OTHER = Geometry(chunk_latents=2, depth=4, long_term=2)


def test_numbers_of_the_paper():
    assert PAPER.frame_samples == 640
    assert PAPER.chunk_frames == 12
    assert PAPER.chunk_samples == 7680
    assert PAPER.chunk_seconds == 0.48
    assert PAPER.stream_latents == 9
    assert PAPER.buffer_latents == 14
    assert PAPER.latent_window == 8
    assert PAPER.chunk_window == 16
    assert PAPER.prompt_frame == 6


def test_second_geometry_follows_the_same_rules():
    assert OTHER.chunk_frames == 8
    assert OTHER.stream_latents == 8
    assert OTHER.buffer_latents == 2 + 2 + 8
    assert OTHER.chunk_window == 2 + 8 + 2


@pytest.mark.parametrize("geometry", [PAPER, OTHER])
def test_frames_and_samples(geometry):
    """Frame f shows samples [640 f, 640 f + 640); latent j is frames 4j ... 4j + 3."""
    for frames in (1, geometry.chunk_frames, geometry.chunk_frames + 1, 1000):
        samples = frames * geometry.frame_samples
        assert geometry.frames(samples) == frames
        assert geometry.frames(samples - geometry.frame_samples + 1) == frames
        chunks = geometry.chunks(frames)
        assert (chunks - 1) * geometry.chunk_frames < frames <= chunks * geometry.chunk_frames
    assert geometry.frames(0) == 1


@pytest.mark.parametrize("geometry", [PAPER, OTHER])
def test_audio_is_needed_160_ms_past_the_chunk(geometry):
    for chunk in range(3):
        seconds = geometry.audio_end(chunk) / geometry.sample_rate
        assert seconds == pytest.approx((chunk + 1) * geometry.chunk_seconds + 0.16)


def test_slots():
    assert PAPER.slots(3) == (-12, -9, -6, -3, 0)
    assert PAPER.slots(0) == (-12, 0)
    assert PAPER.slots(1) == (-12, -3, 0)
    assert PAPER.stream_slots(3) == tuple(range(1, 10))
    assert PAPER.stream_slots(1) == (1, 2, 3)
    assert OTHER.slots(2) == (-6, -4, -2, 0)


@pytest.mark.parametrize("geometry", [PAPER, OTHER, Geometry(reference_slot=20)])
def test_positions_are_the_slots_moved_to_be_non_negative(geometry):
    slots = (*geometry.slots(geometry.long_term), *geometry.stream_slots(geometry.depth))
    positions = [geometry.position(slot) for slot in slots]
    assert min(positions) == 0
    assert {p - s for p, s in zip(positions, slots, strict=True)} == {-min(slots)}


def test_the_reference_may_stand_past_the_end():
    assert Geometry(reference_slot=20).slots(3) == (20, -9, -6, -3, 0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"depth": 0}, "depth"),
        ({"long_term": -1}, "long_term"),
        ({"fps": 30}, "sample_rate"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": -16_000}, "sample_rate"),
        ({"reference_slot": 0}, "reference_slot is 0"),
        ({"reference_slot": -9}, "reference_slot is -9"),
        ({"reference_slot": 9}, "reference_slot is 9"),
    ],
)
def test_impossible_numbers_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Geometry(**wrong)
