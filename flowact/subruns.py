"""Runs of the project's own scripts, in processes of their own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(name: str, words: Sequence[str], *launcher: str) -> None:
    """``python [LAUNCHER] scripts/NAME WORDS``.

    Raises:
        ValueError: it has ended with an error, which it has told by itself.
    """
    command = [sys.executable, *launcher, str(SCRIPTS / name), *words]
    ended = subprocess.run(command, check=False)
    if ended.returncode:
        raise ValueError(f"{' '.join(command)} has ended with {ended.returncode}")
