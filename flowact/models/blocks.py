"""The dual-stream block, laid out as HunyuanVideo-1.5's so that its weights load unchanged."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import AdaLayerNormZero
from torch import Tensor, nn

from flowact.models.attention import (
    Grid,
    KeyValue,
    TextKeyValue,
    context_attention,
    joint_attention,
    stream_attention,
    text_attention,
)
from flowact.models.audio_adapter import AudioCrossAttention
from flowact.models.rope import rotate
from flowact.models.share import Share
from flowact.settings import AttentionBackend, LayerKind


class Modulation(NamedTuple):
    """Shift, scale and gate of the attention and of the feed-forward, [B, F, 1, dim] each."""

    shift_attn: Tensor
    scale_attn: Tensor
    gate_attn: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor


class VideoSequence(NamedTuple):
    """Video tokens on their way through the layers, and what goes with them.

    Attributes:
        x: tokens [B, F, N, dim] of context latents, then of the stream's.
        emb: SiLU of their time embeddings, [B, F, 1, dim].
        size: rows and columns of tokens of a latent.
        audio: audio tokens of the latents of the stream among them; None skips the adapter.
        share: of the call, that these tokens are.
    """

    x: Tensor
    emb: Tensor
    size: tuple[int, int]
    audio: Tensor | None
    share: Share


class Projections(nn.Module):
    """Query, key, value and output projections of both streams, under diffusers' names."""

    def __init__(self, dim: int, heads: int, head_dim: int, text_stream: bool) -> None:
        super().__init__()
        inner = heads * head_dim
        self.to_q = nn.Linear(dim, inner)
        self.to_k = nn.Linear(dim, inner)
        self.to_v = nn.Linear(dim, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, dim)])
        self.norm_q = nn.RMSNorm(head_dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(head_dim, eps=1e-6)
        if text_stream:
            self.add_q_proj = nn.Linear(dim, inner)
            self.add_k_proj = nn.Linear(dim, inner)
            self.add_v_proj = nn.Linear(dim, inner)
            self.to_add_out = nn.Linear(inner, dim)
            self.norm_added_q = nn.RMSNorm(head_dim, eps=1e-6)
            self.norm_added_k = nn.RMSNorm(head_dim, eps=1e-6)


class Branch(NamedTuple):
    """The weights one modality uses in a block."""

    modulation: nn.Linear
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.Module
    norm_q: nn.RMSNorm
    norm_k: nn.RMSNorm
    feed_forward: nn.Module


class FlowActBlock(nn.Module):
    """One MMDiT layer, run by text, by context and by the stream in turn (design 5).

    Text and context do not depend on the stream, so each passes through all layers by itself and
    leaves its keys and values for the stream. ``forward`` is the base model's joint layer.
    """

    def __init__(
        self,
        heads: int,
        head_dim: int,
        mlp_ratio: float,
        activation: str,
        kind: LayerKind,
        windows: tuple[int, int],
        audio_dim: int | None,
    ) -> None:
        super().__init__()
        dim = heads * head_dim
        self.kind = kind
        self.backend = AttentionBackend.native
        self.windows = windows
        self.heads = heads
        self.has_text = kind is not LayerKind.TEMPORAL
        self.norm1 = AdaLayerNormZero(dim, norm_type="layer_norm")
        self.attn = Projections(dim, heads, head_dim, self.has_text)
        self.ff = FeedForward(dim, mult=mlp_ratio, activation_fn=activation)
        if self.has_text:
            self.norm1_context = AdaLayerNormZero(dim, norm_type="layer_norm")
            self.ff_context = FeedForward(dim, mult=mlp_ratio, activation_fn=activation)
        self.audio = (
            None if audio_dim is None else AudioCrossAttention(dim, audio_dim, heads, head_dim)
        )

    def run_text(
        self, text: Tensor, emb: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, TextKeyValue]:
        """Text tokens [B, L, dim] through the layer, and the keys and values they leave."""
        branch = self._text_branch()
        mod = _modulation(branch, emb)
        query, key, value = self._project(branch, text, mod)
        own = TextKeyValue(key, value, mask)
        text = _add_attention(branch, text, text_attention(query, own, self.backend), mod)
        return _add_feed_forward(branch, text, mod), own

    def run_video(
        self,
        video: VideoSequence,
        joint: bool,
        kept: KeyValue | None,
        texts: Sequence[TextKeyValue],
        text_of_latent: Sequence[int],
    ) -> tuple[Tensor, KeyValue]:
        """Context and stream through the layer, in one pass; either may be empty.

        Args:
            video: tokens and what goes with them.
            joint: whether its context latents see one another.
            kept: keys (rotated) and values of further context latents, from earlier passes.
            texts: as for ``stream_attention``.
            text_of_latent: the same, for the latents of the stream in ``video``.

        Returns:
            The tokens, and the keys (not rotated) and values that its context latents leave.
        """
        x, share = video.x, video.share
        branch = self._video_branch()
        mod = _modulation(branch, video.emb)
        modulated = _modulate(x, mod.shift_attn, mod.scale_attn)
        arriving = share.send(*self._keys_values(branch, modulated), self.kind)
        asking, seen, own = share.asking(), share.seen(self.kind), share.own(self.kind)
        query = rotate(share.queries(self._queries(branch, modulated)), asking.turns)
        key, value = arriving()
        everyone = KeyValue(rotate(key, seen.turns), value)
        # The gradient of a split is one tensor, that of a slice is as large, and mostly zero.
        sizes = (asking.context, query.shape[1] - asking.context)
        of_context, of_stream = query.split(sizes, dim=1)
        context, stream = (everyone if own is None else everyone.of(own)).split(sizes)
        if joint and own is not None:
            context = everyone.of(slice(0, seen.context))
        grid, parts = Grid(*video.size, self.windows), []
        if asking.context:
            parts.append(
                context_attention(of_context, context, self.kind, grid, joint, self.backend)
            )
        if of_stream.shape[1]:
            parts.append(
                stream_attention(
                    of_stream,
                    stream,
                    everyone if kept is None else kept.before(everyone),
                    [share.text(text) for text in texts],
                    text_of_latent,
                    self.kind,
                    grid,
                    self.backend,
                )
            )
        out = share.answers(torch.cat(parts, dim=1))
        x = self._with_audio(_add_attention(branch, x, out, mod), video.audio)
        # Copies: a view would keep the whole pass alive for as long as memory keeps the latents.
        left = KeyValue(key[:, : seen.context].clone(), value[:, : seen.context].clone())
        return _add_feed_forward(branch, x, mod), left

    def forward(
        self, video: VideoSequence, text: Tensor, text_emb: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Video and text [B, L, dim] attending to everything, as in the base: both, after it."""
        video_branch, text_branch = self._video_branch(), self._text_branch()
        mod, text_mod = _modulation(video_branch, video.emb), _modulation(text_branch, text_emb)
        query, key, value = self._project(video_branch, video.x, mod)
        text_query, text_key, text_value = self._project(text_branch, text, text_mod)
        turns = video.share.place.turns
        out, text_out = joint_attention(
            rotate(query, turns),
            KeyValue(rotate(key, turns), value),
            text_query,
            TextKeyValue(text_key, text_value, mask),
            self.backend,
        )
        x = self._with_audio(_add_attention(video_branch, video.x, out, mod), video.audio)
        text = _add_attention(text_branch, text, text_out, text_mod)
        return _add_feed_forward(video_branch, x, mod), _add_feed_forward(
            text_branch, text, text_mod
        )

    def _with_audio(self, x: Tensor, audio: Tensor | None) -> Tensor:
        """``x`` with what its last latents hear, those that ``audio`` is of."""
        if self.audio is None or audio is None or not audio.shape[1]:
            return x
        deaf = x.shape[1] - audio.shape[1]
        if not deaf:
            return self.audio(x, audio)
        return torch.cat((x[:, :deaf], self.audio(x[:, deaf:], audio)), dim=1)

    def _video_branch(self) -> Branch:
        attn = self.attn
        return Branch(
            self.norm1.linear,
            attn.to_q,
            attn.to_k,
            attn.to_v,
            attn.to_out[0],
            attn.norm_q,
            attn.norm_k,
            self.ff,
        )

    def _text_branch(self) -> Branch:
        attn = self.attn
        return Branch(
            self.norm1_context.linear,
            attn.add_q_proj,
            attn.add_k_proj,
            attn.add_v_proj,
            attn.to_add_out,
            attn.norm_added_q,
            attn.norm_added_k,
            self.ff_context,
        )

    def _project(self, branch: Branch, x: Tensor, mod: Modulation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens as the last layer left them."""
        x = _modulate(x, mod.shift_attn, mod.scale_attn)
        return self._queries(branch, x), *self._keys_values(branch, x)

    def _queries(self, branch: Branch, x: Tensor) -> Tensor:
        """Of modulated tokens [..., dim], [..., heads, head_dim]; normalised, as are keys."""
        return _head_norm(branch.norm_q, branch.to_q(x).unflatten(-1, (self.heads, -1)))

    def _keys_values(self, branch: Branch, x: Tensor) -> tuple[Tensor, Tensor]:
        key, value = (to(x).unflatten(-1, (self.heads, -1)) for to in (branch.to_k, branch.to_v))
        return _head_norm(branch.norm_k, key), value


def _modulation(branch: Branch, emb: Tensor) -> Modulation:
    """``emb`` is SiLU of the time embedding: [B, F, 1, dim] for video, [B, 1, dim] for text."""
    return Modulation(*branch.modulation(emb).chunk(6, dim=-1))


def _head_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    # Under autocast the weights are wider than the rest, and all that follows would be too.
    return nn.functional.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), norm.eps)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normed = nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    return torch.addcmul(shift, normed, 1 + scale)


def _add_attention(branch: Branch, x: Tensor, out: Tensor, mod: Modulation) -> Tensor:
    """The residual with what attention brought."""
    return torch.addcmul(x, mod.gate_attn, branch.to_out(out.flatten(-2)))


def _add_feed_forward(branch: Branch, x: Tensor, mod: Modulation) -> Tensor:
    """The residual with what the feed-forward brings."""
    hidden = branch.feed_forward(_modulate(x, mod.shift_mlp, mod.scale_mlp))
    return torch.addcmul(x, mod.gate_mlp, hidden)
