"""``model_index.json``: the settings of a saved pipeline; weights and theirs are beside it."""

import dataclasses
import hashlib
import json
from enum import Enum
from pathlib import Path
from typing import Any, cast, get_origin

from flowact.geometry import Geometry
from flowact.models.files import read_json
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
DEMO = Path(__file__).parent / "assets" / "demo"  # the weights that come along
WHISPER = Path("audio_encoder") / "model.pt"
PARTS = ("transformer", "vae", "text_encoder", "audio_encoder")
KEPT = (".safetensors", ".pt", ".json")


def pipeline_hash(folder: Path) -> str:
    """Of the weights and settings of a pipeline in ``folder``; of what else is there it knows
    nothing."""
    digest = hashlib.sha256()
    inside = [folder / INDEX, *(f for part in PARTS for f in (folder / part).rglob("*"))]
    for path in sorted(f for f in inside if f.suffix in KEPT and f.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def write_index(config: ModelConfig, folder: Path, trained: bool, note: str | None = None) -> None:
    """Describe the pipeline in ``folder``; an audio encoder in it is named by its file.

    ``note`` is what its users are to expect of it.
    """
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
    if note is not None:
        values["note"] = note
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
        _check_types(values, ModelConfig)
        if not isinstance(values["trained"], bool):
            raise ValueError(
                f"trained is {json.dumps(values['trained'])}; it must be true or false"
            )
        return _model_config(values, transformer, folder), values["trained"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"weights: {folder / INDEX} lacks or does not know {error}") from error
    except ValueError as error:
        raise ValueError(f"weights: {folder / INDEX}: {error}") from error


def read_note(folder: Path) -> str | None:
    """What ``write_index`` was told that users are to expect of the pipeline in ``folder``."""
    note = read_json(folder / INDEX).get("note")
    if note is not None and not isinstance(note, str):
        raise ValueError(f"weights: {folder / INDEX}: note is {json.dumps(note)}; it must be text")
    return note


def _check_types(values: dict[str, Any], kind: type[Any], key: str = "") -> None:
    """Raise ValueError at a value that is not of the type of its field of ``kind``."""
    for f in dataclasses.fields(kind):
        if f.name in values:
            value, wanted = values[f.name], _json_type(f.type)
            if not isinstance(value, wanted):
                name = getattr(wanted, "__name__", wanted)
                raise ValueError(f"{key}{f.name} is {json.dumps(value)}; it must be of type {name}")
            if dataclasses.is_dataclass(f.type):
                _check_types(value, cast(type[Any], f.type), f"{key}{f.name}.")


def _json_type(kind: Any) -> Any:
    """What a field of type ``kind`` is in a JSON file, where 2.0 may be written as 2."""
    if dataclasses.is_dataclass(kind):
        return dict
    if isinstance(kind, type) and issubclass(kind, Enum):
        return str
    if get_origin(kind) is tuple:
        return list
    return kind | int if kind in (float, float | None) else kind


def _model_config(values: dict[str, Any], transformer: dict[str, Any], folder: Path) -> ModelConfig:
    stream = dict(values["stream"], update=Update[values["stream"]["update"]])
    if "memory" in stream:
        stream["memory"] = tuple(stream["memory"])
    own = {key for key in transformer if not key.startswith("_")}  # and not diffusers'
    if unknown := own - {f.name for f in dataclasses.fields(TransformerConfig)}:
        raise ValueError(
            f"transformer/config.json has {', '.join(sorted(unknown))}, which this version does "
            "not know: the weights are of another version"
        )
    autoencoder, whisper = values["autoencoder"], values["audio_encoder"]["model"]
    return ModelConfig(
        name=values["name"],
        height=values["height"],
        width=values["width"],
        geometry=Geometry(**values["geometry"]),
        stream=StreamSettings(**stream),
        transformer=TransformerConfig(**{key: transformer[key] for key in own}),
        autoencoder=AutoencoderConfig(AutoencoderKind[autoencoder["kind"]], autoencoder["window"]),
        text_encoder=TextEncoderConfig(TextEncoderKind[values["text_encoder"]["kind"]]),
        audio_encoder=AudioEncoderConfig(
            AudioEncoderKind[values["audio_encoder"]["kind"]],
            str(folder / whisper) if whisper and (folder / whisper).is_file() else whisper,
        ),
    )
