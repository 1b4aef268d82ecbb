"""HunyuanVideo-1.5's transformer, as diffusers saves it, turned into ours (design 5).

No weight is renamed or changed. What the base lacks (the audio adapter, the guidance embedding)
starts as in a fresh model; what a temporal layer lacks (the text stream) is dropped.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import HunyuanVideo15Transformer3DModel
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flowact.models.audio_adapter import AudioCrossAttention, AudioProjector
from flowact.models.embeddings import GuidanceEmbedding
from flowact.models.files import one_line, read_json
from flowact.models.transformer import FlowActTransformer3DModel
from flowact.settings import TransformerConfig

SHARD_BYTES = 2 * 10**9  # read at once, and so the memory that an import needs


class Stored(NamedTuple):
    """A weight in a checkpoint: its file, and a meta tensor of its shape and dtype."""

    file: Path
    meta: Tensor


@dataclass(frozen=True)
class TransformerImport:
    """A checkpoint whose weights all fit; none of them has been read yet.

    Attributes:
        model: ours, on the meta device.
        stored: the base's weights.
        new: names of weights that ours has and the base lacks.
        dropped: names of weights that the base has and ours lacks.
    """

    model: FlowActTransformer3DModel
    stored: Mapping[str, Stored]
    new: tuple[str, ...]
    dropped: tuple[str, ...]


def plan_import(folder: Path, preset: TransformerConfig) -> TransformerImport:
    """Check the checkpoint in ``folder`` against its own config.json, reading headers alone.

    Args:
        folder: config.json, and one safetensors file or an index and its shards.
        preset: the layer pattern, the audio adapter and all else that the base does not know; what
            it does know is taken from config.json instead.

    Raises:
        ValueError: a file is missing or damaged, the checkpoint is of another or an unsupported
            model, or weights do not fit (every missing, extra and misshapen one is named).
    """
    base = _base_model(folder)
    known = {field.name for field in dataclasses.fields(preset)} & base.config.keys()
    config = dataclasses.replace(preset, **{name: base.config[name] for name in known})
    with torch.device("meta"):
        model = FlowActTransformer3DModel(**dataclasses.asdict(config))
    stored, wanted, ours = _stored(folder), base.state_dict(), model.state_dict()
    _check_weights(folder, stored, wanted)
    return TransformerImport(
        model,
        stored,
        new=tuple(name for name in ours if name not in wanted),
        dropped=tuple(name for name in wanted if name not in ours),
    )


def write_transformer(plan: TransformerImport, folder: Path, shard_bytes: int = SHARD_BYTES) -> int:
    """Write ``plan`` for ``from_pretrained``, holding one shard at a time; the bytes written.

    Weights keep their dtype; new ones take that of the output layer.

    Raises:
        ValueError: a file of the checkpoint can no longer be read.
    """
    fresh = _fresh_weights(plan.model, plan.stored["proj_out.weight"].meta.dtype)
    split = split_torch_state_dict_into_shards(
        {
            name: fresh[name] if name in fresh else plan.stored[name].meta
            for name in plan.model.state_dict()
        },
        filename_pattern=SAFETENSORS_WEIGHTS_NAME.replace(".", "{suffix}."),
        max_shard_size=shard_bytes,
    )
    plan.model.save_config(folder)
    for filename, names in split.filename_to_tensors.items():
        shard = {name: fresh[name] for name in names if name in fresh}
        shard |= _read({name: plan.stored[name].file for name in names if name not in fresh})
        save_file(shard, folder / filename, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")
    return int(split.metadata["total_size"])


def _base_model(folder: Path) -> HunyuanVideo15Transformer3DModel:
    """diffusers' own model of ``folder``'s config.json, on the meta device."""
    path = folder / "config.json"
    config = read_json(path)
    name = HunyuanVideo15Transformer3DModel.__name__
    if config.get("_class_name") != name:
        raise ValueError(f"{path} is of {config.get('_class_name')}; give a checkpoint of {name}")
    if config.get("use_meanflow"):
        raise ValueError(
            f"{path}: use_meanflow is true (time_embed.timestep_embedder_r), which is not "
            "supported; give a checkpoint that is not step-distilled"
        )
    try:
        with torch.device("meta"):
            return HunyuanVideo15Transformer3DModel.from_config(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is of no model that can be: {one_line(error)}") from error


def _stored(folder: Path) -> dict[str, Stored]:
    stored = {}
    for file in _weight_files(folder):
        with _opened(file) as weights:
            for name in weights.keys():  # noqa: SIM118 (it is no dict)
                stored[name] = Stored(file, weights.get_tensor(name).to("meta"))
    return stored


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / SAFETENSORS_WEIGHTS_NAME, folder / SAFE_WEIGHTS_INDEX_NAME
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ValueError(f"{folder} holds neither {single.name} nor {index.name}")
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise ValueError(f"{index} has no weight_map; download it again")
    return [folder / name for name in sorted(set(names.values()))]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as weights:
            yield weights
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read ({one_line(error)}); download it again") from error


def _check_weights(folder: Path, stored: dict[str, Stored], wanted: dict[str, Tensor]) -> None:
    shapes = {name: list(weight.meta.shape) for name, weight in stored.items()}
    wanted_shapes = {name: list(weight.shape) for name, weight in wanted.items()}
    problems = {
        "missing": wanted.keys() - stored.keys(),
        "extra": stored.keys() - wanted.keys(),
        "misshapen": {
            f"{name} {shapes[name]} for {wanted_shapes[name]}"
            for name in stored.keys() & wanted.keys()
            if shapes[name] != wanted_shapes[name]
        },
    }
    told = [f"{what}: {', '.join(sorted(names))}" for what, names in problems.items() if names]
    if told:
        raise ValueError(f"weights in {folder} do not fit its config.json; {'; '.join(told)}")


def _fresh_weights(model: FlowActTransformer3DModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of the parts that the base lacks, as a fresh model has them; always the same."""
    weights: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for path, module in model.named_modules():
            if (part := _fresh_part(module, model.config)) is not None:
                weights |= {f"{path}.{name}": w.to(dtype) for name, w in part.state_dict().items()}
    return weights


def _fresh_part(module: nn.Module, config: Any) -> nn.Module | None:
    """``module`` made anew off the meta device, if it is a part that the base lacks."""
    heads, head_dim = config.num_attention_heads, config.attention_head_dim
    if isinstance(module, AudioProjector):
        return AudioProjector(
            config.audio_feature_dim, config.audio_window, config.audio_tokens, config.audio_dim
        )
    if isinstance(module, AudioCrossAttention):
        return AudioCrossAttention(heads * head_dim, config.audio_dim, heads, head_dim)
    if isinstance(module, GuidanceEmbedding):
        return GuidanceEmbedding(heads * head_dim)
    return None


def _read(files: Mapping[str, Path]) -> dict[str, Tensor]:
    """Weights by name, from the file that holds each."""
    weights: dict[str, Tensor] = {}
    for file in set(files.values()):
        with _opened(file) as opened:
            weights |= {name: opened.get_tensor(name) for name in files if files[name] == file}
    return weights
