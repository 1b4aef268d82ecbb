"""HunyuanVideo-1.5's video autoencoder, decoded chunk by chunk with an explicit cache."""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLHunyuanVideo15
from einops import rearrange
from torch import Tensor

from flowact.models.vae import Cache, Carry, VideoAutoencoder, conv3d, norm_silu


class HunyuanVideo15Autoencoder(VideoAutoencoder):
    """diffusers' ``AutoencoderKLHunyuanVideo15``, which itself only decodes whole clips.

    Each causal convolution carries its last two input frames, and the attention of the middle
    block, where a latent sees itself and all before it, the keys and values it will need again.

    Args:
        module: holds the weights.
        window: latents that a latent sees in the middle attention, itself included. Decoding equals
            diffusers' up to so many latents, and is close to it beyond. None for all: equal
            throughout, but the cache and the cost of a latent grow without bound.

    Raises:
        ValueError: if ``window`` is below 1.
    """

    def __init__(self, module: AutoencoderKLHunyuanVideo15, *, window: int | None) -> None:
        if window is not None and window < 1:
            raise ValueError(f"vae.window is {window}; give at least 1, or null for no limit")
        config = module.config
        super().__init__(
            module,
            latent_channels=config.latent_channels,
            spatial_stride=config.spatial_compression_ratio,
            temporal_stride=config.temporal_compression_ratio,
            mean=[0.0] * config.latent_channels,
            std=[1 / config.scaling_factor] * config.latent_channels,
        )
        self._window = sys.maxsize if window is None else window

    def _encode(self, frames: Tensor) -> Tensor:
        mode: Tensor = self.module.encode(frames).latent_dist.mode()
        return mode

    def decode_raw(self, latents: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        carry, decoder = Carry(cache, self.rows), self.module.decoder
        x = self.rows.cut(latents).contiguous(memory_format=torch.channels_last_3d)
        shortcut = x.repeat_interleave(decoder.repeat, dim=1)
        x = _causal_conv(decoder.conv_in, x, carry).add_(shortcut)
        middle = decoder.mid_block
        x = _resnet(middle.resnets[0], x, carry)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            x = _resnet(resnet, self._attend(attention, x, carry), carry)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = _resnet(resnet, x, carry)
            for upsampler in block.upsamplers or ():
                x = _upsample(upsampler, x, carry)
        x = _causal_conv(decoder.conv_out, norm_silu(decoder.norm_out, x), carry)
        return self.rows.whole(x), carry.cache()

    def _attend(self, layer: Any, x: Tensor, carry: Carry) -> Tensor:
        """Attention of each latent's cells to those of the ``window`` latents up to it."""
        count, height = x.shape[2], x.shape[3]
        normed = layer.norm(x)
        query, key, value = (
            rearrange(conv3d(project, normed), "b c f h w -> b f (h w) c")
            for project in (layer.to_q, layer.to_k, layer.to_v)
        )
        pairs = self.rows.whole(torch.stack([key, value]))  # [2, B, F, h w, C]
        if not carry.first:
            pairs = torch.cat([carry.past(), pairs], dim=2)
        total = pairs.shape[2]
        carry.keep(pairs[:, :, max(0, total - self._window + 1) :].clone())
        rows = []
        for index in range(count):
            end = total - count + index + 1
            keys, values = pairs[:, :, max(0, end - self._window) : end].flatten(2, 3).unsqueeze(2)
            rows.append(F.scaled_dot_product_attention(query[:, index, None], keys, values))
        attended = rearrange(torch.cat(rows, dim=1), "b f (h w) c -> b c f h w", h=height)
        return conv3d(layer.proj_out, attended).add_(x)


def _causal_conv(conv: Any, x: Tensor, carry: Carry) -> Tensor:
    x = carry.prepend(x, mode="replicate")
    return conv3d(conv.conv, carry.rows.padded(x, "replicate"))


def _resnet(block: Any, x: Tensor, carry: Carry) -> Tensor:
    shortcut = x if block.conv_shortcut is None else conv3d(block.conv_shortcut, x)
    x = _causal_conv(block.conv1, norm_silu(block.norm1, x), carry)
    x = _causal_conv(block.conv2, norm_silu(block.norm2, x), carry)
    return x.add_(shortcut)


def _upsample(layer: Any, x: Tensor, carry: Carry) -> Tensor:
    """Channels to pixels, with a shortcut; a stream's first latent stays a single frame in time."""
    h = _causal_conv(layer.conv, x, carry)
    if not layer.add_temporal_upsample:
        return _unfold(h, 1) + _unfold(x.repeat_interleave(layer.repeats, dim=1), 1)
    later = 1 if carry.first else 0
    out = _unfold(h[:, :, later:], 2) + _unfold(x[:, :, later:], 2).repeat_interleave(
        layer.repeats, dim=1
    )
    if not carry.first:
        return out
    first = _unfold(h[:, :, :1], 1)[:, : out.shape[1]] + _unfold(x[:, :, :1], 1).repeat_interleave(
        layer.repeats // 2, dim=1
    )
    return torch.cat([first, out], dim=2)


def _unfold(x: Tensor, frames: int) -> Tensor:
    x = rearrange(x, "b (r p q c) f h w -> b (f r) (h p) (w q) c", r=frames, p=2, q=2)
    return x.movedim(-1, 1)
