"""Intervals cover what they promise; correlations find shifts, with the right sign."""

import numpy as np
import pytest

from flowact.evaluation.statistics import (
    best_lag,
    correlation,
    correlations,
    estimate,
    lagged_correlation,
    quick_part,
)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(1.0, 2.0, size=(200, 40))
    found = [estimate(list(clips), trial) for trial, clips in enumerate(draws)]
    covered = np.mean([score["low"] <= 1.0 <= score["high"] for score in found])
    # 95 % nominal; the percentile bootstrap of 40 values covers some 94 %, and 200 trials of that
    # have a standard error of 1.7 %.
    assert 0.88 <= covered <= 0.99
    assert all(score["low"] <= score["mean"] <= score["high"] for score in found)


def test_an_interval_is_drawn_by_its_key():
    values = [0.1, 0.5, 0.9, 0.4]
    assert estimate(values, 3, "r") == estimate(values, 3, "r")
    assert estimate(values, 3, "r") != estimate(values, 4, "r")


def test_one_clip_has_no_interval():
    assert estimate([0.5]) == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 1}


def test_correlation_is_pearsons():
    a, b = np.random.default_rng(1).normal(size=(2, 50))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(3 * a + 2, a) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)
    assert correlation(np.full(50, 0.3), b) == 0


def test_many_series_are_correlated_as_each_alone():
    many, one = np.random.default_rng(2).normal(size=(40, 3, 4)), np.arange(40.0)
    found = correlations(many, one)
    assert found.shape == (3, 4)
    assert found[1, 2] == pytest.approx(correlation(many[:, 1, 2], one))
    lagged = lagged_correlation(many, one, range(-2, 3))
    assert lagged.shape == (5, 3, 4)
    assert lagged[3, 1, 2] == pytest.approx(correlation(many[1:, 1, 2], one[:-1]))


@pytest.mark.parametrize("shift", [-3.5, -1.0, 0.0, 0.3, 2.0, 4.7])
def test_the_lag_of_a_shifted_series_is_its_shift(shift):
    time = np.arange(300.0)

    def wave(moment):
        return np.sin(moment / 3) + np.sin(moment / 7.3) + np.cos(moment / 4.1)

    frames, r = best_lag(wave(time - shift), wave(time), 10)
    assert frames == pytest.approx(shift, abs=0.05)  # what a parabola misses of a cosine
    assert r == pytest.approx(1, abs=0.01)


def test_the_quick_part_is_without_trend_and_slow_waves():
    time = np.arange(500.0)
    quick = np.sin(2 * np.pi * time / 6)
    slow = 3 + 0.01 * time + np.sin(2 * np.pi * time / 400)
    left = quick_part(quick + slow, 13)[20:-20]
    # A moving mean of 13 leaves a thirteenth of a wave of 6, and of a slow wave all but 0.2 %.
    assert np.abs(left - quick[20:-20]).max() < 0.1
