"""``model_index.json``: the settings of a saved pipeline; weights and theirs are beside it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from flowact.geometry import Geometry
from flowact.models.components import read_json
from flowact.settings import (
    AudioEncoderConfig,
    AudioEncoderKind,
    AutoencoderConfig,
    AutoencoderKind,
    ModelConfig,
    StreamSettings,
    TextEncoderConfig,
    TextEncoderKind,
    TransformerConfig,
    Update,
)

INDEX = "model_index.json"
WHISPER = Path("audio_encoder") / "model.pt"


def write_index(config: ModelConfig, folder: Path, trained: bool) -> None:
    """Describe the pipeline in ``folder``; an audio encoder in it is named by its file."""
    stream = dataclasses.asdict(config.stream) | {"update": config.stream.update.name}
    own_whisper = (folder / WHISPER).is_file()
    values = {
        "_class_name": "FlowActPipeline",
        "name": config.name,
        "trained": trained,
        "height": config.height,
        "width": config.width,
        "geometry": dataclasses.asdict(config.geometry),
        "stream": stream,
        "autoencoder": {
            "kind": config.autoencoder.kind.name,
            "window": config.autoencoder.window,
        },
        "text_encoder": {"kind": config.text_encoder.kind.name},
        "audio_encoder": {
            "kind": config.audio_encoder.kind.name,
            "model": str(WHISPER) if own_whisper else config.audio_encoder.model,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).write_text(json.dumps(values, indent=2) + "\n")


def read_index(folder: Path) -> tuple[ModelConfig, bool]:
    """``write_index`` undone: the settings, and whether the weights are trained.

    Raises:
        ValueError: the folder or a file is missing, or a setting is missing, unknown, of the wrong
            type or out of range.
    """
    if not folder.is_dir():
        raise ValueError(f"weights={folder}: there is no such folder")
    values = read_json(folder / INDEX)
    transformer = read_json(folder / "transformer" / "config.json")
    try:
        _check_types(values, TYPES)
        return _model_config(values, transformer, folder), values["trained"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"weights: {folder / INDEX} lacks or does not know {error}") from error
    except ValueError as error:
        raise ValueError(f"weights: {folder / INDEX}: {error}") from error


def _model_config(values: dict[str, Any], transformer: dict[str, Any], folder: Path) -> ModelConfig:
    stream = dict(values["stream"], update=Update[values["stream"]["update"]])
    known = {f.name for f in dataclasses.fields(TransformerConfig)} & transformer.keys()
    audio = values["audio_encoder"]
    own_whisper = folder / audio["model"]
    return ModelConfig(
        name=values["name"],
        height=values["height"],
        width=values["width"],
        geometry=_typed(Geometry, values["geometry"]),
        stream=_typed(StreamSettings, stream),
        transformer=TransformerConfig(**{key: transformer[key] for key in known}),
        autoencoder=_typed(AutoencoderConfig, _with_kind(values["autoencoder"], AutoencoderKind)),
        text_encoder=_typed(TextEncoderConfig, _with_kind(values["text_encoder"], TextEncoderKind)),
        audio_encoder=AudioEncoderConfig(
            AudioEncoderKind[values["audio_encoder"]["kind"]],
            str(folder / whisper) if (folder / whisper).is_file() else whisper,
        ),
    )
