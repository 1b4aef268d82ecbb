"""Whether and when a mouth moves as it should: tracks against truth, or against the sound."""

import numpy as np
from numpy.typing import NDArray

from flowact.evaluation.sound import pauses, syllables
from flowact.evaluation.statistics import best_lag, correlation

MOST_LAG = 0.6  # seconds searched to either side
SURROUNDING = 0.4  # seconds around speech that count with it
CLOSED = 0.08  # openness of a mouth that says nothing

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Numbers = dict[str, float]


def later(track: Array, seconds: float, fps: float) -> Array:
    """A track [T] moved ``seconds`` later, linearly between frames, its ends held."""
    frames = np.arange(len(track))
    return np.interp(frames - seconds * fps, frames, track).astype(np.float32)


def speaking(openness: Array, fps: float) -> Mask:
    """Frames of speech and 0.4 s around it: where a true mouth is open, now or soon or recently."""
    margin = round(SURROUNDING * fps)
    around = np.ones(2 * margin + 1)
    return np.convolve(openness > CLOSED, around)[margin : margin + len(openness)] > 0


def sync(
    measured: dict[str, Array], true: dict[str, Array], fps: float, sound_late: float = 0.0
) -> Numbers:
    """Lip sync where the true mouth is known.

    Args:
        measured, true: ``mouth_open``, ``mouth_width`` and ``mouth_round``, each [T].
        sound_late: seconds by which the video's sound is later than the sound that the truth was
            spoken to. The mouth is judged by the sound that is heard: the truth is moved with it.

    Returns:
        ``lip_sync_r``, Pearson's r of openness over the frames of speech and 0.4 s around it, and
        ``lip_sync_width_r`` and ``lip_sync_round_r``; ``lip_sync_lag_s``, seconds by which the
        mouth is late, at the peak of the cross-correlation of openness; ``lip_sync_pause``, see
        ``pause_activity``. NaN for a clip without speech.
    """
    heard = {name: later(track, sound_late, fps) for name, track in true.items()}
    spoken = speaking(heard["mouth_open"], fps)
    if not spoken.any():
        names = ("r", "width_r", "round_r", "lag_s", "pause")
        return {f"lip_sync_{name}": float("nan") for name in names}
    r = {name: correlation(measured[name][spoken], heard[name][spoken]) for name in heard}
    openness = measured["mouth_open"]
    frames, _ = best_lag(openness, heard["mouth_open"], _most(len(spoken), fps))
    return {
        "lip_sync_r": r["mouth_open"],
        "lip_sync_width_r": r["mouth_width"],
        "lip_sync_round_r": r["mouth_round"],
        "lip_sync_lag_s": frames / fps,
        "lip_sync_pause": pause_activity(openness, heard["mouth_open"] < CLOSED, fps),
    }


def sync_with_sound(activity: Array, loud: Array, quiet: Mask, fps: float) -> Numbers:
    """Lip sync against the sound alone.

    Args:
        activity: [T], how open the mouth is, or how much it moves.
        loud: [T], loudness of the sound over each frame.
        quiet: [T], where nothing is said.

    Returns:
        ``sound_sync_r``, the correlation of what in activity and loudness changes with the
        syllables, at the best lag; ``av_offset_s``, seconds by which the picture is late there;
        ``sound_sync_pause``, see ``pause_activity``. NaN without sound.
    """
    if quiet.all() or len(loud) < 2:
        return dict.fromkeys(("sound_sync_r", "av_offset_s", "sound_sync_pause"), float("nan"))
    most = _most(len(loud), fps)
    frames, r = best_lag(syllables(activity, fps), syllables(loud, fps), most)
    return {
        "sound_sync_r": r,
        "av_offset_s": frames / fps,
        "sound_sync_pause": pause_activity(activity, quiet, fps),
    }


def pause_activity(activity: Array, quiet: Mask, fps: float) -> float:
    """Mean activity in pauses of 0.4 s or more over that in speech; 0 = the mouth is closed.

    NaN if there is no such pause, or nothing moves in speech.
    """
    inside, spoken, opened = pauses(quiet, fps), ~quiet, np.maximum(activity, 0)
    if not inside.any() or not opened[spoken].any():
        return float("nan")
    return float(opened[inside].mean() / opened[spoken].mean())


def _most(length: int, fps: float) -> int:
    """Frames of lag to be searched: those of ``MOST_LAG``, leaving half of a short series."""
    return max(1, min(round(MOST_LAG * fps), length // 2))
