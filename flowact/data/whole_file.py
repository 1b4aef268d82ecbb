"""Files that are there as a whole or not at all."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file to write into, aside, which takes its name when it is complete."""
    # Processes of several machines may write the same file at once.
    aside = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
