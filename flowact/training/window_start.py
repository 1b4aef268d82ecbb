"""What the stages that train on windows begin with: weights, and what made their data."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowact.data.encoders import load_encoders
from flowact.models.components import load_transformer, own_memory
from flowact.models.text_encoder import ByteT5TextEncoder
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.cached_text import CachedText
from flowact.training.window_model import WindowModel


@dataclass(frozen=True)
class WindowStart:
    """The network of a run's first step.

    Attributes:
        network: of the role "model".
        model: what it is built from; the weights' own, where they are given.
        made_by: what must have made the data's caches (see ``WindowDataset``).
    """

    network: WindowModel
    model: ModelConfig
    made_by: Mapping[str, Mapping[str, Any]]


def load_start(
    model: ModelConfig, weights: str | None, seed: int, folders: Sequence[Path]
) -> WindowStart:
    """From a folder of ``weights``, or ``model`` untrained.

    The text encoder is trained if it is the small one; the embeddings of the base's own are those
    in the ``folders`` of data.

    Raises:
        ValueError: the weights cannot be loaded, the preset exists with its weights only, or a
            folder has no text of its encoder.
    """
    encoders = load_encoders(model, weights, seed, torch.float32, "cpu")
    model = encoders.config
    if weights:
        transformer = load_transformer(Path(weights) / "transformer", torch.float32)
        own_memory(transformer)
    else:
        transformer = FlowActTransformer3DModel(**dataclasses.asdict(model.transformer))
    made_by = {kind: encoders.made_by(kind) for kind in ("latents", "features")}
    text_encoder: ByteT5TextEncoder | CachedText
    if isinstance(encoders.text_encoder, ByteT5TextEncoder):
        text_encoder = encoders.text_encoder
        own_memory(text_encoder)
    else:
        text_encoder = CachedText(folders, encoders.made_by("text"))
    return WindowStart(WindowModel(transformer, text_encoder, model.geometry), model, made_by)


def install_model(network: nn.Module, pipeline: FlowActPipeline) -> None:
    """Put a trained ``WindowModel`` into a pipeline of its model."""
    assert isinstance(network, WindowModel)
    pipeline.transformer = network.transformer.eval()
    if isinstance(network.text_encoder, ByteT5TextEncoder):
        pipeline.text_encoder = network.text_encoder.eval()
    pipeline.trained = True
