"""The demo from nothing by its one script, two steps a stage: that it is made, not how well."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flowact.ablations import AblateConfig, ablate

WEIGHTS = "diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "train_demo.sh"
VAE = ROOT / "flowact" / "assets" / "demo" / "vae"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", SCRIPT, *words],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["minutes=3"], "give output=DIR"),
        (["output=o", "minutes=soon"], "minutes=N"),
        (["output=o", "minutes=3", "speed=2"], "speed=2 is none of"),
    ],
)
def test_wrong_words_are_named(tmp_path, words, mend):
    ended = run(tmp_path, *words)
    assert ended.returncode == 2
    assert mend in ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_demo_is_made_and_measured(tmp_path):
    words = ("output=o", "minutes=0", "clips=2", "scored=1", "seconds=2", "launch=cpu1")
    ended = run(tmp_path, *words, f"autoencoder={VAE}")  # its stage is one of the curriculum's test
    assert ended.returncode == 0, ended.stderr[-2000:]
    teacher, student = (
        json.loads((tmp_path / "o" / name).read_text())
        for name in ("scores-teacher.json", "scores.json")
    )
    assert set(teacher["ceilings"]) == {"truth", "round_trip"}
    stream = student["made_by"]["streamed"]["stream"]
    assert (stream["micro_steps"], stream["text_scale"]) == (1, 2.0)
    before, after = (
        load_file(tmp_path / "o" / f"{stage}.weights" / "transformer" / WEIGHTS)
        for stage in ("stage3b", "stage3c")
    )
    assert any(not torch.equal(before[name], after[name]) for name in before)

    # Of the demo that is there now, a row of the ablations that streams, and one that trains.
    for row in ("without_reference", "full_attention"):
        config = AblateConfig(
            demo=str(tmp_path / "o"),
            shipped=str(tmp_path / "o" / "stage3c.weights"),
            output=str(tmp_path / "ablations"),
            row=row,
            steps=2,
            clips=1,
            seconds=2,
        )
        ablate(config)
    lines = ablate(replace(config, row="none")).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines[2:]]
    assert rows == [
        ["without the reference", "", "3"],
        ["the same, going on under full attention", "2 steps on stage1a", "24"],
    ]
    with pytest.raises(ValueError, match="was made with seconds 2"):
        ablate(replace(config, row="full_attention", seconds=3))
