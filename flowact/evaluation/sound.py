"""How loud a sound is, moment by moment: what mouths are compared with where no truth is known."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowact.evaluation.statistics import Series, best_lag, quick_part
from flowact.geometry import Geometry

RATE = 100  # loudness values per second
MOST_OFFSET = 0.6  # seconds that two takes of a sound may be apart
# A mouth's opening is heard in the vowels' first formants; rumble and hiss are not speech.
SPEECH_BAND = (150.0, 4000.0)
SILENCE_DB = -30.0  # below the loud parts
NOISE_DB = 6.0  # above the quiet parts
QUIET_PERCENTILE, LOUD_PERCENTILE = 10, 95
MIN_PAUSE = 0.4  # seconds
SYLLABLES = 0.5  # seconds over which syllables come and go

Array = NDArray[np.float32]


def loudness(blocks: Iterable[NDArray[np.float32]], geometry: Geometry) -> Array:
    """Root mean square of the speech band, ``RATE`` times a second.

    The band is cut out of the spectrum of each hop, under a Hann window of four hops that is
    centred on it, so that it is the same however the sound is cut into blocks.

    Args:
        blocks: float32 [samples], at ``geometry.sample_rate``.

    Returns:
        float32 [T], value i for the time from i / RATE to (i + 1) / RATE seconds.
    """
    hop = geometry.sample_rate // RATE
    before, size = 3 * hop // 2, 4 * hop
    window = np.hanning(size + 1)[:size]
    frequencies = np.fft.rfftfreq(size, 1 / geometry.sample_rate)
    band = (frequencies >= SPEECH_BAND[0]) & (frequencies <= SPEECH_BAND[1])
    held = np.zeros(before, np.float32)
    parts = []

    def flush() -> None:
        nonlocal held
        hops = (len(held) - size) // hop + 1
        if hops > 0:
            framed = np.lib.stride_tricks.sliding_window_view(held, size)[: hops * hop : hop]
            power = np.abs(np.fft.rfft(framed * window)[:, band]) ** 2
            parts.append(np.sqrt(2 * power.sum(-1) / (size * (window**2).sum())))
            held = held[hops * hop :]

    for block in blocks:
        held = np.concatenate([held, block])
        flush()
    held = np.concatenate([held, np.zeros(size - before - 1, np.float32)])
    flush()
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def at_frames(loud: Array, frames: int, fps: float) -> Array:
    """Loudness over each frame of a video: float32 [frames], 0 where the sound has ended.

    The root mean square of the ``RATE`` values between the frame's start and end, of which parts
    count as parts.
    """
    total = np.concatenate([[0.0], np.cumsum(loud.astype(np.float64) ** 2)])
    edges = np.interp(np.arange(frames + 1) * RATE / fps, np.arange(len(total)), total)
    return np.sqrt(np.diff(edges) * fps / RATE).astype(np.float32)


def sound_offset(loud: Array, reference: Array) -> tuple[float, float]:
    """Seconds by which a sound is later than another of the same speech, and how alike they are.

    Both are series of ``loudness``; alike is their correlation once they are aligned.
    """
    length = min(len(loud), len(reference))
    most = min(round(MOST_OFFSET * RATE), length // 2)
    lag, alike = best_lag(loud[:length], reference[:length], most)
    return lag / RATE, alike


def silent(loud: Array) -> NDArray[np.bool_]:
    """Where nothing is said, by a series of loudness.

    That is 30 dB below its loud parts (95th percentile) or 6 dB above its quiet ones (10th
    percentile), whichever is more: everywhere in a steady noise.
    """
    if not len(loud):
        return np.zeros(0, bool)
    quiet, loudest = np.percentile(loud, [QUIET_PERCENTILE, LOUD_PERCENTILE])
    return loud <= max(loudest * 10 ** (SILENCE_DB / 20), quiet * 10 ** (NOISE_DB / 20))


def pauses(quiet: ArrayLike, fps: float, trim: float = 0.12) -> NDArray[np.bool_]:
    """Frames inside pauses of ``MIN_PAUSE`` seconds or more.

    Args:
        quiet: bool [T], one value a frame.
        trim: seconds left out at either end of a pause, in which a mouth may close and open.
    """
    still = np.concatenate([[False], np.asarray(quiet, bool), [False]])
    inside = np.zeros(len(still) - 2, bool)
    starts, ends = np.flatnonzero(np.diff(still)).reshape(-1, 2).T
    margin = round(trim * fps)
    for start, end in zip(starts, ends, strict=True):
        if end - start >= MIN_PAUSE * fps:
            inside[start + margin : end - margin] = True
    return inside


def syllables(series: NDArray[np.floating], fps: float) -> Series:
    """What of a series [T, ...] changes with the syllables: its slower changes are taken out."""
    return quick_part(series, round(SYLLABLES * fps))
