"""Wan's video autoencoder, decoded chunk by chunk with an explicit cache."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanCausalConv3d,
    WanResidualUpBlock,
)
from einops import rearrange
from torch import Tensor, nn

from flowact.models.vae import Cache, Carry, VideoAutoencoder, conv3d, norm_silu

_ENCODE_FRAMES = 16  # per encoder call, after the first frame; bounds memory, exact at any value


class WanAutoencoder(VideoAutoencoder):
    """diffusers' ``AutoencoderKLWan``: Wan 2.1, and Wan 2.2 (residual blocks, patches).

    Convolutions are the only state in time: each carries its last two input frames.
    """

    def __init__(self, module: AutoencoderKLWan) -> None:
        config = module.config
        self._patch = config.patch_size or 1
        super().__init__(
            module,
            latent_channels=config.z_dim,
            spatial_stride=self._patch * 2 ** (len(config.dim_mult) - 1),
            temporal_stride=2 ** sum(config.temperal_downsample),
            mean=config.latents_mean,
            std=config.latents_std,
        )

    def _encode(self, frames: Tensor) -> Tensor:
        p = self._patch
        x = rearrange(frames, "b c t (h p) (w q) -> b (c q p) t h w", p=p, q=p)
        encoder = self.module.encoder
        features: list[Any] = [None] * sum(
            isinstance(layer, WanCausalConv3d) for layer in encoder.modules()
        )
        encoded = [
            encoder(piece, feat_cache=features, feat_idx=[0])
            for piece in (x[:, :, :1], *x[:, :, 1:].split(_ENCODE_FRAMES, dim=2))
            if piece.shape[2]
        ]
        mode: Tensor = self.module.quant_conv(torch.cat(encoded, dim=2)).chunk(2, dim=1)[0]
        return mode

    def decode_raw(self, latents: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        if cache is None and latents.shape[2] > 1:
            # The first latent alone is not upsampled in time.
            first, cache = self.decode_raw(latents[:, :, :1], None)
            rest, cache = self.decode_raw(latents[:, :, 1:], cache)
            return torch.cat([first, rest], dim=2), cache
        carry, decoder = Carry(cache, self.rows), self.module.decoder
        x = self.rows.cut(latents).contiguous(memory_format=torch.channels_last_3d)
        x = _causal_conv(decoder.conv_in, conv3d(self.module.post_quant_conv, x), carry)
        middle = decoder.mid_block
        x = _resnet(middle.resnets[0], x, carry)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            attended = attention(self.rows.whole(x))
            x = _resnet(resnet, self.rows.cut(attended), carry)
        for block in decoder.up_blocks:
            x = _up_block(block, x, carry)
        x = _causal_conv(decoder.conv_out, norm_silu(decoder.norm_out, x), carry)
        p = self._patch
        x = rearrange(x, "b (c q p) t h w -> b c t (h p) (w q)", p=p, q=p)
        return self.rows.whole(x), carry.cache()


def _causal_conv(conv: nn.Conv3d, x: Tensor, carry: Carry) -> Tensor:
    return carry.rows.conv3d(conv, carry.prepend(x))


def _resnet(block: Any, x: Tensor, carry: Carry) -> Tensor:
    shortcut = x
    if not isinstance(block.conv_shortcut, nn.Identity):
        shortcut = conv3d(block.conv_shortcut, x)
    x = _causal_conv(block.conv1, norm_silu(block.norm1, x), carry)
    x = _causal_conv(block.conv2, norm_silu(block.norm2, x), carry)
    return x.add_(shortcut)


def _up_block(block: Any, x: Tensor, carry: Carry) -> Tensor:
    if isinstance(block, WanResidualUpBlock):
        upsampler, duplicator = block.upsampler, block.avg_shortcut
    else:
        upsampler, duplicator = block.upsamplers[0] if block.upsamplers else None, None
    before = x
    for resnet in block.resnets:
        x = _resnet(resnet, x, carry)
    if upsampler is not None:
        x = _upsample(upsampler, x, carry)
    return x if duplicator is None else _add_duplicate(duplicator, x, before, carry.first)


def _upsample(layer: Any, x: Tensor, carry: Carry) -> Tensor:
    """Twice the height and width, and twice the frames where the layer has a ``time_conv``."""
    if layer.mode == "upsample3d":
        if carry.first:
            # The convolution in time skips the first latent, and does not see it later either.
            carry.keep(torch.zeros_like(x).expand(-1, -1, 2, -1, -1))
        else:
            x = conv3d(layer.time_conv, carry.prepend(x))
            x = rearrange(x, "b (r c) t h w -> b (t r) h w c", r=2).movedim(-1, 1)
    count = x.shape[2]
    x = rearrange(x, "b c t h w -> (b t) c h w")
    larger = F.interpolate(x, scale_factor=2.0, mode="nearest-exact")
    x = carry.rows.conv2d(layer.resample[1], larger)
    return rearrange(x, "(b t) c h w -> b c t h w", t=count)


def _add_duplicate(layer: Any, x: Tensor, before: Tensor, first: bool) -> Tensor:
    """Add Wan 2.2's shortcut: channels dealt out to the new frames, rows and columns."""
    r, p = layer.factor_t, layer.factor_s
    if layer.repeats < r * p * p:
        dealt = before.repeat_interleave(layer.repeats, dim=1)
        dealt = rearrange(dealt, "b (c r p q) t h w -> b (t r) (h p) (w q) c", r=r, p=p, q=p)
        return x.add_(dealt[:, r - 1 if first else 0 :].movedim(-1, 1))
    # As many channels come out as went in: all that a cell becomes takes its own, which need not be
    # written out for it.
    _, _, t, h, w = before.shape
    cells = x.unflatten(4, (w, -1)).unflatten(3, (h, -1)).unflatten(2, (t, -1))
    cells.add_(before[:, :, :, None, :, None, :, None])
    return x
