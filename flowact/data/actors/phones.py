"""Speech as the synthesisers make it: samples, and when each of its phones and words is heard."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowact.geometry import Geometry

SAMPLE_RATE = Geometry().sample_rate
FADE = 0.005  # seconds, at a cut


@dataclass(frozen=True)
class Phone:
    """One sound of speech: from ``start`` to ``end`` in seconds, its ``symbol`` in IPA.

    A plosive begins with its closure, not with its burst.
    """

    start: float
    end: float
    symbol: str

    def later(self, seconds: float) -> "Phone":
        return Phone(self.start + seconds, self.end + seconds, self.symbol)


@dataclass(frozen=True)
class Utterance:
    """A sentence, or a part of one.

    Attributes:
        samples: float32 [n] at ``Geometry().sample_rate``.
        phones: in order, in seconds from the first sample.
        words: the ends of those phones that end a word.
    """

    samples: NDArray[np.float32]
    phones: tuple[Phone, ...]
    words: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def split(self, seconds: float) -> "tuple[Utterance | None, Utterance | None]":
        """As many whole words as last ``seconds`` at most, and the rest; None where empty."""
        if self.seconds <= seconds:
            return self, None
        ends = [end for end in self.words[:-1] if end <= seconds]
        if not ends:
            return None, self
        head = [phone for phone in self.phones if phone.end <= ends[-1]]
        rest = self.phones[len(head) :]
        start = rest[0].start
        return (
            Utterance(
                faded(self.samples[: round(ends[-1] * SAMPLE_RATE)]),
                tuple(head),
                self.words[: len(ends)],
            ),
            Utterance(
                faded(self.samples[round(start * SAMPLE_RATE) :]),
                tuple(phone.later(-start) for phone in rest),
                tuple(end - start for end in self.words[len(ends) :]),
            ),
        )


def faded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy whose ends rise from and fall to zero, so that a cut does not click."""
    ramp = np.linspace(0, 1, min(round(FADE * SAMPLE_RATE), len(samples)), dtype=np.float32)
    samples = samples.copy()
    samples[: len(ramp)] *= ramp
    samples[len(samples) - len(ramp) :] *= ramp[::-1]
    return samples
