"""What a pipeline is built from, as plain dataclasses."""

import dataclasses
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from flowact.diffusion.guidance import UncondGuidance
from flowact.geometry import Geometry


class Precision(Enum):
    """Of a model's arithmetic; auto is bf16 where the machine computes in it."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Update(Enum):
    """How a velocity moves a chunk to its next level; a checkpoint names its own (design 3)."""

    euler = "euler"
    renoise = "renoise"


class Remembered(StrEnum):
    """The parts of memory (paper 2.1)."""

    REFERENCE = "reference"
    LONG_TERM = "long_term"
    SHORT_TERM = "short_term"


class LayerKind(StrEnum):
    """What the tokens of a layer see (design 5)."""

    FULL = "full"
    SPATIAL = "spatial"
    TEMPORAL = "temporal"


class Parallel(Enum):
    """How processes share a call of the backbone: its latents, or its tokens and heads."""

    frames = "frames"
    tokens = "tokens"


class AttentionBackend(Enum):
    """Kernels of attention, by the names that diffusers' dispatcher has for them.

    Those of PyTorch: ``native`` chooses by itself, the others of the name are one kernel each, and
    ``flex`` is compiled. The rest are packages, or are downloaded where the name ends in ``hub``.
    """

    native = "native"
    native_math = "_native_math"
    native_flash = "_native_flash"
    native_efficient = "_native_efficient"
    native_cudnn = "_native_cudnn"
    flex = "flex"
    flash = "flash"
    flash_hub = "flash_hub"
    flash_3 = "_flash_3"
    flash_3_hub = "_flash_3_hub"
    flash_4_hub = "flash_4_hub"
    sage = "sage"
    sage_hub = "sage_hub"
    xformers = "xformers"


class Quantize(Enum):
    """What linear layers compute in: 8 bits throughout, or with weights alone in 8 bits."""

    none = "none"
    auto = "auto"
    int8 = "int8"
    fp8 = "fp8"
    int8_weights = "int8_weights"
    fp8_weights = "fp8_weights"


# Attention and feed-forward of both streams, and the audio adapter. Not modulations, embedders and
# the last layer: they are small, or their errors reach every token.
QUANTIZED_LAYERS = (
    "transformer_blocks.*.attn.*",
    "transformer_blocks.*.ff*",
    "transformer_blocks.*.audio.*",
)


class AutoencoderKind(Enum):
    wan = "wan"
    hunyuan15 = "hunyuan15"


class TextEncoderKind(Enum):
    byte_t5 = "byte_t5"
    hunyuan15 = "hunyuan15"


class AudioEncoderKind(Enum):
    mel = "mel"
    whisper = "whisper"


def _check_sizes(settings: Any, key: str) -> None:
    """Raise ValueError unless every number of ``settings``, in sequences too, is above 0."""
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        for number in value if isinstance(value, list | tuple) else (value,):
            if type(number) in (int, float) and not number > 0:
                raise ValueError(f"{key}.{f.name} is {value}; it must be above 0")


@dataclass(frozen=True)
class StreamSettings:
    """How a checkpoint is streamed.

    Attributes:
        micro_steps: model calls per tick; 1 after distillation (paper 2.4).
        shift: of the level grid.
        update: Euler step, or back to the next level with the chunk's own noise.
        audio_lag: ticks a chunk waits, under null audio, for its own (0, 1 or 2).
        long_term_stride: chunks between insertions into the long-term queue.
        memory: parts of it that the model sees: reference, long_term, short_term (an ablation).
        refine_every: chunks between repairs of the short-term latent (paper 2.5); 0 is never.
        refine_level: noise level a repair starts from.
        guidance: w of uncond + w (cond - uncond), in two passes; 1 needs only one.
        audio_guidance: that of audio, in a third pass, and ``guidance`` is that of text; None is
            one for both.
        text_scale, audio_scale: guidance told to a model distilled for it; None if it is not.

    Raises:
        ValueError: a setting is out of its range.
    """

    micro_steps: int = 1
    shift: float = 5.0
    update: Update = Update.euler
    audio_lag: int = 0
    long_term_stride: int = 1
    memory: tuple[str, ...] = tuple(Remembered)
    refine_every: int = 0
    refine_level: float = 0.3
    guidance: float = 1.0
    audio_guidance: float | None = None
    text_scale: float | None = None
    audio_scale: float | None = None

    def __post_init__(self) -> None:
        endless = float("inf")
        bounds = {
            "micro_steps": (1, endless),
            "audio_lag": (0, 2),
            "long_term_stride": (1, endless),
            "refine_every": (0, endless),
            "refine_level": (0.1, 0.5),
            "guidance": (0, endless),
            "audio_guidance": (0, endless),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                wanted = f"{low} or more" if high == endless else f"from {low} to {high}"
                raise ValueError(f"stream.{name} is {value}; it must be {wanted}")
        if not set(self.memory) <= set(Remembered):
            parts = ", ".join(Remembered)
            raise ValueError(f"stream.memory is {', '.join(self.memory)}; choose among {parts}")
        if not self.shift > 0:
            raise ValueError(f"stream.shift is {self.shift}; it must be above 0")
        if (self.text_scale is None) != (self.audio_scale is None):
            raise ValueError("stream.text_scale and stream.audio_scale go together: set both")
        if self.text_scale is not None and self.passes > 1:
            raise ValueError(
                "stream.guidance and stream.audio_guidance would guide a second time what takes "
                "stream.text_scale and stream.audio_scale; change those"
            )

    @property
    def guidance_scales(self) -> UncondGuidance:
        """Of text and audio, in as many passes as ``passes``."""
        audio = self.guidance if self.audio_guidance is None else self.audio_guidance
        return UncondGuidance(self.guidance, audio)

    @property
    def passes(self) -> int:
        """Model calls per micro-step."""
        if self.audio_guidance not in (None, self.guidance):
            return 3
        return 1 if self.guidance == 1 else 2


@dataclass
class TransformerConfig:
    """Arguments of ``FlowActTransformer3DModel``, which explains them.

    Raises:
        ValueError: a setting is unknown or does not fit another.
    """

    in_channels: int = 65
    out_channels: int = 32
    num_attention_heads: int = 16
    attention_head_dim: int = 128
    num_layers: int = 54
    num_refiner_layers: int = 2
    mlp_ratio: float = 4.0
    activation: str = "gelu-approximate"
    patch_size: int = 1
    text_embed_dim: int = 3584
    text_embed_2_dim: int | None = 1472
    image_embed_dim: int | None = 1152
    rope_theta: float = 256.0
    rope_axes_dim: tuple[int, int, int] = (16, 56, 56)
    layer_pattern: tuple[str, ...] = ("full",)
    temporal_windows: tuple[int, int] = (1, 1)
    attention: str = "fake_causal"
    context_attention: str = "self"
    text_level: str = "zero"
    audio_feature_dim: int | None = None
    audio_window: int = 8
    audio_tokens: int = 16
    audio_dim: int = 768
    audio_every: int = 1
    guidance_embeds: bool = False
    predicts: str = "velocity"
    reference_below: bool = False

    def __post_init__(self) -> None:
        _check_sizes(self, "model.transformer")
        one_of = {
            "attention": ("fake_causal", "full"),
            "context_attention": ("self", "joint"),
            "text_level": ("zero", "same"),
            "predicts": ("velocity", "clean"),
            "activation": ("gelu", "gelu-approximate", "linear-silu"),
        }
        for key, choices in one_of.items():
            self._require(key, getattr(self, key) in choices, f"be one of {', '.join(choices)}")
        kinds, pattern = list(LayerKind), self.layer_pattern
        known = len(pattern) > 0 and all(kind in kinds for kind in pattern)
        self._require("layer_pattern", known, f"list kinds among {', '.join(kinds)}")
        windows = self.temporal_windows
        two = len(windows) == 2 and min(windows) >= 1
        self._require("temporal_windows", two, "be two numbers, 1 or more")
        packed = 2 * self.out_channels + 1
        rule = f"be 2 x out_channels + 1, {packed}"
        self._require("in_channels", self.in_channels == packed, rule)
        axes, head_dim = self.rope_axes_dim, self.attention_head_dim
        fits = len(axes) == 3 and sum(axes) == head_dim and not any(axis % 2 for axis in axes)
        rule = f"be three even numbers that sum to attention_head_dim, {head_dim}"
        self._require("rope_axes_dim", fits, rule)

    def _require(self, key: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"model.transformer.{key} is {getattr(self, key)!r}; it must {rule}")


@dataclass
class AutoencoderConfig:
    """A diffusers autoencoder.

    Attributes:
        kind: ``AutoencoderKLWan`` or ``AutoencoderKLHunyuanVideo15``.
        window: latents that the middle attention of the latter sees; None for all.
        config: arguments of the class.
    """

    kind: AutoencoderKind = AutoencoderKind.wan
    window: int | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_sizes(self, "model.autoencoder")


@dataclass
class TextEncoderConfig:
    """``byte_t5`` by its sizes; ``hunyuan15`` comes with its weights."""

    kind: TextEncoderKind = TextEncoderKind.byte_t5
    width: int = 128
    layers: int = 2
    heads: int = 4
    max_bytes: int = 256

    def __post_init__(self) -> None:
        _check_sizes(self, "model.text_encoder")


@dataclass
class AudioEncoderConfig:
    """``mel`` needs no weights; ``whisper`` has a network on top of it.

    Attributes:
        model: of Whisper, a name (tiny ... large-v3) or a .pt file; None is an untrained encoder of
            the sizes that follow, which stage ``speech`` trains.
        width, layers, heads: its sizes.
    """

    kind: AudioEncoderKind = AudioEncoderKind.mel
    model: str | None = "tiny"
    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        _check_sizes(self, "model.audio_encoder")
        if self.width % self.heads:
            raise ValueError(
                f"model.audio_encoder.width is {self.width}; it must be a multiple of heads, "
                f"{self.heads}"
            )


@dataclass
class ModelConfig:
    """Everything a pipeline is built from.

    Attributes:
        name: of the preset.
        height, width: of the video, in pixels.
    """

    name: str
    height: int
    width: int
    geometry: Geometry = field(default_factory=Geometry)
    stream: StreamSettings = field(default_factory=StreamSettings)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    audio_encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Rows and columns of a latent."""
        stride = self.geometry.spatial_stride
        return self.height // stride, self.width // stride

    def __post_init__(self) -> None:
        _check_sizes(self, "model")
