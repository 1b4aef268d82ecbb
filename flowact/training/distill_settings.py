"""What the stages of distillation are asked for, as plain dataclasses (design 8.3)."""

from dataclasses import dataclass, field, replace
from enum import Enum

from flowact.data.windows import WindowsConfig
from flowact.training.window_settings import AudioMotionConfig

UNDROPPED = WindowsConfig(drop_text=0.0, drop_audio=0.0, drop_both=0.0)


def _check_range(name: str, bounds: tuple[float, ...], lowest: float) -> None:
    if len(bounds) != 2 or not lowest <= bounds[0] <= bounds[1] < float("inf"):
        raise ValueError(f"{name} is {bounds}; give two numbers, {lowest:g} or more, in order")


@dataclass(kw_only=True)
class DistillConfig(AudioMotionConfig):
    """What the three stages of distillation share; most is stage 2's.

    Attributes:
        text_scale, audio_scale: of guidance, as uncond + w (cond - uncond): what is exported for
            streams.
    """

    windows: WindowsConfig = field(default_factory=lambda: UNDROPPED)
    text_scale: float = 2.0
    audio_scale: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("text_scale", "audio_scale"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(kw_only=True)
class GuidanceConfig(DistillConfig):
    """Guidance distillation: one call gives what two or three gave.

    Attributes:
        text_scales, audio_scales: lowest and highest that are learnt.
        apart: both scales are drawn, and the teacher makes three passes; otherwise one is drawn
            for both, and it makes two.
        micro_steps: that are exported for streams.
    """

    text_scales: tuple[float, float] = (1.0, 4.0)
    audio_scales: tuple[float, float] = (1.0, 4.0)
    apart: bool = True
    micro_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("text_scales", self.text_scales, 0)
        _check_range("audio_scales", self.audio_scales, 0)
        if self.micro_steps < 1:
            raise ValueError(f"micro_steps is {self.micro_steps}; it must be 1 or more")


@dataclass(kw_only=True)
class StepsConfig(DistillConfig):
    """Step distillation: one call lands where the teacher's micro-steps of a segment did.

    Attributes:
        teacher_steps: micro-steps m of the teacher in a segment.
    """

    teacher_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_steps < 1:
            raise ValueError(f"teacher_steps is {self.teacher_steps}; it must be 1 or more")


class Normaliser(Enum):
    """What DMD's direction is divided by: the mean distance of each sample, or of each of its
    latents, from what the teacher sees in it; or nothing."""

    sample = "sample"
    latent = "latent"
    none = "none"


@dataclass(kw_only=True)
class DmdConfig(StepsConfig):
    """Distribution matching distillation (DMD) of the stream.

    Attributes:
        windows: of a stream's ticks; ``start`` is one number, the share of streams that begin with
            their clip: the others begin with its own memory.
        teacher: weights of stage 3a, which those of the run were distilled from.
        ticks: of the generator, the last of which is scored; drawn evenly from 1 to this. A later
            one is under memory that it has made.
        reference_alone: share of steps whose scores are under the reference without memory: memory
            that has drifted then excuses no drift.
        every: steps of the fake score to one of the generator.
        alone: steps of the fake score before the generator's first.
        fake_rate: the fake score's learning rate, of the generator's.
        score_levels: lowest and highest noise level u of the scores, before the shift.
        normaliser: of the direction.
        health_every: steps between looks at the fake score's floor.
        collapse: share of the truth's motion and variance under which samples have collapsed.
    """

    windows: WindowsConfig = field(default_factory=lambda: replace(UNDROPPED, start=(0.25,)))
    teacher: str | None = None
    ticks: int = 8
    reference_alone: float = 0.5
    every: int = 5
    alone: int = 200
    fake_rate: float = 0.2
    score_levels: tuple[float, float] = (0.02, 0.98)
    normaliser: Normaliser = Normaliser.sample
    health_every: int = 20
    collapse: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lowest in (("ticks", 1), ("every", 1), ("alone", 0), ("health_every", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {lowest} or more")
        if not 0 < self.fake_rate < float("inf"):
            raise ValueError(f"fake_rate is {self.fake_rate}; it must be above 0")
        low, high = self.score_levels
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"score_levels is {self.score_levels}; give two above 0, up to 1, in order"
            )
        if not 0 <= self.reference_alone <= 1:
            raise ValueError(f"reference_alone is {self.reference_alone}; it must be from 0 to 1")
        if not 0 <= self.collapse < 1:
            raise ValueError(f"collapse is {self.collapse}; it must be from 0 to below 1")
