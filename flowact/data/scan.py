"""Clips for a folder of videos that has no manifest."""

import re
from collections import Counter
from pathlib import Path

from flowact.data.manifest import LONGEST_ID, MANIFEST, Clip
from flowact.seeds import stable_seed

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")


def scan_folder(folder: str | Path) -> list[Clip]:
    """Clips for all videos under ``folder``, in order of their paths; hidden ones are left out.

    No file is opened: rates and frames are not known, and neither is whether it can be read.

    Raises:
        ValueError: there is no such folder, or no video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that holds videos or a {MANIFEST}")
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    names = sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())
    names = [name for name in names if not re.search(r"(^|/)\.", name)]
    if not names:
        raise ValueError(f"{folder} holds no video ({', '.join(VIDEO_SUFFIXES)}) and no {MANIFEST}")
    ids = _ids(names)
    return [Clip(ids[name], name, fps=0.0, frames=0) for name in names]


def _ids(names: list[str]) -> dict[str, str]:
    """An id for each path; those that look alike once they are cleaned are told by a hash."""
    cleaned = {name: _clean(str(Path(name).with_suffix(""))) for name in names}
    count = Counter(cleaned.values())
    return {
        name: short if count[short] == 1 else f"{short}-{stable_seed('id', name):016x}"
        for name, short in cleaned.items()
    }


def _clean(name: str) -> str:
    """As much of ``name`` as an id may have of it, with a hash behind."""
    room = LONGEST_ID - len("-0123456789abcdef")
    return re.sub(r"[^\w.-]", "_", name).encode()[:room].decode(errors="ignore")
