"""A picture decoded by several processes, each a strip of rows: equal to one process."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowact.models.vae import Rows, conv3d
from flowact.parallel.ranks import Ranks
from flowact.parallel.shares import shares


class SharedRows(Rows):
    """Neighbouring rows; convolutions take one from each neighbour, attention takes all.

    Args:
        ranks: that nobody else uses: a decoder runs beside a denoiser.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._of_latent: list[slice] = []

    def cut(self, x: Tensor) -> Tensor:
        self._of_latent = shares(x.shape[-2], self._ranks.count)
        return x[..., self._of_latent[self._ranks.rank], :]

    def padded(self, x: Tensor, mode: str) -> Tensor:
        rank, last = self._ranks.rank, self._ranks.count - 1
        edges = self._ranks.gather(torch.stack((x[..., 0, :], x[..., -1, :])))()
        x = F.pad(x, (0, 0, rank == 0, rank == last, 0, 0), mode=mode)
        if rank > 0:
            x = torch.cat((edges[rank - 1, 1].unsqueeze(-2), x), dim=-2)
        if rank < last:
            x = torch.cat((x, edges[rank + 1, 0].unsqueeze(-2)), dim=-2)
        return F.pad(x, (1, 1, 0, 0, 0, 0), mode=mode)

    def conv3d(self, conv: nn.Conv3d, x: Tensor) -> Tensor:
        return conv3d(conv, self.padded(x, "constant"))

    def conv2d(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        return F.conv2d(self.padded(x[:, :, None], "constant")[:, :, 0], conv.weight, conv.bias)

    def whole(self, x: Tensor, axis: int = -2) -> Tensor:
        # What is made of a latent's row is as much for each.
        sizes = [rows.stop - rows.start for rows in self._of_latent]
        each = x.shape[axis] // sizes[self._ranks.rank]
        gathered = self._ranks.gather_uneven(x.movedim(axis, 0), [each * size for size in sizes])()
        return gathered.movedim(0, axis)
