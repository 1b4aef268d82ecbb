"""Fake-causal attention through whole models: the calls are one masked sequence, and its laws."""

from dataclasses import replace

import pytest
import torch
from backbone_checks import Call, assert_close, assert_same_with_gradients, gradients
from dense_reference import Layout, dense_denoise
from torch import Tensor

from flowact.models.caches import ContextCache
from flowact.models.transformer import FlowActTransformer3DModel

# Two orders of summation in float32 through four layers, of values around 1.
REORDERED = 1e-5

GRID, WINDOWS = (5, 7), (2, 3)
ROWS, COLUMNS = (0, 0, 0, 1, 1), (0, 0, 0, 1, 1, 2, 2)  # the uneven windows of WINDOWS on GRID
PATTERNS = [("full",), ("spatial", "temporal"), ("temporal", "full", "spatial")]


@pytest.fixture
def call(make_text) -> Call:
    return Call.draw([make_text(seed=0), make_text(seed=1)])


@pytest.mark.parametrize("context", ["self", "joint"])
@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
def test_a_model_is_one_masked_sequence(make_transformer, make_text, pattern, context):
    """Text, context and stream passes against all tokens at once under one mask a layer."""
    model = make_transformer(
        num_layers=4,
        layer_pattern=pattern,
        temporal_windows=WINDOWS,
        context_attention=context,
        audio_feature_dim=None,
    )
    texts = [make_text(seed=0, batch=2, real=(5, 2)), make_text(seed=1, batch=2)]
    call = Call.draw(texts, GRID)
    inputs = [call.context, call.stream, call.levels, *(text.embeds for text in texts)]
    for tensor in inputs:
        tensor.requires_grad_()
    layout = Layout(
        call.context.shape[2],
        call.stream.shape[2],
        ROWS,
        COLUMNS,
        call.text_of_latent,
        tuple(text.mask for text in texts),
        joint=context == "joint",
    )
    expected = dense_denoise(
        model,
        layout,
        torch.cat((call.context, call.stream), dim=2),
        call.levels,
        torch.cat((call.context_slots, call.stream_slots)),
        texts,
    )
    inputs += model.parameters()
    assert_same_with_gradients(call.velocity(model), expected, inputs, REORDERED)
