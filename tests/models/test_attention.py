"""Attention calls against one masked attention over everything, forward and backward."""

import pytest
import torch
from backbone_checks import assert_same_with_gradients
from dense_reference import Layout, dense_attention
from torch import Tensor

from flowact.models import attention, attention_by_heads
from flowact.models.attention import (
    Grid,
    KeyValue,
    TextKeyValue,
    attend,
    context_attention,
    joint_attention,
    stream_attention,
    text_attention,
)
from flowact.rng import keyed_normal
from flowact.settings import LayerKind

# The same sums over a few hundred keys in another order, of values around 1; 5e-7 was seen.
REORDERED = 5e-6

GRID = Grid(5, 7, windows=(2, 3))
ROWS, COLUMNS = (0, 0, 0, 1, 1), (0, 0, 0, 1, 1, 2, 2)  # the uneven windows of GRID
BATCH, LENGTH, HEADS, HEAD_DIM = 2, 6, 2, 8
EVERYTHING_REAL = ((6, 6), (6, 6), (6, 6))
PADDED = ((6, 6), (6, 2), (1, 5))


def text_masks(real) -> tuple[Tensor, ...]:
    return tuple(torch.arange(LENGTH) < torch.tensor(lengths)[:, None] for lengths in real)


def by_calls(qkv: Tensor, layout: Layout, kind: LayerKind) -> Tensor:
    """The sequence of ``layout`` through text, context and stream attention."""
    context, stream, texts = qkv.split(layout.sizes, dim=2)
    context, stream = (part.unflatten(2, (-1, layout.latent_tokens)) for part in (context, stream))
    prompts = [
        (query, TextKeyValue(key, value, None if mask.all() else mask))
        for (query, key, value), mask in zip(texts.split(LENGTH, dim=2), layout.real, strict=True)
    ]
    memory, own = KeyValue(*context[1:]), KeyValue(*stream[1:])
    outputs = [
        stream_attention(
            stream[0],
            own,
            memory.before(own),
            [text for _, text in prompts],
            layout.text_of_latent,
            kind,
            GRID,
        ).flatten(1, 2)
    ]
    if layout.context:
        heard = context_attention(context[0], memory, kind, GRID, layout.joint)
        outputs.insert(0, heard.flatten(1, 2))
    return torch.cat((*outputs, *(text_attention(query, text) for query, text in prompts)), dim=1)


@pytest.mark.parametrize("real", [EVERYTHING_REAL, PADDED], ids=["all-real", "padded"])
@pytest.mark.parametrize("text_of_latent", [(1, 1, 1), (0, 1, 0, 2, 1, 0)], ids=["one", "several"])
@pytest.mark.parametrize("context", [0, 1, 3])
@pytest.mark.parametrize("joint", [False, True], ids=["self", "joint"])
@pytest.mark.parametrize("kind", list(LayerKind))
def test_calls_equal_one_masked_attention(kind, joint, context, text_of_latent, real):
    layout = Layout(
        context, len(text_of_latent), ROWS, COLUMNS, text_of_latent, text_masks(real), joint
    )
    qkv = keyed_normal((3, BATCH, sum(layout.sizes), HEADS, HEAD_DIM), "qkv").requires_grad_()
    expected = dense_attention(*qkv, layout.seen(kind))
    assert_same_with_gradients(by_calls(qkv, layout, kind), expected, [qkv], REORDERED)


@pytest.mark.parametrize("real", [(6, 6), (6, 2)], ids=["all-real", "padded"])
def test_joint_attention_is_everything_to_every_real_key(real):
    latents, tokens = 3, 4
    qkv = keyed_normal((3, BATCH, latents * tokens + LENGTH, HEADS, HEAD_DIM), "joint")
    qkv.requires_grad_()
    video, text = qkv.split((latents * tokens, LENGTH), dim=2)
    video = video.unflatten(2, (latents, tokens))
    (mask,) = text_masks([real])
    outputs = joint_attention(
        video[0],
        KeyValue(*video[1:]),
        text[0],
        TextKeyValue(text[1], text[2], None if mask.all() else mask),
    )
    assert [tuple(out.shape[1:3]) for out in outputs] == [(latents, tokens), (LENGTH, HEADS)]
    seen = torch.nn.functional.pad(mask, (latents * tokens, 0), value=True)[:, None]
    expected = dense_attention(*qkv, seen.expand(-1, qkv.shape[2], -1))
    out = torch.cat((outputs[0].flatten(1, 2), outputs[1]), dim=1)
    assert_same_with_gradients(out, expected, [qkv], REORDERED)


@pytest.mark.parametrize("backend", ["products", "by three heads", "dispatcher"])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_is_attention_by_each_path(monkeypatch, backend, masked):
    if backend == "dispatcher":
        monkeypatch.setattr(attention, "SMALL_ON_CPU", {})
    if backend == "by three heads":  # of four, so that a round is left for one
        monkeypatch.setattr(attention_by_heads, "CACHED_BYTES", 3 * 7 * 11 * 4)
    query = keyed_normal((BATCH, 7, HEADS, HEAD_DIM), "query").requires_grad_()
    key, value = keyed_normal((2, BATCH, 11, HEADS, HEAD_DIM), "key and value")
    key.requires_grad_(), value.requires_grad_()
    mask = torch.arange(11) < torch.tensor([[11], [4]]) if masked else None
    seen = torch.ones(BATCH, 7, 11, dtype=torch.bool) if mask is None else mask[:, None]
    out, expected = attend(query, key, value, mask), dense_attention(query, key, value, seen)
    assert_same_with_gradients(out, expected, [query, key, value], REORDERED)


def test_paths_of_attend_agree_in_bfloat16(monkeypatch):
    query, key, value = keyed_normal((3, 1, 50, HEADS, HEAD_DIM), "half").bfloat16()
    products = attend(query, key, value)
    monkeypatch.setattr(attention, "SMALL_ON_CPU", {})
    # Values around 1 with 8 bits: the products round scores and weights, the kernel does not.
    torch.testing.assert_close(products, attend(query, key, value), atol=2e-2, rtol=0)
