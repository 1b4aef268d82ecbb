"""What a long stream has become: the last minute of videos of actors beside their first."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypedDict

import numpy as np

from flowact.evaluation.appearance import Appearance
from flowact.evaluation.metrics import ACTORS, Numbers, numbers
from flowact.evaluation.statistics import CONFIDENCE, RESAMPLES, Estimate, Series, estimate
from flowact.evaluation.takes import ActorTake
from flowact.seeds import stable_seed

MINUTE = 60.0
PER_FRAME = ("mouth", "loud", "quiet", "reading", "tracks", "wrists")
# Mean frame differences, of 255: drawn actors have 1 to 2, latents that are half noise 4, and all
# noise 8, as the demo decodes them.
STILL, NOISE = 0.2, 4.0
STEADY = 0.1


class Change(TypedDict):
    """Of one metric: its first minute, its last, and what each clip's last has more.

    Attributes:
        ratio: of the last's mean to the first's; None where that may be 0 or less.
        steady: whether the ratio is within 10 % of 1.
    """

    first: Estimate
    last: Estimate
    difference: Estimate
    ratio: Estimate | None
    steady: bool | None


def changes(takes: Sequence[ActorTake], seed: int) -> dict[str, Change]:
    """By metric, over the takes of two minutes or more that have it in both; empty without any.

    Two more are 1 for a stream that is so in that minute, and 0 for others, so that their means are
    shares of the streams: ``still``, and ``noise``.
    """
    pairs = []
    for take in takes:
        length, frames = len(take.reading), round(MINUTE * take.fps)
        if length >= 2 * frames:
            spans = (slice(0, frames), slice(length - frames, length))
            told = [numbers(part(take, span), ACTORS) for span in spans]
            pairs.append([minute | _end(minute["motion_energy"]) for minute in told])
    found: dict[str, Change] = {}
    for name in dict.fromkeys(name for first, last in pairs for name in first if name in last):
        both = np.array([[p[name] for p in pair] for pair in pairs if all(name in p for p in pair)])
        first, last = both.T
        ratio = _ratio(first, last, seed, name)
        found[name] = Change(
            first=estimate(first.tolist(), seed, name),
            last=estimate(last.tolist(), seed, name),
            difference=estimate((last - first).tolist(), seed, name),
            ratio=ratio,
            steady=None if ratio is None else abs(ratio["mean"] - 1) <= STEADY,
        )
    return found


def _end(motion_energy: float) -> Numbers:
    """How a stream may have ended."""
    return {"still": float(motion_energy < STILL), "noise": float(motion_energy > NOISE)}


def _ratio(first: Series, last: Series, *key: int | str) -> Estimate | None:
    """The mean of ``last`` over that of ``first``, both [clips]; as ``estimate``, by the same clips
    of both."""
    n = len(first)
    random = np.random.default_rng(stable_seed("bootstrap ratio", *key))
    drawn = random.integers(n, size=(RESAMPLES, n))
    below = first[drawn].mean(axis=1)
    if below.min() <= 0:
        return None
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(last[drawn].mean(axis=1) / below, tails)
    mean = float(last.mean() / first.mean())
    return Estimate(mean=mean, low=float(low), high=float(high), n=n)


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
