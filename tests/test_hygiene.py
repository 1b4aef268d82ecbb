"""What no reviewer should have to look for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "flowact").rglob("*.py"))
TOP = {
    "flowact",
    "configs",
    "scripts",
    "tests",
    "notebooks",
    "pyproject.toml",
    "README.md",
    "LICENSE",
}
TRAINING_ONLY = ("flowact.training", "accelerate", "hydra", "omegaconf", "wandb")
HEAVY = ("torch", "diffusers", "transformers", "av", "PIL", "whisper", "hydra", "numpy")


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import statement."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_top_level_is_fixed():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    found = {name.split("/")[0] for name in listed if name}
    assert {name for name in found if not name.startswith(".")} <= TOP


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, flowact; print([m for m in sys.argv[1:] if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", ["models", "diffusion", "streaming", "media"])
def test_inference_does_not_import_what_only_training_needs(folder):
    for path in (ROOT / "flowact" / folder).rglob("*.py"):
        wrong = {m for m in imported(path) if m.startswith(TRAINING_ONLY)}
        assert not wrong, f"{path} imports {wrong}"


def test_only_the_crossing_imports_hydra():
    users = {
        p.name for p in PACKAGE if any(m.startswith(("hydra", "omegaconf")) for m in imported(p))
    }
    assert users == {"config.py"}


def test_numbers_of_the_geometry_stand_in_one_file():
    """Rates, strides and chunk sizes come from ``Geometry`` everywhere else."""
    numbers = re.compile(r"(?<![\w.])(16_?000|640|7_?680|0\.48)(?![\w.])")
    for path in PACKAGE:
        if path.name == "geometry.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
                assert not numbers.fullmatch(str(node.value)), f"{path}:{node.lineno} {node.value}"


def test_nothing_prints_in_the_package():
    for path in PACKAGE:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path


def test_scripts_hold_no_logic():
    for path in (ROOT / "scripts").glob("*.py"):
        if path.name != "make_example.py":  # draws the bundled picture; nothing else uses it
            assert len(path.read_text().splitlines()) <= 50, path


def test_every_test_is_in_a_file_that_is_collected():
    stray = [
        f"{path.name}: {node.name}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not path.name.startswith("test_")
    ]
    assert not stray
