"""Wan's autoencoder there and back: what the autoencoder stage trains."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanCausalConv3d,
    WanResample,
    patchify,
    unpatchify,
)
from torch import Tensor, nn

from flowact.models.vae import wrap_autoencoder
from flowact.models.vae_thin import ThinDecoder


class WanRoundTrip(nn.Module):
    """Frames to latents, noise on them, and back to frames; differentiable.

    diffusers' ``decode`` clamps, which stops the gradient, and the module goes latent by latent
    where two calls do: the first frame, then all others.
    """

    def __init__(self, module: AutoencoderKLWan) -> None:
        super().__init__()
        self.module = module

    def forward(self, frames: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reconstructions [B, 3, T, H, W], not clamped, and latents [B, C, F, h, w].

        The latents are the posterior's mode, neither normalised nor noisy.

        Args:
            frames: [B, 3, 4n + 1, H, W] in [-1, 1].
            noise: [B, C, F, h, w], added to the latents before they are decoded.
        """
        latents = self.encode(frames)
        made = self._decode(latents if noise is None else latents + noise)
        if frames.shape[2] == 1:
            made = made + 0.0 * self._sum_over_time_convolutions()
        return made, latents

    def encode(self, frames: Tensor) -> Tensor:
        """Latents [B, C, F, h, w] of ``frames``, as in ``forward``."""
        module, patch = self.module, self.module.config.patch_size
        x = frames if patch is None else patchify(frames, patch)
        cache = _empty_cache(module.encoder)
        parts = [
            module.encoder(_channels_last(part), feat_cache=cache, feat_idx=[0])
            for part in _first_and_rest(x)
        ]
        mode: Tensor = module.quant_conv(torch.cat(parts, dim=2)).chunk(2, dim=1)[0]
        return mode

    def _decode(self, latents: Tensor) -> Tensor:
        module, patch = self.module, self.module.config.patch_size
        x = module.post_quant_conv(_channels_last(latents))
        cache = _empty_cache(module.decoder)
        parts = [
            module.decoder(part, feat_cache=cache, feat_idx=[0], first_chunk=number == 0)
            for number, part in enumerate(_first_and_rest(x))
        ]
        frames: Tensor = torch.cat(parts, dim=2)
        return frames if patch is None else unpatchify(frames, patch)

    def _sum_over_time_convolutions(self) -> Tensor:
        """Of weights that single frames leave unused: processes must agree on who has gradients."""
        layers = [layer for layer in self.modules() if isinstance(layer, WanResample)]
        weights = [
            parameter.sum()
            for layer in layers
            if hasattr(layer, "time_conv")
            for parameter in layer.time_conv.parameters()
        ]
        return torch.stack(weights).sum()


class ThinRoundTrip(WanRoundTrip):
    """The same by a thin decoder: the autoencoder is frozen, and its own decoder left out.

    Noise is on latents that are not normalised, as with its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: AutoencoderKLWan, thin: ThinDecoder) -> None:
        super().__init__(module.requires_grad_(False))
        self.thin = thin
        for name, values in zip(("mean", "std"), wrap_autoencoder(module).moments, strict=True):
            self.register_buffer(name, values, persistent=False)

    def forward(self, frames: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            latents = self.encode(frames)
        noisy = latents if noise is None else latents + noise
        made, _ = self.thin((noisy - self.mean) / self.std)
        return made, latents


def channels_last(module: nn.Module) -> None:
    """Lay out convolutions over time as their kernels want them: a quarter faster on a CPU.

    ``module.to`` does not do where other weights have four axes.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)


@torch.no_grad()
def measure_latents(module: AutoencoderKLWan, clips: Iterable[Tensor]) -> None:
    """Write mean and deviation of each latent channel into the module's config.

    ``wrap_autoencoder`` and all who load the module then normalise by them.

    Args:
        module: trained.
        clips: [B, 3, 4n + 1, H, W] each, in [-1, 1].
    """
    round_trip = WanRoundTrip(module)
    rows = torch.cat([round_trip.encode(clip).transpose(0, 1).flatten(1) for clip in clips], dim=1)
    std, mean = torch.std_mean(rows.double(), dim=1, correction=0)
    module.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())


def _empty_cache(module: nn.Module) -> list[Any]:
    return [None] * sum(isinstance(layer, WanCausalConv3d) for layer in module.modules())


def _first_and_rest(x: Tensor) -> list[Tensor]:
    return [part for part in (x[:, :, :1], x[:, :, 1:]) if part.shape[2]]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)
