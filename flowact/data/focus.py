"""Where a clip moves, and where it moves with its sound: what little of a picture matters.

Mouths and hands are a hundredth of the pixels. A loss that counts all cells alike learns them last.
Nothing here knows what a mouth is, so that it is found in filmed people and drawn ones alike.
"""

import torch
from torch import Tensor

from flowact.geometry import Geometry

# Quieter than this, relative to a clip's loudest latent, is silence: 40 dB down.
SILENCE = 0.01
KINDS = ("motion", "sound")
FOCUS_VERSION = 1  # of what is stored; another one makes caches anew


def focus_maps(latents: Tensor, wave: Tensor, geometry: Geometry) -> Tensor:
    """Weights of a clip's cells, [2, h, w] in the order of ``KINDS``, each of mean 1.

    Both are of the clip's latents' differences from one to the next. ``motion`` is their variance.
    ``sound`` is the part of it that follows the differences of the sound's level, beyond what
    chance would (r^2 less 1 / n), times its share of the variance: arms move so much that a little
    of it goes with the sound in any clip. A map of nothing is 1 everywhere.

    Args:
        latents: [C, F, h, w]; the first is the image, and has no sound.
        wave: from the image on, [n].
    """
    moves = latents[:, 1:].float().diff(dim=1)
    if moves.shape[1] < 2:
        return latents.new_ones(len(KINDS), *latents.shape[-2:], dtype=torch.float32)
    moves = moves - moves.mean(dim=1, keepdim=True)
    variance = moves.square().mean(dim=1).clamp(min=1e-12)
    sounds = _level(wave, latents.shape[1] - 1, geometry).diff()
    sounds = sounds - sounds.mean()
    power = sounds.square().mean()
    shared = torch.einsum("cfhw,f->chw", moves, sounds) / len(sounds)
    followed = shared.square() / power.clamp(min=1e-12)  # r^2 x variance
    followed = (followed - variance / len(sounds)).clamp(min=0).sum(dim=0)
    motion = variance.sum(dim=0)
    return torch.stack([_normalised(motion), _normalised(followed.square() / motion)])


def _level(wave: Tensor, latents: int, geometry: Geometry) -> Tensor:
    """The logarithm of the amplitude in each stream latent, [latents]."""
    samples = geometry.frame_samples * geometry.temporal_stride
    own = torch.nn.functional.pad(wave, (0, max(0, samples * latents - len(wave))))
    power = own[: samples * latents].float().unflatten(0, (latents, samples)).square().mean(dim=1)
    amplitude = power.sqrt()
    return (amplitude / amplitude.max().clamp(min=1e-6) + SILENCE).log()


def _normalised(map: Tensor) -> Tensor:
    """``map`` of mean 1."""
    mean = map.mean()
    return map / mean if mean > 0 else torch.ones_like(map)
