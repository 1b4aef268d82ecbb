"""Folders of results, each with what it was asked for: others are not gone on with in it."""

import json
from pathlib import Path
from typing import Any

from flowact.data.whole_file import whole_file

MADE_BY = "made_by.json"


def claim(folder: Path, told: dict[str, Any]) -> None:
    """Make ``folder`` one of what ``told`` asks for, or go on in it.

    Raises:
        ValueError: what is in it was made otherwise, or it holds something else.
    """
    file = folder / MADE_BY
    occupied = is_occupied(folder)  # looked at before the file, which others may write just now
    told = json.loads(json.dumps(told))  # as a file holds it: lists for tuples
    if occupied and not file.is_file():
        raise ValueError(f"{folder} is not an empty folder; name another output")
    folder.mkdir(parents=True, exist_ok=True)
    if file.is_file():
        try:
            theirs = dict(json.loads(file.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file} is damaged; name another output") from error
        if differing := [key for key in told if theirs.get(key) != told[key]]:
            values = ", ".join(f"{key} {theirs.get(key)}" for key in differing)
            raise ValueError(f"{folder} was made with {values}; name another output, or remove it")
    with whole_file(file) as text:
        text.write(json.dumps(told, indent=2) + "\n")


def is_occupied(folder: Path) -> bool:
    """Whether ``folder`` is no folder, or holds anything but hidden files."""
    return folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*")))
