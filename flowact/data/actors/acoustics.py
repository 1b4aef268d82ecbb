"""Speech as rooms, microphones and telephones give it, so that what learns from actors hears more.

Synthetic voices are few and clean. Every part here widens what is heard and moves nothing in time:
mouths stay in step with the sound.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors import formant
from flowact.data.actors.acoustics_codec import CODECS, through_codec
from flowact.data.actors.acoustics_voice import shift_voice
from flowact.data.actors.phones import SAMPLE_RATE
from flowact.data.actors.speech import LOUDNESS_DBFS, PEAK
from flowact.seeds import stable_seed

Samples = NDArray[np.floating]
Part = Callable[[Samples, np.random.Generator], Samples]

TINY = 1e-30  # for digital silence, by whose power nothing can be divided

UNTOUCHED = 0.15
"""Share of clips that stay as they are."""

# Ranges were chosen so that log-mels spread as widely as those of real recordings.
PITCH, FORMANTS = (0.75, 1.35), (0.85, 1.2)  # factors

RT60 = (0.1, 0.6)  # seconds in which the sound of a room dies away by 60 dB
DIRECT_DB = (3.0, 15.0)  # direct sound above all that the walls send back
REFLECTIONS = 8  # that are heard singly, in the first REFLECTED seconds
REFLECTED = (0.001, 0.04)

SNR_DB = (10.0, 40.0)
BABBLE_DB = 10.0
"""Other voices are fainter than other noise by this: they must not be taken for the actor's."""
TALKERS = 6
TALK = 6.0  # seconds, said by all talkers again and again

EQ_DB = 8.0
TILT_DB = (-3.0, 4.0)  # per octave
OCTAVES = (-4.0, 3.0)  # around 1 kHz
TELEPHONE = 0.15  # share of channels
TELEPHONE_HZ = ((200.0, 400.0), (3000.0, 3800.0))
CLIPPED = 0.2  # share of channels
DRIVE = (1.0, 4.0)  # the peak that a clipped recording was given, in units of the largest it has
GAIN_DB = (-9.0, 15.0)  # people speak louder than ``LOUDNESS_DBFS``

BIT_RATES = {"libopus": (8_000, 24_000), "libmp3lame": (24_000, 40_000), "aac": (20_000, 40_000)}


def augment(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The sound of an actor in another voice, place and recording, all drawn by ``seed``.

    Some clips stay as they are. Nothing is delayed, and where nobody spoke nobody speaks: there is
    the room's last echo, and noise.

    Args:
        samples: [N] at ``Geometry().sample_rate``.

    Returns:
        float32 [N], its peak below 1 if it was drawn to change.
    """
    if np.random.default_rng(stable_seed(seed, "acoustics")).random() < UNTOUCHED:
        return samples
    sound: Samples = samples.astype(np.float64)
    for name, (share, part) in PARTS.items():
        rng = np.random.default_rng(stable_seed(seed, "acoustics", name))
        if rng.random() < share:
            sound = part(sound, rng)
    return (sound * (PEAK / max(np.abs(sound).max(), PEAK))).astype(np.float32)


def speech_level(samples: Samples) -> float:
    """Root mean square while somebody speaks; that of faint speech where nobody does."""
    faintest = 10 ** (LOUDNESS_DBFS[0] / 20)
    frame = SAMPLE_RATE // 50
    power = np.mean(samples[: len(samples) // frame * frame].reshape(-1, frame) ** 2, axis=1)
    if not power.any():
        return faintest
    return max(faintest, float(np.sqrt(power[power > power.max() / 300].mean())))


def _voice(samples: Samples, rng: np.random.Generator) -> Samples:
    pitch, formants = (_log_uniform(rng, *bounds) for bounds in (PITCH, FORMANTS))
    return shift_voice(samples, pitch, formants)


def _room(samples: Samples, rng: np.random.Generator) -> Samples:
    """Polack's model of a room, decaying noise, after a few reflections and the direct sound."""
    rt60 = rng.uniform(*RT60)
    seconds = np.arange(round(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    walls = rng.standard_normal(len(seconds)) * (seconds > REFLECTED[0])
    at = (rng.uniform(*REFLECTED, REFLECTIONS) * SAMPLE_RATE).astype(int)
    walls[at] += rng.choice([-1, 1], REFLECTIONS) * rng.uniform(2, 10, REFLECTIONS)
    walls *= 10 ** (-3 * seconds / rt60)
    walls *= 10 ** (-rng.uniform(*DIRECT_DB) / 20) / np.sqrt(np.sum(walls**2))
    walls[0] = 1.0
    count = -(-(len(samples) + len(walls)) // SAMPLE_RATE) * SAMPLE_RATE  # FFTs like round numbers
    heard = np.fft.irfft(np.fft.rfft(samples, count) * np.fft.rfft(walls, count), count)
    return heard[: len(samples)]


def _noisy(samples: Samples, rng: np.random.Generator) -> Samples:
    kind = str(rng.choice(list(NOISES)))
    noise = NOISES[kind](len(samples), rng)
    below = rng.uniform(*SNR_DB) + (BABBLE_DB if kind == "babble" else 0.0)
    level = speech_level(samples) * 10 ** (-below / 20)
    return samples + noise * level / np.sqrt(np.mean(noise**2))


def _coloured(count: int, rng: np.random.Generator, slope: float) -> Samples:
    """Noise whose amplitude falls with the power ``slope`` of frequency."""
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20.0)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) / frequency**slope, count)


def _hum(count: int, rng: np.random.Generator) -> Samples:
    """The mains, or a fan: a tone, its harmonics, and a little of what rushes."""
    base = rng.choice([50.0, 60.0, rng.uniform(70, 200)])
    seconds = np.arange(count) / SAMPLE_RATE
    tones = [
        np.sin(2 * np.pi * (n * base * seconds + rng.random())) / n ** rng.uniform(0.5, 1.5)
        for n in range(1, 9)
    ]
    return np.sum(tones, axis=0) + _coloured(count, rng, 0.5) * 0.3


def _babble(count: int, rng: np.random.Generator) -> Samples:
    """Many at once: one voice said at different speeds, from different places."""
    _, said = formant.speak(int(rng.integers(2**62)), "train", TALK)
    voice = np.concatenate([utterance.samples for utterance in said])
    talkers = np.zeros(count)
    for _ in range(TALKERS):
        times = np.arange(count) * _log_uniform(rng, 0.75, 1.35) + rng.integers(len(voice))
        talkers += np.interp(times, np.arange(len(voice)), voice, period=len(voice))
    return talkers


def _recorded(samples: Samples, rng: np.random.Generator) -> Samples:
    """What a microphone and its line make of sound: colour, band, overload and loudness."""
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(frequency, 1.0) / 1000).clip(*OCTAVES)
    knots = np.arange(OCTAVES[0], OCTAVES[1] + 1)
    gain_db = np.interp(octaves, knots, rng.uniform(-EQ_DB, EQ_DB, len(knots)))
    gain_db += rng.uniform(*TILT_DB) * octaves
    if rng.random() < TELEPHONE:
        low, high = (rng.uniform(*bounds) for bounds in TELEPHONE_HZ)
        stop = (low / np.maximum(frequency, 1.0)) ** 8 + (frequency / high) ** 16
        gain_db -= 10 * np.log10(1 + stop)
    heard = np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain_db / 20), len(samples))
    heard *= np.sqrt(np.sum(samples**2) / max(np.sum(heard**2), TINY))
    if rng.random() < CLIPPED:
        limit = max(np.abs(heard).max(), TINY) / rng.uniform(*DRIVE)
        heard = limit * np.tanh(heard / limit)
    return heard * 10 ** (rng.uniform(*GAIN_DB) / 20)


def _coded(samples: Samples, rng: np.random.Generator) -> Samples:
    codec = CODECS[rng.integers(len(CODECS))]
    return through_codec(samples, codec, int(rng.integers(*BIT_RATES[codec])))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


NOISES: dict[str, Callable[[int, np.random.Generator], Samples]] = {
    "white": partial(_coloured, slope=0.0),
    "pink": partial(_coloured, slope=0.5),
    "brown": partial(_coloured, slope=1.0),
    "hum": _hum,
    "babble": _babble,
}
PARTS: dict[str, tuple[float, Part]] = {
    "voice": (0.7, _voice),
    "room": (0.5, _room),
    "noise": (0.6, _noisy),
    "recording": (0.6, _recorded),
    "codec": (0.4, _coded),
}
"""In the order in which sound meets them, each with the share of clips that it changes."""
