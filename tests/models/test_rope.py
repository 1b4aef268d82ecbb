"""Rotary positions: the base model's, at any slots."""

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15RotaryPosEmbed

from flowact.models.rope import rotary, rotate
from flowact.rng import keyed_normal

AXES, THETA, GRID = (4, 6, 6), 256.0, (3, 5)
HEAD_DIM = sum(AXES)


def tokens(latents: int, key: str = "x") -> torch.Tensor:
    return keyed_normal((2, latents, GRID[0] * GRID[1], 2, HEAD_DIM), key)


def test_it_is_the_base_models_rotation():
    x = tokens(4)
    theirs = HunyuanVideo15RotaryPosEmbed(1, 1, list(AXES), THETA)(torch.zeros(1, 1, 4, *GRID))
    expected = apply_rotary_emb(x.flatten(1, 2), theirs, sequence_dim=1).unflatten(1, x.shape[1:3])
    mine = rotate(x, rotary(torch.arange(4), GRID, AXES, THETA))
    # Two products and a sum of values around 1, each rounded once.
    torch.testing.assert_close(mine, expected, atol=1e-6, rtol=0)


def test_a_latents_rotation_depends_on_its_own_slot_alone():
    slots = torch.tensor([0, 9, 12, 13])
    together = rotary(slots, GRID, AXES, THETA)
    for place, slot in enumerate(slots):
        alone = rotary(slot[None], GRID, AXES, THETA)
        assert torch.equal(alone[0], together[place])


def test_scores_depend_on_differences_of_slots_alone():
    query, key = tokens(3, "query"), tokens(3, "key")

    def scores(shift: int, between: int = 1) -> torch.Tensor:
        turns = rotary(between * torch.arange(3) + shift, GRID, AXES, THETA)
        turned = (rotate(x, turns).flatten(1, 2) for x in (query, key))
        return torch.einsum("bqhd,bkhd->bhqk", *turned)

    # Angles of up to 30 radians in float32 are off by 2e-6 each; scores are sums of 16 products.
    torch.testing.assert_close(scores(27), scores(0), atol=1e-4, rtol=0)
    assert not torch.allclose(scores(0, between=3), scores(0), atol=1e-1)


@pytest.mark.parametrize(("axis", "place"), [(0, (1, 0, 0)), (1, (0, 1, 0)), (2, (0, 0, 1))])
def test_each_axis_turns_its_own_dimensions(axis, place):
    x = tokens(2)
    turned = rotate(x, rotary(torch.arange(2), GRID, AXES, THETA))
    latent, row, column = place
    token = row * GRID[1] + column
    moved = (turned[:, latent, token] != x[:, latent, token]).any(dim=(0, 1)).split(AXES)
    assert [part.all().item() for part in moved] == [other == axis for other in range(3)]
    assert [part.any().item() for part in moved] == [other == axis for other in range(3)]


def test_the_first_token_at_slot_zero_is_not_turned():
    x = tokens(1)
    assert torch.equal(rotate(x, rotary(torch.tensor([0]), GRID, AXES, THETA))[:, :, 0], x[:, :, 0])


def test_half_precision_is_turned_in_float32_and_rounded_once():
    turns = rotary(torch.arange(4), GRID, AXES, THETA)
    half = tokens(4).bfloat16()
    turned = rotate(half, turns)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate(half.float(), turns).bfloat16())
