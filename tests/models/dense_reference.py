"""The rule of who sees whom (paper 2.2) as one mask over one sequence, to check the calls against.

The sequence is [context, stream, text A, text B, ...], padding included, and all prompts are of
one padded length.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from flowact.models.attention import LayerKind
from flowact.models.blocks import FlowActBlock
from flowact.models.rope import rotary, rotate
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import TIME_SCALE, FlowActTransformer3DModel

CONTEXT, STREAM, TEXT = range(3)


@dataclass(frozen=True)
class Layout:
    """What every token of the sequence is.

    Attributes:
        context, stream: latents of each.
        rows, columns: temporal window of every token row and column.
        text_of_latent: for each stream latent, the index of its prompt.
        real: a mask for each prompt, [B, L].
        joint: whether context latents see one another.
    """

    context: int
    stream: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    text_of_latent: tuple[int, ...]
    real: tuple[Tensor, ...]
    joint: bool

    @property
    def latent_tokens(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Tokens of context, stream and all texts."""
        texts = len(self.real) * self.real[0].shape[1]
        return self.context * self.latent_tokens, self.stream * self.latent_tokens, texts

    def seen(self, kind: LayerKind) -> Tensor:
        """Which keys each query sees, [B, queries, keys]."""
        role, latent, window, prompt = self._labels()
        asks, told = role[:, None], role
        same_latent = latent[:, None] == latent
        near = {
            LayerKind.FULL: torch.tensor(True),
            LayerKind.SPATIAL: same_latent,
            LayerKind.TEMPORAL: window[:, None] == window,
        }[kind]
        by_context = (asks == CONTEXT) & (told == CONTEXT) & (same_latent | self.joint)
        by_stream = (asks == STREAM) & ((told == CONTEXT) | (told == STREAM))
        reads = (asks == TEXT) | (asks == STREAM) & (kind is not LayerKind.TEMPORAL)
        of_prompt = reads & (told == TEXT) & (prompt[:, None] == prompt)
        seen = near & (by_context | by_stream) | of_prompt

        video = torch.ones(len(self.real[0]), sum(self.sizes[:2]), dtype=torch.bool)
        return seen & torch.cat((video, *self.real), dim=1)[:, None]

    def _labels(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Role, latent, temporal window and prompt of every token; -1 where it has none."""
        latents, (context, stream, texts) = self.context + self.stream, self.sizes
        window = torch.tensor([10 * row + column for row in self.rows for column in self.columns])
        prompts = torch.arange(len(self.real))
        return (
            torch.tensor([CONTEXT] * context + [STREAM] * stream + [TEXT] * texts),
            torch.cat((torch.arange(latents).repeat_interleave(self.latent_tokens), _none(texts))),
            torch.cat((window.repeat(latents), _none(texts))),
            torch.cat(
                (
                    _none(context),
                    torch.tensor(self.text_of_latent).repeat_interleave(self.latent_tokens),
                    prompts.repeat_interleave(self.real[0].shape[1]),
                )
            ),
        )


def dense_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attention over [B, S, heads, head_dim] under a mask [B, queries, keys]."""
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~seen[:, None], -torch.inf).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value)


def dense_denoise(
    model: FlowActTransformer3DModel,
    layout: Layout,
    latents: Tensor,
    levels: Tensor,
    positions: Tensor,
    texts: list[TextInputs],
) -> Tensor:
    """Velocity by one masked sequence through every layer (patch size 1, no audio).

    ``latents`` and ``positions`` are those of context and stream together.
    """
    context, stream, _ = layout.sizes
    video = context + stream
    is_context = torch.zeros_like(latents[:, :1])
    is_context[:, :, : layout.context] = 1
    x = model.x_embedder(torch.cat((latents, latents * is_context, is_context), dim=1))
    clean = torch.zeros(len(latents))
    embedded = [model.context_embedder(text.embeds, clean, text.mask) for text in texts]
    x = torch.cat((x, *(text + model.cond_type_embed.weight[0] for text in embedded)), dim=1)

    time = torch.zeros(x.shape[:2])
    time[:, context:video] = TIME_SCALE * levels.repeat_interleave(layout.latent_tokens, dim=1)
    emb = model.time_embed(time.flatten()).unflatten(0, time.shape)
    emb = torch.nn.functional.silu(emb)
    grid = (len(layout.rows), len(layout.columns))
    turns = rotary(positions, grid, model.config.rope_axes_dim, model.config.rope_theta)
    for block in model.transformer_blocks:
        here = slice(None) if block.has_text else slice(video)
        seen = layout.seen(block.kind)[:, here, here]
        layer = _dense_layer(block, x[:, here], emb[:, here], turns, seen, video)
        x = torch.cat((layer, x[:, layer.shape[1] :]), dim=1)

    scale, shift = model.norm_out.linear(emb).chunk(2, dim=-1)
    x = model.proj_out(model.norm_out.norm(x) * (1 + scale) + shift)[:, context:video]
    return rearrange(x, "b (f h w) c -> b c f h w", h=grid[0], w=grid[1])


def _dense_layer(
    block: FlowActBlock, x: Tensor, emb: Tensor, turns: Tensor, seen: Tensor, video: int
) -> Tensor:
    """Every token by the weights of its own modality; all attend at once."""
    branches = [(block._video_branch(), slice(video))]
    if block.has_text:
        branches.append((block._text_branch(), slice(video, None)))

    def each(weight: str, x: Tensor) -> Tensor:
        return torch.cat([getattr(branch, weight)(x[:, part]) for branch, part in branches], dim=1)

    def turned(x: Tensor) -> Tensor:
        grid = rotate(x[:, :video].unflatten(1, turns.shape[:2]), turns)
        return torch.cat((grid.flatten(1, 2), x[:, video:]), dim=1)

    modulation = each("modulation", emb).chunk(6, dim=-1)
    shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation
    normed = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
    query, key, value = (
        each(weight, normed).unflatten(-1, (block.heads, -1)) for weight in ("to_q", "to_k", "to_v")
    )
    query, key = turned(each("norm_q", query)), turned(each("norm_k", key))
    x = x + gate * each("to_out", dense_attention(query, key, value, seen).flatten(-2))
    normed = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    return x + gate_mlp * each("feed_forward", normed * (1 + scale_mlp) + shift_mlp)


def _none(tokens: int) -> Tensor:
    return torch.full((tokens,), -1)
