"""Three-axis rotary positions whose time axis is the slot in the buffer (design 4)."""

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor


def rotary(
    positions: Tensor, grid: tuple[int, int], axes: tuple[int, int, int], theta: float
) -> Tensor:
    """Turns of ``F`` latents at ``positions`` [F] over a ``grid`` of rows and columns.

    They are cosine and sine for each pair of neighbouring channels, [F, N, 1, head_dim / 2, 2].
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
    together = torch.view_as_real(torch.cat(turns, dim=1))
    return together.unflatten(0, (len(positions), rows * columns))[:, :, None]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn queries or keys [..., F, N, heads, head_dim] by their tokens' turns, in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # which fuses these, and has no complex numbers
        (a, b), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))
    return turned.flatten(-2).to(x.dtype)
