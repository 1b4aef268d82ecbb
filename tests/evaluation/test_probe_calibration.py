"""The instruments calibrated once more, seen by the probe that ships: with its errors."""

import pytest
from actor_takes import FPS, ProbedActor
from test_calibration import blurred, frozen, late_sound, other_person, recoloured

from flowact.data.actors.clip import ActorSeeds
from flowact.evaluation.metrics import ACTORS, numbers

# Of the validation split: speaks and shrugs, then waves without a word.
SEED, SECONDS = 800_022, 6


@pytest.fixture(scope="module")
def actor():
    return ProbedActor(SECONDS * FPS, ActorSeeds.of(SEED))


@pytest.fixture(scope="module")
def truth(actor):
    return numbers(actor.take(), ACTORS)


def test_the_truth_is_near_the_ceiling(truth):
    assert truth["lip_sync_r"] > 0.97
    assert abs(truth["lip_sync_lag_s"]) < 0.01  # a quarter of a frame
    assert truth["state_accuracy"] == truth["action_accuracy"] == truth["identity_top1"] == 1
    assert truth["drift_identity"] < 0.1


# Of each fault: the metrics that are to see it, with the least change from the truth's value.
FAULTS = {
    late_sound: {"lip_sync_lag_s": -0.07, "av_offset_s": -0.07, "lip_sync_r": -0.2},
    other_person: {"identity_top1": -1.0, "drift_identity": 0.5},
    frozen: {"lip_sync_r": -0.5, "motion_energy": -0.5, "action_accuracy": -0.5},
    blurred: {"drift_sharpness": -0.5},
    recoloured: {"drift_colour": 3.0},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_seen_by_its_own_metric(actor, truth, fault):
    found = numbers(fault(actor), ACTORS)
    for name, change in FAULTS[fault].items():
        assert (found[name] - truth[name]) / change >= 1, name
