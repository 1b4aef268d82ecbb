"""The audio adapter: fresh it is not there, trained each latent hears its own window alone."""

from dataclasses import replace

import pytest
import torch
from backbone_checks import Call, extended, gradients

from flowact.models.audio_adapter import AudioCrossAttention, AudioProjector
from flowact.rng import keyed_normal

LATENTS, WINDOW, FEATURE_DIM = 4, 8, 6


@pytest.fixture
def call(make_text) -> Call:
    audio = keyed_normal((1, LATENTS, WINDOW, FEATURE_DIM), "audio")
    return Call.draw([make_text(seed=0), make_text(seed=1)], audio=audio)


@pytest.mark.parametrize("attention", ["fake_causal", "full"])
def test_a_fresh_adapter_changes_nothing_and_can_learn(make_transformer, call, attention):
    plain = make_transformer(audio_feature_dim=None, attention=attention)
    fresh = extended(plain, audio_feature_dim=FEATURE_DIM)
    velocity = call.velocity(fresh)
    assert torch.equal(velocity, replace(call, audio=None).velocity(plain))
    outputs = [block.audio.to_out.weight for block in fresh.transformer_blocks]
    assert all(gradient.any() for gradient in gradients(velocity, outputs))


def test_a_latent_hears_its_own_audio_alone(make_transformer, call):
    """To the bit, where latents do not see one another."""
    model = make_transformer(layer_pattern=("spatial",))
    audio = call.audio.clone()
    audio[:, 2] += 1
    with torch.no_grad():
        moved = (replace(call, audio=audio).velocity(model) != call.velocity(model)).flatten(3)
    assert moved.any(dim=(0, 1, 3)).tolist() == [False, False, True, False]


def test_every_feature_of_the_window_is_heard(make_transformer, call):
    model = make_transformer()
    call.audio.requires_grad_()
    (gradient,) = gradients(call.velocity(model), [call.audio])
    assert gradient.all()


def test_audio_shifted_by_one_latent_shifts_its_conditioning_by_one(call):
    """Latents that look alike hear alike, wherever in the stream they are."""
    torch.manual_seed(0)
    projector = AudioProjector(FEATURE_DIM, WINDOW, tokens=3, dim=8)
    adapter = AudioCrossAttention(dim=48, audio_dim=8, heads=2, head_dim=24)
    torch.nn.init.normal_(adapter.to_out.weight)
    x = keyed_normal((1, 1, 24, 48), "tokens").expand(-1, LATENTS, -1, -1)
    with torch.no_grad():
        heard = adapter(x, projector(call.audio))
        shifted = adapter(x, projector(call.audio.roll(1, dims=1)))
    # A row's place in a matrix product may change the order of its sum in float32.
    torch.testing.assert_close(shifted, heard.roll(1, dims=1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(shifted, heard, atol=1e-1)


def test_null_audio_is_a_condition_of_its_own(make_transformer, call):
    """Zero features are heard, by learnt biases; the adapter is not skipped."""
    model = make_transformer()
    null = replace(call, audio=torch.zeros_like(call.audio))
    skipped = replace(call, audio=None)
    with torch.no_grad():
        assert not torch.allclose(null.velocity(model), skipped.velocity(model), atol=1e-2)


def test_text_and_context_have_no_audio(make_transformer, call):
    """Their caches are those of the same weights without the adapter."""
    with torch.no_grad():
        texts, context = call.encode(make_transformer())
        plain_texts, plain_context = call.encode(make_transformer(audio_feature_dim=None))
    kept = [*context.layers, *(layer for text in texts for layer in text.layers)]
    plain = [*plain_context.layers, *(layer for text in plain_texts for layer in text.layers)]
    for layer, plain_layer in zip(kept, plain, strict=True):
        assert torch.equal(layer.key, plain_layer.key)
        assert torch.equal(layer.value, plain_layer.value)


def test_adapters_are_in_every_kth_layer(make_transformer):
    model = make_transformer(num_layers=5, audio_every=2)
    placed = [block.audio is not None for block in model.transformer_blocks]
    assert placed == [True, False, True, False, True]
