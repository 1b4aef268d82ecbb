"""A tiny real backbone and prompts for it, drawn by key, for every test that needs one."""

import dataclasses
import logging

import pytest
import torch
from PIL import Image
from tiny import HEIGHT, WIDTH, tiny_config

from flowact.models.text_encoder import TextInputs
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal

TEXT_DIM = 12
TINY = dataclasses.asdict(tiny_config().transformer) | {
    "text_embed_dim": TEXT_DIM,
    "audio_feature_dim": 6,
    "layer_pattern": ("full",),
}


@pytest.fixture(autouse=True)
def own_logging():
    """A script's handler writes to the standard error of its test, which is closed afterwards."""
    package = logging.getLogger("flowact")
    before = package.handlers, package.propagate
    yield
    package.handlers, package.propagate = before


@torch.no_grad()
def randomise(module: torch.nn.Module) -> None:
    """Draw every parameter by its name, those that start at zero or one included.

    Laws about weights that do nothing would hold for nothing. Activations stay around 1.
    """
    for name, parameter in module.named_parameters():
        draw = keyed_normal(tuple(parameter.shape), "weights", name)
        if parameter.ndim > 1:
            parameter.copy_(draw / parameter[0].numel() ** 0.5)
        elif name.endswith("weight"):
            parameter.copy_(1 + 0.2 * draw)
        else:
            parameter.copy_(0.2 * draw)


@pytest.fixture
def make_transformer():
    """``make_transformer(**changes)``: a tiny model with no parameter at its initial value."""

    def make(**changes) -> FlowActTransformer3DModel:
        model = FlowActTransformer3DModel(**{**TINY, **changes})
        randomise(model)
        return model.eval()

    return make


@pytest.fixture
def make_text():
    """``make_text(length, batch, seed, real)``: prompts of ``real`` tokens, the rest padding."""

    def make(
        length: int = 5, batch: int = 1, seed: int = 0, real: tuple[int, ...] | None = None
    ) -> TextInputs:
        embeds = keyed_normal((batch, length, TEXT_DIM), "text", seed)
        lengths = torch.tensor(real or (length,) * batch)
        return TextInputs(embeds, torch.arange(length) < lengths[:, None])

    return make


@pytest.fixture(scope="session")
def tiny_pipeline() -> FlowActPipeline:
    """``tiny_config`` with no parameter of the backbone at its initial value."""
    pipeline = FlowActPipeline.untrained(tiny_config())
    randomise(pipeline.transformer)
    return pipeline


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    pixels = keyed_normal((HEIGHT, WIDTH, 3), "picture").mul(40).add(128).clamp(0, 255)
    return Image.fromarray(pixels.to(torch.uint8).numpy())
