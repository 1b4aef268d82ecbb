"""Which noise levels the chunks of a training window have (design 8)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowact.diffusion.levels import shift_level
from flowact.training.objective import Draws
from flowact.training.window_settings import LevelsConfig


def draw_levels(
    config: LevelsConfig, draws: Draws, ages: Sequence[int], depth: int, shift: float
) -> Tensor:
    """Levels [B, chunks] in (0, 1] of chunks of ``ages``, on the grid of ``shift``."""
    within = 1 - draws.uniform("within segment")
    within = torch.where(draws.uniform("segment start") < config.segment_start, 1.0, within)
    independent = 1 - draws.uniform("independent levels", (len(ages),))
    common = 1 - draws.uniform("common level")[:, None]
    pattern = draws.uniform("level pattern")[:, None]
    u = staircase(within, ages, depth)
    u = torch.where(pattern < config.staircase, u, independent)
    u = torch.where(pattern < config.staircase + config.independent, u, common)
    return shift_level(u, shift)


def staircase(within: Tensor, ages: Sequence[int], depth: int) -> Tensor:
    """u = (depth - 1 - a + u0) / depth of ages a [chunks], for ``within`` u0 in (0, 1], [B]."""
    before = torch.tensor([depth - 1 - age for age in ages], device=within.device)
    return (before + within[:, None]) / depth
