"""Importing HunyuanVideo-1.5: what cannot be used is named, and nothing is written."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def damaged(hunyuan_checkpoint, tmp_path) -> Path:
    """A copy of the transformer's folder, to be damaged."""
    shutil.copytree(hunyuan_checkpoint / "transformer", tmp_path / "in" / "transformer")
    return tmp_path / "in" / "transformer"


@pytest.fixture
def refusal(run_import, tmp_path):
    """``refusal(source, named, *words)``: the message, which names it; nothing was written."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()

    def refuse(source: Path, named: str, *words: str) -> str:
        with pytest.raises(ValueError, match=re.escape(named)) as caught:
            run_import(source, outputs / "out", *words)
        assert not list(outputs.iterdir())
        return str(caught.value)

    return refuse


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def first_shard(folder: Path) -> Path:
    return min(folder.glob("*.safetensors"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def index(folder: Path) -> Path:
    return next(folder.glob("*.index.json"))


def test_every_weight_that_does_not_fit_is_named(refusal, damaged):
    missing = {f"transformer_blocks.{layer}.attn.to_q.weight" for layer in range(4)}
    misshapen = {"proj_out.bias", "time_embed.timestep_embedder.linear_1.bias"}
    extra = {f"transformer_blocks.{layer}.lora.weight" for layer in range(7)}
    for file in damaged.glob("*.safetensors"):
        weights = {name: w for name, w in load_file(file).items() if name not in missing}
        weights |= {name: torch.cat([weights[name]] * 2) for name in misshapen & weights.keys()}
        if "proj_out.bias" in weights:
            weights |= {name: torch.zeros(1) for name in extra}
        save_file(weights, file, {"format": "pt"})
    told = refusal(damaged, "do not fit its config.json").partition("; ")[2].split("; ")
    assert told == [
        "missing: " + ", ".join(sorted(missing)),
        "extra: " + ", ".join(sorted(extra)),
        "misshapen: proj_out.bias [8] for [4], "
        "time_embed.timestep_embedder.linear_1.bias [64] for [32]",
    ]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: edit_config(f, use_meanflow=True), "give a checkpoint that is not step-distil"),
        (lambda f: edit_config(f, _class_name="WanTransformer3DModel"), "of WanTransformer3DModel"),
        (lambda f: edit_config(f, num_layers="many"), "config.json is of no model"),
        (lambda f: edit_config(f, num_layers=3), "extra: transformer_blocks.3.attn"),
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: first_shard(f).unlink(), ".safetensors cannot be read"),
        (lambda f: truncate(first_shard(f)), ".safetensors cannot be read"),
        (lambda f: index(f).unlink(), "holds neither diffusion_pytorch_model.safetensors nor"),
        (lambda f: index(f).write_text("{}"), "index.json has no weight_map"),
        (lambda f: index(f).write_text("{"), "index.json cannot be read"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_named(refusal, damaged, damage, named):
    damage(damaged)
    refusal(damaged, named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=demo"], "model=demo is not made of HunyuanVideo-1.5's parts"),
        (["whisper=tinny"], "'tinny' is neither a file nor a Whisper model; nearest names: tiny"),
        (["model.transformer.layer_pattern=[sparse]"], "layer_pattern is ('sparse',)"),
    ],
)
def test_settings_that_cannot_be_used_are_named(refusal, hunyuan_checkpoint, words, named):
    refusal(hunyuan_checkpoint, named, *words)


def test_an_output_that_exists_is_left_alone(run_import, hunyuan_checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out exists; name a new folder"):
        run_import(hunyuan_checkpoint, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match=r"the folder it goes into does not exist"):
        run_import(hunyuan_checkpoint, tmp_path / "absent" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_write_that_fails_leaves_nothing(refusal, damaged):
    source = damaged.parent
    (source / "vae").mkdir()
    (source / "vae" / "lost").symlink_to("nowhere")
    assert "vae/lost" in refusal(source, "out cannot be written")
