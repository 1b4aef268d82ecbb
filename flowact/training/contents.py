"""What the folders hold that a run begins with: others may come under their names."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowact.data.manifest import manifest_path
from flowact.index import INDEX, pipeline_hash

MODELS = ("weights", "teacher")  # keys that name a folder of weights
DATA = "folders"  # and those that name several of data
REMEMBERED = "generated_memory"  # beside it, how much of their generated memory is used


def contents(run: Mapping[str, Any]) -> dict[str, str]:
    """Of each folder that the resolved config ``run`` names, a hash of what is in it.

    By KEY=FOLDER. Of weights it is of all files; of data of the manifest, since caches are keyed by
    what made them and a run demands its own, but for generated memory, whose key is hashed too. A
    folder that is not there has none: whoever needs it says so.
    """
    found = {}
    for key, folder, is_data, remembers in _named(run):
        path = Path(folder)
        if is_data and manifest_path(path).is_file():
            made = sorted(p.name for p in path.glob("generated-*")) if remembers else []
            text = manifest_path(path).read_bytes() + " ".join(made).encode()
            found[f"{key}={folder}"] = hashlib.sha256(text).hexdigest()[:16]
        elif not is_data and (path / INDEX).is_file():
            found[f"{key}={folder}"] = pipeline_hash(path)
    return found


def _named(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, bool, bool]]:
    """Key and folder, whether it is of data, and whether generated memory is used."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _named(value, f"{key}.")
        elif value and name in MODELS:
            yield key, value, False, False
        elif value and name == DATA:
            for folder in value:
                yield key, folder, True, bool(tree.get(REMEMBERED))


def of_models(found: Mapping[str, str]) -> dict[str, str]:
    """Those of ``contents`` that are of weights."""
    keys = {each: each.partition("=")[0].rpartition(".")[2] for each in found}
    return {each: digest for each, digest in found.items() if keys[each] in MODELS}


def check_contents(before: Mapping[str, str], now: Mapping[str, str], where: str) -> None:
    """Whether the folders hold what they did.

    Raises:
        ValueError: one does not.
    """
    if others := sorted(key for key in before if now.get(key) != before[key]):
        raise ValueError(
            f"{where}: {' and '.join(others)} holds other files than when the run began; give the "
            "old ones, or another output"
        )
