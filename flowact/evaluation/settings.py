"""What measuring videos is asked for, as plain dataclasses."""

from dataclasses import dataclass, field
from enum import Enum

from flowact.data.actors.settings import Speech
from flowact.data.splits import seeds_of
from flowact.runs import StreamOverrides
from flowact.settings import QUANTIZED_LAYERS, AttentionBackend, ModelConfig, Precision, Quantize


class Suite(Enum):
    actors = "actors"
    video = "video"
    voices = "voices"


class Mouth(Enum):
    motion = "motion"
    probe = "probe"


COLUMNS = ("truth", "round_trip", "model")


@dataclass(kw_only=True)
class EvaluateConfig:
    """How good videos are: those that there are, or those that a model makes of actors.

    Attributes:
        videos: a folder of videos, or one file; of actors, named by the ids of their clips.
        model: instead of ``videos``, the preset that streams actors, who are made first: demo with
            the weights that it comes with, others untrained.
        weights: instead of ``model``, a folder saved by ``FlowActPipeline``.
        suite: actors, whose truth is known; video, for any others; or, of a model, voices, which
            are recordings that actors say, by their sound alone.
        voices: with suite=voices, the folder of recordings.
        output: the .json to write; plots are put beside it, and what is made in a folder of its
            name, from which a run that was stopped goes on.
        truth: the folder that scripts/make_actors.py wrote; None if ``videos`` is that.
        probe: what reads actors, as scripts/train_probe.py wrote it; None for the one that ships.
        mouth: with suite=video, what tells how the mouth moves: motion in its part of the picture,
            or the probe, where actors are seen.
        mouth_box: with mouth=motion, where the mouth is: [left, top, right, bottom] in fractions of
            the picture; null finds it by the sound.
        chunk_offset: frame at which a chunk of the stream began, for seams.
        columns: of a model's table: truth, the actors themselves; round_trip, what is left of them
            by the autoencoder alone, which no model of its latents can exceed; model, its streams.
        clips: actors that are made for a model.
        seconds: length of each.
        seed: of the first, as in scripts/make_actors.py, and of the confidence intervals.
        takes: clips of each seed, which differ in their motion and in the noise of the stream.
        synthesiser: of their speech; auto is espeak where it is installed.
        workers: processes that make them; None starts one per core.
        precision: of the model's arithmetic; auto is bf16 where the machine computes in it.
        device: auto, cpu, cuda or cuda:N.
        threads: of torch for each stage of the stream; None shares the cores out between them.
        decoder: of the model, a thin decoder by which streams are decoded, and the round trip too;
            None is the autoencoder's own.
        attention, quantize, quantize_layers: as for scripts/sample.py.
        stream: settings that differ from the model's own.
    """

    videos: str | None = None
    model: ModelConfig | None = None
    weights: str | None = None
    suite: Suite
    voices: str | None = None
    output: str
    truth: str | None = None
    probe: str | None = None
    mouth: Mouth = Mouth.motion
    mouth_box: list[float] | None = None
    chunk_offset: int = 0
    columns: tuple[str, ...] = COLUMNS
    clips: int = 40
    seconds: float = 20.0
    seed: int = seeds_of("test").start
    takes: int = 1
    synthesiser: Speech = Speech.auto
    workers: int | None = None
    precision: Precision = Precision.auto
    device: str = "auto"
    threads: int | None = None
    decoder: str | None = None
    attention: AttentionBackend = AttentionBackend.native
    quantize: Quantize = Quantize.none
    quantize_layers: tuple[str, ...] = QUANTIZED_LAYERS
    stream: StreamOverrides = field(default_factory=StreamOverrides)

    def __post_init__(self) -> None:
        given = [name for name in ("videos", "model", "weights") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"to be measured there is {' and '.join(given) or 'nothing'}; give one of "
                "videos=FILE_OR_DIR, model=PRESET and weights=DIR"
            )
        if self.videos is None:
            self._check_model()
        elif self.decoder is not None:
            raise ValueError(f"decoder={self.decoder} is of a model; leave it out with videos=...")
        if self.mouth_box is not None and len(self.mouth_box) != 4:
            raise ValueError(
                f"mouth_box has {len(self.mouth_box)} numbers; give [left,top,right,bottom]"
            )
        if self.suite is Suite.video and self.truth is not None:
            raise ValueError(f"truth={self.truth} is for suite=actors; leave it out")
        if self.suite is Suite.voices and self.videos is not None:
            raise ValueError("suite=voices measures a model; give weights=DIR instead of videos")
        if (self.suite is Suite.voices) != (self.voices is not None):
            raise ValueError(
                f"suite is {self.suite.name} and voices is {self.voices}; "
                "give suite=voices voices=DIR together, or neither"
            )
        if self.probed and self.mouth_box is not None:
            raise ValueError("mouth_box is for suite=video mouth=motion; leave it out")
        if not self.probed and self.probe is not None:
            raise ValueError(
                f"probe={self.probe} reads actors only; add mouth=probe or leave it out"
            )

    @property
    def probed(self) -> bool:
        """Whether the probe reads the videos, which show actors then."""
        return self.suite is not Suite.video or self.mouth is Mouth.probe

    def _check_model(self) -> None:
        if self.suite is Suite.video:
            raise ValueError(
                "suite=video measures videos; a model's is suite=actors, or suite=voices voices=DIR"
            )
        if self.truth is not None:
            raise ValueError(f"truth={self.truth} is for videos=...; a model's actors are made")
        if not self.columns or not set(self.columns) <= set(COLUMNS):
            raise ValueError(f"columns is {list(self.columns)}; list some of {list(COLUMNS)}")


@dataclass(kw_only=True)
class TrainProbeConfig:
    """Makes the network that measures actors, from actors alone.

    Attributes:
        work: folder of what is made on the way; a run goes on with what it finds there.
        output: the .safetensors to write.
        groups: of 16 people each, whose frames teach the networks of single frames.
        steps: of training each of those; the one for identity takes fewer.
        clips: whose readings teach the network over time.
        clip_seconds: their length.
        behaviour_steps: of training it.
        held_out: actors of the test split on which the finished probe is measured.
        workers: processes, of one thread each; None starts one per core.
    """

    work: str
    output: str
    groups: int = 400
    steps: int = 4_500
    clips: int = 300
    clip_seconds: float = 20.0
    behaviour_steps: int = 3_000
    held_out: int = 40
    workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("groups", "steps", "clips", "behaviour_steps", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 2 <= self.clip_seconds < float("inf"):
            raise ValueError(f"clip_seconds is {self.clip_seconds}; it must be 2 or more")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be 1 or more, or null")
