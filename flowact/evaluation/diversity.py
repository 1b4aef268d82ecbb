"""Whether takes of the same condition differ as much as true ones: 0 = collapsed, 1 = as the truth.

Takes share picture, speech and captions; when to blink, where to look and how wide to wave is left
open by these, and was drawn anew for each take.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from flowact.data.manifest import Clip

TRACKS = ("wrists", "gaze", "head", "blink")

Array = NDArray[np.float32]
TakeTracks = Mapping[str, Array]


def condition(clip: Clip) -> Hashable:
    """What all takes of a condition share, and no other clip has: all seeds but the motion's."""
    seeds = clip.seeds or {}
    return tuple(sorted((name, seed) for name, seed in seeds.items() if name != "motion"))


def spread(takes: Sequence[Array]) -> float:
    """Mean distance of all pairs of takes, each the root mean square over frames and columns.

    Args:
        takes: two or more tracks [T, ...]; the frames that both of a pair have are compared.
    """
    distances = []
    for a, b in combinations(takes, 2):
        length = min(len(a), len(b))
        distances.append(float(np.sqrt(np.square(a[:length] - b[:length]).mean())))
    return float(np.mean(distances))


def diversity(seen: Sequence[TakeTracks], true: Sequence[TakeTracks]) -> dict[str, float]:
    """Spread of the tracks read from takes of one condition over that of the true takes.

    Args:
        seen, true: ``TRACKS`` of two or more takes, in the same order.

    Returns:
        ``diversity_NAME`` for each track in which the true takes differ, and ``diversity``, their
        mean.
    """
    ratios: dict[str, float] = {}
    for name in TRACKS:
        whole = spread([take[name] for take in true])
        if whole > 1e-3:  # a thousandth of a picture, or of a track's range: not to be seen
            ratios[f"diversity_{name}"] = spread([take[name] for take in seen]) / whole
    if ratios:
        ratios["diversity"] = float(np.mean(list(ratios.values())))
    return ratios
