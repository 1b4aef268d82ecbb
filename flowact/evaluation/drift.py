"""What changes over minutes that should not: colour, sharpness, identity, motion, repetition.

A drift is that of the video's last quarter against its reference: the picture that it was made
from, where that is known, or else its own first second.
"""

import numpy as np
from numpy.typing import NDArray

from flowact.evaluation.appearance import Appearance
from flowact.evaluation.statistics import correlation, quarters

REPEAT_SECONDS = (1.0, 30.0)
# Of what the frame difference of a still, compressed video is, in grey levels.
STILL = 0.05

Array = NDArray[np.float32]
Numbers = dict[str, float]


def colour_distance(lab: Array, reference: Array) -> Array:
    """Distance of each frame's colours to the reference's, [T].

    The Euclidean distance in L*a*b* (dE of CIE 1976; 2.3 can just be noticed) of the median cell:
    arms that come and go colour some cells, a drift of colour all.

    Args:
        lab: [T, cells, 3].
        reference: [cells, 3].
    """
    return np.median(np.linalg.norm(lab - reference, axis=-1), axis=-1)


def identity_distance(identity: Array, reference: Array) -> Array:
    """1 - cosine between each frame's embedding and the reference's, [T].

    Args:
        identity: [T, D], unit vectors.
        reference: [D], a unit vector.
    """
    return 1 - identity @ reference


def unit_mean(identity: Array) -> Array:
    """The mean direction of embeddings [T, D], as a unit vector [D]."""
    mean = identity.mean(axis=0)
    return mean / np.linalg.norm(mean)


def repetition(change: Array, fps: float) -> float:
    """How much the motion repeats itself: the peak of its autocorrelation at lags of 1 to 30 s.

    The series of frame differences has its straight-line trend removed; r(k) is the correlation of
    its part from k on with its part up to T - k. Lags leave half of the series or more to be
    compared. 1 for a perfect loop; NaN for less than 2 s.
    """
    time = np.arange(len(change))
    first, last = (round(seconds * fps) for seconds in REPEAT_SECONDS)
    lags = range(first, min(last, len(change) // 2) + 1)
    if not lags:
        return float("nan")
    rest = change - np.polyval(np.polyfit(time, change.astype(np.float64), 1), time)
    return max(correlation(rest[k:], rest[:-k]) for k in lags)


def appearance_drift(seen: Appearance, fps: float, reference: Appearance | None) -> Numbers:
    """Drift of a video's pixels, and how much it moves at all.

    Args:
        seen: the video's frames.
        reference: those of its reference picture, at the video's size; None for the first second.

    Returns:
        ``drift_colour`` dE of the last quarter; ``drift_sharpness`` its median sharpness over the
        reference's, 1 = unchanged; ``drift_motion`` its mean frame difference over the first
        quarter's; ``drift_repetition``; ``motion_energy``, the mean frame difference.
    """
    first, last = quarters(len(seen))
    opening = slice(0, max(1, round(fps)))
    if reference is None:
        lab, sharpness = seen.lab[opening].mean(0), float(np.median(seen.sharpness[opening]))
    else:
        lab, sharpness = reference.lab.mean(0), float(np.median(reference.sharpness))
    moves = seen.change[1:] if len(seen) > 1 else seen.change
    return {
        "drift_colour": float(colour_distance(seen.lab[last].mean(0)[None], lab)[0]),
        "drift_sharpness": float(np.median(seen.sharpness[last]) / max(sharpness, 1e-6)),
        "drift_motion": _ratio(seen.change[last], seen.change[first]),
        "drift_repetition": repetition(moves, fps),
        "motion_energy": float(moves.mean()),
    }


def identity_drift(identity: Array, fps: float, reference: Array | None) -> Numbers:
    """``drift_identity``, the distance of the last quarter's mean embedding to the reference's.

    Args:
        identity: [T, D], unit vectors.
        reference: [D], a unit vector; None for the mean of the first second.
    """
    if reference is None:
        reference = unit_mean(identity[: max(1, round(fps))])
    _, last = quarters(len(identity))
    ending = unit_mean(identity[last])
    return {"drift_identity": float(identity_distance(ending[None], reference)[0])}


def _ratio(last: Array, first: Array) -> float:
    return float((last.mean() + STILL) / (first.mean() + STILL))
