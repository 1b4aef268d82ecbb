"""What the stages that train on windows begin with: weights, and what made their data."""

import copy
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
from flowact.settings import ModelConfig, StreamSettings, TransformerConfig
from flowact.training.cached_text import CachedText
from flowact.training.settings import TrainConfig
from flowact.training.stream_model import StreamModel
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


def begun_with(config: TrainConfig) -> FlowActPipeline:
    """All parts of the model that a run begins with, in float32 on the CPU.

    Raises:
        ValueError: the weights cannot be loaded, or the preset exists with its weights only.
    """
    if config.weights:
        return FlowActPipeline.from_pretrained(config.weights)
    return FlowActPipeline.untrained(config.model, config.seed)


def guided_copy(network: WindowModel) -> WindowModel:
    """A copy of ``network`` that takes scales of guidance, which change nothing yet.

    Raises:
        ValueError: ``network`` takes them itself.
    """
    settings = network.transformer.config
    if settings.guidance_embeds:
        raise ValueError(
            "weights: the model takes guidance scales, so it is distilled; give those of stage 2"
        )
    transformer = _told_scales(network.transformer, True)
    return WindowModel(transformer, _copied(network.text_encoder), network.geometry)


def undistilled(pipeline: FlowActPipeline) -> FlowActPipeline:
    """``pipeline``, changed in place to take no scales of guidance and see all of its memory, for
    stage 2 to go on from."""
    pipeline.transformer = _told_scales(pipeline.transformer, False).eval()
    transformer = dataclasses.replace(pipeline.config.transformer, guidance_embeds=False)
    stream = dataclasses.replace(
        pipeline.config.stream, text_scale=None, audio_scale=None, memory=StreamSettings().memory
    )
    pipeline.config = dataclasses.replace(pipeline.config, stream=stream, transformer=transformer)
    return pipeline


def _told_scales(transformer: FlowActTransformer3DModel, told: bool) -> FlowActTransformer3DModel:
    """A copy that is told scales of guidance, which change nothing yet, or is not."""
    names = [f.name for f in dataclasses.fields(TransformerConfig)]
    values = {name: transformer.config[name] for name in names} | {"guidance_embeds": told}
    copied = FlowActTransformer3DModel(**values)
    missing, unused = copied.load_state_dict(transformer.state_dict(), strict=False)
    assert all(name.startswith("guidance_embed.") for name in (*missing, *unused))
    return copied


def guided_student(network: WindowModel) -> StreamModel:
    """A copy of ``network``, which takes scales of guidance, to be distilled further.

    Raises:
        ValueError: ``network`` takes none.
    """
    transformer = copy.deepcopy(guided(network).transformer)
    return StreamModel(transformer, _copied(network.text_encoder), network.geometry)


def guided(network: WindowModel) -> StreamModel:
    """``network`` itself, which takes scales of guidance, asked for streams too.

    Raises:
        ValueError: ``network`` takes none.
    """
    if not network.transformer.config.guidance_embeds:
        raise ValueError(
            "weights: the model takes no guidance scales; distil it by experiment=guidance first"
        )
    return StreamModel.of(network)


def _copied(text_encoder: ByteT5TextEncoder | CachedText) -> ByteT5TextEncoder | CachedText:
    """A copy of what is trained; embeddings that are stored are shared."""
    return text_encoder if isinstance(text_encoder, CachedText) else copy.deepcopy(text_encoder)


def install_model(network: nn.Module, pipeline: FlowActPipeline) -> None:
    """Put a trained ``WindowModel`` into a pipeline of its model."""
    assert isinstance(network, WindowModel)
    pipeline.transformer = network.transformer.eval()
    if isinstance(network.text_encoder, ByteT5TextEncoder):
        pipeline.text_encoder = network.text_encoder.eval()
    pipeline.trained = True


def install_guided(pipeline: FlowActPipeline, stream: StreamSettings) -> None:
    """Have a pipeline, whose transformer takes scales of guidance, stream as ``stream``."""
    transformer = dataclasses.replace(pipeline.config.transformer, guidance_embeds=True)
    pipeline.config = dataclasses.replace(pipeline.config, stream=stream, transformer=transformer)
