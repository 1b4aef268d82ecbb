"""Weights that stay in the computer's memory and come to the GPU a layer at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowact.models.text_encoder import HunyuanTextEncoder
from flowact.pipeline import FlowActPipeline


def offload_pipeline(pipeline: FlowActPipeline, device: torch.device) -> None:
    """Move ``pipeline`` to ``device``, but for the layers, and for encoders of prompts.

    Layers come for the time of their call, the next one while one runs. Encoders too large to stay
    come for a prompt.

    Raises:
        ValueError: ``device`` is no GPU.
    """
    if device.type != "cuda":
        raise ValueError(f"offload=true is for a GPU, and this runs on {device}; drop it")
    blocks: list[Any] = list(pipeline.transformer.blocks)
    layers = Visitors(blocks, device)
    for place, block in enumerate(blocks):
        block.run_video = layers.visit(place, block.run_video)
        block.run_text = layers.visit(place, block.run_text)
    at_home = {id(weight) for weight in layers.weights}
    if isinstance(pipeline.text_encoder, HunyuanTextEncoder):
        encoder: Any = pipeline.text_encoder
        guest = Visitors([encoder], device)
        encoder.encode = guest.visit(0, encoder.encode)
        encoder.encode_image = guest.visit(0, encoder.encode_image)
        at_home |= {id(weight) for weight in guest.weights}
    for module in pipeline.modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in at_home:
                tensor.data = tensor.data.to(device)


class Visitors:
    """Modules whose weights are on ``device`` only while one of their functions runs.

    Args:
        modules: in the order in which they are called.
        device: where they are called. On a GPU the next one's weights come meanwhile.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None
        self._weights = [[*module.parameters(), *module.buffers()] for module in modules]
        self._homes = [
            [weight.data.pin_memory() if cuda else weight.data for weight in weights]
            for weights in self._weights
        ]
        for weights, homes in zip(self._weights, self._homes, strict=True):
            for weight, home in zip(weights, homes, strict=True):
                weight.data = home  # what was not pinned is let go
        self._coming: dict[int, list[Tensor]] = {}

    @property
    def weights(self) -> list[Tensor]:
        """Of all modules."""
        return [weight for weights in self._weights for weight in weights]

    def visit(self, place: int, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of the module at ``place``, with its weights on the device."""

        def call(*inputs: Any) -> Any:
            here = self._coming.pop(place, None) or self._fetch(place)
            self._arrived(here)
            following = (place + 1) % len(self._weights)
            if self._stream is not None and following not in (place, *self._coming):
                self._coming[following] = self._fetch(following)
            try:
                for weight, data in zip(self._weights[place], here, strict=True):
                    weight.data = data
                return function(*inputs)
            finally:
                for weight, home in zip(self._weights[place], self._homes[place], strict=True):
                    weight.data = home

        return call

    def _fetch(self, place: int) -> list[Tensor]:
        with torch.cuda.stream(self._stream):  # does nothing where there is none
            return [home.to(self._device, non_blocking=True) for home in self._homes[place]]

    def _arrived(self, weights: list[Tensor]) -> None:
        """Have what follows wait for ``weights``, and their memory wait for it."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for weight in weights:
            weight.record_stream(current)
