"""The parts of a pipeline: built untrained from settings, or loaded from a saved folder."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError
from torch import nn

from flowact.models.audio_encoder import (
    RING_SECONDS,
    AudioEncoder,
    MelEncoder,
    WhisperEncoder,
    build_whisper,
    load_whisper,
)
from flowact.models.files import one_line
from flowact.models.text_encoder import ByteT5TextEncoder, HunyuanTextEncoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import VideoAutoencoder
from flowact.settings import (
    AudioEncoderConfig,
    AudioEncoderKind,
    AutoencoderConfig,
    AutoencoderKind,
    ModelConfig,
    TextEncoderConfig,
    TextEncoderKind,
)

TextEncoder = ByteT5TextEncoder | HunyuanTextEncoder

AUTOENCODERS: dict[AutoencoderKind, Any] = {
    AutoencoderKind.wan: diffusers.AutoencoderKLWan,
    AutoencoderKind.hunyuan15: diffusers.AutoencoderKLHunyuanVideo15,
}


def build_autoencoder(config: AutoencoderConfig) -> nn.Module:
    """An untrained autoencoder; one whose latents have no statistics yet gets those of noise.

    Raises:
        ValueError: the class cannot be made with these arguments.
    """
    arguments, kind = dict(config.config), AUTOENCODERS[config.kind]
    try:
        if config.kind is AutoencoderKind.wan and "latents_mean" not in arguments:
            arguments |= {
                "latents_mean": [0.0] * arguments["z_dim"],
                "latents_std": [1.0] * arguments["z_dim"],
            }
        return kind(**arguments)
    except Exception as error:  # diffusers checks no argument, so that anything may go wrong
        raise ValueError(
            f"model.autoencoder.config does not fit {kind.__name__}: {one_line(error)}"
        ) from error


def build_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """An untrained text encoder.

    Raises:
        ValueError: the kind exists with its weights only, or the sizes do not fit each other.
    """
    if config.kind is TextEncoderKind.hunyuan15:
        raise ValueError(
            "this preset streams with its published weights only; give weights=DIR, a folder made "
            "by scripts/import_hunyuan15.py"
        )
    if config.width % config.heads:
        raise ValueError(
            f"model.text_encoder.width is {config.width}; it must be a multiple of "
            f"model.text_encoder.heads, {config.heads}"
        )
    return ByteT5TextEncoder.from_sizes(config.width, config.layers, config.heads, config.max_bytes)


def load_text_encoder(config: TextEncoderConfig, folder: Path) -> TextEncoder:
    if config.kind is TextEncoderKind.hunyuan15:
        return HunyuanTextEncoder.from_pretrained(folder)
    return ByteT5TextEncoder.from_pretrained(folder / "text_encoder")


def build_audio_encoder(config: AudioEncoderConfig) -> AudioEncoder:
    """``mel``, a Whisper by name or file, or an untrained one."""
    if config.kind is AudioEncoderKind.mel:
        return MelEncoder()
    if config.model is None:
        return build_whisper(config.width, config.layers, config.heads, RING_SECONDS)
    return load_whisper(config.model)


def save_whisper(encoder: WhisperEncoder, path: Path) -> None:
    """Write the encoder as openai-whisper writes a model, so that ``load_whisper`` reads it."""
    net = encoder.encoder
    frames, width = net.positional_embedding.shape
    dims = {
        "n_mels": net.conv1.in_channels,
        "n_audio_ctx": frames,
        "n_audio_state": width,
        "n_audio_head": net.blocks[0].attn.n_head,
        "n_audio_layer": len(net.blocks),
        "n_vocab": 0,
        "n_text_ctx": 0,
        "n_text_state": 0,
        "n_text_head": 0,
        "n_text_layer": 0,
    }
    weights = {f"encoder.{name}": weight for name, weight in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"dims": dims, "model_state_dict": weights}, path)


def load_transformer(folder: Path, dtype: torch.dtype) -> FlowActTransformer3DModel:
    """The backbone in ``folder``.

    Raises:
        ValueError: it is not there or its weights do not fit; the keys are named.
    """
    return load_diffusers(FlowActTransformer3DModel, folder, dtype)


def load_diffusers(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """``kind.from_pretrained(folder)`` that accepts no missing, extra or misshapen weight."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"weights: there is no {folder / 'config.json'}")
    told = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it would warn of what is refused below
    try:
        model, report = kind.from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ValueError(f"weights: {folder} cannot be loaded: {one_line(error)}") from error
    finally:
        diffusers.utils.logging.set_verbosity(told)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, report[what])):
            named = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise ValueError(f"weights: {folder} does not fit: {what.replace('_', ' ')} {named}")
    model.register_to_config(_name_or_path="")  # or it would be saved with where it was loaded from
    return model


def check_fit(
    config: ModelConfig,
    transformer: FlowActTransformer3DModel,
    autoencoder: VideoAutoencoder,
    text_encoder: TextEncoder,
    audio_encoder: AudioEncoder,
) -> None:
    """Whether the parts fit each other and the size of the video.

    Raises:
        ValueError: they do not; it names what differs.
    """
    geometry, model = config.geometry, transformer.config
    # What of which part is how much, and the key that must be as much.
    rows = [
        ("latent channels", "autoencoder", autoencoder.latent_channels,
         "transformer.out_channels", model.out_channels),
        ("spatial stride", "autoencoder", autoencoder.spatial_stride,
         "geometry.spatial_stride", geometry.spatial_stride),
        ("temporal stride", "autoencoder", autoencoder.temporal_stride,
         "geometry.temporal_stride", geometry.temporal_stride),
    ]  # fmt: skip
    if isinstance(text_encoder, ByteT5TextEncoder):
        rows += [
            ("width", "text_encoder", text_encoder.model.config.d_model,
             "transformer.text_embed_dim", model.text_embed_dim),
        ]  # fmt: skip
    if model.audio_feature_dim is not None:
        rows += [
            ("feature size", "audio_encoder", audio_encoder.feature_dim,
             "transformer.audio_feature_dim", model.audio_feature_dim),
            ("audio window", "geometry", geometry.latent_window,
             "transformer.audio_window", model.audio_window),
        ]  # fmt: skip
    for what, part, size, key, other in rows:
        if size != other:
            raise ValueError(
                f"the {what} of model.{part} is {size}, model.{key} is {other}; make them equal"
            )
    cell = geometry.spatial_stride * model.patch_size
    if config.height % cell or config.width % cell:
        raise ValueError(
            f"model.height and model.width are {config.height} and {config.width}; they must be "
            f"multiples of {cell}"
        )


def own_memory(module: nn.Module) -> None:
    """Copy weights that are mapped from a file into memory of their own.

    Mapped weights start at any byte, and kernels round by alignment: without this, a loaded
    pipeline would give other last bits than the one that was saved.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
