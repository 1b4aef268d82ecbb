"""What is said of the files of a model that will not do."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is not there, or is none.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"weights: {path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"weights: {path} holds no JSON object")
    return value


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
