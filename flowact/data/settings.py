"""What preparing data is asked for, as plain dataclasses."""

from dataclasses import dataclass, field

from flowact.endpoint import EndpointConfig
from flowact.settings import ModelConfig, Precision

CACHES = ("latents", "features", "text")


@dataclass(kw_only=True)
class CaptionerConfig(EndpointConfig):
    """A vision-language model that describes clips without captions.

    Attributes:
        interval_chunks: chunks per interval that is described.
        frames: of each interval that are shown.
        parallel: requests at a time.
    """

    interval_chunks: int = 5
    frames: int = 4
    parallel: int = 4

    def __post_init__(self) -> None:
        self.check("captioner", ("interval_chunks", "frames", "parallel"))


@dataclass(kw_only=True)
class PreprocessConfig:
    """Videos in, what training reads out.

    Attributes:
        model: the preset whose encoders are used: untrained, unless ``weights`` are given, or it is
            the unchanged demo, which comes with some.
        input: a folder of videos, with a manifest.jsonl or without.
        output: the folder to write; a run that was stopped goes on in it.
        weights: a folder saved by ``FlowActPipeline``.
        caches: which of latents, features and text to make.
        buckets: sizes that pictures are cropped to, WIDTHxHEIGHT each; none is the model's own.
        min_seconds, max_seconds: of a clip.
        shots: cuts are sought, and no clip goes across one; false for videos of one shot.
        audio_tolerance: seconds of the picture that may have no sound, at its start, at its end, or
            in gaps.
        references: frames of a clip, its first and others, that may stand for the person.
        captioner: who describes clips without captions.
        sheets: of how many videos contact sheets are drawn.
        seed: of the choice of references; and of the weights, where they are untrained.
        precision: of the arithmetic; auto is bf16 where the machine computes in it.
        device: auto, cpu, cuda or cuda:N.
        threads: that decode video.
    """

    model: ModelConfig
    input: str
    output: str
    weights: str | None = None
    caches: tuple[str, ...] = CACHES
    buckets: tuple[str, ...] = ()
    min_seconds: float = 2.0
    max_seconds: float = 10.0
    shots: bool = True
    audio_tolerance: float = 0.25
    references: int = 3
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    sheets: int = 8
    seed: int = 0
    precision: Precision = Precision.auto
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        for cache in self.caches:
            if cache not in CACHES:
                raise ValueError(f"caches has {cache!r}; choose among {', '.join(CACHES)}")
        for bucket in self.buckets:
            sides = bucket.split("x")
            if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
                raise ValueError(f"buckets has {bucket!r}; write WIDTHxHEIGHT, such as 832x480")
        if not 0 < self.min_seconds <= self.max_seconds < float("inf"):
            raise ValueError(
                f"min_seconds is {self.min_seconds:g}, max_seconds is {self.max_seconds:g}; they "
                "must be above 0, and in this order"
            )
        lowest = {"audio_tolerance": 0.0, "references": 1, "sheets": 0, "seed": 0, "threads": 1}
        for name, low in lowest.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {low:g} or more")

    def sizes(self) -> tuple[tuple[int, int], ...]:
        """The buckets given, (height, width)."""
        sides = (bucket.split("x") for bucket in self.buckets)
        return tuple((int(height), int(width)) for width, height in sides)


@dataclass(kw_only=True)
class CheckManifestConfig:
    """Whether a manifest can be used.

    Attributes:
        manifest: the file, or the folder it is in.
    """

    manifest: str
