"""Every preset composes, fits together and has the size that it says, without a weight made."""

import dataclasses
import inspect

import pytest
import torch
import whisper.model
from diffusers import HunyuanVideo15Transformer3DModel
from torch import nn

from flowact.config import CONFIGS, load_config
from flowact.models.audio_encoder import MelEncoder, WhisperEncoder
from flowact.models.components import build_autoencoder, build_text_encoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.models.vae import wrap_autoencoder
from flowact.runs import SampleConfig
from flowact.settings import AudioEncoderKind, ModelConfig, TextEncoderKind, TransformerConfig

# Parameters of the backbone without its audio adapter, of the adapter, and of the autoencoder.
SIZES = {
    "demo": (9_349_936, 3_051_680, 1_528_804),
    "small": (141_403_296, 10_573_056, 24_113_484),
    "hunyuan15": (8_326_608_160, 370_652_416, 1_260_634_115),
    "hunyuan15_decoupled": (6_287_340_064, 370_652_416, 1_260_634_115),
}
DEMO_BYTES = 32_000_000
WHISPERS = {"large-v3": whisper.model.ModelDimensions(128, 1500, 1280, 20, 32, 0, 0, 0, 0, 0)}


def preset(name: str) -> ModelConfig:
    words = [f"model={name}", "image=a.png", "audio=b.wav", "output=c.mp4"]
    return load_config("sample", words, SampleConfig).model


def backbone(config: ModelConfig) -> FlowActTransformer3DModel:
    with torch.device("meta"):
        return FlowActTransformer3DModel(**dataclasses.asdict(config.transformer))


def autoencoder(config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return build_autoencoder(config.autoencoder)


def audio_features(config: ModelConfig) -> int:
    if config.audio_encoder.kind is AudioEncoderKind.mel:
        return MelEncoder().feature_dim
    dims = WHISPERS[config.audio_encoder.model]
    with torch.device("meta"):
        encoder = whisper.model.AudioEncoder(
            dims.n_mels,
            dims.n_audio_ctx,
            dims.n_audio_state,
            dims.n_audio_head,
            dims.n_audio_layer,
        )
    return WhisperEncoder(encoder).feature_dim


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_preset_is_listed():
    assert {path.stem for path in (CONFIGS / "model").glob("*.yaml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name):
    config = preset(name)
    assert config.name == name
    model = backbone(config)
    adapter = [model.audio_projector, *(block.audio for block in model.transformer_blocks)]
    heard = sum(size(part) for part in adapter if part is not None)
    assert (size(model) - heard, heard, size(autoencoder(config))) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_parts_fit_each_other(name):
    config = preset(name)
    model, vae = config.transformer, wrap_autoencoder(autoencoder(config), window=8)
    assert vae.latent_channels == model.out_channels
    assert model.in_channels == 2 * model.out_channels + 1
    assert vae.spatial_stride == config.geometry.spatial_stride
    assert vae.temporal_stride == config.geometry.temporal_stride
    assert config.geometry.latent_window == model.audio_window
    assert audio_features(config) == model.audio_feature_dim
    if config.text_encoder.kind is TextEncoderKind.byte_t5:
        assert config.text_encoder.width == model.text_embed_dim
    cell = config.geometry.spatial_stride * model.patch_size
    assert config.height % cell == config.width % cell == 0


def test_the_base_of_hunyuan15_is_diffusers_model():
    with torch.device("meta"):
        base = HunyuanVideo15Transformer3DModel().state_dict()
    ours = backbone(preset("hunyuan15")).state_dict()
    new = {name for name in ours if name.startswith("audio_projector") or ".audio." in name}
    shapes = {name: weight.shape for name, weight in ours.items() if name not in new}
    assert shapes == {name: weight.shape for name, weight in base.items()}


def test_decoupled_differs_in_its_layers_alone():
    whole, decoupled = preset("hunyuan15"), preset("hunyuan15_decoupled")
    assert decoupled.transformer.layer_pattern == ("spatial", "temporal")
    layers = {"layer_pattern": ("full",), "temporal_windows": (1, 1)}
    same = dataclasses.replace(
        decoupled,
        name=whole.name,
        transformer=dataclasses.replace(decoupled.transformer, **layers),
    )
    assert same == whole


def test_windows_share_out_the_latent_evenly():
    for name in ("small", "hunyuan15_decoupled"):
        config = preset(name)
        rows, columns = config.transformer.temporal_windows
        assert config.height // config.geometry.spatial_stride % rows == 0
        assert config.width // config.geometry.spatial_stride % columns == 0


def test_the_demo_is_small_enough_to_ship():
    config = preset("demo")
    with torch.device("meta"):
        text_encoder = build_text_encoder(config.text_encoder)
    total = size(backbone(config)) + size(autoencoder(config)) + size(text_encoder)
    assert 2 * total < DEMO_BYTES, f"{2 * total / 1e6:.1f} MB in bfloat16"


def test_settings_of_the_transformer_are_its_arguments():
    arguments = inspect.signature(FlowActTransformer3DModel.__init__).parameters
    expected = {name: arg.default for name, arg in arguments.items() if name != "self"}
    assert dataclasses.asdict(TransformerConfig()) == expected
