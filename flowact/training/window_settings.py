"""What the stages that train on windows are asked for, as plain dataclasses."""

from dataclasses import dataclass, field
from pathlib import Path

from flowact.data.windows import WindowsConfig
from flowact.settings import Precision
from flowact.training.preview_settings import PreviewConfig


@dataclass(frozen=True)
class LevelsConfig:
    """How often samples have each pattern of noise levels; the first three sum to 1.

    Attributes:
        staircase: the stream's own: a chunk's level follows from its age, and all are equally far
            within their segments.
        independent: each chunk its own.
        common: one for all, as DMD asks its teacher.
        segment_start: of staircases, those at the start of their segments: the input of the
            distilled model.
        power: p; the velocity's error at level s counts (p + 1) s^p. 0 is flow matching's own; 2
            the error of the clean latent, on which little noise has little to teach; 1 lies
            between.

    Raises:
        ValueError: a probability or the power is out of its range.
    """

    staircase: float = 0.6
    independent: float = 0.2
    common: float = 0.2
    segment_start: float = 0.25
    power: float = 0.0

    def __post_init__(self) -> None:
        odds = (self.staircase, self.independent, self.common)
        if not all(p >= 0 for p in odds) or not abs(sum(odds) - 1) < 1e-6:
            raise ValueError(
                f"levels.staircase, levels.independent and levels.common are "
                f"{', '.join(map(str, odds))}; they must be 0 or more and sum to 1"
            )
        if not 0 <= self.segment_start <= 1:
            raise ValueError(
                f"levels.segment_start is {self.segment_start}; it must be from 0 to 1"
            )
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"levels.power is {self.power}; it must be 0 or more")


@dataclass(frozen=True)
class TasksConfig:
    """How often micro-batches have each task; the rest are the stream under all its memory.

    Attributes:
        without_long_term: the stream under reference and short-term latent.
        reference_alone: the stream under the reference.
        refinement: repair of the short-term latent (paper 2.5), where it is not the image.
        refinement_levels: lowest and highest noise level a repair starts from.

    Raises:
        ValueError: a setting is out of its range.
    """

    without_long_term: float = 0.05
    reference_alone: float = 0.05
    refinement: float = 0.05
    refinement_levels: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        odds = (self.without_long_term, self.reference_alone, self.refinement)
        if not all(p >= 0 for p in odds) or not sum(odds) <= 1:
            raise ValueError(
                "tasks.without_long_term, tasks.reference_alone and tasks.refinement are "
                f"{', '.join(map(str, odds))}; they must be 0 or more and sum to 1 at most"
            )
        levels = self.refinement_levels
        if len(levels) != 2 or not 0 < levels[0] <= levels[1] <= 1:
            raise ValueError(
                f"tasks.refinement_levels is {levels}; give two levels above 0, up to 1, in order"
            )


@dataclass(frozen=True)
class FocusConfig:
    """How much more the error counts where clips move; 0 counts all of the picture alike.

    Attributes:
        motion: of where a clip moves at all: what this map, of mean 1, is multiplied by before it
            is added to 1. The sum is of mean 1 again in the end.
        sound: of where it moves with its sound, likewise.

    Raises:
        ValueError: a factor is below 0.
    """

    motion: float = 0.0
    sound: float = 0.0

    def __post_init__(self) -> None:
        for name in ("motion", "sound"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"focus.{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True)
class LoraSettings:
    """Training of low-rank updates instead of the weights (LoRA).

    The audio adapter, which is new in stage 2, is trained there in full; all else is frozen, the
    text encoder too.

    Attributes:
        rank: of an update; null trains the weights themselves.
        alpha: an update is scaled by alpha / rank.
        targets: parts of a layer whose linears have updates: attn, ff (the feed-forward),
            ff_context (that of text), norm1 and norm1_context (modulation), or, in them, single
            ones such as attn.to_q.

    Raises:
        ValueError: a setting is out of its range.
    """

    rank: int | None = None
    alpha: int = 32
    targets: tuple[str, ...] = ("attn", "ff", "ff_context")

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"lora.{name} is {value}; it must be 1 or more")
        if not self.targets:
            raise ValueError("lora.targets is empty; name parts of a layer, such as attn")
        if any(target.split(".")[0] == "audio" for target in self.targets):
            raise ValueError("lora.targets has audio; the audio adapter is trained in full")


@dataclass(kw_only=True)
class AutoregressiveConfig:
    """Stage 1, and what stage 2 shares with it.

    Attributes:
        folders: of preprocessed data.
        folder_weights: how often each is drawn from, in proportion; none is all alike.
        windows: which are drawn, their weights, and what they go without.
        levels: patterns of noise levels.
        tasks: what micro-batches are used for.
        focus: where in the picture the error counts more.
        generated_memory: probability that a window remembers what scripts/make_generated_latents.py
            stored beside its folder's latents; 0 needs none.
        lora: low-rank updates, if they are trained and not the weights.
        average: decay of the running average of the weights, which is what is exported.
        gradient_checkpointing: a layer's activations are computed again on the way back: less
            memory, more time.
        preview: what is streamed every ``log.preview_every`` steps.
    """

    folders: tuple[str, ...] = ()
    folder_weights: tuple[float, ...] = ()
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    levels: LevelsConfig = field(default_factory=LevelsConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    generated_memory: float = 0.0
    lora: LoraSettings = field(default_factory=LoraSettings)
    average: float = 0.999
    gradient_checkpointing: bool = False
    preview: PreviewConfig = field(default_factory=PreviewConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be from 0 to below 1")
        if not 0 <= self.generated_memory <= 1:
            raise ValueError(f"generated_memory is {self.generated_memory}; it must be from 0 to 1")
        if len(self.folder_weights) not in (0, len(self.folders)):
            raise ValueError(
                f"folder_weights has {len(self.folder_weights)} numbers for {len(self.folders)} "
                "folders; give one each, or none"
            )

    @property
    def mix(self) -> dict[Path, float]:
        """The weight of each folder."""
        weights = self.folder_weights or (1.0,) * len(self.folders)
        return dict(zip(map(Path, self.folders), weights, strict=True))


@dataclass(kw_only=True)
class AudioMotionConfig(AutoregressiveConfig):
    """Stage 2.

    Attributes:
        audio_lags: how often the stream waits 0, 1, ... ticks for the audio of a chunk; they sum
            to 1.
    """

    audio_lags: tuple[float, ...] = (0.6, 0.2, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        odds = self.audio_lags
        if not all(p >= 0 for p in odds) or not abs(sum(odds) - 1) < 1e-6:
            raise ValueError(f"audio_lags is {odds}; give probabilities that sum to 1")


@dataclass(kw_only=True)
class GenerateLatentsConfig:
    """Latents for generated memory (design 8.1).

    Attributes:
        weights: a folder saved by ``FlowActPipeline``: the model that makes them.
        folders: preprocessed with these weights.
        levels: lowest and highest noise level that ground truth is taken to.
        steps: model calls from there back.
        accumulate: what was made is remembered when the next is made, so that errors grow along a
            clip as they do in a stream; without it each part remembers the truth.
        audio: whether the model hears the clips; false after stage 1.
        seed: of noise and levels.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32 or bf16; auto is what the stream computes in there.
    """

    weights: str
    folders: tuple[str, ...]
    levels: tuple[float, float] = (0.2, 0.7)
    steps: int = 4
    accumulate: bool = True
    audio: bool = False
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.auto

    def __post_init__(self) -> None:
        if len(self.levels) != 2 or not 0 < self.levels[0] <= self.levels[1] <= 1:
            raise ValueError(f"levels is {self.levels}; give two levels above 0, up to 1, in order")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be 1 or more")
