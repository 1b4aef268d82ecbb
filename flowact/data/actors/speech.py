"""The sound of a clip: somebody speaks in given spans of time, before some background noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors import espeak, formant
from flowact.data.actors.phones import SAMPLE_RATE, Phone, Utterance
from flowact.data.splits import pool_of
from flowact.seeds import stable_seed

Array = NDArray[np.floating]
Synthesiser = Literal["espeak", "formant"]
SYNTHESISERS = {"espeak": espeak.speak, "formant": formant.speak}

LOUDNESS_DBFS = (-35.0, -15.0)  # root mean square over the speech
PEAK = 0.98
NOISES = ("none", "white", "pink", "hum")
SNR_DB = (25.0, 60.0)
MARGIN = 0.02  # seconds of a span before and after its speech, at least


@dataclass(frozen=True)
class Soundtrack:
    """The sound of a clip and what is said in it.

    Attributes:
        samples: float32 [n] at ``Geometry().sample_rate``.
        phones: in order, in seconds; what lies between them is silence.
        voice: the synthesiser and whose voice it is.
    """

    samples: NDArray[np.float32]
    phones: tuple[Phone, ...]
    voice: str


def best_synthesiser() -> Synthesiser:
    """eSpeak, which says words, where it is installed; else our own, which babbles."""
    return "espeak" if espeak.available() else "formant"


def make_soundtrack(
    spans: Sequence[tuple[float, float]],
    seconds: float,
    seed: int,
    synthesiser: Synthesiser = "formant",
) -> Soundtrack:
    """Speech that fills ``spans``, with natural pauses, and nothing but noise elsewhere.

    Voice, words, speed, pitch, pauses, noise and loudness are drawn by ``seed``, the voice from
    the pool of its split. A span too short for a word stays silent.

    Args:
        spans: (start, end) in seconds, in order, not overlapping. Sound and phones lie strictly
            inside.
        seconds: length of the whole.

    Raises:
        ValueError: the synthesiser is not installed.
    """
    rng = np.random.default_rng(stable_seed(seed, "soundtrack"))
    needed = sum(end - start for start, end in spans)
    voice, sentences = SYNTHESISERS[synthesiser](seed, pool_of(seed), needed)
    samples: Array = np.zeros(round(seconds * SAMPLE_RATE))
    phones: list[Phone] = []
    for start, utterance in _laid_out(spans, sentences, rng):
        first = round(start * SAMPLE_RATE)
        heard = utterance.samples[: len(samples) - first]
        samples[first : first + len(heard)] = heard
        phones += [phone.later(first / SAMPLE_RATE) for phone in utterance.phones]
    level = 10 ** (rng.uniform(*LOUDNESS_DBFS) / 20)
    samples = _levelled(samples, phones, level) + _noise(len(samples), level, rng)
    return Soundtrack(samples.astype(np.float32), tuple(phones), voice)


def _laid_out(
    spans: Sequence[tuple[float, float]], sentences: list[Utterance], rng: np.random.Generator
) -> list[tuple[float, Utterance]]:
    """When each sentence starts; one that outlasts its span goes on in the next."""
    placed: list[tuple[float, Utterance]] = []
    waiting = sentences[::-1]
    for start, end in spans:
        now = start + MARGIN + rng.uniform(0, 0.08)
        while waiting:
            head, rest = waiting.pop().split(end - MARGIN - now)
            if rest:
                waiting.append(rest)
            if head:
                placed.append((now, head))
                now += head.seconds + rng.uniform(0.15, 0.6)
            if rest:
                break
    return placed


def _levelled(samples: Array, phones: Sequence[Phone], level: float) -> Array:
    """Speech with a root mean square of ``level`` over its phones, or less where it would clip."""
    if not phones:
        return samples
    spoken = sum(phone.end - phone.start for phone in phones) * SAMPLE_RATE
    gain = level / np.sqrt(np.sum(samples**2) / spoken)
    return samples * min(gain, PEAK / np.abs(samples).max())


def _noise(count: int, level: float, rng: np.random.Generator) -> Array:
    """[count] of one of ``NOISES``, as far below ``level`` as drawn from ``SNR_DB``."""
    kind = str(rng.choice(NOISES))
    if kind == "none":
        return np.zeros(count)
    if kind == "hum":
        harmonics = rng.choice([50, 60]) * np.arange(1, 6)
        phases = rng.uniform(0, 2 * np.pi, 5)
        times = np.arange(count)[:, None] / SAMPLE_RATE
        waves = np.sin(2 * np.pi * harmonics * times + phases)
        noise = (waves / np.arange(1, 6)).sum(axis=1)
    else:
        noise = rng.standard_normal(count)
    if kind == "pink":
        frequency = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 20.0)
        noise = np.fft.irfft(np.fft.rfft(noise) / np.sqrt(frequency), count)
    return noise * level * 10 ** (-rng.uniform(*SNR_DB) / 20) / np.sqrt(np.mean(noise**2))
