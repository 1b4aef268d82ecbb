"""Three-axis rotary positions whose time axis is the slot in the buffer (design 4)."""

from typing import NamedTuple

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor


class Rotary(NamedTuple):
    """Cosines and sines of a grid of tokens, [F, N, head_dim / 2] each, float32."""

    cos: Tensor
    sin: Tensor


def rotary(
    positions: Tensor, grid: tuple[int, int], axes: tuple[int, int, int], theta: float
) -> Rotary:
    """Angles of ``F`` latents at ``positions`` [F] over a ``grid`` of rows and columns.

    ``axes`` are the head dimensions given to time, rows and columns; they sum to the head's.
    """
    rows, columns = grid
    device = positions.device
    place = torch.meshgrid(
        positions.float(),
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
        indexing="ij",
    )
    angles = [
        get_1d_rotary_pos_embed(dim, axis.reshape(-1), theta, use_real=False)
        for dim, axis in zip(axes, place, strict=True)
    ]
    turn = torch.cat(angles, dim=1).unflatten(0, (len(positions), rows * columns))
    return Rotary(turn.real.contiguous(), turn.imag.contiguous())


def rotate(x: Tensor, angles: Rotary) -> Tensor:
    """Turn queries or keys [B, F, N, heads, head_dim] by the angles of their tokens, in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos[:, :, None], angles.sin[:, :, None]
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return turned.flatten(-2).to(x.dtype)
