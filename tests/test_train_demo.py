"""The demo from nothing by its one script, two steps a stage: that it is made, not how well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_demo.sh"


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
    ended = run(tmp_path, *words)
    assert ended.returncode == 0, ended.stderr[-2000:]
    scores = json.loads((tmp_path / "o" / "scores.json").read_text())
    assert scores["measured"] == "model"
    assert set(scores["ceilings"]) == {"truth", "round_trip"}
    assert (tmp_path / "o" / "stage2.weights" / "model_index.json").is_file()
