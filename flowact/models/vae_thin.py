"""A thin video decoder, streamed with an explicit cache; its weights are named as TAEHV's are.

The full autoencoder still encodes. TAEHV (github.com/madebyollin/taehv, MIT; the code here is our
own) is a chain of 2D convolutions and ReLUs; a block sees its input in this frame and in the one
before, and that is all the state in time. It takes latents as the denoiser sees them, normalised,
and frames are in [0, 1] inside.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from flowact.models.vae import Cache, Carry, Rows, VideoAutoencoder

BEFORE_STAGES = 3  # modules of the chain: a soft clamp, a convolution, and its activation
AFTER_BLOCKS = 3  # modules of a stage: doubling in space, growth in time, and a convolution
RANGE = 3.0  # of latents, beyond which they are bent


@dataclass(frozen=True)
class ThinSizes:
    """What a thin decoder is built of.

    Each stage doubles height and width, and ``time`` says how many frames it makes of one.

    Attributes:
        latent_channels: that come in.
        widths: channels of each stage, then those of the last convolution's input.
        time: frames out of one, for each stage.
        patch: pixels along each side of what leaves the last convolution as channels.
        blocks: of each stage.
    """

    latent_channels: int
    widths: tuple[int, ...]
    time: tuple[int, ...]
    patch: int
    blocks: int = 3

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell, along each side."""
        return self.patch * 2 ** len(self.time)

    @property
    def temporal_stride(self) -> int:
        """Frames per latent after the first."""
        return math.prod(self.time)


class MemoryBlock(nn.Module):
    """A residual block of three convolutions that sees the frame before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """[B, T, H, W, C], and its last frame into the cache."""
        past = torch.zeros_like(x[:, :1]) if carry.first else carry.past()
        carry.keep(x[:, -1:].clone())  # a view would keep all of x alive
        past = torch.cat([past, x[:, :-1]], dim=1)
        y = F.relu(_apply(self.conv[0], torch.cat([x, past], dim=-1)), inplace=True)
        y = F.relu(_apply(self.conv[2], y), inplace=True)
        return F.relu(_apply(self.conv[4], y).add_(x), inplace=True)


class Growth(nn.Module):
    """``times`` frames out of each, by a linear map of channels, and twice the height and width."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(width, width * times, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T times, 2H, 2W, C].

        TAEHV doubles first; of single pixels the map is the same before, at a quarter of the work.
        """
        b, t, h, w, c = x.shape
        r = self.times
        y = F.linear(x, self.conv.weight.flatten(1)).unflatten(-1, (r, c)).movedim(-2, 2)
        y = y[:, :, :, :, None, :, None].expand(b, t, r, h, 2, w, 2, c)
        return y.reshape(b, t * r, 2 * h, 2 * w, c)


class ThinDecoder(nn.Module):
    """Normalised latents to frames.

    Args:
        sizes: of its layers.
    """

    def __init__(self, sizes: ThinSizes) -> None:
        super().__init__()
        self.sizes = sizes
        layers: list[nn.Module] = [
            nn.Identity(), _conv(sizes.latent_channels, sizes.widths[0]), nn.ReLU(),
        ]  # fmt: skip
        for n, times in enumerate(sizes.time):
            width, after = sizes.widths[n : n + 2]
            layers += [MemoryBlock(width) for _ in range(sizes.blocks)]
            layers += [nn.Identity(), Growth(width, times), _conv(width, after, bias=False)]
        layers += [nn.ReLU(), _conv(sizes.widths[-1], 3 * sizes.patch**2)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, latents: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Frames [B, 3, T, H, W] of the next latents of a stream, not clamped, and its cache.

        Args:
            latents: [B, C, F, h, w], normalised.
            cache: the last input frame of each block; None opens a stream, whose first latent is
                one frame.
        """
        carry, sizes = Carry(cache, Rows()), self.sizes
        # Channels last all the way, in axes of their own: frames and channels are cut and joined
        # without a change of layout, and convolutions take it as it is.
        x = rearrange(torch.tanh(latents / RANGE) * RANGE, "b c f h w -> b f h w c").contiguous()
        x = F.relu(_apply(self.decoder[1], x), inplace=True)
        at = BEFORE_STAGES
        for _ in sizes.time:
            for n in range(at, at + sizes.blocks):
                x = self.decoder[n](x, carry)
            at += sizes.blocks + AFTER_BLOCKS
            x = _apply(self.decoder[at - 1], self.decoder[at - 2](x))
        x = _apply(self.decoder[-1], F.relu(x, inplace=True))
        if carry.first:
            x = x[:, sizes.temporal_stride - 1 :]
        p = sizes.patch
        frames = rearrange(x, "b t h w (c p q) -> b c t (h p) (w q)", p=p, q=p)
        return 2 * frames - 1, carry.cache()


class ThinAutoencoder(VideoAutoencoder):
    """Encodes with a full autoencoder, decodes with a thin decoder of its latents.

    Args:
        full: whose latents are decoded.
        decoder: of the same sizes.

    Raises:
        ValueError: they are of other sizes; it names which.
    """

    def __init__(self, full: VideoAutoencoder, decoder: ThinDecoder) -> None:
        for what in ("latent_channels", "spatial_stride", "temporal_stride"):
            thin, wanted = getattr(decoder.sizes, what), getattr(full, what)
            if thin != wanted:
                raise ValueError(
                    f"the {what} of the thin decoder is {thin}, the autoencoder's is {wanted}; "
                    "give a decoder of this autoencoder's latents"
                )
        mean, std = (values.flatten().tolist() for values in full.moments)
        super().__init__(
            full.module,
            latent_channels=full.latent_channels,
            spatial_stride=full.spatial_stride,
            temporal_stride=full.temporal_stride,
            mean=mean,
            std=std,
        )
        self.full, self.decoder = full, decoder

    @property
    def modules(self) -> list[nn.Module]:
        return [self.module, self.decoder]

    def _encode(self, frames: Tensor) -> Tensor:
        return self.full._encode(frames)

    def decode_raw(self, latents: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        frames, cache = self.decoder(latents, cache)
        return frames, cache

    def _as_decoded(self, latents: Tensor) -> Tensor:
        return latents


def _apply(conv: Any, x: Tensor) -> Tensor:
    """A 2D convolution of all frames, [B, T, H, W, C]."""
    y = conv(x.flatten(0, 1).movedim(-1, 1)).movedim(1, -1)
    made: Tensor = y.unflatten(0, x.shape[:2])
    return made


def _conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
