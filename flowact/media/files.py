"""Checks of the user's paths, made before any work and without touching a file."""

import os
import stat
from pathlib import Path


def input_file(path: str | Path, what: str) -> Path:
    """``path``, if it names a readable file that is not empty.

    Args:
        path: the user's file.
        what: what it should be, such as "image", for the message.

    Raises:
        ValueError: there is no such file, or it is a directory, empty or unreadable.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"{what} file {path} cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{what} file {path} is a directory; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{what} file {path} is not a regular file; save it to one first")
    if status.st_size == 0:
        raise ValueError(f"{what} file {path} is empty")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{what} file {path} cannot be opened: no permission to read it")
    return path


def check_output(path: str | Path, *inputs: str | Path, suffix: str = ".mp4") -> Path:
    """``path``, if a file can be written there; creates and changes nothing.

    Args:
        path: the file to be written. One that exists will be overwritten.
        inputs: files that are read meanwhile, which the output must not be, nor link to.
        suffix: what its name must end in.

    Raises:
        ValueError: the path is an input or a directory, does not end in ``suffix``, or cannot be
            written.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    try:
        exists = target.exists()
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
    for source in inputs:
        if exists and os.path.exists(source) and target.samefile(source):
            raise ValueError(f"output {path} is also an input ({source}); name another file")
    if target.is_dir():
        raise ValueError(f"output {path} is a directory; name a file in it")
    if path.suffix.lower() != suffix:
        raise ValueError(f"output {path} must end in {suffix}, the only format written")
    if not target.parent.is_dir():
        raise ValueError(f"output {path}: the folder {target.parent} does not exist; make it first")
    if exists and not target.is_file():
        raise ValueError(f"output {path} is not a regular file; name another")
    if not os.access(target if exists else target.parent, os.W_OK):
        raise ValueError(f"output {path} cannot be written: no permission; name another place")
    return path
