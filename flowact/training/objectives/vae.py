"""Stage 0: the demo's own autoencoder, from rendered actors (design 6, 8)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from einops import rearrange
from PIL import Image
from torch import Tensor

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer
from flowact.models.components import AUTOENCODERS, build_autoencoder, load_diffusers
from flowact.models.vae import wrap_autoencoder
from flowact.models.vae_thin import ThinDecoder, ThinSizes
from flowact.pipeline import FlowActPipeline
from flowact.training.actor_frames import (
    ActorFrames,
    ActorFramesDataset,
    collate,
    weighted_frames,
)
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.objectives.reconstruction import reconstruction_errors
from flowact.training.objectives.wan_round_trip import (
    ThinRoundTrip,
    WanRoundTrip,
    channels_last,
    measure_latents,
)
from flowact.training.settings import Strategy, ThinConfig, TrainConfig, VaeConfig, VaePart

PREVIEW_ACTORS = range(800_000, 800_003)  # of the validation split
PREVIEW_FRAMES = 49  # longer than a training clip: what the padding at the start hides ends there
PREVIEW_COLUMNS = 9
STATISTICS_CLIPS = 32


class VaeObjective(Objective[ActorFrames]):
    """Reconstruct single frames first, then clips; with ``part: decoder`` the encoder is frozen.

    Single frames are much cheaper than clips and teach the same layers. A decoder that is trained
    alone leaves latents, and all models of them, as they are; so does a thin one, beside a frozen
    autoencoder.

    Args:
        module: the autoencoder, trained in place.
        config: of this stage.
        height, width: of the frames.
        seed: of the actors.
        thin: what is trained with ``part: thin``, in place.
    """

    name = "vae"
    trained = ("autoencoder",)

    def __init__(
        self,
        module: AutoencoderKLWan,
        config: VaeConfig,
        height: int,
        width: int,
        seed: int,
        thin: ThinDecoder | None = None,
    ) -> None:
        assert (thin is not None) is (config.part is VaePart.thin)
        if config.part is VaePart.decoder:
            module.encoder.requires_grad_(False)
            module.quant_conv.requires_grad_(False)
        self._module, self._config, self._thin = module, config, thin
        self._sizes = wrap_autoencoder(module)
        self.networks = {
            "autoencoder": WanRoundTrip(module) if thin is None else ThinRoundTrip(module, thin)
        }
        self.averaged: dict[str, float] = {}
        self._actors = _actors(config, height, width, seed)
        self.dataset = self._actors

    def collate(self, items: Sequence[ActorFrames]) -> ActorFrames:
        return collate(items)

    def loss(self, role: str, batch: ActorFrames, draws: Draws) -> Losses:
        config, frames = self._config, batch.frames
        clips = len(frames) // len(draws.samples)
        noise = draws.normal("latents", (clips, *self._latent_shape(frames))).flatten(0, 1)
        noise = config.latent_noise * noise.to(frames.device)
        made, latents = self.networks[role](frames, noise)
        errors = reconstruction_errors(made, latents, batch)
        parts = {name: error.mean() for name, error in errors.items()}
        total = (
            parts["pixels"]
            + config.edges_weight * parts["edges"]
            + config.motion_weight * parts["motion"]
            + config.latents_weight * parts["latents"]
        )
        return Losses(total, parts | {"psnr": psnr(made, frames)})

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Strips of truth and reconstruction of unseen actors, and their fidelity in decibels."""
        batch = validation_clips(self._actors.height, self._actors.width)
        network = self.networks["autoencoder"]
        device = next(network.parameters()).device
        made = torch.cat([network(clip.to(device))[0].cpu() for clip in batch.frames.split(1)])
        made = made.float().clamp(-1, 1)
        _strips(batch.frames, made).save(folder / "actors.png")
        small = (batch.weight > 1).expand_as(made)
        return {
            "psnr": float(psnr(made, batch.frames)),
            "psnr_last_frame": float(psnr(made[:, :, -1], batch.frames[:, :, -1])),
            "psnr_face_and_hands": float(psnr(made[small], batch.frames[small])),
        }

    def install(self, pipeline: FlowActPipeline) -> None:
        """The autoencoder, with statistics of its latents unless they are as they were; or the thin
        decoder alone."""
        if self._thin is not None:
            pipeline.use_decoder(self._thin)
            return
        if self._config.part is VaePart.all:
            self.finish()
        for parameter in self._module.parameters():
            parameter.data = parameter.data.contiguous()
        window = pipeline.config.autoencoder.window
        pipeline.autoencoder = wrap_autoencoder(self._module.eval(), window=window)

    def finish(self) -> None:
        """Write the latents' statistics, measured on training clips, into the module's config."""
        whole = replace(self._config, images=0, crop=None)
        clips = _actors(whole, self._actors.height, self._actors.width, self._actors.seed)
        measure_latents(self._module, (clips[n].frames for n in range(STATISTICS_CLIPS)))

    def _latent_shape(self, frames: Tensor) -> tuple[int, int, int, int]:
        sizes, (_, _, count, height, width) = self._sizes, frames.shape
        return (
            sizes.latent_channels,
            (count - 1) // sizes.temporal_stride + 1,
            height // sizes.spatial_stride,
            width // sizes.spatial_stride,
        )


def build_vae(config: TrainConfig) -> VaeObjective:
    """The stage of ``config``: on the autoencoder in ``config.weights``, or on an untrained one.

    Raises:
        ValueError: the autoencoder is not Wan's or cannot be loaded, ``vae.images`` ends within a
            micro-batch, ``vae.crop`` within a cell, or ``vae.thin`` does not fit the autoencoder.
    """
    settings = config.model.autoencoder
    if AUTOENCODERS[settings.kind] is not AutoencoderKLWan:
        raise ValueError(
            f"model.autoencoder.kind is {settings.kind.name}; only wan is trained here"
        )
    if config.vae.images % config.micro_batch:
        raise ValueError(
            f"vae.images is {config.vae.images}; it must be a multiple of micro_batch, "
            f"{config.micro_batch}"
        )
    module = (
        load_diffusers(AutoencoderKLWan, Path(config.weights) / "vae", torch.float32)
        if config.weights
        else build_autoencoder(settings)
    )
    stride = wrap_autoencoder(module).spatial_stride
    if config.vae.crop is not None and config.vae.crop % stride:
        raise ValueError(
            f"vae.crop is {config.vae.crop}; it must be a multiple of {stride}, a cell's pixels"
        )
    thin = _thin(config.vae.thin, module) if config.vae.part is VaePart.thin else None
    if config.strategy is not Strategy.fsdp:  # which shards contiguous weights alone
        channels_last(module)
    return VaeObjective(
        module, config.vae, config.model.height, config.model.width, config.seed, thin
    )


def _thin(config: ThinConfig, module: AutoencoderKLWan) -> ThinDecoder:
    """Untrained, of the strides of ``module``.

    Raises:
        ValueError: its stages make too many pixels or too few frames.
    """
    full, stages = wrap_autoencoder(module), len(config.widths) - 1
    doublings = full.temporal_stride.bit_length() - 1
    patch, left = divmod(full.spatial_stride, 2**stages)
    if left or not patch or doublings > stages:
        raise ValueError(
            f"vae.thin.widths has {stages} stages, each of which doubles height and width, and may "
            f"double the frames; the autoencoder makes {full.spatial_stride} pixels and "
            f"{full.temporal_stride} frames of a latent: give from {doublings + 1} to "
            f"{full.spatial_stride.bit_length()} widths"
        )
    return ThinDecoder(
        ThinSizes(
            latent_channels=full.latent_channels,
            widths=config.widths,
            time=(1,) * (stages - doublings) + (2,) * doublings,
            patch=patch,
            blocks=config.blocks,
        )
    )


def _actors(config: VaeConfig, height: int, width: int, seed: int) -> ActorFramesDataset:
    return ActorFramesDataset(
        height, width, config.images, config.stills, config.clip_frames, seed, config.crop
    )


def psnr(made: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, of pixels in [-1, 1]."""
    error = (made.detach().float().clamp(-1, 1) - true).square().mean()
    return 10 * (4 / error).log10()


def validation_clips(height: int, width: int) -> ActorFrames:
    """Clips of actors that are never trained on, always the same ones."""
    clips = [make_clip(ActorSeeds.of(seed), PREVIEW_FRAMES) for seed in PREVIEW_ACTORS]
    return collate(
        [weighted_frames(Renderer(clip.identity, height, width), clip.tracks) for clip in clips]
    )


def _strips(true: Tensor, made: Tensor) -> Image.Image:
    """For each clip a row of frames and a row of their reconstructions."""
    columns = np.linspace(0, true.shape[2] - 1, PREVIEW_COLUMNS).round()
    shown = torch.stack([true, made], dim=1)[:, :, :, columns]
    pixels = rearrange(shown, "n two c t h w -> (n two h) (t w) c")
    return Image.fromarray((pixels * 127.5 + 127.5).round().byte().numpy())
