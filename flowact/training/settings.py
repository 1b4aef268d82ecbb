"""What training is asked for, as plain dataclasses."""

from dataclasses import dataclass, field
from enum import Enum

from flowact.settings import ModelConfig
from flowact.training.distill_settings import DmdConfig, GuidanceConfig, StepsConfig
from flowact.training.window_settings import AudioMotionConfig, AutoregressiveConfig


class TrainingPrecision(Enum):
    """Of the arithmetic: parameters, gradients and averages are float32 in both."""

    fp32 = "fp32"
    bf16 = "bf16"


class Strategy(Enum):
    """How processes share a network: a copy each, or a shard each (FSDP2)."""

    ddp = "ddp"
    fsdp = "fsdp"


class OptimiserKind(Enum):
    """Muon is for weights that are matrices; all others are AdamW's."""

    adamw = "adamw"
    muon = "muon"


class Decay(Enum):
    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class OptimiserConfig:
    """How gradients become weights.

    Attributes:
        kind: adamw, or muon for matrices and flattened convolutions, and adamw for the rest.
        adamw: parts, by name, whose matrices are adamw's under muon too: what numbers come in by
            and go out by, such as x_embedder.
        adamw_scale: of adamw's learning rate beside muon's. While gradients agree its steps can be
            several times the size of muon's, and weights of wide inputs run away.
        lr: the highest learning rate.
        warmup_steps: on which it rises from zero.
        decay: how it falls to zero afterwards.
        decay_steps: step at which it is there; for all but a constant one.
        betas: of AdamW.
        momentum: of Muon.
        weight_decay: of weights with two axes or more.
        clip: norm above which a role's gradient is scaled down to it.
    """

    kind: OptimiserKind = OptimiserKind.adamw
    adamw: tuple[str, ...] = ()
    adamw_scale: float = 1.0
    lr: float = 1e-4
    warmup_steps: int = 100
    decay: Decay = Decay.constant
    decay_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "adamw_scale", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"optimiser.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"optimiser.{name} is {getattr(self, name)}; it must be 0 or more")
        for value in (*self.betas, self.momentum):
            if not 0 <= value < 1:
                raise ValueError(
                    f"optimiser.betas or momentum has {value}; it must be from 0 to below 1"
                )
        falls = self.decay is not Decay.constant
        if falls != (self.decay_steps is not None):
            raise ValueError(
                f"optimiser.decay is {self.decay.name}, decay_steps is {self.decay_steps}; give "
                "decay_steps with linear and cosine, and only with them"
            )
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ValueError(
                f"optimiser.decay_steps is {self.decay_steps}; it must be above warmup_steps, "
                f"{self.warmup_steps}"
            )


@dataclass
class CheckpointsConfig:
    """Which checkpoints there are.

    Attributes:
        every: steps from one to the next.
        keep: of the last ones.
        keep_every: steps of those that are kept for ever; null is none.
    """

    every: int = 500
    keep: int = 3
    keep_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "keep", "keep_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"checkpoints.{name} is {value}; it must be 1 or more")


TRACKERS = ("wandb", "tensorboard")
WANDB_MODES = ("offline", "online", "disabled")


@dataclass
class LogConfig:
    """What is told on the way.

    Attributes:
        every: steps from one line of log.jsonl to the next, which is their mean.
        preview_every: steps between previews; null is none.
        trackers: of accelerate, told the same: wandb, tensorboard.
        wandb_mode: offline, online or disabled.
    """

    every: int = 10
    preview_every: int | None = None
    trackers: tuple[str, ...] = ()
    wandb_mode: str = "offline"

    def __post_init__(self) -> None:
        for name in ("every", "preview_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"log.{name} is {value}; it must be 1 or more")
        if self.wandb_mode not in WANDB_MODES:
            raise ValueError(f"log.wandb_mode is {self.wandb_mode}; choose among {WANDB_MODES}")
        for tracker in self.trackers:
            if tracker not in TRACKERS:
                raise ValueError(f"log.trackers has {tracker!r}; choose among {TRACKERS}")


@dataclass(kw_only=True)
class LoopConfig:
    """What the loop is told, whatever the stage.

    Attributes:
        output: the folder of the run; a run that was stopped goes on in it, given the same words.
        steps: of the optimiser, after which the run is done.
        global_batch: samples of a step, on all processes together.
        micro_batch: samples that go through the networks together.
        seed: of all draws, and of weights that are not loaded.
        precision: of the arithmetic, fp32 or bf16.
        strategy: how processes share a network: ddp, a copy each, or fsdp, a shard each.
        workers: processes that load data, for each process that trains; 0 is itself.
    """

    output: str
    steps: int = 1000
    global_batch: int = 16
    micro_batch: int = 4
    seed: int = 0
    precision: TrainingPrecision = TrainingPrecision.fp32
    strategy: Strategy = Strategy.ddp
    workers: int = 0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        lowest = {"steps": 1, "global_batch": 1, "micro_batch": 1, "seed": 0, "workers": 0}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {low} or more")


class VaePart(Enum):
    """Of an autoencoder: all of it; its decoder, which leaves the latents as they are; or a thin
    decoder of its latents, which is new, beside it."""

    all = "all"
    decoder = "decoder"
    thin = "thin"


@dataclass
class ThinConfig:
    """Sizes of a thin decoder that is trained; the rest is the autoencoder's.

    Each stage doubles height and width, and the last ones, as many as it takes, the frames.

    Attributes:
        widths: channels of each stage, then those of the last convolution's input.
        blocks: of each stage.
    """

    widths: tuple[int, ...] = (96, 48, 32)
    blocks: int = 2

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(
                f"vae.thin.widths is {list(self.widths)}; give two numbers or more, each 1 or more"
            )
        if self.blocks < 1:
            raise ValueError(f"vae.thin.blocks is {self.blocks}; it must be 1 or more")


@dataclass
class VaeConfig:
    """The stage that trains the autoencoder.

    Attributes:
        part: what is trained: all, the decoder, or thin, a thin decoder beside it.
        thin: sizes of that.
        images: samples of single frames, a multiple of micro_batch; those that follow are clips.
        stills: frames in a sample of single frames.
        clip_frames: length of a clip, 4n + 1. What a clip begins with reconstructs unlike the
            rest for about 4 latents: 17 frames are too few to learn what follows.
        crop: side of the squares, around mouths and hands, that clips are cropped to; as many go
            into a sample as have the pixels of a frame. What matters is small: the same time shows
            more of it. None is whole frames.
        latent_noise: deviation of the noise under which latents are decoded.
        edges_weight: of the error of differences between neighbouring pixels.
        motion_weight: of the error of differences between successive frames.
        latents_weight: of the latents' mean square.
    """

    part: VaePart = VaePart.all
    thin: ThinConfig = field(default_factory=ThinConfig)
    images: int = 0
    stills: int = 8
    clip_frames: int = 21
    crop: int | None = None
    latent_noise: float = 0.05
    edges_weight: float = 0.5
    motion_weight: float = 0.25
    latents_weight: float = 2e-5

    def __post_init__(self) -> None:
        lowest = {"images": 0, "stills": 1, "clip_frames": 5}
        weights = ("latent_noise", "edges_weight", "motion_weight", "latents_weight")
        for name, low in (lowest | dict.fromkeys(weights, 0)).items():
            if not getattr(self, name) >= low:
                raise ValueError(f"vae.{name} is {getattr(self, name)}; it must be {low} or more")
        if self.crop is not None and self.crop < 1:
            raise ValueError(f"vae.crop is {self.crop}; it must be 1 or more")
        if self.clip_frames % 4 != 1:
            raise ValueError(f"vae.clip_frames is {self.clip_frames}; it must be 4n + 1")


@dataclass(kw_only=True)
class TrainConfig(LoopConfig):
    """A stage of the curriculum.

    Attributes:
        model: the preset that is trained.
        stage: which; an experiment names it.
        weights: a folder saved by ``FlowActPipeline`` to begin with; None begins untrained.
        vae, autoregressive, audio_motion, dmd: of the stages of these names.
        guidance_distillation, step_distillation: of the stages guidance and steps.
    """

    model: ModelConfig
    stage: str
    weights: str | None = None
    vae: VaeConfig = field(default_factory=VaeConfig)
    autoregressive: AutoregressiveConfig = field(default_factory=AutoregressiveConfig)
    audio_motion: AudioMotionConfig = field(default_factory=AudioMotionConfig)
    guidance_distillation: GuidanceConfig = field(default_factory=GuidanceConfig)
    step_distillation: StepsConfig = field(default_factory=StepsConfig)
    dmd: DmdConfig = field(default_factory=DmdConfig)


@dataclass(kw_only=True)
class ExportConfig:
    """A run in, a folder for ``weights`` out.

    Attributes:
        run: the ``output`` of scripts/train.py.
        output: the folder to write.
        step: which checkpoint; None takes the latest.
        precision: of the weights that are written: fp32, or bf16 to hand on, at half the size.
        note: what users are to expect of the weights, which sample.py tells them; None is what the
            run began with says.
    """

    run: str
    output: str
    step: int | None = None
    precision: TrainingPrecision = TrainingPrecision.fp32
    note: str | None = None
