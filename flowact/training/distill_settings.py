"""What the stages of distillation are asked for, as plain dataclasses (design 8.3)."""

from dataclasses import dataclass, field, replace
from enum import Enum

from flowact.data.windows import WindowsConfig
from flowact.settings import StreamSettings, Update
from flowact.training.window_settings import AudioMotionConfig, LevelsConfig, TasksConfig

UNDROPPED = WindowsConfig(drop_text=0.0, drop_audio=0.0, drop_both=0.0)


def _in_order(name: str, bounds: tuple[float, ...]) -> tuple[float, float]:
    """The lowest and the highest of a range, if it is one."""
    if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] < float("inf"):
        raise ValueError(f"{name} is {bounds}; give two numbers, 0 or more, in order")
    return bounds[0], bounds[1]


@dataclass(kw_only=True)
class GuidanceConfig(AudioMotionConfig):
    """Guidance distillation: one call gives what two or three gave; most is stage 2's.

    Scales are of uncond + w (cond - uncond).

    Attributes:
        text_scales, audio_scales: lowest and highest that are learnt.
        apart: both scales are drawn, and the teacher makes three passes; otherwise one is drawn
            for both, from ``text_scales``, and it makes two.
        text_scale, audio_scale: that are exported for streams.
        micro_steps: likewise.
    """

    windows: WindowsConfig = field(default_factory=lambda: UNDROPPED)
    text_scales: tuple[float, float] = (1.0, 4.0)
    audio_scales: tuple[float, float] = (1.0, 4.0)
    apart: bool = True
    text_scale: float = 2.0
    audio_scale: float = 2.0
    micro_steps: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        text, audio = (
            _in_order(name, getattr(self, name)) for name in ("text_scales", "audio_scales")
        )
        learnt = {"text_scale": text, "audio_scale": audio if self.apart else text}
        for name, (low, high) in learnt.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; scales from {low} to {high} are learnt"
                )
        if not self.apart and self.text_scale != self.audio_scale:
            raise ValueError(
                f"text_scale is {self.text_scale}, audio_scale is {self.audio_scale}; without "
                "apart=true only equal ones are learnt"
            )
        if self.micro_steps < 1:
            raise ValueError(f"micro_steps is {self.micro_steps}; it must be 1 or more")

    def stream(self, model: StreamSettings) -> StreamSettings:
        """How the student is streamed, if its teacher is as ``model``."""
        return replace(
            model,
            micro_steps=self.micro_steps,
            guidance=1.0,
            audio_guidance=None,
            text_scale=self.text_scale,
            audio_scale=self.audio_scale,
        )


@dataclass(kw_only=True)
class StepsConfig(AudioMotionConfig):
    """Step distillation: one call lands where the teacher's micro-steps of a segment did.

    Most is stage 2's; levels are those where segments begin, and memory is whole.

    Attributes:
        teacher_steps: micro-steps m of the teacher in a segment.
        text_scale, audio_scale: of guidance, at which student and teacher are asked; None is what
            the weights are streamed with.
        update: how the student moves a chunk to its next level; None is as the weights'.
    """

    windows: WindowsConfig = field(default_factory=lambda: UNDROPPED)
    teacher_steps: int = 4
    text_scale: float | None = None
    audio_scale: float | None = None
    update: Update | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_steps < 1:
            raise ValueError(f"teacher_steps is {self.teacher_steps}; it must be 1 or more")
        for name in ("text_scale", "audio_scale"):
            if not 0 <= (getattr(self, name) or 0) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        low, high = self.tasks.refinement_levels
        if not 0.1 <= low <= high <= 0.5:
            raise ValueError(
                f"tasks.refinement_levels is {self.tasks.refinement_levels}; a stream repairs from "
                "0.1 to 0.5"
            )
        whole = TasksConfig(
            refinement=self.tasks.refinement, refinement_levels=self.tasks.refinement_levels
        )
        if self.tasks != whole or self.levels != LevelsConfig(power=self.levels.power):
            raise ValueError(
                "of levels and tasks only levels.power, tasks.refinement and "
                "tasks.refinement_levels are of this stage; leave the others out"
            )

    def stream(self, model: StreamSettings) -> StreamSettings:
        """How the student is streamed, from weights that are streamed as ``model``."""
        return replace(
            model,
            micro_steps=1,
            guidance=1.0,
            audio_guidance=None,
            text_scale=model.text_scale if self.text_scale is None else self.text_scale,
            audio_scale=model.audio_scale if self.audio_scale is None else self.audio_scale,
            update=model.update if self.update is None else self.update,
        )


class Normaliser(Enum):
    """What DMD's direction is divided by: the mean distance of each sample, or of each of its
    latents, from what the teacher sees in it; or nothing."""

    sample = "sample"
    latent = "latent"
    none = "none"


@dataclass(kw_only=True)
class DmdConfig(StepsConfig):
    """Distribution matching distillation (DMD) of the stream.

    ``focus``, ``levels.power`` and ``windows.start_weight`` are of the fake score and of repairs;
    the generator's direction counts all alike.

    Attributes:
        windows: of a stream's ticks; ``start`` is one number, the share of streams that begin with
            their clip: the others begin with its own memory.
        teacher: weights of stage 3a, which those of the run were distilled from.
        ticks: of the generator, the last of which is scored; drawn evenly from 1 to this. A later
            one is under memory that it has made.
        reference_alone: share of steps whose scores are under the reference without memory: memory
            that has drifted then excuses no drift.
        refined: share of steps whose streams repair each latent that they remember, from a level of
            ``tasks.refinement_levels``; these begin with a queue that is full.
        every: steps of the fake score to one of the generator.
        alone: steps of the fake score before the generator's first.
        fake_rate: the fake score's learning rate, of the generator's.
        score_levels: lowest and highest noise level u of the scores, before the shift.
        normaliser: of the direction.
        health_every: steps between comparisons of the fake score with the teacher: on samples, its
            error has to stay below the teacher's at scales of 1, which knows the truth alone.
        collapse: share of the truth's motion and variance under which samples have collapsed; 0
            never says so.
    """

    windows: WindowsConfig = field(default_factory=lambda: replace(UNDROPPED, start=(0.25,)))
    teacher: str | None = None
    ticks: int = 8
    reference_alone: float = 0.5
    refined: float = 0.25
    average: float = 0.99  # the generator takes few steps
    every: int = 5
    alone: int = 200
    fake_rate: float = 0.2
    score_levels: tuple[float, float] = (0.02, 0.98)
    normaliser: Normaliser = Normaliser.sample
    health_every: int = 5
    collapse: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lowest in (("ticks", 1), ("every", 1), ("alone", 0), ("health_every", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {lowest} or more")
        if not 0 < self.fake_rate < float("inf"):
            raise ValueError(f"fake_rate is {self.fake_rate}; it must be above 0")
        low, high = _in_order("score_levels", self.score_levels)
        if not 0 < low <= high <= 1:
            raise ValueError(f"score_levels is {self.score_levels}; they must be above 0, up to 1")
        for name in ("reference_alone", "refined"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if not 0 <= self.collapse < 1:
            raise ValueError(f"collapse is {self.collapse}; it must be from 0 to below 1")


@dataclass(kw_only=True)
class DistillationConfig:
    """A distilled model beside its teacher.

    Attributes:
        weights: of the student: of experiment=guidance, or of experiment=steps or dmd.
        teacher: what it was distilled from: stage 2's weights, or those of experiment=guidance.
        folders: preprocessed with these weights, of clips that neither has seen.
        output: the JSON to write.
        windows: how many are looked at.
        scales: of guidance, each for both conditions, for text alone, and for audio alone.
        teacher_steps: micro-steps of the teacher in a segment.
        seed: of windows, noise and levels.
        device: auto, cpu, cuda or cuda:N.
    """

    weights: str
    teacher: str
    folders: tuple[str, ...]
    output: str
    windows: int = 32
    scales: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0)
    teacher_steps: int = 4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("windows", "teacher_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.scales or not all(scale >= 0 for scale in self.scales):
            raise ValueError(f"scales is {self.scales}; give numbers, 0 or more")
