"""One call of the backbone as a value that tests vary, and the comparison of two results."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowact.models.caches import ContextCache, StreamInputs, TextCache
from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.rng import keyed_normal

FLOOR = 0.1  # gradients this small are sums that cancel: their rounding is that of the parts


@dataclass(frozen=True)
class Call:
    """Three context latents and four of the stream, under two prompts in turn."""

    context: Tensor
    stream: Tensor
    levels: Tensor
    texts: tuple[TextInputs, ...]
    text_of_latent: tuple[int, ...] = (0, 1, 1, 0)
    context_slots: tuple[int, ...] = (0, 9, 12)
    stream_slots: tuple[int, ...] = (13, 14, 15, 16)
    audio: Tensor | None = None
    guidance: Tensor | None = None
    reference: Tensor | None = None

    @classmethod
    def draw(
        cls, texts: Sequence[TextInputs], grid: tuple[int, int] = (4, 6), **changes: object
    ) -> "Call":
        batch, context, stream = len(texts[0].embeds), len(cls.context_slots), len(cls.stream_slots)
        drawn = {
            "context": keyed_normal((batch, 4, context, *grid), "context"),
            "stream": keyed_normal((batch, 4, stream, *grid), "stream"),
            "levels": keyed_normal((batch, stream), "levels").sigmoid(),
            "texts": tuple(texts),
        }
        return cls(**{**drawn, **changes})

    def encode(self, model: FlowActTransformer3DModel) -> tuple[list[TextCache], ContextCache]:
        texts = [model.encode_text(text) for text in self.texts]
        return texts, model.encode_context(self.context, torch.tensor(self.context_slots))

    def denoise(
        self, model: FlowActTransformer3DModel, texts: list[TextCache], context: ContextCache
    ) -> Tensor:
        placed = model.place_context(context, torch.tensor(self.context_slots))
        return model.denoise(self.inputs(texts), placed)

    def inputs(self, texts: list[TextCache]) -> StreamInputs:
        return StreamInputs(
            self.stream,
            self.levels,
            torch.tensor(self.stream_slots),
            texts,
            self.text_of_latent,
            self.audio,
            self.guidance,
            self.reference,
        )

    def velocity(self, model: FlowActTransformer3DModel) -> Tensor:
        return self.denoise(model, *self.encode(model))


def extended(model: FlowActTransformer3DModel, **changes: object) -> FlowActTransformer3DModel:
    """The model with the parts that ``changes`` add, which start as they do in training."""
    settings = {key: value for key, value in model.config.items() if not key.startswith("_")}
    larger = FlowActTransformer3DModel(**{**settings, **changes}).eval()
    assert not larger.load_state_dict(model.state_dict(), strict=False).unexpected_keys
    return larger


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random projection of ``output``; zero where it does not depend on an input."""
    cotangent = keyed_normal(tuple(output.shape), "cotangent").to(output.dtype)
    return torch.autograd.grad(output, inputs, cotangent, allow_unused=True, materialize_grads=True)


def assert_close(mine: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to ``tolerance`` of the largest value (of ``FLOOR``, where all are smaller)."""
    assert mine.shape == expected.shape
    error = (mine - expected).abs().max().item()
    allowed = tolerance * max(FLOOR, expected.abs().max().item())
    assert error <= allowed, f"off by {error:.2e}, allowed {allowed:.2e}"


def assert_same_with_gradients(
    mine: Tensor, expected: Tensor, inputs: Sequence[Tensor], tolerance: float
) -> None:
    assert_close(mine, expected, tolerance)
    pairs = zip(gradients(mine, inputs), gradients(expected, inputs), strict=True)
    for my_gradient, expected_gradient in pairs:
        assert_close(my_gradient, expected_gradient, tolerance)
