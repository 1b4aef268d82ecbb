"""Runs of the project's own scripts, in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flowact.ranks import VARIABLES

SCRIPTS = Path(__file__).parents[1] / "scripts"
LAUNCHES = SCRIPTS.parent / "configs" / "accelerate"


def run_script(name: str, words: Sequence[str], launch: str | None = None) -> None:
    """``python scripts/NAME WORDS``, or ``accelerate launch`` of it.

    Args:
        launch: a file of configs/accelerate, by its name.

    Raises:
        ValueError: there is no such file, or the script has ended with an error, which it has told
            by itself.
    """
    launcher = []
    if launch is not None:
        file = LAUNCHES / f"{launch}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in LAUNCHES.glob("*.yaml")))
            raise ValueError(f"launch is {launch}; choose among {known}")
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(file)]
    command = [sys.executable, *launcher, str(SCRIPTS / name), *words]
    # What this process is of many, the script's are not.
    told = {name for variables in VARIABLES for name in variables}
    environment = {name: value for name, value in os.environ.items() if name not in told}
    ended = subprocess.run(command, check=False, env=environment)
    if ended.returncode:
        raise ValueError(f"{' '.join(command)} has ended with {ended.returncode}")
