"""One call of the backbone as a value that tests vary, and the comparison of two results."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowact.models.caches import ContextCache, TextCache
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal

CONTEXT_SLOTS, STREAM_SLOTS = (0, 9, 12), (13, 14, 15, 16)


@dataclass(frozen=True)
class Call:
    """Three context latents and four of the stream, under two prompts in turn."""

    context: Tensor
    stream: Tensor
    levels: Tensor
    texts: tuple[TextInputs, ...]
    text_of_latent: tuple[int, ...] = (0, 1, 1, 0)
    context_slots: Tensor = torch.tensor(CONTEXT_SLOTS)
    stream_slots: Tensor = torch.tensor(STREAM_SLOTS)
    audio: Tensor | None = None
    guidance: Tensor | None = None

    @classmethod
    def draw(
        cls, texts: Sequence[TextInputs], grid: tuple[int, int] = (4, 6), **changes: object
    ) -> "Call":
        batch, stream = len(texts[0].embeds), len(STREAM_SLOTS)
        drawn = {
            "context": keyed_normal((batch, 4, len(CONTEXT_SLOTS), *grid), "context"),
            "stream": keyed_normal((batch, 4, stream, *grid), "stream"),
            "levels": keyed_normal((batch, stream), "levels").sigmoid(),
            "texts": tuple(texts),
        }
        return cls(**{**drawn, **changes})

    def encode(self, model: FlowActTransformer3DModel) -> tuple[list[TextCache], ContextCache]:
        texts = [model.encode_text(text) for text in self.texts]
        return texts, model.encode_context(self.context, self.context_slots)

    def denoise(
        self, model: FlowActTransformer3DModel, texts: list[TextCache], context: ContextCache
    ) -> Tensor:
        return model.denoise(
            self.stream,
            self.levels,
            self.stream_slots,
            texts,
            self.text_of_latent,
            model.place_context(context, self.context_slots),
            self.audio,
            self.guidance,
        )

    def velocity(self, model: FlowActTransformer3DModel) -> Tensor:
        return self.denoise(model, *self.encode(model))


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random projection of ``output``; zero where it does not depend on an input."""
    cotangent = keyed_normal(tuple(output.shape), "cotangent").to(output.dtype)
    return torch.autograd.grad(output, inputs, cotangent, allow_unused=True, materialize_grads=True)


def assert_close(mine: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to ``tolerance`` of the largest value, or of 1 where all are smaller."""
    assert mine.shape == expected.shape
    error = (mine - expected).abs().max().item()
    allowed = tolerance * max(1.0, expected.abs().max().item())
    assert error <= allowed, f"off by {error:.2e}, allowed {allowed:.2e}"


def assert_same_with_gradients(
    mine: Tensor, expected: Tensor, inputs: Sequence[Tensor], tolerance: float
) -> None:
    assert_close(mine, expected, tolerance)
    pairs = zip(gradients(mine, inputs), gradients(expected, inputs), strict=True)
    for my_gradient, expected_gradient in pairs:
        assert_close(my_gradient, expected_gradient, tolerance)
