"""A small synthesiser of our own: babble from a source and formants, each phone's time exact.

It needs nothing but numpy, and stands in where eSpeak is not installed. A glottal pulse train and
noise (Klatt & Klatt 1990) pass through resonances that follow the phones. The filters act on
short overlapping windows in the frequency domain, since numpy has no recursive filter.
"""

# ruff: noqa: RUF001 (letters of the IPA)

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.phones import SAMPLE_RATE, Phone, Utterance, faded
from flowact.seeds import stable_seed

Array = NDArray[np.floating]
Spectra = NDArray[np.complexfloating]  # [windows, FFT // 2 + 1]

HOP, WINDOW, FFT = 80, 240, 512  # samples
BANDWIDTHS = (80.0, 100.0, 150.0, 250.0)  # Hz, of the four formants
NEUTRAL = (500.0, 1500.0, 2500.0)
NASAL_BANDWIDTH = 3.0  # times the bandwidths
TRANSITION = 0.05  # seconds from the formants of one phone to those of the next
VOICES = {"train": range(800), "validation": range(800, 900), "test": range(900, 1000)}


@dataclass(frozen=True)
class Sound:
    """How a phone sounds.

    Attributes:
        seconds: its usual length.
        formants: the first three, in Hz; of a consonant, where those of the vowels beside it bend.
        voice, breath: amplitudes of the glottal pulses and of the noise through the formants.
        hiss: amplitude of the noise of a constriction, around ``hiss_at`` Hz.
        closure: the part of the phone, from its start, that is closed; a burst follows.
    """

    seconds: float
    formants: tuple[float, float, float]
    voice: float = 0.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_at: float = 0.0
    closure: float = 0.0


VOWELS = {
    "i": Sound(0.12, (280, 2250, 2900), voice=1.0),
    "e": Sound(0.13, (400, 2050, 2600), voice=1.0),
    "ɛ": Sound(0.13, (560, 1800, 2500), voice=1.0),
    "a": Sound(0.15, (750, 1350, 2500), voice=1.0),
    "ɑ": Sound(0.16, (720, 1100, 2500), voice=1.0),
    "ɔ": Sound(0.15, (560, 850, 2450), voice=1.0),
    "o": Sound(0.14, (430, 800, 2400), voice=1.0),
    "u": Sound(0.12, (300, 750, 2300), voice=1.0),
    "ə": Sound(0.08, NEUTRAL, voice=0.8),
}
ONSETS = {
    "p": Sound(0.11, (300, 850, 2200), hiss=0.5, hiss_at=900, breath=0.3, closure=0.65),
    "b": Sound(0.08, (300, 850, 2200), voice=0.4, hiss=0.3, hiss_at=900, closure=0.8),
    "t": Sound(0.11, (300, 1750, 2700), hiss=0.9, hiss_at=4200, breath=0.3, closure=0.6),
    "d": Sound(0.08, (300, 1750, 2700), voice=0.4, hiss=0.4, hiss_at=4000, closure=0.8),
    "k": Sound(0.11, (300, 2100, 2400), hiss=0.8, hiss_at=2000, breath=0.3, closure=0.6),
    "ɡ": Sound(0.08, (300, 2100, 2400), voice=0.4, hiss=0.4, hiss_at=1900, closure=0.8),
    "f": Sound(0.10, (300, 1100, 2300), hiss=0.25, hiss_at=5500),
    "v": Sound(0.07, (300, 1100, 2300), voice=0.4, hiss=0.15, hiss_at=5500),
    "θ": Sound(0.09, (300, 1400, 2500), hiss=0.2, hiss_at=6500),
    "s": Sound(0.11, (300, 1700, 2600), hiss=0.8, hiss_at=6000),
    "z": Sound(0.08, (300, 1700, 2600), voice=0.35, hiss=0.5, hiss_at=6000),
    "ʃ": Sound(0.11, (300, 1900, 2500), hiss=0.9, hiss_at=3000),
    "h": Sound(0.07, NEUTRAL, breath=0.6),
    "w": Sound(0.08, (300, 700, 2200), voice=0.6),
    "ɹ": Sound(0.08, (400, 1150, 1600), voice=0.6),
    "l": Sound(0.07, (380, 1150, 2700), voice=0.6),
    "j": Sound(0.07, (280, 2200, 2900), voice=0.6),
}
NASALS = {
    "m": Sound(0.08, (270, 1000, 2200), voice=0.4),
    "n": Sound(0.07, (270, 1600, 2600), voice=0.4),
    "ŋ": Sound(0.08, (270, 2100, 2500), voice=0.4),
}
CODAS = ("m", "n", "ŋ", "l", "s", "t", "k", "p", "f")
SOUNDS = VOWELS | ONSETS | NASALS


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        pitch: in Hz.
        melody: how far the pitch moves, in octaves.
        tract: the formants' frequencies, relative to those of ``SOUNDS``.
        breathiness: noise in voiced sounds, 0 to 0.1.
        jitter: how unsteady the pitch is, from period to period.
        tempo: relative to the usual lengths of the phones.
    """

    pitch: float
    melody: float
    tract: float
    breathiness: float
    jitter: float
    tempo: float

    @classmethod
    def numbered(cls, number: int) -> "Voice":
        rng = np.random.default_rng(stable_seed("formant voice", number))
        height = rng.uniform(0, 1)  # large speakers have low voices and low formants
        return cls(
            pitch=float(90 * 2 ** (1.5 * height + rng.uniform(-0.15, 0.15))),
            melody=float(rng.uniform(0.15, 0.5)),
            tract=float(0.9 + 0.28 * height + rng.uniform(-0.04, 0.04)),
            breathiness=float(rng.uniform(0.0, 0.1)),
            jitter=float(rng.uniform(0.005, 0.02)),
            tempo=float(rng.uniform(0.85, 1.2)),
        )


def speak(seed: int, pool: str, seconds: float) -> tuple[str, list[Utterance]]:
    """Sentences in one voice of ``pool``, of ``seconds`` together at least, and the voice's name.

    The same seed gives the same bytes.
    """
    rng = np.random.default_rng(stable_seed(seed, "formant"))
    number = int(rng.choice(VOICES[pool]))
    voice = Voice.numbered(number)
    spoken: list[Utterance] = []
    while sum(utterance.seconds for utterance in spoken) < seconds:
        phones, words = _sentence(voice.tempo, rng)
        spoken.append(Utterance(_synthesise(phones, voice, rng), phones, words))
    return f"formant: {number}", spoken


def _sentence(
    tempo: float, rng: np.random.Generator
) -> tuple[tuple[Phone, ...], tuple[float, ...]]:
    """Random words, some followed by a pause, and where they end."""
    phones: list[Phone] = []
    words: list[float] = []
    now = 0.0
    count = rng.integers(3, 9)
    for index in range(count):
        for symbol in _word(rng):
            slower = 1.4 if index == count - 1 else 1.0
            length = SOUNDS[symbol].seconds * slower * rng.uniform(0.8, 1.25) / tempo
            phones.append(Phone(now, now + length, symbol))
            now += length
        words.append(now)
        if rng.random() < 0.15:
            now += rng.uniform(0.12, 0.3)
    return tuple(phones), tuple(words)


def _word(rng: np.random.Generator) -> list[str]:
    symbols: list[str] = []
    for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])):
        if rng.random() < 0.85:
            symbols.append(str(rng.choice([*ONSETS, "m", "n"])))
        symbols.append(str(rng.choice(list(VOWELS))))
        if rng.random() < 0.3:
            symbols.append(str(rng.choice(CODAS)))
    return symbols


# --- sound ---------------------------------------------------------------------------------------


def _synthesise(
    phones: tuple[Phone, ...], voice: Voice, rng: np.random.Generator
) -> NDArray[np.float32]:
    samples = round(phones[-1].end * SAMPLE_RATE)
    voiced, breath, hiss = _amplitudes(phones, samples)
    noise = rng.standard_normal(samples)
    throat = voiced * (_pulses(_pitch(samples, voice, rng)) + voice.breathiness * noise)
    sound = _filtered(throat + 0.15 * breath * noise, hiss * noise, phones, voice)
    return faded((sound / np.sqrt(np.mean(sound**2))).astype(np.float32))


def _amplitudes(phones: tuple[Phone, ...], samples: int) -> tuple[Array, Array, Array]:
    """[samples] each: glottal pulses, noise through the formants, noise of a constriction."""
    voiced, breath, hiss = np.zeros((3, samples))
    for phone in phones:
        sound = SOUNDS[phone.symbol]
        open_at = phone.start + sound.closure * (phone.end - phone.start)
        start, burst, end = (round(t * SAMPLE_RATE) for t in (phone.start, open_at, phone.end))
        voiced[start:end] = sound.voice
        voiced[start:burst] *= 0.3
        breath[burst:end] = sound.breath
        hiss[burst:end] = sound.hiss
        if sound.closure:  # a burst dies away in some milliseconds
            hiss[burst:end] *= np.exp(-np.arange(end - burst) / (0.006 * SAMPLE_RATE))
    return _smoothed(voiced, 0.012), _smoothed(breath, 0.012), _smoothed(hiss, 0.003)


def _pitch(samples: int, voice: Voice, rng: np.random.Generator) -> Array:
    """[samples] in Hz: falling, with accents, and unsteady."""
    at = np.linspace(0, 1, samples)
    accents = np.interp(at, np.linspace(0, 1, 8), rng.uniform(-0.5, 0.5, 8))
    contour = voice.melody * (0.5 - at + accents)
    period = round(SAMPLE_RATE / voice.pitch)
    unsteady = np.repeat(rng.standard_normal(samples // period + 1), period)[:samples]
    return voice.pitch * 2**contour * (1 + voice.jitter * unsteady)


def _pulses(pitch: Array) -> Array:
    """The glottal flow's derivative (KLGLOTT88, open for 60 % of each period)."""
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0 / 0.6
    return np.where(phase < 1, 2 * phase - 3 * phase**2, 0.0)


def _filtered(throat: Array, hiss: Array, phones: tuple[Phone, ...], voice: Voice) -> Array:
    """Both sources through the vocal tract, window by window."""
    frames = len(throat) // HOP + 1
    formants, widths, hiss_at = _resonances(phones, frames, voice.tract)
    spectrum = _spectra(throat, frames)
    frequency = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
    for n, width in enumerate(BANDWIDTHS):
        spectrum *= _resonance(frequency, formants[:, n], width * widths)
    above = np.minimum(frequency / hiss_at[:, None], 1)  # a constriction's noise has no bass
    noise = _spectra(hiss, frames) * above * _resonance(frequency, hiss_at, 0.3 * hiss_at)
    windows = np.fft.irfft(spectrum + 0.12 * noise, FFT)
    sound = np.zeros(frames * HOP + FFT)
    for start in range(0, FFT, HOP):  # overlap and add; these parts of windows do not overlap
        part = windows[:, start : start + HOP]
        part = np.pad(part, ((0, 0), (0, HOP - part.shape[1])))
        sound[start : start + frames * HOP] += part.ravel()
    return sound[WINDOW // 2 : WINDOW // 2 + len(throat)]


def _spectra(samples: Array, frames: int) -> Spectra:
    """[frames, FFT // 2 + 1] of Hann windows whose sum is one."""
    padded = np.pad(samples, (WINDOW // 2, WINDOW + HOP))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:frames]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.fft.rfft(windows * hann * (2 * HOP / WINDOW), FFT)


def _resonance(frequency: Array, centre: Array, width: Array) -> Spectra:
    """[frames, len(frequency)] of a second-order resonance of unit gain at 0 Hz."""
    s: Spectra = 2j * np.pi * frequency
    pole: Spectra = np.pi * width[:, None] + 2j * np.pi * centre[:, None]
    return np.abs(pole) ** 2 / ((s + pole) * (s + pole.conj()))


def _resonances(phones: tuple[Phone, ...], frames: int, tract: float) -> tuple[Array, Array, Array]:
    """Formants in Hz [frames, 4], their bandwidths' factor [frames], the hiss in Hz [frames]."""
    middles = (np.arange(frames) * HOP) / SAMPLE_RATE
    phone = np.searchsorted([p.end for p in phones], middles).clip(0, len(phones) - 1)
    sounds = [SOUNDS[p.symbol] for p in phones]
    targets = np.array([(*sound.formants, 3500.0) for sound in sounds])[phone] * tract
    nasal = np.array([p.symbol in NASALS for p in phones])[phone]
    hiss_at = np.array([sound.hiss_at or 4000.0 for sound in sounds])[phone]
    formants = np.stack([_smoothed(track, TRANSITION, HOP) for track in targets.T], axis=1)
    return formants, 1 + (NASAL_BANDWIDTH - 1) * nasal, hiss_at


def _smoothed(track: Array, seconds: float, hop: int = 1) -> Array:
    """A moving average over ``seconds``."""
    half = max(1, round(seconds * SAMPLE_RATE / hop / 2))
    padded = np.pad(track, half, mode="edge")
    total = np.concatenate(([0.0], np.cumsum(padded)))
    return (total[2 * half :] - total[: -2 * half])[: len(track)] / (2 * half)
