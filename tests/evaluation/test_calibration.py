"""The instruments, calibrated: the truth is at the ceiling, each fault is seen by its own metric.

Tracks are read by an eye without errors, so that what is tested is the metrics; the probe's own
errors are measured where it is trained.
"""

import cv2
import numpy as np
import pytest
from actor_takes import FPS, GEOMETRY, Actor
from test_seams import shift_chunks

from flowact.evaluation.metrics import ACTORS, numbers

SECONDS = 10


@pytest.fixture(scope="module")
def actor():
    return Actor(SECONDS * FPS)


@pytest.fixture(scope="module")
def truth(actor):
    return numbers(actor.take(), ACTORS)


def indexed(tracks, order):
    return type(tracks)(**{name: track[order] for name, track in tracks.arrays().items()})


def late_sound(actor):
    late = np.zeros(2 * GEOMETRY.frame_samples, np.float32)
    return actor.take(sound=np.concatenate([late, actor.clip.soundtrack.samples]))


def other_person(actor):
    return actor.take(person=1)


def frozen(actor):
    order = np.zeros(len(actor.frames), int)
    return actor.take(actor.frames[order], indexed(actor.clip.tracks, order))


def blurred(actor):
    return actor.take(np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in actor.frames]))


def recoloured(actor):
    return actor.take((actor.frames * np.array([1.0, 0.85, 0.85])).astype(np.uint8))


def looped(actor):
    """The same two seconds over and over; what is seen of the person is not changed with them."""
    return actor.take(np.concatenate([actor.frames[: 2 * FPS]] * (SECONDS // 2)))


def jumping(actor):
    return actor.take(shift_chunks(actor.frames, pixels=1))


# Of each fault: the metrics that are to see it, with the least change from the truth's value.
FAULTS = {
    late_sound: {"lip_sync_lag_s": -0.06, "lip_sync_r": -0.02, "av_offset_s": -0.06},
    other_person: {"identity_top1": -1.0, "drift_identity": 0.5},
    frozen: {"lip_sync_r": -0.9, "motion_energy": -0.5, "state_accuracy": -0.3},
    blurred: {"drift_sharpness": -0.5},
    recoloured: {"drift_colour": 3.0},
    looped: {"drift_repetition": 0.4},
    jumping: {"seam_change": 0.5, "seam_jerk": 0.5},
}
# How far a metric may go along with a fault that is not its own. Colours and identity are averages
# of the last quarter; ratios move with whatever is divided by.
STEADY = {
    "lip_sync_r": 0.01,
    "lip_sync_lag_s": 0.01,
    "state_accuracy": 0.01,
    "action_accuracy": 0.01,
    "identity_top1": 0.01,
    "drift_identity": 0.01,
    "drift_colour": 1.0,
    "drift_sharpness": 0.2,
    "seam_change": 0.25,
}


def test_the_truth_is_at_the_ceiling(truth):
    assert truth["lip_sync_r"] == pytest.approx(1)
    assert truth["lip_sync_lag_s"] == pytest.approx(0, abs=0.002)  # a twentieth of a frame
    assert truth["state_accuracy"] == truth["action_accuracy"] == truth["identity_top1"] == 1
    assert truth["drift_identity"] == pytest.approx(0, abs=1e-6)
    assert truth["drift_colour"] < 2.3  # what can just be noticed
    # Arms come and go, so a tenth or two are the scene's own; 10 s have 20 borders.
    assert truth["drift_sharpness"] == pytest.approx(1, abs=0.2)
    assert truth["seam_change"] == pytest.approx(1, abs=0.2)
    assert truth["seam_jerk"] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_seen_by_its_own_metric(actor, truth, fault):
    found = numbers(fault(actor), ACTORS)
    for name, change in FAULTS[fault].items():
        assert (found[name] - truth[name]) / change >= 1, name


@pytest.mark.parametrize("fault", [f for f in FAULTS if f is not frozen], ids=lambda f: f.__name__)
def test_other_metrics_stay(actor, truth, fault):
    """A frozen video is left out: it does nothing right any more."""
    found = numbers(fault(actor), ACTORS)
    for name in STEADY.keys() - FAULTS[fault].keys():
        assert found[name] == pytest.approx(truth[name], abs=STEADY[name]), name


def test_sound_two_frames_late_is_a_mouth_two_frames_early(actor, truth):
    found = numbers(late_sound(actor), ACTORS)
    for name in ("lip_sync_lag_s", "av_offset_s"):
        moved = found[name] - truth[name]
        assert moved == pytest.approx(-2 / FPS, abs=0.005)  # an eighth of a frame: interpolation
