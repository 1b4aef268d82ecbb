"""Videos of one length beside each other, for the eye: as a film, or as a sheet of frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowact.evaluation.video import open_video, read_frames
from flowact.media.writer import VideoWriter

COLUMNS = 10

Frames = NDArray[np.uint8]


def sheet(videos: Sequence[Path], columns: int = COLUMNS) -> Frames:
    """A row for each video, of frames equally far apart, from its first to its last.

    Args:
        videos: all of one size.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ValueError: a video cannot be read.
    """
    return np.concatenate([_row(path, columns) for path in videos])


def write_side_by_side(videos: Sequence[Path], output: Path) -> None:
    """A film of all videos, the first at the left, with the sound of the last.

    Args:
        videos: all of one height and frame rate.

    Raises:
        ValueError: a video cannot be read, or ``output`` cannot be written.
    """
    opened = [open_video(path) for path in videos]
    width, height, fps = sum(v.width for v in opened), opened[0].height, opened[0].fps
    blocks = zip(*(read_frames(video) for video in opened), strict=False)
    with VideoWriter(output, height, width, round(fps), videos[-1], metadata={}) as writer:
        for parts in blocks:
            length = min(map(len, parts))
            writer.write(np.concatenate([part[:length] for part in parts], axis=2))


def _row(path: Path, columns: int) -> Frames:
    video = open_video(path)
    count = sum(map(len, read_frames(video)))  # once more, since all of a long one is gigabytes
    wanted = np.linspace(0, count - 1, columns).round().astype(int)
    shown, first = [], 0
    for block in read_frames(video):
        last = first + len(block)
        shown += [block[n - first] for n in wanted if first <= n < last]
        first = last
    return np.concatenate(shown, axis=1)
