"""Jumps where one chunk of a stream ends and the next begins."""

import numpy as np
from numpy.typing import NDArray

from flowact.evaluation.appearance import Appearance

Array = NDArray[np.float32]
Numbers = dict[str, float]


def seam_ratio(series: Array, period: int, offset: int = 0, reach: int = 1) -> float:
    """The mean of a series at chunk borders over its mean beside them; 1 = no seam.

    A border b is at every frame ``offset + i * period`` from 1 on, b being its chunk's first frame.
    A value belongs to the border if it is computed across it, which are b ... b + reach - 1; beside
    it are as many values as belong to it on either side of those. NaN if no border has all of them.

    Args:
        series: [T], differences, value t computed from frames t - reach to t.
        reach: frames that a difference reaches back.
    """
    last = len(series) - 2 * reach
    borders = np.arange(offset % period, last + 1, period)
    borders = borders[borders >= 2 * reach]
    if not len(borders):
        return float("nan")
    steps = np.arange(reach)
    across = series[borders[:, None] + steps].mean()
    beside = series[borders[:, None] + np.concatenate([steps - reach, steps + reach])].mean()
    return float(across / beside) if beside > 0 else 1.0


def seam_ratios(seen: Appearance, period: int, offset: int = 0) -> Numbers:
    """``seam_change`` of the frame difference and ``seam_jerk`` of the second difference.

    Motion that goes on hides a small jump in its frame differences; the second difference is what
    of a frame could not be foreseen from the two before it.

    Args:
        period: frames per chunk.
        offset: the first frame of any chunk.
    """
    return {
        "seam_change": seam_ratio(seen.change, period, offset),
        "seam_jerk": seam_ratio(seen.jerk, period, offset, reach=2),
    }
