"""The backbone as a diffusers model: settings, precision, batches, checkpoints, guidance."""

from dataclasses import fields, replace

import pytest
import torch
from backbone_checks import Call, assert_close, extended, gradients
from torch import Tensor

from flowact.diffusion.flow import clean_from_velocity
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal

# Matrix products of another height in float32 through three layers, of values around 1.
REORDERED = 5e-6

EVERY_KIND = {"num_layers": 3, "layer_pattern": ("full", "spatial", "temporal")}
SECOND_TEXT, IMAGE = 10, 14


@pytest.fixture
def call(make_text) -> Call:
    return Call.draw([make_text(seed=0), make_text(seed=1)], audio=keyed_normal((1, 4, 8, 6), "a"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention", "causal"),
        ("context_attention", "none"),
        ("text_level", "noisy"),
        ("layer_pattern", ("full", "spatiotemporal")),
        ("layer_pattern", ()),
        ("layer_pattern", "full"),
        ("rope_axes_dim", (8, 8, 10)),
        ("rope_axes_dim", (8, 9, 7)),
        ("activation", "silu"),
        ("temporal_windows", (0, 1)),
        ("audio_every", 0),
        ("in_channels", 8),
    ],
)
def test_a_bad_setting_is_named(make_transformer, key, value):
    with pytest.raises(ValueError, match=rf"^model.transformer.{key} .*; it must") as caught:
        make_transformer(**{key: value})
    assert "\n" not in str(caught.value)


def test_guidance_scales_need_their_embedding(make_transformer, call):
    with pytest.raises(ValueError, match="guidance_embeds"):
        replace(call, guidance=torch.ones(1, 2)).velocity(make_transformer())
    with pytest.raises(ValueError, match="guidance_embeds"):
        call.velocity(make_transformer(guidance_embeds=True))


def test_saved_and_loaded_it_is_the_same_model(make_transformer, call, tmp_path):
    model = make_transformer(
        **EVERY_KIND, temporal_windows=(2, 2), audio_every=2, guidance_embeds=True
    )
    model.save_pretrained(tmp_path)
    loaded = FlowActTransformer3DModel.from_pretrained(tmp_path)
    call = replace(call, guidance=torch.tensor([[4.0, 2.0]]))
    with torch.no_grad():
        assert torch.equal(call.velocity(loaded), call.velocity(model))


@pytest.mark.parametrize("attention", ["fake_causal", "full"])
def test_a_clean_latent_is_predicted(make_transformer, call, attention):
    """The layers are the same: what the one gives as the velocity is the other's clean latent."""
    model = make_transformer(attention=attention)
    other = extended(model, predicts="clean")
    levels = call.levels[:, None, :, None, None]
    assert (levels > 0.05).all()
    with torch.no_grad():
        seen = clean_from_velocity(call.stream, call.velocity(other), levels)
        # A difference divided and multiplied again, in float32, of values around 1.
        torch.testing.assert_close(seen, call.velocity(model), atol=1e-5, rtol=1e-5)
        near = replace(call, levels=torch.full_like(call.levels, 1e-4))
        assert near.velocity(other).abs().max() < 1e3  # finite where it is divided by nothing


def test_checkpointed_gradients_are_equal_and_keep_less(make_transformer, call):
    """The same operations run twice on one machine: equal to the bit."""
    model = make_transformer(**EVERY_KIND)
    inputs = [call.context, call.stream, *(text.embeds for text in call.texts)]
    for tensor in inputs:
        tensor.requires_grad_()
    inputs += model.parameters()

    def run() -> tuple[tuple[Tensor, ...], int]:
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            velocity = call.velocity(model)
        return gradients(velocity, inputs), sum(x.numel() for x in kept)

    plain, plain_kept = run()
    model.enable_gradient_checkpointing()
    checkpointed, checkpointed_kept = run()
    assert all(torch.equal(mine, other) for mine, other in zip(checkpointed, plain, strict=True))
    assert checkpointed_kept < plain_kept / 2


@pytest.mark.parametrize("attention", ["fake_causal", "full"])
def test_samples_of_a_batch_are_strangers(make_transformer, attention):
    """Padded texts, a second text or an image that only one has: two are one and one."""
    model = make_transformer(
        **EVERY_KIND, text_embed_2_dim=SECOND_TEXT, image_embed_dim=IMAGE, attention=attention
    )

    def prompt(seed: int, real: tuple[int, int], second: tuple[int, int]) -> TextInputs:
        return TextInputs(
            keyed_normal((2, 5, 12), "text", seed),
            torch.arange(5) < torch.tensor(real)[:, None],
            keyed_normal((2, 4, SECOND_TEXT), "second", seed),
            torch.arange(4) < torch.tensor(second)[:, None],
            keyed_normal((2, 3, IMAGE), "image") * torch.tensor([0, 1])[:, None, None],
        )

    both = Call.draw(
        [prompt(0, (5, 2), (0, 4)), prompt(1, (1, 3), (4, 1))],
        audio=keyed_normal((2, 4, 8, 6), "audio"),
    )
    with torch.no_grad():
        together = both.velocity(model)
        for sample in range(2):
            assert_close(together[sample, None], one(both, sample).velocity(model), REORDERED)


def one(call: Call, sample: int) -> Call:
    """A sample of a batch by itself."""
    texts = tuple(
        TextInputs(*(getattr(text, field.name)[sample, None] for field in fields(text)))
        for text in call.texts
    )
    return replace(
        call,
        texts=texts,
        **{
            name: getattr(call, name)[sample, None]
            for name in ("context", "stream", "levels", "audio")
        },
    )


def test_one_level_for_all_is_that_level_for_each(make_transformer, make_text):
    model = make_transformer(**EVERY_KIND)
    packed, text = keyed_normal((2, 9, 3, 4, 6), "packed"), make_text(batch=2)
    time = torch.tensor([300.0, 900.0])
    with torch.no_grad():
        each = model(packed, time[:, None].expand(-1, 3), text)
        assert_close(model(packed, time, text), each, REORDERED)
        assert not torch.allclose(model(packed, time.flip(0), text), each, atol=1e-2)


def test_half_precision_is_close(make_transformer, call):
    model = make_transformer(**EVERY_KIND)
    with torch.no_grad():
        expected = call.velocity(model)
        half = {
            name: getattr(call, name).bfloat16() for name in ("context", "stream", "audio")
        }  # levels stay in float32: 1000 s would be off by up to 2
        texts = tuple(replace(text, embeds=text.embeds.bfloat16()) for text in call.texts)
        velocity = replace(call, texts=texts, **half).velocity(model.bfloat16())
    assert velocity.dtype == torch.bfloat16
    # bfloat16 rounds each of some ten values in a row by up to 2^-9 of itself.
    error = (velocity.float() - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt()
    assert error < 0.02


def test_a_fresh_guidance_embedding_changes_nothing(make_transformer, call):
    plain = make_transformer()
    fresh = extended(plain, guidance_embeds=True)
    with torch.no_grad():
        guided = replace(call, guidance=torch.tensor([[4.0, 2.0]])).velocity(fresh)
        assert torch.equal(guided, call.velocity(plain))


def test_a_fresh_reference_below_changes_nothing(make_transformer, call):
    plain = make_transformer()
    fresh = extended(plain, reference_below=True)
    with torch.no_grad():
        told = replace(call, reference=call.context[:, :, :1]).velocity(fresh)
        assert torch.equal(told, call.velocity(plain))


def test_each_cell_of_the_stream_is_told_what_lies_below_it(make_transformer, call):
    """Where layers look across no places, a cell that differs is noticed above it alone."""
    own_place = {"layer_pattern": ("temporal",), "temporal_windows": (4, 6)}
    model = make_transformer(reference_below=True, **own_place)
    reference = call.context[:, :, :1]
    other = reference.clone()
    other[..., 2, 3] += 1
    with torch.no_grad():
        texts, context = call.encode(model)
        without, told, differently = (
            replace(call, reference=below).denoise(model, texts, context)
            for below in (None, reference, other)
        )
    assert ((told - without).abs().amin(dim=(0, 1)) > 0).all()
    changed = (told != differently).any(dim=1)[0]
    assert changed[:, 2, 3].all()
    assert changed.sum() == len(changed)


def test_guidance_is_told_to_the_stream_alone(make_transformer, call):
    model = make_transformer(guidance_embeds=True)
    scales = [(4.0, 2.0), (5.0, 2.0), (4.0, 3.0)]
    with torch.no_grad():
        texts, context = call.encode(model)
        plain_texts, plain_context = call.encode(make_transformer())
        velocities = [
            replace(call, guidance=torch.tensor([pair])).denoise(model, texts, context)
            for pair in scales
        ]
    for layer, plain in zip(context.layers, plain_context.layers, strict=True):
        assert torch.equal(layer.key, plain.key)
    for text, plain in zip(texts, plain_texts, strict=True):
        assert torch.equal(text.layers[-1].key, plain.layers[-1].key)
    assert not torch.allclose(velocities[1], velocities[0], atol=1e-3)
    assert not torch.allclose(velocities[2], velocities[0], atol=1e-3)
