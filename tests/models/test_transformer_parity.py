"""The base model's weights give the base model's output: forward and backward, on random nets."""

import inspect
from dataclasses import dataclass

import pytest
import torch
from backbone_checks import assert_close, gradients
from diffusers import HunyuanVideo15Transformer3DModel
from torch import Tensor

from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal

# Softmax and matrix products in another order in float32, values around 1; 1.7e-6 was seen.
REORDERED = 1e-5

TEXT, SECOND_TEXT, IMAGE = 12, 10, 14  # dimensions of the three condition streams
LATENT_CHANNELS, FRAMES, GRID = 4, 3, (4, 6)


@dataclass(frozen=True)
class Case:
    """Sizes that differ from the tiny model's, and how many tokens of each sample are real."""

    changes: dict[str, object]
    text: tuple[int, ...]
    second_text: tuple[int, ...]
    image: tuple[bool, ...]


CASES = {
    "one-sample": Case({}, text=(5,), second_text=(4,), image=(True,)),
    "padded": Case({"num_layers": 3}, (5, 2), (1, 4), (True, True)),
    "patch-2": Case({"patch_size": 2, "num_refiner_layers": 2}, (3, 5), (2, 2), (True, True)),
    "no-image": Case({"mlp_ratio": 4.0, "num_attention_heads": 3}, (5, 4), (4, 2), (False, False)),
    "no-second-text": Case(
        {"attention_head_dim": 16, "rope_axes_dim": (4, 6, 6), "rope_theta": 100.0},
        (3, 5),
        (0, 0),
        (True, True),
    ),
    "one-second-text": Case({}, (3, 5), (0, 3), (True, True)),
    "text-alone": Case({"num_layers": 1}, (4, 4), (0, 0), (False, False)),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def mine(make_transformer, case) -> FlowActTransformer3DModel:
    return make_transformer(
        text_embed_2_dim=SECOND_TEXT,
        image_embed_dim=IMAGE,
        audio_feature_dim=None,
        attention="full",
        text_level="same",
        **case.changes,
    )


@pytest.fixture
def theirs(mine) -> HunyuanVideo15Transformer3DModel:
    settings = inspect.signature(HunyuanVideo15Transformer3DModel).parameters
    config = {key: value for key, value in mine.config.items() if key in settings}
    model = HunyuanVideo15Transformer3DModel(**config).eval()
    model.load_state_dict(mine.state_dict())
    return model


def draw(case: Case) -> tuple[Tensor, Tensor, TextInputs]:
    """Packed latents, times and condition streams, all asking for gradients."""

    def leaf(*shape: int) -> Tensor:
        return keyed_normal(shape, "input")

    batch = len(case.text)
    text = TextInputs(
        embeds=leaf(batch, 5, TEXT),
        mask=torch.arange(5) < torch.tensor(case.text)[:, None],
        embeds_2=leaf(batch, 4, SECOND_TEXT),
        mask_2=torch.arange(4) < torch.tensor(case.second_text)[:, None],
        image_embeds=leaf(batch, 3, IMAGE) * torch.tensor(case.image)[:, None, None],
    )
    packed = leaf(batch, 2 * LATENT_CHANNELS + 1, FRAMES, *GRID)
    return packed, 1000 * leaf(batch).sigmoid(), text


def test_forward_and_gradients_are_the_base_models(mine, theirs, case):
    packed, time, text = draw(case)
    inputs = [packed, time, text.embeds, text.embeds_2, text.image_embeds]
    for tensor in inputs:
        tensor.requires_grad_()
    velocity = mine(packed, time, text)
    (expected,) = theirs(
        packed,
        time,
        encoder_hidden_states=text.embeds,
        encoder_attention_mask=text.mask,
        encoder_hidden_states_2=text.embeds_2,
        encoder_attention_mask_2=text.mask_2,
        image_embeds=text.image_embeds,
        return_dict=False,
    )
    assert_close(velocity, expected, REORDERED)

    weights, their_weights = dict(mine.named_parameters()), dict(theirs.named_parameters())
    assert weights.keys() == their_weights.keys()
    my_gradients = gradients(velocity, [*inputs, *weights.values()])
    expected_gradients = gradients(expected, [*inputs, *(their_weights[name] for name in weights)])
    for gradient, expected_gradient in zip(my_gradients, expected_gradients, strict=True):
        assert_close(gradient, expected_gradient, REORDERED)


def test_only_new_parts_have_new_weights(make_transformer):
    """What the base's checkpoints do not hold is the adapter's and the guidance embedding's."""
    base = make_transformer(audio_feature_dim=None).state_dict().keys()
    whole = make_transformer(guidance_embeds=True).state_dict().keys()
    assert whole > base
    assert all("audio" in key or "guidance" in key for key in whole - base)
