"""Mouths against truth and against sound: correlation, lag and its sign, pauses."""

import numpy as np
import pytest
from actor_takes import FPS, SEED, Actor

from flowact.data.actors.clip import ActorSeeds
from flowact.evaluation.lip_sync import later, pause_activity, speaking, sync, sync_with_sound

NAMES = ("mouth_open", "mouth_width", "mouth_round")


@pytest.fixture(scope="module")
def actor():
    return Actor(8 * FPS, ActorSeeds.of(SEED))


@pytest.fixture(scope="module")
def mouth(actor):
    return {name: getattr(actor.clip.tracks, name) for name in NAMES}


@pytest.mark.parametrize("frames", [-3, 1, 2])
def test_a_late_mouth_has_a_positive_lag(mouth, frames):
    late = {name: later(track, frames / FPS, FPS) for name, track in mouth.items()}
    found = sync(late, mouth, FPS)
    assert found["lip_sync_lag_s"] == pytest.approx(frames / FPS, abs=0.002)
    assert found["lip_sync_r"] < 0.95


def test_a_mouth_that_moved_with_its_sound_is_in_sync(mouth):
    late = {name: later(track, 0.1, FPS) for name, track in mouth.items()}
    found = sync(late, mouth, FPS, sound_late=0.1)
    assert found["lip_sync_r"] == pytest.approx(1)
    assert found["lip_sync_lag_s"] == pytest.approx(0, abs=0.002)


def test_the_scale_of_a_mouth_is_not_its_sync(mouth):
    half = {name: 0.5 * track for name, track in mouth.items()}
    assert sync(half, mouth, FPS)["lip_sync_r"] == pytest.approx(1)


def test_a_mouth_that_does_not_move_follows_nothing(mouth):
    still = {name: np.zeros_like(track) for name, track in mouth.items()}
    assert sync(still, mouth, FPS)["lip_sync_r"] == 0


def test_a_clip_without_speech_says_nothing_of_lip_sync(mouth):
    silent = {name: np.zeros_like(track) for name, track in mouth.items()}
    assert all(np.isnan(value) for value in sync(mouth, silent, FPS).values())


def test_speech_counts_with_its_surroundings():
    openness = np.zeros(100, np.float32)
    openness[50] = 1
    assert np.flatnonzero(speaking(openness, FPS)).tolist() == list(range(40, 61))


def test_a_mouth_that_stays_open_in_pauses_is_told():
    quiet = np.r_[np.zeros(25, bool), np.ones(25, bool), np.zeros(25, bool)]
    assert pause_activity(np.where(quiet, 0.0, 0.5), quiet, FPS) == 0
    assert pause_activity(np.full(75, 0.5), quiet, FPS) == pytest.approx(1)
    assert np.isnan(pause_activity(np.full(75, -0.1), quiet, FPS))
    short = np.r_[np.zeros(25, bool), np.ones(9, bool), np.zeros(25, bool)]
    assert np.isnan(pause_activity(np.full(59, 0.5), short, FPS))


@pytest.mark.parametrize("frames", [-2, 0, 3])
def test_a_mouth_is_timed_by_the_sound_alone(actor, mouth, frames):
    take = actor.take()
    moved = later(mouth["mouth_open"], frames / FPS, FPS)
    first, found = (
        sync_with_sound(track, take.loud, take.quiet, FPS) for track in (mouth["mouth_open"], moved)
    )
    assert first["sound_sync_r"] > 0.5
    assert first["av_offset_s"] == pytest.approx(0, abs=0.06)  # mouths open before they are heard
    moved_by = found["av_offset_s"] - first["av_offset_s"]
    assert moved_by == pytest.approx(frames / FPS, abs=0.004)  # a tenth of a frame


def test_silence_and_noise_tell_no_offset(mouth):
    openness = mouth["mouth_open"]
    quiet = np.ones(len(openness), bool)
    assert np.isnan(sync_with_sound(openness, np.zeros_like(openness), quiet, FPS)["av_offset_s"])
