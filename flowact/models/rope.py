"""Three-axis rotary positions whose time axis is the slot in the buffer (design 4)."""

from typing import NamedTuple

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor


class Rotary(NamedTuple):
    """Angles of a grid of tokens as factors, [F, N, 1, head_dim] each, float32.

    ``sin`` carries the sign of its place in a pair: x turns to x cos + (x with pairs swapped) sin.
    """

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
    turns = [
        get_1d_rotary_pos_embed(dim, axis.reshape(-1), theta, use_real=False)
        for dim, axis in zip(axes, place, strict=True)
    ]
    turn = torch.cat(turns, dim=1).unflatten(0, (len(positions), rows * columns))[:, :, None]
    cos = torch.stack((turn.real, turn.real), dim=-1)
    sin = torch.stack((-turn.imag, turn.imag), dim=-1)
    return Rotary(cos.flatten(-2), sin.flatten(-2))


def rotate(x: Tensor, angles: Rotary) -> Tensor:
    """Turn queries or keys [..., F, N, heads, head_dim] by their tokens' angles, in float32."""
    wide = x.float()
    swapped = wide.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(wide * angles.cos, swapped, angles.sin).to(x.dtype)
