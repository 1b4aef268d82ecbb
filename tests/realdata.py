"""Real media to try things on, which are no part of the repository."""

from pathlib import Path

import pytest


def realdata(folder):
    """Files of the folder of real media beside the repository, if it is there."""
    path = Path(__file__).parents[2] / "shared" / "realdata" / folder
    if not path.is_dir():
        pytest.skip(f"no real media: {path} is not there")
    return sorted(path.iterdir())
