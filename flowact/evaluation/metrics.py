"""The metrics: each is a function from a take to its numbers, by name; NaN where it says nothing.

To add one, such as a metric that needs a downloaded network, write such a function and put it into
``ANY`` or ``ACTORS``.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.evaluation.behaviour import Answer, accuracy, recognise
from flowact.evaluation.drift import appearance_drift, identity_drift
from flowact.evaluation.identity import top1
from flowact.evaluation.lip_sync import sync, sync_with_sound
from flowact.evaluation.seams import seam_ratios
from flowact.evaluation.takes import ActorTake, Take

Numbers = dict[str, float]
CLASSES = {"state": STATES, "action": ACTIONS}
MOUTH = ("mouth_open", "mouth_width", "mouth_round")


def lip_sync(take: ActorTake) -> Numbers:
    measured, true = (
        {name: getattr(x, name) for name in MOUTH} for x in (take.reading, take.tracks)
    )
    return sync(measured, true, take.fps, take.sound_late or 0.0)


def behaviour(take: ActorTake) -> Numbers:
    return {f"{kind}_accuracy": accuracy(answers(take, kind)) for kind in CLASSES}


def answers(take: ActorTake, kind: str) -> list[Answer]:
    """What was asked and seen in those intervals of a take that are long enough to tell.

    Args:
        kind: "state" or "action".
    """
    given = []
    for interval in take.clip.intervals:
        asked = getattr(interval, kind)
        seen = recognise(getattr(take.reading, kind), interval.start, interval.end, take.fps)
        if asked and seen is not None:
            given.append(Answer(CLASSES[kind].index(asked), seen))
    return given


def identity(take: ActorTake) -> Numbers:
    return {"identity_top1": top1(take.reading.identity, take.people)}


def sound_sync(take: Take) -> Numbers:
    found = sync_with_sound(take.mouth, take.loud, take.quiet, take.fps)
    declared = take.video.sound_delay
    return found | {"sound_start_s": np.nan if declared is None else declared}


def drift(take: Take) -> Numbers:
    """Against the true picture and actor if they are known, else against the first second."""
    if isinstance(take, ActorTake):
        picture, actor = take.reference, take.people[0]
    else:
        picture, actor = None, None
    found = appearance_drift(take.appearance, take.fps, picture)
    if take.identity is not None:
        found |= identity_drift(take.identity, take.fps, actor)
    return found


def seams(take: Take) -> Numbers:
    return seam_ratios(take.appearance, take.chunk_frames, take.chunk_offset)


ANY: tuple[Callable[[Take], Numbers], ...] = (sound_sync, drift, seams)
ACTORS: tuple[Callable[[ActorTake], Numbers], ...] = (lip_sync, behaviour, identity, *ANY)


def numbers(take: Any, metrics: Iterable[Callable[[Any], Numbers]]) -> Numbers:
    """What all metrics say of a take, without what they do not."""
    told = {name: value for metric in metrics for name, value in metric(take).items()}
    return {name: float(value) for name, value in told.items() if np.isfinite(value)}
