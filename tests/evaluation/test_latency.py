"""The latency protocol on runs whose times are known."""

import pytest

from flowact.evaluation.latency import latency_report, percentiles
from flowact.geometry import Geometry
from flowact.settings import StreamSettings
from flowact.streaming.engine import Timing

GEOMETRY = Geometry()


def report(emitted, frames, settings=None, **changes):
    timing = Timing(started=100.0, emitted=[100.0 + moment for moment in emitted], **changes)
    return latency_report(timing, frames, GEOMETRY, settings or StreamSettings())


def test_fps_counts_what_comes_after_the_first_chunk():
    told = report([1.0, 1.5, 2.0], 36)
    assert told["ttff_s"] == pytest.approx(1.0)
    assert told["fps"] == pytest.approx(24 / 1.0)
    assert (told["frames"], told["video_fps"]) == (36, 25)


def test_a_single_chunk_has_no_rate():
    told = report([0.7], 5)
    assert told["fps"] is None
    assert told["ttff_s"] == pytest.approx(0.7)


def test_a_run_without_frames_is_told_too():
    told = report([], 0)
    assert (told["ttff_s"], told["fps"], told["deadline_misses"]) == (None, None, 0)


def test_deadlines_are_set_by_the_first_chunk():
    """Chunk c is late if it is done after ttff + 0.48 c."""
    assert report([1.0, 1.47, 1.95, 2.45], 48)["deadline_misses"] == 1
    assert report([5.0, 5.1, 5.2], 36)["deadline_misses"] == 0


def test_calls_follow_the_settings():
    teacher = StreamSettings(micro_steps=4, guidance=3.0)
    told = report([1.0, 2.0], 24, teacher, calls=32, refine_calls=8, ramp_calls=16)
    assert (told["calls_per_chunk"], told["nfe_per_chunk"]) == (8, 24)
    assert (told["calls"], told["refine_calls"], told["ramp_calls"]) == (32, 8, 16)
    student = report([1.0, 2.0], 24)
    assert (student["calls_per_chunk"], student["nfe_per_chunk"]) == (1, 3)


def test_percentiles():
    told = percentiles([float(i) for i in range(101)])
    assert told == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0})
    assert percentiles([2.0]) == dict.fromkeys(("p50", "p95", "p99", "max"), 2.0)
    assert percentiles([]) == dict.fromkeys(("p50", "p95", "p99", "max"))
