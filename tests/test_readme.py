"""What the README shows, works."""

import re
from pathlib import Path

import pytest

from flowact.config import SCHEMAS, load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python scripts/(\w+)\.py (.+)$", README, re.MULTILINE)


def test_its_python_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(block, names)
        assert names["video"].shape == (200, 128, 128, 3)
        assert len(names["chunks"]) == 3


@pytest.mark.parametrize(("script", "words"), COMMANDS, ids=lambda part: part[:40])
def test_its_commands_compose(script, words):
    given = re.findall(r'[\w.]+=(?:"[^"]*"|\S+)', words)
    assert given
    load_config(script, [word.replace('"', "") for word in given], SCHEMAS[script])


def test_its_commands_were_found():
    assert {script for script, _ in COMMANDS} >= {"sample", "import_hunyuan15"}


def test_every_file_that_it_names_is_there():
    for name in re.findall(r"`((?:flowact|scripts|tests|notebooks|configs)/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name
