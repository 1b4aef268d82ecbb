"""Speech of actors, the times of its phones, and the mouths that follow them."""

# ruff: noqa: RUF001 (letters of the IPA)

import logging
import shutil

import numpy as np
import pytest

from flowact.data.actors import espeak, formant
from flowact.data.actors.phones import SAMPLE_RATE, Phone, Utterance
from flowact.data.actors.speech import LOUDNESS_DBFS, PEAK, make_soundtrack
from flowact.data.actors.texts import PHRASEBOOKS, sentences
from flowact.data.actors.visemes import VISEMES, mouth_tracks, visemes_of
from flowact.geometry import Geometry

SPANS = [(0.4, 3.0), (4.0, 6.5), (8.0, 8.1)]
SECONDS = 9.0


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


def heard(soundtrack, start, end):
    return soundtrack.samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]


def mouth(phones, frames=50, fps=25):
    return mouth_tracks([Phone(*phone) for phone in phones], frames, Geometry(fps=fps))


# --- sound ---------------------------------------------------------------------------------------


def test_same_seed_same_sound_and_another_seed_another():
    first, again, other = (make_soundtrack(SPANS, SECONDS, seed) for seed in (3, 3, 4))
    assert first.samples.tobytes() == again.samples.tobytes()
    assert (first.phones, first.voice) == (again.phones, again.voice)
    assert first.phones != other.phones
    assert len(first.samples) == SECONDS * SAMPLE_RATE
    assert first.samples.dtype == np.float32


@pytest.mark.parametrize("seed", range(6))
def test_speech_lies_strictly_inside_its_spans_and_fills_them(seed):
    soundtrack = make_soundtrack(SPANS, SECONDS, seed)
    inside = [
        [phone for phone in soundtrack.phones if start < phone.start and phone.end < end]
        for start, end in SPANS
    ]
    assert sum(map(len, inside)) == len(soundtrack.phones)
    for (start, end), phones in list(zip(SPANS, inside, strict=True))[:2]:
        # A span may lack the last word that did not fit, and a pause before it.
        assert sum(p.end - p.start for p in phones) > 0.4 * (end - start)
    for before, after in zip(soundtrack.phones, soundtrack.phones[1:], strict=False):
        assert before.start < before.end <= after.start
    # Outside there is at most noise, 25 dB or more below the speech.
    outside = np.concatenate([heard(soundtrack, *gap) for gap in ((0, 0.4), (3, 4), (6.5, 8))])
    spoken = np.concatenate([heard(soundtrack, p.start, p.end) for p in soundtrack.phones])
    assert rms(outside) < rms(spoken) * 10 ** (-20 / 20)  # 5 dB for speech that PEAK has lowered


def test_loudness_varies_within_its_range():
    levels = []
    for seed in range(8):
        soundtrack = make_soundtrack(SPANS, SECONDS, seed)
        spoken = [heard(soundtrack, phone.start, phone.end) for phone in soundtrack.phones]
        levels.append(20 * np.log10(rms(np.concatenate(spoken))))
        assert np.abs(soundtrack.samples).max() < 1.1 * PEAK  # noise comes on top
    # PEAK may take some decibels off loud speech, and rounding phones to samples changes little.
    assert LOUDNESS_DBFS[0] - 6 < min(levels) < max(levels) < LOUDNESS_DBFS[1] + 0.2
    assert max(levels) - min(levels) > 5


def test_a_clip_without_speech_has_no_phones():
    soundtrack = make_soundtrack([], 1.0, 0)
    assert soundtrack.phones == ()
    assert len(soundtrack.samples) == SAMPLE_RATE


def test_voices_of_the_splits_are_disjoint():
    for pools in (formant.VOICES, espeak.VARIANTS):
        members = [set(pools[split]) for split in ("train", "validation", "test")]
        assert all(members)
        assert sum(map(len, members)) == len(set.union(*members))
    for seed, split in ((0, "train"), (800_000, "validation"), (900_000, "test")):
        number = int(make_soundtrack(SPANS, SECONDS, seed).voice.rpartition(" ")[2])
        assert number in formant.VOICES[split]


def test_phones_of_the_formant_synthesiser_are_when_they_sound():
    """Closures of p, t and k are silent, vowels are loud: at the times that are told."""
    _, spoken = formant.speak(5, "train", 20.0)
    closures, vowels = [], []
    for utterance in spoken:
        for phone in utterance.phones:
            length = phone.end - phone.start
            part = {"p": 0.55, "t": 0.5, "k": 0.5}.get(phone.symbol, 1.0)
            # The first fifth is left out: formants ring on for some milliseconds.
            start, end = phone.start + 0.2 * length, phone.start + part * length
            sound = utterance.samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            if phone.symbol in "ptk":
                closures.append(rms(sound))
            elif phone.symbol in formant.VOWELS:
                vowels.append(rms(sound))
    assert len(closures) > 5
    assert max(closures) < 0.1 * min(vowels)  # 20 dB


def test_an_utterance_is_split_between_words():
    phones = tuple(Phone(0.1 * n, 0.1 * (n + 1), "a") for n in range(6))
    words = (phones[1].end, phones[3].end, phones[5].end)
    samples = np.ones(round(0.62 * SAMPLE_RATE), np.float32)
    utterance = Utterance(samples, phones, words)
    head, rest = utterance.split(0.5)
    assert head.phones == phones[:4]
    assert head.words == words[:2]
    assert head.seconds == pytest.approx(0.4)
    assert [p.start for p in rest.phones] == pytest.approx([0.0, 0.1])
    assert rest.seconds == pytest.approx(0.22)  # with what dies away after the last phone
    assert utterance.split(0.15) == (None, utterance)
    assert utterance.split(0.7) == (utterance, None)


@pytest.mark.parametrize("language", PHRASEBOOKS)
def test_sentences_do_not_run_out(language):
    drawn = sentences(language, np.random.default_rng(0))
    texts = [next(drawn) for _ in range(200)]
    assert not any("{" in text for text in texts)
    assert len(set(texts)) > 100  # phrases, 30 % of all, come again


def test_an_espeak_that_fails_is_told_in_a_line(monkeypatch):
    monkeypatch.setattr(espeak, "available", lambda: True)
    monkeypatch.setattr(espeak.sys, "executable", shutil.which("false"))
    espeak._server.cache_clear()
    with pytest.raises(ValueError, match=r'"espeak" failed, .* take synthesiser "formant"'):
        espeak.speak(1, "train", 1.0)


def test_espeak_speaks_the_same_whatever_was_said_before_and_at_the_times_it_tells():
    pytest.importorskip("parselmouth", reason="needs the optional praat-parselmouth")
    name, first = espeak.speak(1, "train", 6.0)
    espeak.speak(2, "test", 2.0)
    again_name, again = espeak.speak(1, "train", 6.0)
    assert name == again_name
    assert [u.samples.tobytes() for u in first] == [u.samples.tobytes() for u in again]
    for utterance in first:
        loud = np.abs(utterance.samples) > 0.02 * np.abs(utterance.samples).max()
        assert np.argmax(loud) / SAMPLE_RATE < 0.02  # the first phone is at the first sample
        assert (
            abs(len(loud) - np.argmax(loud[::-1]) - utterance.words[-1] * SAMPLE_RATE)
            < 0.04 * SAMPLE_RATE
        )  # it dies away


# --- mouths --------------------------------------------------------------------------------------

# Of each language, those that the ones before it lack.
ESPEAK_SYMBOLS = {
    "English": "aɪ aɪə aʊ b d dʒ eɪ f h iə iː j k l m n oʊ oːɹ p s t uː v w z æ ð ŋ ɐ ɑː",
    "Scots": "ɔ ə əl ɚ ɛɹ ɜː ɡ ɪ ɹ ɾ ʃ ʊ ʌ θ ʉː t̪ æʊ ʌʉ əɹ a: r",
    "German": "? pf ts x yː ç œ ɔø ʀ",
    "French": "a- e- œ̃ ɑ̃ ɔ̃ ɛ̃ ʁ ʒ ø",
    "Romance": "tʃ ʝ β ɲ ũ ɐ̃ʊ̃ ɨ ʎ",
    "Dutch": "øː œy ɣ ɵ ʋ ɛɪ",
    "Chinese": "i. iou kh o- ph s. ts.h tɕh uai ər ʐ ɕ yæ",
    "Hindi": "bʰ c ɟ r. ʈʰ ʌ ã ẽ",
}


def test_every_phone_of_both_synthesisers_has_a_viseme(caplog):
    with caplog.at_level(logging.DEBUG, logger="flowact"):
        for symbol in [*formant.SOUNDS, *" ".join(ESPEAK_SYMBOLS.values()).split()]:
            assert set(visemes_of(symbol)) <= set(VISEMES)
    assert not caplog.records
    assert visemes_of("aɪ") == ["open", "i"]
    assert visemes_of("ˈtʃʰː") == ["alveolar", "postalveolar"]


@pytest.mark.parametrize("symbol", ["", "ʘ", "中", "5", "ː", "\u0303"])
def test_an_unknown_symbol_is_a_schwa_and_is_told(symbol, caplog):
    with caplog.at_level(logging.DEBUG, logger="flowact"):
        assert visemes_of(symbol) == ["schwa"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("length", [0.01, 0.03, 0.08, 0.15])
@pytest.mark.parametrize("phase", [0.0, 0.013, 0.027])
def test_a_closure_is_seen_however_short(length, phase):
    start = 1.0 + phase
    opening = mouth([(0.5, start, "a"), (start, start + length, "m"), (start + length, 1.8, "a")])[
        "mouth_open"
    ]
    away = np.abs((np.arange(50) + 0.5) / 25 - (start + length / 2))
    assert opening[away.argmin()] == 0.0
    assert (opening[(away > 0.2) & (away < 0.3)] > 0.9).all()


@pytest.mark.parametrize("name", ["open", "i", "rounded", "o", "e"])
def test_a_long_vowel_reaches_its_shape(name):
    symbol = {"open": "a", "i": "i", "rounded": "u", "o": "o", "e": "e"}[name]
    tracks = mouth([(0.6, 0.8, "t"), (0.8, 1.2, symbol), (1.2, 1.4, "s")])
    frame = 25  # its middle is at 1.02 s, over 0.08 s from both ends
    viseme = VISEMES[name]
    shape = [tracks[key][frame] for key in ("mouth_open", "mouth_width", "mouth_round")]
    # A sum of weights in float32 is not exact.
    np.testing.assert_allclose(shape, [viseme.open, viseme.width, viseme.round], atol=1e-5)


def test_shapes_are_anticipated_and_silence_is_at_rest():
    rounding = mouth([(0.2, 0.6, "u"), (0.8, 1.2, "u")])["mouth_round"]
    seconds = (np.arange(50) + 0.5) / 25
    shown = rounding[np.abs(seconds - 0.18) < 1e-6]
    assert shown > 0.2  # 20 ms ahead of the sound
    assert rounding[np.abs(seconds - 0.7) < 1e-6] == 0.0  # the middle of 0.2 s of silence
    assert not rounding[(seconds < 0.12) | (seconds > 1.28)].any()


def test_tracks_are_continuous_and_in_range():
    _, (utterance, *_) = formant.speak(2, "train", 1.0)
    fine = mouth_tracks(utterance.phones, 1600, Geometry(fps=400))
    for name, track in fine.items():
        # The steepest, a parting of lips, takes 0.06 s: 1.5 / 0.06 a second at its middle.
        assert np.abs(np.diff(track)).max() < 0.1, name
        assert np.abs(track).max() <= 1.0
    assert fine["mouth_open"].min() == 0.0
    assert fine["mouth_round"].min() == 0.0


def test_values_are_those_at_the_middles_of_the_frames():
    phones = [(0.31, 0.45, "m"), (0.45, 0.77, "a"), (0.77, 0.92, "w"), (0.92, 1.1, "i")]
    coarse, fine = mouth(phones), mouth(phones, frames=250, fps=125)
    for name, track in coarse.items():
        # Frame f's middle is that of fine frame 5 f + 2; phones' bounds fall on the grids' points.
        np.testing.assert_allclose(track, fine[name][2::5], atol=0.06)


def test_a_mouth_a_frame_later_is_the_same_mouth():
    # No bound is near a point of the grid, 5 ms apart, where rounding could move it past.
    phones = [(0.3125, 0.4525, "m"), (0.4525, 0.7725, "a"), (0.7725, 0.9225, "w")]
    later = [(start + 0.04, end + 0.04, symbol) for start, end, symbol in phones]
    for name, track in mouth(later).items():
        np.testing.assert_allclose(track[1:], mouth(phones)[name][:-1], atol=1e-5)  # float32
