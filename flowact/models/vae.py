"""Video autoencoders behind one protocol: a stream's cache goes in and comes out as a value.

Everything outside this module sees normalised latents and frames in [-1, 1]. Diffusers keeps its
decoder's cache inside the module, where one stream would disturb another; here the decoders are
walked layer by layer with a cache of our own, and diffusers' modules only hold the weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAS_MKLDNN = torch.backends.mkldnn.is_available()

Cache: TypeAlias = tuple[Tensor, ...]
"""What a stream carries from one call to the next, one entry per layer; never written in place."""


class VideoAutoencoder(ABC):
    """A causal video autoencoder whose decoder can be fed chunk by chunk.

    Latents are [B, C, F, h, w], normalised per channel to (z - mean) / std: what the denoiser
    sees. Frames are [B, 3, T, H, W] in [-1, 1]. The first latent of a clip is one frame, each
    later one ``temporal_stride`` frames. Results have the dtype of the input, whatever the
    module's own. Nothing here is mutated by a call, so streams and threads may share one object.

    Attributes:
        module: the diffusers model that holds the weights.
        latent_channels: C.
        rows: of the picture, that this process decodes.
        spatial_stride: pixels per latent cell, along each side.
        temporal_stride: frames per latent after the first.
    """

    def __init__(
        self,
        module: Any,
        *,
        latent_channels: int,
        spatial_stride: int,
        temporal_stride: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.module = module
        self.latent_channels = latent_channels
        self.spatial_stride = spatial_stride
        self.temporal_stride = temporal_stride
        shape = (1, latent_channels, 1, 1, 1)
        self.rows = Rows()
        self._moments = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Normalised latents (the posterior's mode) of whole clips of 4n + 1 frames.

        Raises:
            ValueError: if ``frames`` do not fit the strides.
        """
        shape, time, space = tuple(frames.shape), self.temporal_stride, self.spatial_stride
        if len(shape) != 5 or shape[1] != 3 or (shape[2] - 1) % time:
            raise ValueError(f"frames are {shape}; give [B, 3, {time}n + 1, H, W]")
        if shape[3] % space or shape[4] % space:
            raise ValueError(f"frames are {shape}; give H and W that are multiples of {space}")
        latents = self._encode(frames.to(self._dtype)).to(frames.dtype)
        mean, std = self._mean_std(frames)
        return (latents - mean) / std

    @torch.no_grad()
    def decode(self, latents: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Frames of the next latents of a stream, clamped to [-1, 1], and the cache after them.

        Chunk by chunk equals all at once. The latents of one call are decoded together: cut a
        long clip into several calls to bound memory.

        Args:
            latents: [B, C, F, h, w], normalised, F of at least 1.
            cache: what the stream's previous call returned; None opens a stream.

        Raises:
            ValueError: if ``latents`` is not [B, latent_channels, F, h, w].
        """
        if latents.dim() != 5 or latents.shape[1] != self.latent_channels or not latents.shape[2]:
            raise ValueError(
                f"latents are {tuple(latents.shape)}; give [B, {self.latent_channels}, F, h, w]"
            )
        frames, cache = self.decode_raw(self._as_decoded(latents).to(self._dtype), cache)
        return frames.clamp(-1, 1).to(latents.dtype), cache

    @abstractmethod
    def _encode(self, frames: Tensor) -> Tensor:
        """The posterior's mode, not normalised."""

    @abstractmethod
    def decode_raw(self, latents: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Frames, not clamped, of what ``_as_decoded`` gives."""

    def _as_decoded(self, latents: Tensor) -> Tensor:
        """Normalised latents as the decoder takes them: here, as the encoder made them."""
        mean, std = self._mean_std(latents)
        return latents * std + mean

    @property
    def modules(self) -> list[nn.Module]:
        """All that hold weights, to be moved and cast together."""
        return [self.module]

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel, [1, C, 1, 1, 1]."""
        return self._moments

    @property
    def device(self) -> torch.device:
        """Where it encodes and decodes; inputs have to be there."""
        parameter: Tensor = next(self.module.parameters())
        return parameter.device

    @property
    def _dtype(self) -> torch.dtype:
        parameter: Tensor = next(self.module.parameters())
        return parameter.dtype

    def _mean_std(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self._moments
        if mean.device != like.device:
            self._moments = mean, std = mean.to(like.device), std.to(like.device)
        return mean.to(like.dtype), std.to(like.dtype)


class Rows:
    """All rows of the pictures [..., H, W]; a subclass leaves some to other processes."""

    def cut(self, x: Tensor) -> Tensor:
        """The rows of this process."""
        return x

    def whole(self, x: Tensor, axis: int = -2) -> Tensor:
        """All rows, on every process, of the processes' along ``axis``."""
        return x

    def padded(self, x: Tensor, mode: str) -> Tensor:
        """``x`` [B, C, T, H, W] with one more row and column on each side.

        Args:
            mode: of padding where the picture ends, as in ``torch.nn.functional.pad``.
        """
        return F.pad(x, (1, 1, 1, 1, 0, 0), mode=mode)

    def conv3d(self, conv: nn.Conv3d, x: Tensor) -> Tensor:
        """A convolution of stride 1 over 3x3 cells, and over all frames of ``x``, among zeros."""
        return conv3d(conv, x, padding=(0, 1, 1))

    def conv2d(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """The same of single frames, [B, C, H, W]."""
        return F.conv2d(x, conv.weight, conv.bias, padding=1)


class Carry:
    """Hands the entries of a cache to the layers in their order, and collects the next cache.

    Attributes:
        first: whether a stream begins.
        rows: of the picture, that are decoded here.
    """

    def __init__(self, cache: Cache | None, rows: Rows) -> None:
        self.first = cache is None
        self.rows = rows
        self._old = iter(cache or ())
        self._new: list[Tensor] = []

    def past(self) -> Tensor:
        """The next layer's entry of the old cache."""
        return next(self._old)

    def keep(self, entry: Tensor) -> None:
        """Make ``entry`` the next layer's entry of the new cache."""
        self._new.append(entry)

    def prepend(self, x: Tensor, mode: str = "constant") -> Tensor:
        """``x`` [B, C, T, H, W] after its two past frames, or after padding where there are none.

        Args:
            mode: padding at the start of a stream, as in ``torch.nn.functional.pad``.
        """
        if self.first:
            x = F.pad(x, (0, 0, 0, 0, 2, 0), mode=mode)
        else:
            x = torch.cat([self.past(), x], dim=2)
        # A copy, since a view would keep all of x alive. The format is named because a single
        # frame has none, and one entry in another would make every later call convert.
        self.keep(x[:, :, -2:].clone(memory_format=torch.channels_last_3d))
        return x

    def cache(self) -> Cache:
        return tuple(self._new)


def conv3d(conv: nn.Conv3d, x: Tensor, padding: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
    """The convolution of ``conv`` (stride 1) under a padding of ours."""
    on_cpu = x.device.type == "cpu" and HAS_MKLDNN and not torch.compiler.is_compiling()
    if on_cpu and x.dtype == torch.float32:
        # For small float32 batches conv3d chooses a kernel that is ten times slower.
        ones = (1, 1, 1)
        return torch.mkldnn_convolution(x, conv.weight, conv.bias, padding, ones, ones, 1)
    return F.conv3d(x, conv.weight, conv.bias, padding=padding)


def norm_silu(norm: Any, x: Tensor) -> Tensor:
    """SiLU of diffusers' RMS norm over channels, in one buffer: less traffic, fewer roundings."""
    y = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
    y.mul_(norm.scale / torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_min_(1e-12))
    y.mul_(norm.gamma)
    return F.silu(y, inplace=True).to(x.dtype)


def wrap_autoencoder(module: nn.Module, *, window: int | None = None) -> VideoAutoencoder:
    """The streaming face of a diffusers video autoencoder.

    Args:
        module: an ``AutoencoderKLWan`` or an ``AutoencoderKLHunyuanVideo15``.
        window: latents that a latent sees in HunyuanVideo-1.5's middle attention; None for all.
            The default is the length of that base's clips, 121 frames: up to there decoding is
            exact. Wan has no attention in time and needs none.

    Raises:
        ValueError: if ``module`` is neither.
    """
    # Imported here, since both build on this file.
    from diffusers import AutoencoderKLHunyuanVideo15, AutoencoderKLWan

    from flowact.models.vae_hunyuan15 import HunyuanVideo15Autoencoder
    from flowact.models.vae_wan import WanAutoencoder

    if isinstance(module, AutoencoderKLWan):
        return WanAutoencoder(module)
    if isinstance(module, AutoencoderKLHunyuanVideo15):
        return HunyuanVideo15Autoencoder(module, window=window)
    raise ValueError(
        f"{type(module).__name__} is not a known video autoencoder; "
        "use AutoencoderKLWan or AutoencoderKLHunyuanVideo15"
    )
