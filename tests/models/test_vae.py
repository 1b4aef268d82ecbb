"""Streaming decoders against diffusers' own: same frames however the latents are cut."""

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLHunyuanVideo15, AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import HunyuanVideo15AttnBlock
from torch import Tensor

from flowact.models.vae import (
    Cache,
    VideoAutoencoder,
    channels_last_weights,
    wrap_autoencoder,
)
from flowact.rng import keyed_normal

MEAN, STD = [0.25, -0.5, 0.0, 1.0], [1.5, 0.5, 2.0, 1.0]  # exact in float32
SPLITS = [[10], [1, 3, 3, 3], [4, 3, 3], [1] * 10]


def wan21() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        latents_mean=MEAN,
        latents_std=STD,
    )


def wan22() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=12,
        z_dim=4,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        latents_mean=MEAN,
        latents_std=STD,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )


def hunyuan15() -> AutoencoderKLHunyuanVideo15:
    return AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 16, 32, 32, 32), layers_per_block=1
    )


BUILDERS = {"wan21": wan21, "wan22": wan22, "hunyuan15": hunyuan15}


def build(name: str) -> VideoAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap_autoencoder(BUILDERS[name]().eval())


@pytest.fixture(params=BUILDERS)
def vae(request: pytest.FixtureRequest) -> VideoAutoencoder:
    return build(request.param)


def latents_of(vae: VideoAutoencoder, count: int, seed: int = 0) -> Tensor:
    return keyed_normal((1, vae.latent_channels, count, 3, 4), seed, "latents")


def raw(vae: VideoAutoencoder, latents: Tensor) -> Tensor:
    """What diffusers' decode takes: the latents without our normalisation."""
    if isinstance(vae.module, AutoencoderKLHunyuanVideo15):
        return latents / vae.module.config.scaling_factor
    mean, std = (torch.tensor(v, dtype=latents.dtype).view(1, 4, 1, 1, 1) for v in (MEAN, STD))
    return latents * std + mean


@torch.no_grad()
def reference(vae: VideoAutoencoder, latents: Tensor) -> Tensor:
    return vae.module.decode(raw(vae, latents)).sample.clamp(-1, 1)


def stream(vae: VideoAutoencoder, latents: Tensor, split: list[int]) -> Tensor:
    cache, frames = None, []
    for chunk in latents.split(split, dim=2):
        out, cache = vae.decode(chunk, cache)
        frames.append(out)
    return torch.cat(frames, dim=2)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_chunk_by_chunk_equals_diffusers_at_once(vae: VideoAutoencoder, split: list[int]) -> None:
    latents = latents_of(vae, 10)
    error = (stream(vae, latents, split) - reference(vae, latents)).abs().max().item()
    # Float32 sums in another order: measured 4e-7 for Wan and 2e-6 for HunyuanVideo-1.5, whose
    # middle attention is also cut differently.
    assert error <= (5e-6 if isinstance(vae.module, AutoencoderKLHunyuanVideo15) else 1e-6), error
