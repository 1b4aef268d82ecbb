"""Means with confidence intervals over clips, and the correlations that metrics are made of."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowact.seeds import stable_seed

RESAMPLES = 2000
CONFIDENCE = 0.95

Series = NDArray[np.float64]


class Estimate(TypedDict):
    """A mean over ``n`` clips and its confidence interval; with one clip, low = high = mean."""

    mean: float
    low: float
    high: float
    n: int


def estimate(values: Sequence[float], *key: int | str) -> Estimate:
    """The mean of one value per clip, with its 95 % percentile bootstrap interval over clips.

    The means of 2,000 samples of n clips, drawn with replacement by ``key``, are sorted; the
    interval is from their 2.5th to their 97.5th percentile.

    Args:
        values: [clips], finite, at least one.
    """
    clips = np.asarray(values, np.float64)
    mean = float(clips.mean())
    if len(clips) < 2:
        return Estimate(mean=mean, low=mean, high=mean, n=1)
    random = np.random.default_rng(stable_seed("bootstrap", *key))
    means = clips[random.integers(len(clips), size=(RESAMPLES, len(clips)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(mean=mean, low=float(low), high=float(high), n=len(clips))


def interval(score: Estimate | None) -> str:
    """As tables show it; empty where there is none."""
    if score is None:
        return ""
    return f"{score['mean']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's r of two series [T]; 0 if either never changes: nothing goes along with it."""
    return float(correlations(np.asarray(a, np.float64), b))


def correlations(many: NDArray[np.floating], one: ArrayLike) -> Series:
    """Pearson's r of many series [T, ...] with one series [T], as [...]; 0 for what is constant."""
    x, y = many - many.mean(axis=0), np.asarray(one, np.float64)
    y = y - y.mean()
    scale = np.sqrt((x**2).sum(axis=0) * (y @ y))
    return np.where(scale > 1e-9, np.tensordot(y, x, axes=(0, 0)) / np.maximum(scale, 1e-9), 0.0)


def lagged_correlation(many: NDArray[np.floating], one: ArrayLike, lags: Sequence[int]) -> Series:
    """r(k), the correlation of many[t + k] with one[t] over the frames that both have.

    It is largest at k > 0 if ``many`` are late.

    Args:
        many: [T, ...].
        one: [T].

    Returns:
        [lags, ...].
    """
    y = np.asarray(one, np.float64)
    pairs = [(many[k:], y[: len(y) - k]) if k >= 0 else (many[:k], y[-k:]) for k in lags]
    return np.stack([correlations(late, early) for late, early in pairs])


def best_lag(a: ArrayLike, b: ArrayLike, most: int) -> tuple[float, float]:
    """Frames by which ``a`` is later than ``b``, and the correlation there.

    The peak of ``lagged_correlation`` over lags of -``most`` to ``most`` frames, refined by the
    parabola through it and its neighbours: with r-, r0, r+ the peak is at (r- - r+) / 2 (r- - 2 r0
    + r+) from it. A peak at either end is given as it is.
    """
    lags = range(-most, most + 1)
    r = lagged_correlation(np.asarray(a, np.float64), b, lags)
    peak = int(r.argmax())
    if peak in (0, len(r) - 1):
        return float(lags[peak]), float(r[peak])
    before, here, after = r[peak - 1 : peak + 2]
    bend = before - 2 * here + after
    shift = (before - after) / (2 * bend) if bend < 0 else 0.0
    return float(lags[peak] + shift), float(here - (before - after) * shift / 4)


def quarters(length: int) -> tuple[slice, slice]:
    """The first and the last quarter of a series of ``length``, each at least one value."""
    size = max(1, length // 4)
    return slice(0, size), slice(length - size, length)


def quick_part(series: NDArray[np.floating], window: int) -> Series:
    """A series [T, ...] without its moving mean over ``window`` frames, its ends mirrored."""
    half = min(window // 2, len(series) - 1)
    mirrored = np.concatenate([series[half:0:-1], series, series[-2 : -half - 2 : -1]])
    total = np.cumsum(np.concatenate([np.zeros_like(series[:1]), mirrored]), 0, dtype=np.float64)
    size = 2 * half + 1
    return series - (total[size:] - total[:-size]) / size
