"""What the README and the pages beside it show, works."""

import re
from pathlib import Path

import pytest

from flowact.config import SCHEMAS, load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.md"))]
README, *_ = TEXTS = [page.read_text() for page in PAGES]
COMMANDS = [
    command
    for text in TEXTS
    for command in re.findall(r"^python scripts/(\w+)\.py (.+)$", text, re.MULTILINE)
]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text()
    for name in re.findall(r"`((?:flowact|scripts|tests|notebooks|configs)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([^)]*)\)", text):
        name, _, part = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if part else []
        anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings]
        assert not part or part in anchors, link
