"""Whether the person does what the prompt says: states and actions recognised, by interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SECONDS = 2.0
TRIM_SECONDS = 0.5  # off either end of an interval, where one behaviour passes into the next

Array = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What should have been done in one interval, and what was seen; indices of classes."""

    asked: int
    seen: int

    @property
    def right(self) -> bool:
        return self.asked == self.seen


def recognise(log_probabilities: Array, start: float, end: float, fps: float) -> int | None:
    """The class with the largest mean log-probability over an interval's middle.

    Half a second off each end is left out. None for intervals of less than 2 s, and for those that
    end after the video.

    Args:
        log_probabilities: [T, classes].
        start, end: seconds.
    """
    first, last = round((start + TRIM_SECONDS) * fps), round((end - TRIM_SECONDS) * fps)
    # Half a frame is what rounding the interval to frames may have taken.
    if end - start < MIN_SECONDS - 0.5 / fps or last > len(log_probabilities):
        return None
    return int(log_probabilities[first:last].mean(axis=0).argmax())


def accuracy(answers: Sequence[Answer]) -> float:
    """The share of answers that are right; NaN without any."""
    return sum(answer.right for answer in answers) / len(answers) if answers else float("nan")


def confusion(answers: Sequence[Answer], classes: int) -> Counts:
    """How often each class (column) was seen where another (row) was asked: [classes, classes]."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, ([a.asked for a in answers], [a.seen for a in answers]), 1)
    return counts


def chance(counts: Counts) -> dict[str, float]:
    """Accuracy without looking: ``uniform`` guessing, and always the ``commonest`` class asked."""
    asked = counts.sum(axis=1)
    return {
        "uniform": 1 / len(counts),
        "commonest": float(asked.max() / max(asked.sum(), 1)),
    }
