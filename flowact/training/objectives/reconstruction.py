"""How far reconstructed clips are from the true ones, in parts."""

import torch
from torch import Tensor

from flowact.training.actor_frames import ActorFrames


def reconstruction_errors(made: Tensor, latents: Tensor, batch: ActorFrames) -> dict[str, Tensor]:
    """Errors of each clip, [N].

    Args:
        made: reconstructions [N, 3, T, H, W].
        latents: [N, C, F, h, w], before any noise.

    Returns:
        pixels: absolute error, more where it matters; edges: that of differences between
        neighbouring pixels, a stand-in for a perceptual loss; motion: that of differences between
        successive frames, 0 for single frames; latents: their mean square, which keeps them near 0.
    """
    error, weight = made.float() - batch.frames, batch.weight
    motion = error.diff(dim=2).abs() * weight[:, :, 1:]
    return {
        "pixels": _mean(error.abs() * weight),
        "edges": _mean(error.diff(dim=3).abs() * weight[:, :, :, 1:])
        + _mean(error.diff(dim=4).abs() * weight[..., 1:]),
        "motion": _mean(motion) if motion.shape[2] else torch.zeros(len(error)).to(error),
        "latents": _mean(latents.float().square()),
    }


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)
