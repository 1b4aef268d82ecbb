"""What time does to the layers, computed once for the levels of a stream.

Modulation depends on nothing but the noise level and the guidance scales. A stream has few levels,
three of them once it is distilled, so that a table of a few rows takes the place of weights that
are a third of HunyuanVideo-1.5's.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from flowact.models.embeddings import TIME_SCALE

CLEAN = 0  # the row of context and text; those of the stream's levels follow


class FixedLevels(nn.Module):
    """The levels that tables were made for.

    Args:
        levels: of the stream, in (0, 1].
        scales: of text and audio, that the stream was guided by.
    """

    times: Tensor

    def __init__(self, levels: Sequence[float], scales: tuple[float, float] | None) -> None:
        super().__init__()
        self.levels, self.scales = tuple(levels), scales
        # Not among the weights: it moves with them, and is not saved.
        self.register_buffer("times", TIME_SCALE * torch.tensor(self.levels), persistent=False)

    def rows(self, time: Tensor, context: int) -> Tensor:
        """Rows [B, F, 1] of latents at ``time`` [B, F], of which the first are context."""
        nearest = (time[:, context:, None] - self.times.float()).abs().argmin(dim=-1)
        return nn.functional.pad(nearest + CLEAN + 1, (context, 0), value=CLEAN)[:, :, None]

    def clean(self, time: Tensor) -> Tensor:
        """The row of text, [B, 1]."""
        return torch.full_like(time, CLEAN, dtype=torch.long)[:, None]


def tabulate(modules: Iterator[nn.Module], embedding: Tensor) -> None:
    """Have the modulations among ``modules`` look up what they make of ``embedding`` [rows, dim].

    They are those that have a ``linear`` of it, as diffusers' AdaLayerNorms do.

    Raises:
        ValueError: one is no plain linear layer.
    """
    for module in modules:
        linear = getattr(module, "linear", None)
        if linear is None:
            continue
        if type(linear) is not nn.Linear:
            raise ValueError(
                f"a modulation is a {type(linear).__name__}; merge LoRA's updates first"
            )
        module.linear = nn.Embedding.from_pretrained(linear(embedding))
