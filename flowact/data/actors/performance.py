"""A script acted out: one part a beat, each taking over smoothly from the one before."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np

from flowact.data.actors.behaviour import Beat
from flowact.data.actors.body import Body
from flowact.data.actors.gestures import GESTURES, gesticulate, ponder, rest
from flowact.data.actors.motion import Curve, behave, generator, live, min_jerk
from flowact.data.actors.tracks import ACTIONS, STATES, Array, Tracks, neutral_tracks

_REACTION = 2
"""Frames at most from a beat's start to the onset of its motion."""
_TAKEOVER = (10, 12)
"""Frames in which motion takes over, so that an action is recognised after half a second."""
_TAIL = _REACTION + _TAKEOVER[1]
"""Frames that a part goes on past its end, while the next one takes over."""
_ARC = 0.9
"""Four times the share of a hand's way up or down by which its path bends outwards."""


def perform(script: Sequence[Beat], body: Body, mouth: Mapping[str, Array], seed: int) -> Tracks:
    """Tracks of ``body`` acting out ``script`` with the given ``mouth``, as ``seed`` will have it.

    Args:
        mouth: ``mouth_open``, ``mouth_width`` and ``mouth_round``, each [T], of the speech.
        seed: the motion seed. It changes how things move, not what is done.
    """
    frames = script[-1].end
    lively = neutral_tracks(body, frames + _TAIL)
    for name, track in mouth.items():
        getattr(lively, name)[:frames] = track
    live(lively, script, seed)
    acted = deepcopy(lively)
    # It begins at rest, whatever comes at once: frame 0 is often the reference.
    opening = _part(replace(script[0], action="none"), body, lively, generator(seed, "part", 0))
    _take_over(acted, opening, 0, np.ones(len(opening)))
    for i, beat in enumerate(script):
        rng = generator(seed, "onset", i)
        onset = min(beat.start + int(rng.integers(_REACTION + 1)) * (i > 0), beat.end - 1)
        part = _part(replace(beat, start=onset), body, lively, generator(seed, "part", i))
        progress = (np.arange(len(part)) + 1) / rng.integers(_TAKEOVER[0], _TAKEOVER[1] + 1)
        _take_over(acted, part, onset, min_jerk(progress))
        acted.state[beat.start : beat.end] = STATES.index(beat.state)
        acted.action[onset : beat.end] = ACTIONS.index(beat.action)
    for track in (acted.head, acted.gaze, acted.brow, acted.smile):
        np.clip(track, -1.0, 1.0, out=track)
    return acted[:frames]


def _part(beat: Beat, body: Body, lively: Tracks, rng: np.random.Generator) -> Tracks:
    """Rows of ``beat``, and of the tail after it, as they were if nothing else happened."""
    part = deepcopy(lively[beat.start : beat.end + _TAIL])
    behave(part, beat.state, rng)
    if beat.state == "speak":
        gesticulate(part, body, rng)
    elif beat.state == "think" and beat.action == "none":
        ponder(part, body, rng)
    else:
        rest(part, body, rng)
    if beat.action != "none":
        GESTURES[beat.action](part, body, beat.end - beat.start, rng)
    return part


def _take_over(acted: Tracks, part: Tracks, start: int, weight: Curve) -> None:
    """Write ``part`` over ``acted`` from frame ``start`` on, coming in with ``weight`` [frames]."""
    rows = slice(start, start + len(part))
    for name, new in part.arrays().items():
        track = getattr(acted, name)
        old = track[rows]
        if new.dtype == np.int8:
            track[rows] = np.where(weight < 0.5, old, new)
            continue
        if name in ("right_turn", "left_turn"):
            # The shorter way round.
            new = new - 2 * np.pi * np.round((new[0] - old[0]) / (2 * np.pi))
        share = weight if new.ndim == 1 else weight[:, None]
        moved = old + share * (new - old)
        if name in ("right_hand", "left_hand"):
            # Up and down a hand goes round its shoulder, not past it.
            arc = _ARC * weight * (1 - weight) * np.abs(new[:, 1] - old[:, 1])
            moved[:, 0] += arc if name == "left_hand" else -arc
        track[rows] = moved
