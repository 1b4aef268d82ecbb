"""The encoders whose outputs training caches, and what each cache is keyed by (design 7)."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowact.data.focus import FOCUS_VERSION
from flowact.data.frames import Frames
from flowact.geometry import Geometry
from flowact.index import read_index
from flowact.models import components
from flowact.models.audio_encoder import MEL_MEAN, MEL_STD, WhisperEncoder
from flowact.models.text_encoder import ByteT5TextEncoder, HunyuanTextEncoder
from flowact.models.vae import VideoAutoencoder, wrap_autoencoder
from flowact.settings import ModelConfig
from flowact.streaming.audio import AudioExtractor

# Of what is stored: that of the models trained on it, and half the size of float32.
STORED = torch.bfloat16


@dataclass(frozen=True)
class Encoders:
    """A pipeline without its backbone.

    Attributes:
        config: what the parts were built from.
    """

    config: ModelConfig
    autoencoder: VideoAutoencoder
    text_encoder: components.TextEncoder
    extractor: AudioExtractor

    def latents(self, frames: Frames) -> Tensor:
        """Normalised latents [C, F, h, w] of a clip."""
        return self._encode(_video(frames)[None])[0]

    def references(self, frames: Frames) -> Tensor:
        """Normalised latents [C, K, h, w] of frames, each a clip of its own."""
        stills = _video(frames).transpose(0, 1)[:, :, None]
        return self._encode(stills)[:, :, 0].transpose(0, 1)

    def _encode(self, video: Tensor) -> Tensor:
        device = next(self.autoencoder.module.parameters()).device
        return self.autoencoder.encode(video.to(device)).to("cpu", STORED)

    def features(self, wave: NDArray[np.float32], chunks: int) -> Tensor:
        """Features [chunk_latents chunks, latent_window, D] of a clip's sound."""
        with torch.inference_mode():
            return self.extractor.features_of(torch.from_numpy(wave), chunks)[0].to("cpu", STORED)

    def text(self, caption: str) -> dict[str, Tensor]:
        """Token ids, int64 [L], for an encoder that is trained; else what it makes of them."""
        if isinstance(self.text_encoder, ByteT5TextEncoder):
            return {"ids": self.text_encoder.tokenize([caption])[0][0].cpu()}
        with torch.inference_mode():
            inputs = self.text_encoder.encode([caption])
        fields = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}
        del fields["image_embeds"]  # of the reference image, not of the caption
        found = {name: value[0].cpu() for name, value in fields.items() if value is not None}
        return {k: v.to(STORED) if v.is_floating_point() else v for k, v in found.items()}

    def made_by(self, kind: str) -> dict[str, Any]:
        """What the cache of latents, features or text depends on."""
        if kind == "latents":
            return latents_made_by(self.autoencoder, self.config.geometry)
        if kind == "features":
            return features_made_by(self.extractor)
        return text_made_by(self.text_encoder)


def load_encoders(
    model: ModelConfig, weights: str | None, seed: int, dtype: torch.dtype, device: str
) -> Encoders:
    """The encoders of a folder of weights; or those of ``FlowActPipeline.untrained``.

    Raises:
        ValueError: the weights cannot be loaded, or the preset exists with its weights only.
    """
    config = model
    if weights is not None:
        folder = Path(weights)
        config, _ = read_index(folder)
        kind = components.AUTOENCODERS[config.autoencoder.kind]
        module: nn.Module = components.load_diffusers(kind, folder / "vae", dtype)
        text_encoder = components.load_text_encoder(config.text_encoder, folder)
        audio_encoder = components.build_audio_encoder(config.audio_encoder)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            text_encoder = components.build_text_encoder(config.text_encoder)
            audio_encoder = components.build_audio_encoder(config.audio_encoder)
            module = components.build_autoencoder(config.autoencoder)
    if isinstance(audio_encoder, WhisperEncoder):
        audio_encoder.to(device)
    # As nn.Module does it: diffusers would warn of a list that is empty.
    nn.Module.to(module, device, dtype)
    return Encoders(
        config,
        wrap_autoencoder(module.eval(), window=config.autoencoder.window),
        text_encoder.eval().to(device),
        AudioExtractor(audio_encoder, config.geometry),
    )


def latents_made_by(autoencoder: VideoAutoencoder, geometry: Geometry) -> dict[str, Any]:
    """What cached latents depend on, apart from the clip."""
    return {
        "autoencoder": type(autoencoder.module).__name__,
        "weights": _digest(autoencoder.module, autoencoder.module.config),
        "fps": geometry.fps,
        "temporal_stride": geometry.temporal_stride,
        "spatial_stride": geometry.spatial_stride,
        "chunk_latents": geometry.chunk_latents,
        "focus": FOCUS_VERSION,
    }


def features_made_by(extractor: AudioExtractor) -> dict[str, Any]:
    """What cached audio features depend on, apart from the sound."""
    encoder = extractor.encoder
    geometry = dataclasses.asdict(extractor.geometry)
    spans = ("fps", "sample_rate", "temporal_stride", "chunk_latents")
    window = ("window_left", "window_right", "lookahead")
    return {
        "encoder": type(encoder).__name__,
        "weights": _digest(encoder, {}) if isinstance(encoder, nn.Module) else [MEL_MEAN, MEL_STD],
        "feature_dim": encoder.feature_dim,
        "ring_samples": extractor.ring_samples,
        **{name: geometry[name] for name in (*spans, *window)},
    }


def text_made_by(encoder: components.TextEncoder) -> dict[str, Any]:
    """What cached text depends on, apart from the caption."""
    if isinstance(encoder, HunyuanTextEncoder):
        return {"encoder": type(encoder).__name__, "weights": _digest(encoder, {})}
    return {"tokens": "bytes", "max_bytes": encoder.model.config.max_bytes}


def _digest(module: nn.Module, config: Mapping[str, Any]) -> str:
    """A hash of weights, as they are in bfloat16, and settings.

    Rounded, so that the precision in which they were loaded or saved makes no difference.
    """
    # Those that begin so are diffusers' notes, in an order that changes from run to run.
    own = {key: value for key, value in config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode())
    for name, weight in sorted(module.state_dict().items()):
        rounded = weight.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(name.encode() + str(tuple(weight.shape)).encode())
        digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _video(frames: Frames) -> Tensor:
    """Frames [T, H, W, 3] as floats [3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
