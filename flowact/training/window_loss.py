"""Flow matching on training windows: the loss that stages 1 and 2 share (design 3, 8)."""

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.diffusion import flow
from flowact.settings import ModelConfig
from flowact.training.levels import draw_levels
from flowact.training.objective import Draws, Losses
from flowact.training.tasks import Task, clean_buffer, draw_task
from flowact.training.window_settings import AutoregressiveConfig


def flow_matching(
    network: nn.Module,
    windows: Windows,
    draws: Draws,
    model: ModelConfig,
    config: AutoregressiveConfig,
) -> Losses:
    """Mean over samples of weight x squared error of the velocity, at drawn levels.

    ``network`` is a ``WindowModel``. No weight depends on the level: one that is small near pure
    noise would forget the newest chunk, which always starts there.
    """
    task = draw_task(config.tasks, draws, windows)
    clean = clean_buffer(windows, task, model.geometry)
    noise = draws.normal("noise", tuple(clean.latents.shape[1:])).to(clean.latents.device)
    if task is Task.REFINEMENT:
        low, high = config.tasks.refinement_levels
        levels = low + (high - low) * draws.uniform("refinement level", (1,))
    else:
        levels = _stream_levels(clean.latents.shape[2], draws, model, config)
    velocity = network(clean.noised(noise, levels.to(noise.device)))
    error = (velocity - flow.velocity(clean.latents, noise)).square().mean(dim=(1, 3, 4))
    weights = error.new_tensor([info.weight for info in windows.infos])
    return Losses((weights * error.mean(dim=1)).mean(), _parts(task, error.detach(), model))


def _stream_levels(
    latents: int, draws: Draws, model: ModelConfig, config: AutoregressiveConfig
) -> Tensor:
    """Levels [B, latents], the same for the latents of a chunk."""
    size = model.geometry.chunk_latents
    ages = range(latents // size - 1, -1, -1)
    levels = draw_levels(config.levels, draws, ages, model.geometry.depth, model.stream.shift)
    return levels.repeat_interleave(size, dim=1)


def _parts(task: Task, error: Tensor, model: ModelConfig) -> dict[str, Tensor]:
    """The errors [B, F] by task; those of the stream by age too."""
    parts = {str(task): error.mean()}
    if task is not Task.REFINEMENT:
        chunks = error.unflatten(1, (-1, model.geometry.chunk_latents)).mean(dim=(0, 2))
        parts |= {f"age_{age}": chunk for age, chunk in enumerate(torch.flip(chunks, (0,)))}
    return parts
