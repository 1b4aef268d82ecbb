"""What a world of actors is asked for, as plain dataclasses."""

from dataclasses import dataclass
from enum import Enum


class Framing(Enum):
    hips = "hips"
    full = "full"


class Speech(Enum):
    auto = "auto"
    espeak = "espeak"
    formant = "formant"


@dataclass(kw_only=True)
class MakeActorsConfig:
    """A data set of actors: videos with sound, the truth of each, and their manifest.

    Attributes:
        output: the folder; a run that was stopped goes on in it, given the same words.
        clips: how many.
        seconds: length of each.
        seed: of the first; clip i has seed + i // takes. From 0 training, from 800000 validation,
            from 900000 test, from 1000000 reserved for evaluation by others.
        resolution: WIDTHxHEIGHT in pixels, such as 832x480, or one number for both.
        framing: hips shows head to hips, full the whole body.
        takes: clips of each seed, which differ in their motion alone.
        synthesiser: of the speech: espeak, or formant, which babbles; auto is espeak where it is
            installed.
        augment_speech: let most clips sound as in other voices, rooms and recordings; for training
            what shall hear real voices.
        workers: processes; None starts one per core.
    """

    output: str
    clips: int
    seconds: float = 10.0
    seed: int = 0
    resolution: str = "128"
    framing: Framing = Framing.hips
    takes: int = 1
    synthesiser: Speech = Speech.auto
    augment_speech: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        sides = self.resolution.split("x")
        if len(sides) > 2 or not all(s.isdecimal() and int(s) > 0 for s in sides):
            raise ValueError(
                f"resolution is {self.resolution}; give WIDTHxHEIGHT, such as 832x480, or a number"
            )
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be 1 or more, or null")

    @property
    def width(self) -> int:
        return int(self.resolution.split("x")[0])

    @property
    def height(self) -> int:
        return int(self.resolution.split("x")[-1])
