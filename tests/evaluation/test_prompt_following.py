"""What counts as done: the middle of intervals that are long enough, and nothing else."""

import numpy as np
import pytest
from actor_takes import FPS, one_hot

from flowact.evaluation.behaviour import Answer, accuracy, chance, confusion, recognise


def test_half_a_second_at_either_end_does_not_count():
    labels = np.full(4 * FPS, 2)
    labels[: FPS // 2] = labels[-FPS // 2 :] = 1
    # One frame of great certainty outside of the middle must change nothing.
    sure = one_hot(labels, 4)
    sure[0, 3] = sure[-1, 3] = 1e6
    assert recognise(sure, 0.0, 4.0, FPS) == 2


def test_the_most_probable_class_over_the_middle_wins():
    labels = np.r_[np.full(30, 0), np.full(45, 3)]
    assert recognise(one_hot(labels, 4), 0.0, 3.0, FPS) == 3


@pytest.mark.parametrize(("end", "seen"), [(1.9, None), (2.0, 1), (2.5, None)])
def test_short_intervals_and_those_beyond_the_video_are_not_judged(end, seen):
    log_probabilities = one_hot(np.full(round(1.7 * FPS), 1), 3)
    assert recognise(log_probabilities, 0.0, end, FPS) == seen


def test_confusion_has_what_was_asked_in_rows():
    answers = [Answer(0, 0), Answer(0, 1), Answer(0, 0), Answer(2, 1)]
    counts = confusion(answers, 3)
    assert counts.tolist() == [[2, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert accuracy(answers) == 0.5
    assert chance(counts) == {"uniform": pytest.approx(1 / 3), "commonest": 0.75}


def test_without_an_interval_there_is_no_accuracy():
    assert np.isnan(accuracy([]))
