"""Motion that never stops: breath, blinks, gaze, sway, and what each state does with head and face.

Everything is drawn by a generator of the motion seed, and is a function of the frame's time alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.behaviour import FPS, Beat
from flowact.data.actors.tracks import Array, Tracks
from flowact.seeds import stable_seed

Curve = NDArray[np.floating]

BLINK_GAP = (2.0, 6.0)
"""Seconds between blinks; now and then a second one follows at once."""
_LIDS = ((0.55, 1.0, 0.75, 0.25), (0.6, 1.0, 1.0, 0.6, 0.2))
_DOUBLE_BLINK = 0.12


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    return np.random.default_rng(stable_seed(seed, *purpose))


def seconds(frames: int) -> Curve:
    """Times of the middles of frames ``0 ... frames - 1``."""
    return (np.arange(frames) + 0.5) / FPS


def min_jerk(progress: Curve) -> Curve:
    """The smoothest way from 0 to 1 while ``progress`` goes from 0 to 1 (Flash and Hogan 1985)."""
    x = np.clip(progress, 0.0, 1.0)
    return x**3 * (10 - 15 * x + 6 * x**2)


def smooth_noise(rng: np.random.Generator, frames: int, period: float, width: int = 1) -> Curve:
    """[frames, width] of variance 1 that changes about every ``period`` seconds."""
    waves = 4
    rate = rng.uniform(0.4, 1.3, (waves, width)) / period
    phase = rng.uniform(0, 2 * np.pi, (waves, width))
    angles = 2 * np.pi * rate * seconds(frames)[:, None, None] + phase
    return np.sin(angles).sum(1) * (2 / waves) ** 0.5


def bumps(frames: int, centres: Curve, width: float) -> Curve:
    """[frames] sum of bells of height 1 and ``width`` frames at ``centres``."""
    away = (np.arange(frames)[:, None] - centres) / width
    return np.exp(-0.5 * away**2).sum(1)


def stresses(rng: np.random.Generator, mouth_open: Array, share: float) -> Curve:
    """Frames of about ``share`` of the syllables, which open the mouth."""
    middle = mouth_open[1:-1]
    peaks = (middle > 0.3) & (middle >= mouth_open[:-2]) & (middle > mouth_open[2:])
    syllables = np.flatnonzero(peaks)
    return syllables[rng.random(len(syllables)) < share] + 1.0


def live(tracks: Tracks, script: Sequence[Beat], seed: int) -> None:
    """Add to ``tracks`` what goes on through all beats of ``script``, whatever they are."""
    frames = len(tracks)
    tracks.breath[:] = _breath(generator(seed, "breath"), frames)
    tracks.blink[:] = _blinks(generator(seed, "blinks"), frames)
    tracks.gaze[:] = _gaze(generator(seed, "gaze"), script, frames)
    rng = generator(seed, "sway")
    tracks.sway[:] += smooth_noise(rng, frames, 3.5, 2) * rng.uniform(0.006, 0.014, 2)
    # Weight goes from one leg to the other.
    tracks.sway[:, 0] += np.tanh(2 * smooth_noise(rng, frames, 9.0)[:, 0]) * rng.uniform(0.01, 0.04)
    tracks.head[:] += smooth_noise(rng, frames, 2.2, 3) * rng.uniform(0.03, 0.08, 3)
    tracks.head[:, 0] += rng.uniform(0.2, 0.45) * _eased(tracks.gaze[:, 0], 0.25)
    tracks.head[:, 1] += rng.uniform(0.1, 0.3) * _eased(tracks.gaze[:, 1], 0.25)
    tracks.brow[:] += 0.08 * smooth_noise(rng, frames, 1.8)[:, 0]


def behave(part: Tracks, state: str, rng: np.random.Generator) -> None:
    """Add to ``part``, the rows of one beat, what ``state`` does with head and face."""
    frames = len(part)
    part.head[:] += rng.normal(0, (0.08, 0.05, 0.1), 3)
    part.smile[:] += rng.uniform(0.0, 0.25)
    if state == "speak":
        strokes = bumps(frames, stresses(rng, part.mouth_open, 0.4), 2.2)
        part.head[:, 1] += rng.uniform(0.12, 0.3) * np.minimum(strokes, 1.0)
        part.head[:] += smooth_noise(rng, frames, 1.3, 3) * (0.07, 0.03, 0.09)
        part.brow[:] += 0.35 * np.minimum(
            bumps(frames, stresses(rng, part.mouth_open, 0.12), 5.0), 1.0
        )
    elif state == "listen":
        part.head[:, 1] += _nods(rng, frames)
        part.head[:, 2] += rng.choice((-1, 1)) * rng.uniform(0.1, 0.35)
        part.smile[:] += rng.uniform(0.05, 0.35)
        part.brow[:] += rng.uniform(0.05, 0.3)
    elif state == "think":
        part.head[:, 1] -= rng.uniform(0.05, 0.2)
        part.head[:, 2] += rng.choice((-1, 1)) * rng.uniform(0.1, 0.3)
        part.smile[:] -= rng.uniform(0.15, 0.4)
        part.brow[:] += rng.choice((-0.6, 0.45)) * rng.uniform(0.6, 1.0)


def _breath(rng: np.random.Generator, frames: int) -> Curve:
    cycle = seconds(frames) / rng.uniform(3.0, 4.6) + rng.random()
    cycle += 0.06 * smooth_noise(rng, frames, 6.0)[:, 0]
    # In faster than out.
    return 0.5 - 0.5 * np.cos(2 * np.pi * (cycle % 1.0) ** 0.8)


def _blinks(rng: np.random.Generator, frames: int) -> Curve:
    lids = np.zeros(frames + len(_LIDS[1]))
    onset = int(rng.uniform(0.4, BLINK_GAP[1]) * FPS)
    while onset < frames:
        lid = _LIDS[int(rng.integers(len(_LIDS)))]
        lids[onset : onset + len(lid)] = lid
        double = rng.random() < _DOUBLE_BLINK
        onset += int((0.32 if double else rng.uniform(*BLINK_GAP)) * FPS)
    return lids[:frames]


@dataclass(frozen=True)
class _Look:
    """Where the eyes rest in one state: shares, seconds, and bounds of places off the camera."""

    aside: float
    camera: tuple[float, float]
    elsewhere: tuple[float, float]
    across: tuple[float, float]
    down: tuple[float, float]


_LOOKS = {
    "speak": _Look(0.2, (0.8, 2.5), (0.3, 0.8), (0.3, 0.8), (-0.3, 0.4)),
    "listen": _Look(0.08, (1.0, 3.0), (0.3, 0.6), (0.3, 0.6), (-0.2, 0.3)),
    "think": _Look(0.88, (0.3, 0.7), (0.6, 1.8), (0.4, 0.9), (-0.95, -0.4)),
    "idle": _Look(0.7, (0.4, 1.2), (0.4, 1.4), (0.4, 0.95), (-0.35, 0.4)),
}


def _gaze(rng: np.random.Generator, script: Sequence[Beat], frames: int) -> Curve:
    """[frames, 2] fixations joined by saccades of two frames; (0, 0) is the camera."""
    targets = np.zeros((frames, 2))
    for beat in script:
        look = _LOOKS[beat.state]
        # The eyes are the first to show a change of state.
        aside = look.aside > 0.5
        frame = beat.start
        while frame < beat.end:
            length = int(rng.uniform(*(look.elsewhere if aside else look.camera)) * FPS)
            if aside:
                place = rng.choice((-1.0, 1.0)) * rng.uniform(*look.across), rng.uniform(*look.down)
                targets[frame : min(frame + length, beat.end)] = place
            frame += length
            aside = rng.random() < look.aside
    drift = 0.03 * smooth_noise(rng, len(targets), 0.6, 2)
    padded = np.pad(targets, ((1, 1), (0, 0)), mode="edge")
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:] + drift


def _nods(rng: np.random.Generator, frames: int) -> Curve:
    """Bouts of nods, the first within a second."""
    time = seconds(frames)
    nods = np.zeros(frames)
    onset = rng.uniform(0.25, 0.9)
    while onset < time[-1]:
        count, rate = int(rng.integers(2, 5)), rng.uniform(1.5, 2.3)
        cycles = (time - onset) * rate
        inside = (cycles > 0) & (cycles < count)
        fading = 1 - 0.15 * cycles
        nods += inside * rng.uniform(0.3, 0.6) * (0.5 - 0.5 * np.cos(2 * np.pi * cycles)) * fading
        onset += count / rate + rng.uniform(0.5, 1.8)
    return nods


def _eased(signal: Array, lag: float) -> Curve:
    """``signal`` followed slowly, as the head follows the eyes; ``lag`` in seconds."""
    length = int(6 * lag * FPS)
    kernel = np.exp(-0.5 * ((np.arange(length) - length / 2) / (lag * FPS)) ** 2)
    padded = np.pad(signal, (length, length), mode="edge")
    start = length + length // 2 - int(lag * FPS)
    eased = np.convolve(padded, kernel / kernel.sum())
    return eased[start : start + len(signal)]
