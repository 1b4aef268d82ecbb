"""The mouth of a filmed person, found by its sound: no face detector has to be downloaded."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flowact.evaluation.sound import syllables
from flowact.evaluation.statistics import lagged_correlation

SHORT_SIDE = 270  # pixels to which pictures are shrunk for the search
CELL = 6  # pixels of that, a side: a third of a mouth where a standing person fills the picture
BOX_CELLS = (5, 7)  # rows and columns of the box
SEARCH_SECONDS = 30.0
# A mouth begins to move before it is heard.
SEARCH_LAGS = (-0.12, 0.04)  # seconds

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """A part of the picture, in fractions of its width (left, right) and height (top, bottom)."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(
                f"mouth_box is {self.left:g},{self.top:g},{self.right:g},{self.bottom:g}; "
                "give left, top, right, bottom from 0 to 1, fractions of the picture"
            )

    def cut(self, frames: Frames) -> Frames:
        """That part of frames [T, H, W, 3], at least one pixel."""
        height, width = frames.shape[1:3]
        rows = slice(int(self.top * height), max(1, round(self.bottom * height)))
        columns = slice(int(self.left * width), max(1, round(self.right * width)))
        return frames[:, rows, columns]


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


def find_mouth(blocks: Iterable[Frames], loud: Array, fps: float) -> Box:
    """The part of the picture that moves most in step with the syllables, in its first 30 s.

    The picture is shrunk to a short side of 270 pixels and cut into cells of 6. The quick part of
    each cell's frame difference is correlated with that of the loudness, at the best lag from
    0.12 s before the sound to 0.04 s after it. The box is 5 cells high and 7 wide, around the peak
    of the correlations averaged with their neighbours. Gesturing hands move slower than syllables,
    but on a few seconds of a distant person they, or leaves in the wind, can win: look at the plot
    of the box, and give ``mouth_box`` where it is wrong or where sound and picture are apart.
    Without a sound, or in less than a second, nothing can be found: the box is the whole picture.

    Args:
        blocks: uint8 [frames, H, W, 3].
        loud: [T], loudness over each frame.
    """
    if len(loud) < fps or not loud.any():
        return WHOLE
    motion = _cell_motion(blocks, round(SEARCH_SECONDS * fps))
    length = min(len(motion), len(loud))
    first, last = (round(seconds * fps) for seconds in SEARCH_LAGS)
    r = lagged_correlation(
        syllables(motion[:length], fps), syllables(loud[:length], fps), range(first, last + 1)
    )
    around = cv2.blur(r.max(axis=0), (3, 3), borderType=cv2.BORDER_REFLECT)
    row, column = np.unravel_index(int(around.argmax()), around.shape)
    (top, bottom), (left, right) = (
        ((middle - size // 2) / cells, (middle + size // 2 + 1) / cells)
        for middle, size, cells in zip((row, column), BOX_CELLS, around.shape, strict=True)
    )
    return Box(*(float(min(max(side, 0.0), 1.0)) for side in (left, top, right, bottom)))


def mouth_motion(blocks: Iterable[Frames], box: Box) -> Array:
    """Mean absolute frame difference in the box, [T], in grey levels; row 0 repeats row 1."""
    values: list[float] = []
    before: Array | None = None
    for block in blocks:
        for part in box.cut(block):
            grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32)
            values.append(0.0 if before is None else float(np.abs(grey - before).mean()))
            before = grey
    return np.array(values[1:2] + values[1:] or [0.0], np.float32)


def _cell_motion(blocks: Iterable[Frames], most: int) -> Array:
    """Mean absolute frame difference of each cell, [T, rows, columns]; row 0 is 0."""
    values: list[Array] = []
    before: Array | None = None
    for block in blocks:
        for frame in block:
            grey = _small(frame)
            change = np.zeros_like(grey) if before is None else np.abs(grey - before)
            height, width = grey.shape
            cells = (width // CELL, height // CELL)
            cell_means = cv2.resize(change, cells, interpolation=cv2.INTER_AREA)
            values.append(cell_means.astype(np.float32))
            before = grey
            if len(values) == most:
                return np.stack(values)
    return np.stack(values)


def _small(frame: Frames) -> Array:
    height, width = frame.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
