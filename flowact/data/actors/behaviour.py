"""The script of a clip: which states and actions follow each other, and when the actor speaks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.geometry import Geometry
from flowact.seeds import stable_seed

FPS = Geometry().fps
SHORTEST, LONGEST = 2 * FPS, 6 * FPS
"""Frames of an interval; a clip shorter than the shortest is one interval."""

# What people do in each state besides nothing. No one drinks while speaking: the cup is at the
# mouth. States are drawn by how many actions they allow, so that every action is frequent.
PLAUSIBLE: dict[str, tuple[str, ...]] = {
    "speak": tuple(action for action in ACTIONS if action not in ("none", "drink")),
    "listen": ("wave", "shrug", "clap", "drink", "thumbs_up", "fold_arms"),
    "think": ("shrug", "drink", "fold_arms"),
    "idle": tuple(action for action in ACTIONS if action != "none"),
}
_STATE_SHARES = {"speak": 0.42, "listen": 0.22, "think": 0.18, "idle": 0.18}
_ACTION_SHARE = 0.74


@dataclass(frozen=True)
class Beat:
    """One interval of the script: frames ``[start, end)`` in one state, with at most one action."""

    start: int
    end: int
    state: str
    action: str


def make_script(seed: int, frames: int) -> tuple[Beat, ...]:
    """Beats of 2 to 6 s that cover ``frames`` frames exactly, drawn by ``seed``.

    Raises:
        ValueError: ``frames`` is below 1.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; a clip needs 1 or more")
    rng = np.random.default_rng(stable_seed(seed, "script"))
    bounds = np.cumsum([0, *_lengths(rng, frames)]).tolist()
    beats: list[Beat] = []
    waiting = _shuffled_actions(rng)
    for start, end in itertools.pairwise(bounds):
        state = _next_state(rng, beats)
        action = "none"
        if rng.random() < _ACTION_SHARE:
            action = next((a for a in waiting if _fits(a, state, end - start)), "none")
        if action != "none":
            waiting.remove(action)
            waiting = waiting or [a for a in _shuffled_actions(rng) if a != action]
        beats.append(Beat(start, end, state, action))
    return tuple(beats)


def speech_spans(script: Sequence[Beat], seed: int) -> list[tuple[float, float]]:
    """Seconds ``(start, end)`` in which the actor of ``script`` speaks; silence elsewhere.

    A breath separates speech from the bounds of its state; it runs on where the state does.
    """
    rng = np.random.default_rng(stable_seed(seed, "speech"))
    spans: list[tuple[float, float]] = []
    for i, beat in enumerate(script):
        breath, rest = rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.3)
        if beat.state != "speak":
            continue
        runs_on = i + 1 < len(script) and script[i + 1].state == "speak"
        end = beat.end / FPS - (0.0 if runs_on else rest)
        if i and script[i - 1].state == "speak":
            spans[-1] = (spans[-1][0], end)
        elif end - beat.start / FPS > breath:
            spans.append((beat.start / FPS + breath, end))
    return spans


def _lengths(rng: np.random.Generator, frames: int) -> list[int]:
    """Random lengths within bounds whose sum is ``frames``."""
    fewest = -(-frames // (5 * FPS))
    count = int(rng.integers(fewest, max(fewest, frames // (3 * FPS)) + 1))
    lengths: list[int] = []
    for left in range(count - 1, -1, -1):
        remaining = frames - sum(lengths)
        low = max(SHORTEST, remaining - left * LONGEST)
        high = min(LONGEST, remaining - left * SHORTEST)
        lengths.append(int(rng.integers(low, high + 1)) if left else remaining)
    return lengths


def _shuffled_actions(rng: np.random.Generator) -> list[str]:
    return [str(action) for action in rng.permutation(ACTIONS[1:])]


def _next_state(rng: np.random.Generator, beats: Sequence[Beat]) -> str:
    """Any state; the last one, which may go on, only half as likely as else."""
    last = beats[-1].state if beats else None
    shares = np.array([_STATE_SHARES[s] * (0.5 if s == last else 1.0) for s in STATES])
    return str(rng.choice(STATES, p=shares / shares.sum()))


def _fits(action: str, state: str, frames: int) -> bool:
    """Whether ``state`` allows ``action``; a drink needs its time to the lips and back."""
    return action in PLAUSIBLE[state] and (action != "drink" or frames >= SHORTEST)
