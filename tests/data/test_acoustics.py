"""Augmented speech: other voices, rooms and recordings, in time with the mouth that was drawn."""

import dataclasses
import json

import numpy as np
import pytest

from flowact.data.actors.acoustics import (
    BIT_RATES,
    DIRECT_DB,
    PARTS,
    RT60,
    UNTOUCHED,
    augment,
    speech_level,
)
from flowact.data.actors.acoustics_codec import CODECS, through_codec
from flowact.data.actors.acoustics_voice import HOP, shift_voice
from flowact.data.actors.clip import make_clip
from flowact.data.actors.dataset import Recipe, load_truth, write_dataset
from flowact.data.actors.phones import SAMPLE_RATE
from flowact.data.actors.speech import LOUDNESS_DBFS, PEAK, make_soundtrack
from flowact.data.manifest import read_manifest
from flowact.media.audio import stream_audio

SPANS, SECONDS = [(0.5, 3.5), (5.0, 7.3)], 8.0
SILENCES = [(0.0, 0.5), (4.2, 5.0)]
"""Half a second and more after speech, when no room of ours sounds any longer."""


@pytest.fixture(scope="module")
def soundtracks():
    return [make_soundtrack(SPANS, SECONDS, seed) for seed in range(4)]


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def lag(samples, reference):
    """Samples by which the one is late."""
    count = 2 * len(samples)
    spectrum = np.fft.rfft(samples, count) * np.fft.rfft(reference, count).conj()
    at = int(np.fft.irfft(spectrum, count).argmax())
    return at if at < len(samples) else at - count


def envelope(samples):
    """Amplitude over 10 ms, each millisecond, less its mean."""
    power = np.convolve(np.square(samples, dtype=np.float64), np.hanning(160), "same")[::16]
    return np.sqrt(power) - np.sqrt(power).mean()


def milliseconds_late(samples, reference):
    return lag(envelope(samples), envelope(reference))


def cut(samples, spans):
    return np.concatenate(
        [samples[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)] for a, b in spans]
    )


# --- all together --------------------------------------------------------------------------------


def test_same_seed_same_sound_and_another_seed_another(soundtracks):
    samples = soundtracks[0].samples
    first, again, other = (augment(samples, seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)
    assert (first.shape, first.dtype) == (samples.shape, np.float32)


def test_some_clips_stay_as_they_are():
    samples = make_soundtrack([(0.1, 0.9)], 1.0, 0).samples
    same = np.mean([np.array_equal(augment(samples, seed), samples) for seed in range(80)])
    # Three standard deviations of 80 draws; a few more escape all parts.
    assert abs(same - UNTOUCHED) < 3 * np.sqrt(UNTOUCHED * (1 - UNTOUCHED) / 80) + 0.03


def test_the_mouth_stays_in_step_and_shut_in_silence(soundtracks):
    late = []
    for seed in range(24):
        soundtrack = soundtracks[seed % len(soundtracks)]
        heard = augment(soundtrack.samples, seed)
        late.append(abs(milliseconds_late(heard, soundtrack.samples)))
        spoken = cut(heard, [(phone.start, phone.end) for phone in soundtrack.phones])
        # Noise is 10 dB below speech, of which a filter may take more than of the noise.
        assert rms(cut(heard, SILENCES)) < rms(spoken) * 10 ** (-6 / 20), seed
        assert np.abs(heard).max() < PEAK + 1e-6 or np.array_equal(heard, soundtrack.samples)
    # Direct sound is in time to the sample, but echoes draw an envelope's middle some milliseconds
    # back, as colouring may either way. A frame lasts 40.
    assert np.median(late) <= 2
    assert max(late) <= 8


@pytest.mark.parametrize("background", [0.0, 1e-4])
def test_where_nobody_speaks_there_is_noise_alone(background):
    samples = (background * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    for seed in range(16):
        heard = augment(samples, seed)
        assert np.isfinite(heard).all()
        # Faint speech less the least signal-to-noise ratio, amplified by 15 dB at most; and codecs.
        assert rms(heard) < 10 ** ((LOUDNESS_DBFS[0] - 10 + 15 + 1) / 20), seed


# --- voice ---------------------------------------------------------------------------------------

PITCH_HZ, FORMANT_HZ = 125.0, 1500.0


def vowel():
    """A second of pulses through one resonance."""
    samples = np.zeros(SAMPLE_RATE)
    samples[:: round(SAMPLE_RATE / PITCH_HZ)] = 1.0
    seconds = np.arange(800) / SAMPLE_RATE
    ringing = np.exp(-np.pi * 150 * seconds) * np.sin(2 * np.pi * FORMANT_HZ * seconds)
    return np.convolve(samples, ringing)[:SAMPLE_RATE]


@pytest.mark.parametrize(("pitch", "formants"), [(1.35, 1.0), (0.75, 1.0), (1.0, 1.2), (1.3, 0.85)])
def test_pitch_and_formants_move_by_themselves(pitch, formants):
    middle = shift_voice(vowel(), pitch, formants)[4000:12000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 4 * SAMPLE_RATE))
    hertz = np.arange(len(spectrum)) / 4
    power = np.where(hertz < 4000, spectrum**2, 0)
    harmonics = np.fft.irfft(power)  # the autocorrelation
    period = 80 + harmonics[80:200].argmax()
    # A sample of a period of a hundred is a percent.
    assert SAMPLE_RATE / period == pytest.approx(PITCH_HZ * pitch, rel=0.015)
    peak = np.convolve(power, np.hanning(4 * 2 * round(PITCH_HZ * pitch)), "same").argmax()
    # Harmonics sample the resonance a hundred hertz and more apart.
    assert hertz[peak] == pytest.approx(FORMANT_HZ * formants, rel=0.05)


@pytest.mark.parametrize("count", [HOP * 100, HOP * 100 + 33])
def test_a_voice_that_is_not_moved_is_the_same(count, soundtracks):
    samples = soundtracks[0].samples[:count].astype(np.float64)
    assert np.abs(shift_voice(samples, 1.0, 1.0) - samples).max() < 1e-9  # rounding of FFTs


@pytest.mark.parametrize("pitch", [0.75, 1.35])
def test_every_sound_stays_where_it_was(pitch):
    """Bursts of noise from the first to the last second: neither late nor drifting."""
    rng = np.random.default_rng(0)
    at = (np.arange(0.5, 20.0, 1.5) * SAMPLE_RATE).astype(int)
    samples = np.zeros(20 * SAMPLE_RATE)
    for first in at:
        samples[first : first + 1600] = rng.standard_normal(1600)
    shifted = shift_voice(samples, pitch, 1.0)
    for first in at:
        part = slice(first - 3200, first + 4800)
        # The bursts' own ripples are drawn anew by the phases.
        assert abs(milliseconds_late(shifted[part], samples[part])) <= 4


# --- rooms and recordings ------------------------------------------------------------------------


def test_a_room_sends_back_less_than_it_lets_through_and_later():
    impulse = np.zeros(SAMPLE_RATE)
    impulse[100] = 1.0
    for seed in range(8):
        heard = PARTS["room"][1](impulse, np.random.default_rng(seed))
        np.testing.assert_allclose(heard[:100], 0, atol=1e-9)  # rounding of FFTs
        assert heard[100] == pytest.approx(1.0)
        walls = 10 * np.log10(np.sum(heard[101:] ** 2))
        assert -DIRECT_DB[1] - 0.1 < walls < -DIRECT_DB[0] + 0.1
        assert rms(heard[101 + round(RT60[1] * SAMPLE_RATE) :]) < 1e-9


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [16_000, 20_011])
def test_a_codec_adds_no_delay(codec, count, soundtracks):
    samples = soundtracks[1].samples[12_000 : 12_000 + count]
    for bit_rate in BIT_RATES[codec]:
        heard = through_codec(samples, codec, bit_rate)
        assert len(heard) == count
        assert abs(lag(heard, samples)) <= 1  # resampling from 48 kHz may be half a sample off
        # Of 8 kbit/s; any other priming than the true one would leave no correlation.
        assert np.corrcoef(heard, samples)[0, 1] > 0.7


def test_a_recording_keeps_time():
    impulse = np.zeros(SAMPLE_RATE)
    impulse[5000] = 1.0
    for seed in range(12):
        heard = PARTS["recording"][1](impulse, np.random.default_rng(seed))
        assert np.abs(heard).argmax() == 5000
        # Filters without phase ring alike before and after.
        np.testing.assert_allclose(heard[4000:5000], heard[6000:5000:-1], atol=1e-9)


def test_noise_is_as_far_below_the_speech_as_drawn(soundtracks):
    samples = soundtracks[0].samples.astype(np.float64)
    spoken = cut(samples, [(phone.start, phone.end) for phone in soundtracks[0].phones])
    assert 20 * np.log10(speech_level(samples) / rms(spoken)) == pytest.approx(0, abs=2)
    for seed in range(12):
        noise = PARTS["noise"][1](samples, np.random.default_rng(seed)) - samples
        # 10 to 40 dB, and 10 more for babble; the level itself is exact.
        assert -50.1 < 20 * np.log10(rms(noise) / speech_level(samples)) < -9.9


# --- data sets -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    clean = Recipe(clips=3, seconds=2.0, seed=3, height=48, width=48)
    recipes = {"clean": clean, "augmented": dataclasses.replace(clean, augment_speech=True)}
    root = tmp_path_factory.mktemp("worlds")
    for name, recipe in recipes.items():
        write_dataset(root / name, recipe, workers=1)
    return root, recipes


def test_a_data_set_with_augmented_speech_differs_in_its_sound_alone(folders):
    root, recipes = folders
    for index, row in enumerate(read_manifest(root / "augmented")):
        clip = make_clip(recipes["clean"].seeds(index), recipes["clean"].frames)
        expected = augment(clip.soundtrack.samples, clip.seeds.voice)
        heard = np.concatenate(list(stream_audio(root / "augmented" / row.video, SAMPLE_RATE)))
        # The video's own AAC at 128 kbit/s.
        assert np.corrcoef(heard[: len(expected)], expected[: len(heard)])[0, 1] > 0.95
        (drawn, _), (clean, _) = (load_truth(root / name / row.truth) for name in recipes)
        for name, values in drawn.arrays().items():
            np.testing.assert_array_equal(values, getattr(clean, name))
    rows = [(root / name / "manifest.jsonl").read_text() for name in recipes]
    assert rows[0] == rows[1]


def test_the_recipe_tells_it_and_an_older_folder_goes_on(folders):
    root, recipes = folders
    with pytest.raises(ValueError, match="was made with augment_speech=True; give the same"):
        write_dataset(root / "augmented", recipes["clean"], workers=1)
    file = root / "clean" / "dataset.json"
    told = json.loads(file.read_text())
    assert told.pop("augment_speech") is False
    file.write_text(json.dumps(told))
    write_dataset(root / "clean", recipes["clean"], workers=1)
    del told["seed"]
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="was made with seed=None"):
        write_dataset(root / "clean", recipes["clean"], workers=1)
