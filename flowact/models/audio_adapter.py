"""Audio enters by cross-attention, in the manner of IP-Adapter (paper 2.3)."""

from einops import rearrange
from torch import Tensor, nn

from flowact.models.attention import attend
from flowact.settings import AttentionBackend


class AudioProjector(nn.Module):
    """An MLP from the window of features around a latent to a few tokens.

    Args:
        feature_dim: size of one audio feature.
        window: features that condition one latent.
        tokens: tokens per latent.
        dim: size of a token.
        hidden: width of the MLP.
    """

    def __init__(
        self, feature_dim: int, window: int, tokens: int, dim: int, hidden: int = 512
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.linear_1 = nn.Linear(window * feature_dim, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)
        self.linear_3 = nn.Linear(hidden, tokens * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """[B, F, window, feature_dim] -> [B, F, tokens, dim]; null audio is zero features."""
        hidden = nn.functional.gelu(self.linear_1(features.flatten(2)))
        hidden = nn.functional.gelu(self.linear_2(hidden))
        return self.norm(self.linear_3(hidden).unflatten(-1, (self.tokens, -1)))


class AudioCrossAttention(nn.Module):
    """A latent's video tokens attend to that latent's audio tokens, and to no others.

    The output projection starts at zero: a fresh adapter changes nothing, bit for bit.
    """

    def __init__(self, dim: int, audio_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.backend = AttentionBackend.native
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.to_q = nn.Linear(dim, heads * head_dim)
        self.to_k = nn.Linear(audio_dim, heads * head_dim)
        self.to_v = nn.Linear(audio_dim, heads * head_dim)
        self.norm_q = nn.RMSNorm(head_dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(head_dim, eps=1e-6)
        self.to_out = nn.Linear(heads * head_dim, dim)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        """Add to tokens [B, F, N, dim] what they hear in their tokens [B, F, T, audio_dim]."""
        latents = x.shape[1]
        query, key, value = (
            rearrange(y, "b f n (h d) -> (b f) n h d", h=self.heads)
            for y in (self.to_q(self.norm(x)), self.to_k(audio), self.to_v(audio))
        )
        query, key = _normed(self.norm_q, query), _normed(self.norm_k, key)
        out = attend(query, key, value, backend=self.backend)
        return x + self.to_out(rearrange(out, "(b f) n h d -> b f n (h d)", f=latents))


def _normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """``norm(x)`` in the precision of ``x``: under autocast the weight's is another, and slow."""
    return nn.functional.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)
