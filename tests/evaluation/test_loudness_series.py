"""Loudness over time: on its clock, in its band, the same however the sound comes in."""

import numpy as np
import pytest

from flowact.evaluation.sound import RATE, at_frames, loudness, pauses, silent, sound_offset
from flowact.geometry import Geometry

GEOMETRY = Geometry()


def tone(hertz, seconds, amplitude=1.0):
    time = np.arange(round(seconds * GEOMETRY.sample_rate)) / GEOMETRY.sample_rate
    return (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_a_tone_in_the_band_has_its_effective_value():
    loud = loudness([tone(1000, 1.0, 0.5)], GEOMETRY)
    assert len(loud) == RATE
    assert loud[5:-5] == pytest.approx(0.5 / np.sqrt(2), rel=0.02)  # the window's side lobes


@pytest.mark.parametrize("hertz", [40, 6500])
def test_rumble_and_hiss_are_not_heard(hertz):
    assert loudness([tone(hertz, 0.5)], GEOMETRY)[5:-5].max() < 0.02


def test_blocks_make_no_difference():
    sound = np.random.default_rng(0).normal(size=20_123).astype(np.float32)
    whole = loudness([sound], GEOMETRY)
    parts = loudness(np.split(sound, [1, 77, 5000, 5001, 16_000]), GEOMETRY)
    assert whole == pytest.approx(parts, rel=1e-6)  # rounding of a float32 sum
    assert len(whole) == -(-20_123 * RATE // GEOMETRY.sample_rate)


@pytest.mark.parametrize("fps", [25, 29.97, 60])
def test_frames_share_out_the_loudness_by_time(fps):
    loud = np.zeros(200, np.float32)
    loud[100:150] = 1  # from 1 s to 1.5 s
    frames = at_frames(loud, round(3 * fps), fps)
    middles = (np.arange(len(frames)) + 0.5) / fps
    inside = (middles > 1 + 0.5 / fps) & (middles < 1.5 - 0.5 / fps)
    outside = (middles < 1 - 0.5 / fps) | (middles > 1.5 + 0.5 / fps)
    assert frames[inside] == pytest.approx(1, abs=1e-5)  # differences of sums
    assert frames[outside] == pytest.approx(0, abs=1e-5)
    assert (frames**2).sum() / fps == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("seconds", [-0.25, 0.0, 0.08, 0.123])
def test_two_copies_of_a_sound_are_timed_to_a_millisecond_or_two(seconds):
    random = np.random.default_rng(1)
    swell = np.repeat(random.gamma(1, size=60), GEOMETRY.sample_rate // 12).astype(np.float32)
    sound = swell * random.normal(size=len(swell)).astype(np.float32)
    shift = round(abs(seconds) * GEOMETRY.sample_rate)
    later = np.concatenate([np.zeros(shift, np.float32), sound])
    pair = (later, sound) if seconds >= 0 else (sound, later)
    found, alike = sound_offset(*(loudness([samples], GEOMETRY) for samples in pair))
    assert found == pytest.approx(seconds, abs=0.002)
    assert alike > 0.9


def test_other_sounds_are_not_alike():
    sounds = np.random.default_rng(2).gamma(1, size=(2, 500)).astype(np.float32)
    assert sound_offset(*sounds)[1] < 0.5


def test_silence_is_below_the_loud_parts_and_near_the_quiet_ones():
    speech = np.r_[np.full(50, 1e-4), np.full(50, 0.3), np.full(50, 2e-4)]
    assert silent(speech).tolist() == (speech < 0.1).tolist()
    noisy = np.sqrt(speech**2 + 0.05**2)
    assert silent(noisy).tolist() == (speech < 0.1).tolist()
    assert silent(np.random.default_rng(3).normal(0.1, 0.01, 200)).all()


def test_pauses_are_long_and_lose_their_ends():
    quiet = np.zeros(60, bool)
    quiet[5:14] = True  # 0.36 s
    quiet[30:45] = True  # 0.6 s
    assert np.flatnonzero(pauses(quiet, 25)).tolist() == list(range(33, 42))
