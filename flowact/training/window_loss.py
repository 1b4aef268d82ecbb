"""Flow matching on training windows: the loss that stages 1 and 2 share (design 3, 8)."""

from collections.abc import Callable

import torch
from torch import Tensor

from flowact.data.data_folder import Windows
from flowact.data.focus import KINDS
from flowact.diffusion import flow
from flowact.settings import ModelConfig
from flowact.training.levels import draw_levels
from flowact.training.objective import Draws, Losses
from flowact.training.tasks import Task, clean_buffer, draw_task
from flowact.training.window_model import Buffer
from flowact.training.window_settings import AutoregressiveConfig, FocusConfig, LevelsConfig

Velocity = Callable[[Buffer], Tensor]


def flow_matching(
    network: Velocity,
    windows: Windows,
    draws: Draws,
    model: ModelConfig,
    config: AutoregressiveConfig,
    target: Velocity | None = None,
) -> Losses:
    """Mean over samples of weight x squared error of the velocity, at drawn levels, under focus.

    No weight falls with the level: one that is small near pure noise would forget the newest chunk,
    which always starts there. The parts are not weighted by level.

    Args:
        network: a ``WindowModel``, or what asks one.
        target: the velocity that a noisy buffer should have; None is that of its noise.
    """
    task = draw_task(config.tasks, draws, windows)
    clean = clean_buffer(windows, task, model.geometry)
    noise = draws.normal("noise", tuple(clean.latents.shape[1:])).to(clean.latents.device)
    if task is Task.REFINEMENT:
        low, high = config.tasks.refinement_levels
        levels = low + (high - low) * draws.uniform("refinement level", (1,))
    else:
        levels = stream_levels(clean.latents.shape[2], draws, model, config.levels)
    noisy = clean.noised(noise, levels.to(noise.device))
    if target is None:
        wanted = flow.velocity(clean.latents, noise)
    else:
        with torch.no_grad():
            wanted = target(noisy)
    return velocity_error(network(noisy) - wanted, noisy.levels, windows, task, model, config)


def velocity_error(
    errors: Tensor,
    levels: Tensor,
    windows: Windows,
    task: Task,
    model: ModelConfig,
    config: AutoregressiveConfig,
) -> Losses:
    """The loss of errors [B, C, F, H, W] of velocities at ``levels`` [B, F]."""
    squares = errors.square().mean(dim=1)
    error = (squares * _cell_weights(windows.focus, config.focus)).mean(dim=(2, 3))
    power = config.levels.power
    weights = error.new_tensor([info.weight for info in windows.infos])[:, None]
    weights = weights * (power + 1) * levels.to(error) ** power
    return Losses((weights * error).mean(), _parts(task, error.detach(), model))


def _cell_weights(maps: Tensor, config: FocusConfig) -> Tensor:
    """Weights [B, 1, H, W] of mean 1 from focus maps [B, 2, H, W]."""
    factors = maps.new_tensor([getattr(config, kind) for kind in KINDS])
    weighted = 1 + (factors[:, None, None] * maps).sum(dim=1, keepdim=True)
    return weighted / (1 + factors.sum())


def stream_levels(latents: int, draws: Draws, model: ModelConfig, config: LevelsConfig) -> Tensor:
    """Levels [B, latents], the same for the latents of a chunk."""
    size = model.geometry.chunk_latents
    ages = range(latents // size - 1, -1, -1)
    levels = draw_levels(config, draws, ages, model.geometry.depth, model.stream.shift)
    return levels.repeat_interleave(size, dim=1)


def _parts(task: Task, error: Tensor, model: ModelConfig) -> dict[str, Tensor]:
    """The errors [B, F] by task; those of the stream by age too."""
    parts = {str(task): error.mean()}
    if task is not Task.REFINEMENT:
        chunks = error.unflatten(1, (-1, model.geometry.chunk_latents)).mean(dim=(0, 2))
        parts |= {f"age_{age}": chunk for age, chunk in enumerate(torch.flip(chunks, (0,)))}
    return parts
