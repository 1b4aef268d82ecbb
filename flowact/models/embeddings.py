"""What goes into the backbone beside its tokens: times, guidance scales, text without padding."""

from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

TIME_SCALE = 1000.0  # a noise level s in [0, 1] is the time input 1000 s (design 3)


class GuidanceEmbedding(nn.Module):
    """Text and audio guidance scales as an addition to the time embedding (paper 2.4).

    The last layers start at zero, so that a fresh embedding changes nothing.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = Timesteps(num_channels=256, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.text = TimestepEmbedding(in_channels=256, time_embed_dim=dim)
        self.audio = TimestepEmbedding(in_channels=256, time_embed_dim=dim)
        for embedding in (self.text, self.audio):
            nn.init.zeros_(embedding.linear_2.weight)
            nn.init.zeros_(embedding.linear_2.bias)

    def forward(self, scales: Tensor) -> Tensor:
        """Scales [B, 2] (text, audio) -> [B, dim]."""
        text, audio = (TIME_SCALE * scales.float()).unbind(1)
        dtype = self.text.linear_1.weight.dtype
        return self.text(self.proj(text).to(dtype)) + self.audio(self.proj(audio).to(dtype))


def drop_padding(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Real tokens first, cut to the longest sample; no mask if that leaves no padding."""
    if bool(mask.all()):
        return tokens, None
    lengths = mask.sum(dim=1)
    order = mask.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
    tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
    mask = mask.gather(1, order)
    return tokens, None if bool(mask.all()) else mask
