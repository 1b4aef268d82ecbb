"""A whole pipeline of real parts, small enough for a test: 32x48 pixels, 4x6 latents."""

from flowact.geometry import Geometry
from flowact.settings import (
    AutoencoderConfig,
    ModelConfig,
    StreamSettings,
    TextEncoderConfig,
    TransformerConfig,
)

HEIGHT, WIDTH = 32, 48


def tiny_config() -> ModelConfig:
    """Mel features, a byte T5, Wan's autoencoder, and two layers of backbone."""
    return ModelConfig(
        name="tiny",
        height=HEIGHT,
        width=WIDTH,
        geometry=Geometry(spatial_stride=8),
        stream=StreamSettings(shift=2.0),
        transformer=TransformerConfig(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=24,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=16,
            text_embed_2_dim=None,
            image_embed_dim=None,
            rope_axes_dim=(8, 8, 8),
            layer_pattern=("full", "temporal"),
            audio_feature_dim=320,
            audio_tokens=3,
            audio_dim=8,
        ),
        autoencoder=AutoencoderConfig(
            config={
                "base_dim": 4,
                "z_dim": 4,
                "dim_mult": [1, 2, 2, 2],
                "num_res_blocks": 1,
                "temperal_downsample": [False, True, True],
            }
        ),
        text_encoder=TextEncoderConfig(width=16, layers=1, heads=2, max_bytes=64),
    )
