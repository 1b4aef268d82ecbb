"""Fake-causal attention through whole models: the calls are one masked sequence, and its laws."""

from dataclasses import replace

import pytest
import torch
from backbone_checks import Call, assert_close, assert_same_with_gradients, gradients
from dense_reference import Layout, dense_denoise
from torch import Tensor

from flowact.models.caches import ContextCache
from flowact.models.transformer import TIME_SCALE, FlowActTransformer3DModel
from flowact.rng import keyed_normal

# Two orders of summation in float32 through four layers, of values around 1; 1.3e-6 was seen.
REORDERED = 5e-6

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
        torch.tensor(call.context_slots + call.stream_slots),
        texts,
    )
    inputs += model.parameters()
    assert_same_with_gradients(call.velocity(model), expected, inputs, REORDERED)


@pytest.mark.parametrize("context", ["self", "joint"])
def test_what_is_kept_equals_what_is_made_anew(make_transformer, call, context):
    """However many calls it has served: no call writes to it, whatever the stream holds."""
    model = make_transformer(layer_pattern=("full", "temporal"), context_attention=context)
    with torch.no_grad():
        texts, memory = call.encode(model)
        first = call.denoise(model, texts, memory)
        other = replace(call, stream=call.stream + 1).denoise(model, texts, memory)
        second = call.denoise(model, texts, memory)
        texts_anew, memory_anew = call.encode(model)
    assert not torch.equal(first, other)
    assert torch.equal(first, second)
    for text, text_anew in zip(texts, texts_anew, strict=True):
        assert all_equal(text.layers, text_anew.layers)
    assert all_equal(memory.layers, memory_anew.layers)


def assert_close_caches(mine: ContextCache, expected: ContextCache) -> None:
    """Queries and keys turn together, and matrix products may be cut otherwise: but to rounding."""
    for layer, expected_layer in zip(mine.layers, expected.layers, strict=True):
        assert (layer is None) == (expected_layer is None)
        for part, expected_part in zip(layer or (), expected_layer or (), strict=True):
            assert_close(part, expected_part, REORDERED)


def all_equal(layers, others) -> bool:
    pairs = [
        (x, y)
        for layer, other in zip(layers, others, strict=True)
        for x, y in zip(layer or (), other or (), strict=True)
        if x is not None
    ]
    return bool(pairs) and all(torch.equal(x, y) for x, y in pairs)


def reach(
    model: FlowActTransformer3DModel, call: Call, latent: int, of: list[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of one stream latent's velocity with respect to each tensor ``of``."""
    for tensor in of:
        tensor.requires_grad_()
    return gradients(call.velocity(model)[:, :, latent], of)


@pytest.mark.parametrize(
    ("kind", "sees_others", "sees_text"),
    [("full", True, True), ("spatial", False, True), ("temporal", True, False)],
)
def test_what_one_layer_hears(make_transformer, call, kind, sees_others, sees_text):
    model = make_transformer(num_layers=1, layer_pattern=(kind,))
    prompts = [text.embeds for text in call.texts]
    for latent, own in enumerate(call.text_of_latent):
        stream, context, *texts = reach(model, call, latent, [call.stream, call.context, *prompts])
        others = [j for j in range(stream.shape[2]) if j != latent]
        assert stream[:, :, latent].any()
        assert [bool(stream[:, :, other].any()) for other in others] == [sees_others] * len(others)
        assert [bool(c.any()) for c in context.unbind(2)] == [sees_others] * context.shape[2]
        assert bool(texts[own].any()) == sees_text
        assert not texts[1 - own].any()


def test_prompts_meet_in_the_stream(make_transformer, call):
    """From the second layer on, a chunk hears another's prompt through that chunk."""
    prompts = [text.embeds for text in call.texts]
    mine, other = reach(make_transformer(num_layers=2), call, 0, prompts)
    assert mine.any()
    assert other.any()


def test_a_latent_that_sees_only_itself_is_encoded_for_life(make_transformer, call):
    """Alone or among others, in this slot or that, its keys and values are the same."""
    model = make_transformer(num_layers=3, layer_pattern=("full", "spatial", "temporal"))
    with torch.no_grad():
        together = model.encode_context(call.context, torch.tensor(call.context_slots))
        moved = model.encode_context(call.context, torch.tensor([0, 3, 6]))
        alone = [
            model.encode_context(latent, torch.tensor([0]))
            for latent in call.context.split(1, dim=2)
        ]
    assert [layer is None for layer in together.layers] == [False, True, False]
    joined = ContextCache.join(alone)
    assert torch.equal(joined.latents, call.context)
    for mine in (moved, joined):
        assert_close_caches(mine, together)


@pytest.mark.parametrize("attention", ["fake_causal", "full"])
@pytest.mark.parametrize("new", [1, 3])
def test_new_context_may_go_with_the_stream(make_transformer, call, new, attention):
    """In one pass with the stream, under what is kept: as if encoded before it."""
    model = make_transformer(
        num_layers=3,
        layer_pattern=("full", "spatial", "temporal"),
        attention=attention,
        guidance_embeds=True,
    )
    audio, guidance = keyed_normal((1, 4, 8, 6), "audio"), torch.tensor([[4.0, 2.0]])
    call = replace(call, audio=audio, guidance=guidance)
    with torch.no_grad():
        texts, _ = call.encode(model)
        kept, fresh = call.context.split((3 - new, new), dim=2)
        kept_slots, new_slots = torch.tensor(call.context_slots).split((3 - new, new))
        placed = None
        if new < 3:
            placed = model.place_context(model.encode_context(kept, kept_slots), kept_slots)
        velocity, cache = model.encode_and_denoise((fresh, new_slots), call.inputs(texts), placed)
        assert_close(velocity, call.velocity(model), REORDERED)
        assert torch.equal(cache.latents, fresh)
        if attention == "fake_causal":
            assert_close_caches(cache, model.encode_context(fresh, new_slots))


def test_joint_context_depends_on_slots_and_company(make_transformer, call):
    model = make_transformer(context_attention="joint")
    with torch.no_grad():
        together = model.encode_context(call.context, torch.tensor(call.context_slots))
        spread = model.encode_context(call.context, torch.tensor([0, 3, 6]))
        alone = model.encode_context(call.context[:, :, :1], torch.tensor([0]))
    assert torch.equal(together.layers[0].key, spread.layers[0].key)  # made before attention
    assert not torch.allclose(together.layers[1].key, spread.layers[1].key, atol=1e-2)
    assert not torch.allclose(together.layers[1].key[:, :1], alone.layers[1].key, atol=1e-2)


def test_a_level_is_a_latents_own(make_transformer, call):
    """Without attention between latents, another level changes its own latent and no other."""
    model = make_transformer(num_layers=1, layer_pattern=("spatial",))
    levels = call.levels.clone()
    levels[:, 2] += 0.1
    with torch.no_grad():
        moved = (replace(call, levels=levels).velocity(model) != call.velocity(model)).flatten(3)
    assert moved.any(dim=(0, 1, 3)).tolist() == [False, False, True, False]


def test_shifting_all_slots_changes_nothing_without_text(make_transformer, call):
    """Text keys have no place on the time axis; between latents only distances count."""
    model = make_transformer(layer_pattern=("temporal",))
    later = tuple(slot + 5 for slot in call.stream_slots)
    apart = replace(call, stream_slots=later)
    shifted = replace(apart, context_slots=tuple(slot + 5 for slot in call.context_slots))
    with torch.no_grad():
        here, there, elsewhere = (c.velocity(model) for c in (call, shifted, apart))
    # Angles up to 20 radians in float32 are off by 1e-6.
    assert_close(there, here, 1e-5)
    assert not torch.allclose(elsewhere, here, atol=1e-2)


def test_full_attention_is_the_base_models_over_context_and_stream(make_transformer, call):
    """The ablation, with one prompt and slots in a row, is ``forward`` with the context clean."""
    model = make_transformer(attention="full", layer_pattern=("full", "spatial", "temporal"))
    context, stream = call.context.shape[2], call.stream.shape[2]
    one_prompt = replace(
        call,
        texts=call.texts[:1],
        text_of_latent=(0,) * stream,
        context_slots=tuple(range(context)),
        stream_slots=tuple(range(context, context + stream)),
    )
    latents = torch.cat((call.context, call.stream), dim=2)
    is_context = torch.zeros_like(latents[:, :1])
    is_context[:, :, :context] = 1
    packed = torch.cat((latents, latents * is_context, is_context), dim=1)
    time = TIME_SCALE * torch.nn.functional.pad(call.levels, (context, 0))
    with torch.no_grad():
        expected = model(packed, time, call.texts[0])[:, :, context:]
        assert_close(one_prompt.velocity(model), expected, REORDERED)


def test_full_attention_lets_context_and_text_see_the_stream(make_transformer, call):
    model = make_transformer(attention="full")
    kept = []
    model.transformer_blocks[0].register_forward_hook(lambda *args: kept.append(args[-1]))
    with torch.no_grad():
        call.velocity(model)
        replace(call, stream=call.stream + 1).velocity(model)
    (video, text), (other_video, other_text) = kept
    context = call.context.shape[2]
    assert video.shape[1] == context + call.stream.shape[2]
    assert text.shape[1] == sum(prompt.embeds.shape[1] for prompt in call.texts)
    assert (video != other_video).flatten(2).any(dim=2).all()
    assert (text != other_text).any(dim=-1).all()
