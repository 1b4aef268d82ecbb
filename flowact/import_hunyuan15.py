"""A HunyuanVideo-1.5 checkpoint in, a pipeline's folder out: ``scripts/import_hunyuan15.py``."""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from flowact.index import WHISPER, write_index
from flowact.models.audio_encoder import WhisperEncoder, load_whisper
from flowact.models.components import save_whisper
from flowact.models.files import one_line
from flowact.models.hunyuan15_weights import TransformerImport, plan_import, write_transformer
from flowact.runs import ImportConfig
from flowact.settings import (
    AudioEncoderConfig,
    AudioEncoderKind,
    AutoencoderKind,
    ModelConfig,
    TextEncoderKind,
)

# What a pipeline is loaded from beside its transformer; only image-to-video has the last two.
PARTS = (
    "vae",
    "text_encoder",
    "tokenizer",
    "text_encoder_2",
    "tokenizer_2",
    "image_encoder",
    "feature_extractor",
)

_LAYER = re.compile(r"(?<=^transformer_blocks\.)\d+")


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        weights, bytes: of the transformer that was written.
        new: its weights that the base lacks, as in a fresh model.
        dropped: weights of the base that it does not use.
        absent: parts of a pipeline that the source has not.
    """

    weights: int
    bytes: int
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    absent: tuple[str, ...]


def import_hunyuan15(config: ImportConfig) -> ImportReport:
    """Write ``config.output`` for ``FlowActPipeline.from_pretrained``.

    Everything is checked before anything is written, and the folder appears when it is complete.

    Raises:
        ValueError: the source cannot be used, the preset is of other parts, or the output exists or
            cannot be written.
    """
    _check_preset(config.model)
    source, output = Path(config.source), _check_output(Path(config.output))
    own = source / "transformer"
    folder = own if own.is_dir() else source
    model, whisper = _with_whisper(config)
    plan = plan_import(folder, model.transformer)
    parts = [name for name in PARTS if (source / name).is_dir()]
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
            unfinished = Path(scratch) / output.name
            size = _write(plan, unfinished, [source / name for name in parts], model, whisper)
            unfinished.replace(output)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"output={output} cannot be written: {one_line(error)}") from error
    return ImportReport(
        len(plan.model.state_dict()),
        size,
        plan.new,
        plan.dropped,
        tuple(name for name in PARTS if name not in parts),
    )


def by_layer(names: Iterable[str]) -> list[str]:
    """Weights that differ in their layer alone as one: ``transformer_blocks.{1,3}.attn...``."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(_LAYER.sub("{}", name), []).extend(_LAYER.findall(name))
    return [name.format("{" + ",".join(numbers) + "}") for name, numbers in layers.items()]


def _check_preset(model: ModelConfig) -> None:
    kinds = (model.autoencoder.kind, model.text_encoder.kind)
    if kinds != (AutoencoderKind.hunyuan15, TextEncoderKind.hunyuan15):
        raise ValueError(
            f"model={model.name} is not made of HunyuanVideo-1.5's parts; give model=hunyuan15 or "
            "model=hunyuan15_decoupled"
        )


def _check_output(output: Path) -> Path:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"output={output} exists; name a new folder")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"output={output}: the folder it goes into does not exist; make it first")
    return output.absolute()


def _with_whisper(config: ImportConfig) -> tuple[ModelConfig, WhisperEncoder | None]:
    """The preset with the audio encoder that was asked for, and that encoder."""
    if config.whisper is None:
        return config.model, None
    encoder = load_whisper(config.whisper)
    model = dataclasses.replace(
        config.model,
        audio_encoder=AudioEncoderConfig(AudioEncoderKind.whisper, config.whisper),
        transformer=dataclasses.replace(
            config.model.transformer, audio_feature_dim=encoder.feature_dim
        ),
    )
    return model, encoder


def _write(
    plan: TransformerImport,
    folder: Path,
    parts: Iterable[Path],
    model: ModelConfig,
    whisper: WhisperEncoder | None,
) -> int:
    """All files of a pipeline; the size of its transformer's weights."""
    for part in parts:
        shutil.copytree(part, folder / part.name, copy_function=_link_or_copy)
    if whisper is not None:
        save_whisper(whisper, folder / WHISPER)
    size = write_transformer(plan, folder / "transformer")
    write_index(model, folder, trained=True)
    return size


def _link_or_copy(source: str, target: str) -> None:
    """A hard link takes no space; not every file system has them, none has them across disks."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
