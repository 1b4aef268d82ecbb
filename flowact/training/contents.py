"""What the folders hold that a run begins with: another model may have come under their names."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowact.data.manifest import manifest_path

MODELS = ("weights", "teacher")  # keys that name a folder of weights
DATA = "folders"  # and those that name several of data


def contents(run: Mapping[str, Any]) -> dict[str, str]:
    """Of each folder that the resolved config ``run`` names, a hash of what is in it, by its key.

    Of weights it is of all files; of data of the manifest, since caches are keyed by what made
    them. A folder that is not there has none: whoever needs it says so.
    """
    found = {}
    for key, folder in _named(run):
        path = Path(folder)
        is_data = key.rpartition(".")[2] == DATA
        files = [manifest_path(path)] if is_data else sorted(path.rglob("*"))
        if held := [file for file in files if file.is_file()]:
            found[f"{key} {folder}"] = _hash(held, path)
    return found


def _named(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _named(value, f"{key}.")
        elif value and name in MODELS:
            yield key, value
        elif value and name == DATA:
            yield from ((key, folder) for folder in value)


def _hash(files: list[Path], folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
