"""What a long stream has become: the last minute of videos of actors beside their first."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypedDict

import numpy as np

from flowact.evaluation.appearance import Appearance
from flowact.evaluation.metrics import ACTORS, numbers
from flowact.evaluation.statistics import Estimate, estimate
from flowact.evaluation.takes import ActorTake

MINUTE = 60.0
PER_FRAME = ("mouth", "loud", "quiet", "reading", "tracks", "wrists")


class Change(TypedDict):
    """Of one metric: its first minute, its last, and what each clip's last has more."""

    first: Estimate
    last: Estimate
    difference: Estimate


def changes(takes: Sequence[ActorTake], seed: int) -> dict[str, Change]:
    """By metric, over the takes of two minutes or more that have it in both; empty without any."""
    pairs = []
    for take in takes:
        length, minute = len(take.reading), round(MINUTE * take.fps)
        if length >= 2 * minute:
            spans = (slice(0, minute), slice(length - minute, length))
            pairs.append([numbers(part(take, span), ACTORS) for span in spans])
    found: dict[str, Change] = {}
    for name in dict.fromkeys(name for first, last in pairs for name in first if name in last):
        both = np.array([[p[name] for p in pair] for pair in pairs if all(name in p for p in pair)])
        first, last = both.T
        found[name] = Change(
            first=estimate(first.tolist(), seed, name),
            last=estimate(last.tolist(), seed, name),
            difference=estimate((last - first).tolist(), seed, name),
        )
    return found


def part(take: ActorTake, frames: slice) -> ActorTake:
    """Some frames of a take, with what was asked in them, as a take of its own.

    What it is compared with, the picture and the actor, stays the whole take's.
    """
    start, end = frames.start / take.fps, frames.stop / take.fps
    intervals = tuple(
        replace(i, start=max(i.start, start) - start, end=min(i.end, end) - start)
        for i in take.clip.intervals
        if i.start < end and i.end > start
    )
    return replace(
        take,
        clip=replace(take.clip, intervals=intervals, frames=frames.stop - frames.start),
        appearance=Appearance(
            **{f.name: getattr(take.appearance, f.name)[frames] for f in fields(Appearance)}
        ),
        identity=None if take.identity is None else take.identity[frames],
        chunk_offset=(take.chunk_offset - frames.start) % take.chunk_frames,
        **{name: getattr(take, name)[frames] for name in PER_FRAME},
    )
