"""What a run is asked for, as plain dataclasses: one for each script."""

import dataclasses
from dataclasses import dataclass, field
from enum import Enum

from flowact.settings import ModelConfig, StreamSettings


class Precision(Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class StreamOverrides:
    """Those of ``StreamSettings`` that a run may change; None leaves what the model says."""

    micro_steps: int | None = None
    audio_lag: int | None = None
    long_term_stride: int | None = None
    refine_every: int | None = None
    refine_level: float | None = None
    guidance: float | None = None
    text_scale: float | None = None
    audio_scale: float | None = None

    def over(self, model: StreamSettings) -> StreamSettings:
        """The model's settings with these in their place."""
        mine = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(model, **mine)


@dataclass(kw_only=True)
class RunConfig:
    """What every run of a model is told.

    Attributes:
        model: the preset.
        weights: a folder saved by ``FlowActPipeline``; None leaves the model untrained.
        seed: of the noise; and of the weights, where they are untrained.
        precision: of the arithmetic; auto is bf16 where the machine computes in it.
        device: auto, cpu, cuda or cuda:N.
        threads: of torch for each of the two stages; None shares the cores out between them.
        stream: settings that differ from the model's own.
    """

    model: ModelConfig
    weights: str | None = None
    seed: int = 0
    precision: Precision = Precision.auto
    device: str = "auto"
    threads: int | None = None
    stream: StreamOverrides = field(default_factory=StreamOverrides)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**63 - 1}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be 1 or more, or null")


@dataclass(kw_only=True)
class SampleConfig(RunConfig):
    """One image and one audio file in, one video out.

    Attributes:
        image: the person, in any format Pillow reads.
        audio: speech, in any format FFmpeg reads, or a video with a sound track.
        output: the .mp4 to write.
        report: the .json to write; None puts it beside the video.
        prompt: what the person does, for the whole video.
        prompts: instead of ``prompt``, a JSON file: [{"start": 0.0, "text": "..."}, ...].
    """

    image: str
    audio: str
    output: str
    report: str | None = None
    prompt: str = ""
    prompts: str | None = None


@dataclass(kw_only=True)
class BenchmarkConfig(RunConfig):
    """The speed of a preset.

    Attributes:
        output: the .json to write.
        seconds: length of the video; from 180 on, memory and drift are told too.
        ticks: pairs of ticks compared with diffusers' model; 0 leaves the comparison out.
    """

    output: str
    seconds: float = 20.0
    ticks: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds is {self.seconds}; it must be above 0")
        if self.ticks < 0:
            raise ValueError(f"ticks is {self.ticks}; it must be 0 or more")


@dataclass(kw_only=True)
class ImportConfig:
    """A HunyuanVideo-1.5 checkpoint of diffusers in, a folder for ``weights`` out.

    Attributes:
        model: the preset; what the checkpoint's own config.json says takes its place.
        source: the checkpoint: a pipeline's folder, or its transformer's.
        output: the folder to write.
        whisper: the audio encoder to save with it, a name or a .pt file; None leaves the preset's
            to be loaded by its name.
    """

    model: ModelConfig
    source: str
    output: str
    whisper: str | None = None
