"""The last minute beside the first: what changes is told, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from actor_takes import FPS, GEOMETRY, Actor

from flowact.evaluation.metrics import ACTORS, numbers
from flowact.evaluation.minutes import changes, part
from flowact.evaluation.report import table
from flowact.evaluation.suites import Evaluation

SECONDS = 8


@pytest.fixture(scope="module")
def take():
    return Actor(SECONDS * FPS).take()


def test_a_part_that_is_all_is_the_same(take):
    whole = part(take, slice(0, len(take.reading)))
    assert numbers(whole, ACTORS) == numbers(take, ACTORS)


def test_a_part_begins_anew(take):
    """Its frames, its intervals in its own seconds, and its chunks where they were."""
    start, stop = 50, 150
    cut = part(take, slice(start, stop))
    assert len(cut.appearance) == len(cut.reading) == len(cut.tracks) == cut.clip.frames == 100
    assert np.array_equal(cut.tracks.mouth_open, take.tracks.mouth_open[start:stop])
    assert cut.clip.intervals[0].start == 0
    assert cut.clip.intervals[-1].end == (stop - start) / FPS
    for interval in cut.clip.intervals:
        middle = round((interval.start + interval.end) / 2 * FPS)
        (of_whole,) = (i for i in take.clip.intervals if i.start <= (start + middle) / FPS < i.end)
        assert (of_whole.state, of_whole.caption) == (interval.state, interval.caption)
    assert (start + cut.chunk_offset) % GEOMETRY.chunk_frames == take.chunk_offset


def test_what_changes_is_told(monkeypatch, take):
    """A video whose second half is another tint: colours drift, lips do not."""
    monkeypatch.setattr("flowact.evaluation.minutes.MINUTE", SECONDS / 2)
    half = len(take.reading) // 2
    lab = take.appearance.lab.copy()
    lab[half:] += [0.0, 12.0, 0.0]
    tinted = replace(take, appearance=replace(take.appearance, lab=lab))
    found = changes([tinted, tinted], 0)
    assert found["drift_colour"]["difference"]["mean"] > 8  # of 12, less what the arms hide
    for name, change in found.items():
        assert change["difference"]["mean"] == pytest.approx(
            change["last"]["mean"] - change["first"]["mean"]
        ), name
    assert found["lip_sync_r"]["last"]["mean"] > 0.99
    lines = table({"mean": Evaluation(scores={}, minutes=found)}).splitlines()
    assert lines[1].split() == ["first", "minute", "last", "minute", "difference", "ratio"]
    assert lines[2].split()[:2] == ["lip_sync_r", f"{found['lip_sync_r']['first']['mean']:.3f}"]
    plain = changes([take], 0)["drift_colour"]["difference"]["mean"]
    assert abs(plain) < 3


def test_a_ratio_is_of_means_over_the_same_clips(monkeypatch, take):
    """Second halves that move by a tenth more, in each of clips that move otherwise."""
    monkeypatch.setattr("flowact.evaluation.minutes.MINUTE", SECONDS / 2)
    half = len(take.reading) // 2

    def moving(energy, more):
        change = np.full(len(take.reading), energy, np.float32)
        change[half:] *= more
        return replace(take, appearance=replace(take.appearance, change=change))

    for more, steady in ((1.09, True), (0.89, False)):
        told = changes([moving(energy, more) for energy in (1.0, 1.5, 2.0)], 0)["motion_energy"]
        assert told["ratio"]["mean"] == pytest.approx(more)
        assert told["ratio"]["n"] == 3
        # It is that of each clip, so that nothing is left for an interval.
        assert told["ratio"]["low"] == pytest.approx(told["ratio"]["high"], abs=1e-6)
        assert told["difference"]["low"] < told["difference"]["high"] - 0.01
        assert told["steady"] is steady
    other = changes([moving(1.0, 0.5), moving(1.0, 2.0)], 0)["motion_energy"]
    assert (other["ratio"]["low"], other["ratio"]["high"]) == pytest.approx((0.5, 2.0))
    one = changes([moving(1.0, 1.3)], 0)["motion_energy"]["ratio"]
    assert one["low"] == one["high"] == pytest.approx(one["mean"]) == pytest.approx(1.3)


def test_streams_that_end_still_or_in_noise_are_counted(monkeypatch, take):
    monkeypatch.setattr("flowact.evaluation.minutes.MINUTE", SECONDS / 2)
    half = len(take.reading) // 2
    ended = []
    for energy in (0.01, 1.3, 8.0, 9.0):
        change = take.appearance.change.copy()
        change[half:] = energy
        ended.append(replace(take, appearance=replace(take.appearance, change=change)))
    found = changes(ended, 0)
    assert (found["still"]["first"]["mean"], found["still"]["last"]["mean"]) == (0.0, 0.25)
    assert (found["noise"]["first"]["mean"], found["noise"]["last"]["mean"]) == (0.0, 0.5)
    assert found["noise"]["ratio"] is found["noise"]["steady"] is None  # of nothing


def test_short_videos_have_no_minutes(take):
    assert changes([take], 0) == {}
