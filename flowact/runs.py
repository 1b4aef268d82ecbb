"""What a run is asked for, as plain dataclasses: one for each script."""

import dataclasses
from dataclasses import dataclass, field

from flowact.data.windows import WindowsConfig
from flowact.endpoint import EndpointConfig
from flowact.settings import (
    QUANTIZED_LAYERS,
    AttentionBackend,
    ModelConfig,
    Parallel,
    Precision,
    Quantize,
    StreamSettings,
)
from flowact.training.settings import OptimiserKind, TrainingPrecision
from flowact.training.window_settings import LoraSettings

NATIVE = AttentionBackend.native


@dataclass(kw_only=True)
class PlannerConfig(EndpointConfig):
    """A multimodal language model that decides what the person does next (paper 2.6).

    Attributes:
        every: chunks between questions.
        seconds: of the latest sound that it is given.
        wait: whether the stream waits for its answers, which come at the same places then, however
            long they take; otherwise one counts from the chunk on that is next.
    """

    timeout: float = 20.0
    attempts: int = 1
    every: int = 5
    seconds: float = 4.0
    wait: bool = True

    def __post_init__(self) -> None:
        self.check("planner", ("every", "seconds"))


@dataclass
class StreamOverrides:
    """Those of ``StreamSettings`` that a run may change; None leaves what the model says."""

    micro_steps: int | None = None
    audio_lag: int | None = None
    long_term_stride: int | None = None
    memory: tuple[str, ...] | None = None
    refine_every: int | None = None
    refine_level: float | None = None
    guidance: float | None = None
    audio_guidance: float | None = None
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
        weights: a folder saved by ``FlowActPipeline``; None leaves the model untrained. In
            scripts/sample.py the unchanged preset demo has those that it comes with.
        seed: of the noise; and of the weights, where they are untrained.
        precision: of the arithmetic; auto is bf16 where the machine computes in it.
        device: auto, cpu, cuda or cuda:N.
        threads: of torch for each of the two stages; None shares the cores out between them.
        stream: settings that differ from the model's own.
        decoder: a thin decoder of the autoencoder's latents that streams are decoded by: a file of
            TAEHV's (.safetensors or .pth), or thin_decoder.safetensors of scripts/export.py; None
            is the autoencoder's own.
        fixed_levels: whether modulation is computed once for the stream's noise levels, and the
            weights that make it are dropped before the model goes to its device.
        decoder_device: of the autoencoder, where that is not the model's: it decodes beside it.
        attention: the kernel: native, native_math, native_flash, native_efficient, native_cudnn or
            flex, which are PyTorch's; flash, flash_3, sage or xformers, where installed; or
            flash_hub, flash_3_hub, flash_4_hub or sage_hub, downloaded. Calls with a mask, of
            batches of prompts of unequal length, stay native. sage multiplies in 8 bits.
        quantize: what the layers' matrices compute in: none, as ``precision`` says; int8 or fp8,
            activations too; int8_weights or fp8_weights, which saves memory alone; or auto, by the
            GPU.
        quantize_layers: which, as patterns of the transformer's module names.
        compile: whether layers and decoder are compiled once a form of call has come a few times.
        graphs: whether such calls are then replayed as CUDA graphs.
        offload: whether the layers' weights stay in the computer's memory and come to the GPU one
            by one: slower, and a model streams that would not fit.
    """

    model: ModelConfig
    weights: str | None = None
    seed: int = 0
    precision: Precision = Precision.auto
    device: str = "auto"
    threads: int | None = None
    decoder: str | None = None
    decoder_device: str | None = None
    fixed_levels: bool = False
    attention: AttentionBackend = AttentionBackend.native
    quantize: Quantize = Quantize.none
    quantize_layers: tuple[str, ...] = QUANTIZED_LAYERS
    compile: bool = False
    graphs: bool = False
    offload: bool = False
    stream: StreamOverrides = field(default_factory=StreamOverrides)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to {2**63 - 1}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be 1 or more, or null")
        if self.offload and (self.graphs or self.compile):
            raise ValueError(
                "offload=true moves weights about, under graphs and compile alike; drop it, or them"
            )


@dataclass(kw_only=True)
class StreamConfig(RunConfig):
    """A stream that several processes may share.

    Attributes:
        parallel: among the processes that torchrun started: frames (each runs whole latents) or
            tokens (each a part of every latent, then of the heads); None for one process.
    """

    parallel: Parallel | None = None


@dataclass(kw_only=True)
class SampleConfig(StreamConfig):
    """One image and one audio file in, one video out.

    Attributes:
        image: the person, in any format Pillow reads.
        audio: speech, in any format FFmpeg reads, or a video with a sound track.
        output: the .mp4 to write.
        report: the .json to write; None puts it beside the video.
        prompt: what the person does, for the whole video, or until ``planner`` knows better.
        prompts: instead of ``prompt``, a JSON file: [{"start": 0.0, "text": "..."}, ...].
        planner: that writes the prompts; they are put beside the video, as ``prompts`` takes them.
    """

    image: str
    audio: str
    output: str
    report: str | None = None
    prompt: str = ""
    prompts: str | None = None
    planner: PlannerConfig = field(default_factory=PlannerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompts is not None and self.prompt:
            raise ValueError(
                "prompt and prompts exclude each other; give one (prompts=null drops it)"
            )
        if self.planner.url is not None and self.prompts is not None:
            raise ValueError("prompts are what planner writes; give one (prompts=null drops it)")
        if self.planner.url is not None and self.parallel is not None:
            raise ValueError(
                "planner.url is for one process, since each would be told another plan; drop "
                "parallel, or plan first and stream with the prompts that it wrote"
            )


@dataclass(kw_only=True)
class BenchmarkConfig(StreamConfig):
    """The speed of a preset.

    Attributes:
        output: the .json to write.
        seconds: length of the video; from 180 on, memory and drift are told too.
        live: whether the sound comes as fast as it is spoken, no faster: how long frames are behind
            what they show is told then.
        ticks: pairs of ticks compared with diffusers' model; 0 leaves the comparison out.
        steps: the same of training steps, forward and backward.
        errors: instead of speed, how far ``attention`` and ``quantize`` take layers and the stream
            of the bundled example from what they are without.
        plan: instead of running, what a tick of the preset costs and how fast that can be on GPUs;
            any machine counts it.
        text_tokens: of the prompt, in the plan.
        processes: numbers of GPUs that share a tick, for the plan to tell what that takes; about
            five seconds each.
        prompt: of the stream.
    """

    output: str
    seconds: float = 20.0
    live: bool = False
    ticks: int = 50
    steps: int = 0
    errors: bool = False
    plan: bool = False
    text_tokens: int = 1000
    processes: tuple[int, ...] = ()
    prompt: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_tokens < 1:
            raise ValueError(f"text_tokens is {self.text_tokens}; it must be 1 or more")
        if any(count < 2 for count in self.processes):
            raise ValueError(f"processes are {self.processes}; each must be 2 or more")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds is {self.seconds}; it must be above 0")
        if self.errors and self.plan:
            raise ValueError("plan=true runs nothing, and errors=true measures; leave one out")
        if self.errors and (self.attention, self.quantize) == (NATIVE, Quantize.none):
            raise ValueError("errors=true is of attention=... and quantize=...; give one of them")
        for name in ("ticks", "steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(kw_only=True)
class GpuSuiteConfig:
    """Full-size speed, one switch at a time.

    Attributes:
        model: the preset.
        output: the .json to write.
        seconds: of each stream.
        text_tokens: of its prompt.
        rows: their names; none given are all.
        minutes: after which no further row is begun.
        device: auto, cpu, cuda or cuda:N.
    """

    model: ModelConfig
    output: str
    seconds: float = 8.0
    text_tokens: int = 1000
    rows: tuple[str, ...] = ()
    minutes: float = 6.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("seconds", "text_tokens", "minutes"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


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


@dataclass(kw_only=True)
class ShowWindowsConfig:
    """A picture of training windows.

    Attributes:
        data: a folder that scripts/preprocess.py wrote.
        output: the .png to write.
        weights: a folder saved by ``FlowActPipeline``, for its stream; None for the paper's.
        rows: windows to draw.
        seed: of the run whose first windows they are.
        windows: which are drawn.
    """

    data: str
    output: str
    weights: str | None = None
    rows: int = 12
    seed: int = 0
    windows: WindowsConfig = field(default_factory=WindowsConfig)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}; it must be 1 or more")


@dataclass(kw_only=True)
class MemoryConfig:
    """What training a preset takes on each GPU.

    Attributes:
        model: the preset; model.height and model.width are the resolution.
        micro_batch: samples that go through the network together.
        ranks: processes that share it, where several do.
        text_tokens: of a prompt.
        precision: of the arithmetic, fp32 or bf16.
        optimiser: adamw, or muon for matrices.
        lora: what is trained instead of the weights.
    """

    model: ModelConfig
    micro_batch: int = 1
    ranks: int = 8
    text_tokens: int = 128
    precision: TrainingPrecision = TrainingPrecision.bf16
    optimiser: OptimiserKind = OptimiserKind.adamw
    lora: LoraSettings = field(default_factory=LoraSettings)

    def __post_init__(self) -> None:
        for name, low in {"micro_batch": 1, "ranks": 2, "text_tokens": 2}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {low} or more")
