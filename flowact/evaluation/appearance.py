"""What pixels say frame by frame without knowing what they show: colour, sharpness, change."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 8  # cells a side in which colours are averaged

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Appearance:
    """One row a frame; float32.

    Attributes:
        lab: [T, GRID * GRID, 3], CIE L*a*b* of the mean colour of each cell.
        sharpness: [T], variance of the Laplacian of the grey picture, in squared grey levels.
        change: [T], mean absolute difference from the frame before, in grey levels of 0 to 255;
            row 0 repeats row 1.
        jerk: [T], mean absolute f[t] - 2 f[t-1] + f[t-2] in the same; rows 0 and 1 repeat row 2.
    """

    lab: Array
    sharpness: Array
    change: Array
    jerk: Array

    def __len__(self) -> int:
        return len(self.lab)


class AppearanceMeter:
    """Measures frames as they pass on their way to somebody else; keeps two of them.

    ``for block in meter.watch(blocks): ...``, then ``meter.result()``.
    """

    def __init__(self) -> None:
        self._lab: list[Array] = []
        self._sharpness: list[float] = []
        self._change: list[float] = []
        self._jerk: list[float] = []
        self._before: list[Array] = []

    def watch(self, blocks: Iterable[Frames]) -> Iterator[Frames]:
        """The same blocks, uint8 [frames, H, W, 3]; each is measured before it is passed on."""
        for block in blocks:
            for frame in block:
                self._measure(frame)
            yield block

    def result(self) -> Appearance:
        """All frames so far, of which there must be one or more."""
        return Appearance(
            np.stack(self._lab),
            np.array(self._sharpness, np.float32),
            _filled(self._change, len(self._lab)),
            _filled(self._jerk, len(self._lab)),
        )

    def _measure(self, frame: Frames) -> None:
        self._lab.append(_lab(frame))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        self._sharpness.append(float(cv2.Laplacian(grey, cv2.CV_32F).var()))
        if self._before:
            self._change.append(float(np.abs(grey - self._before[-1]).mean()))
        if len(self._before) == 2:
            bend = grey - 2 * self._before[1] + self._before[0]
            self._jerk.append(float(np.abs(bend).mean()))
        self._before = [*self._before[-1:], grey]


def appearance(frames: Frames) -> Appearance:
    """All rows of frames in memory, uint8 [T, H, W, 3], T >= 1."""
    meter = AppearanceMeter()
    for _ in meter.watch([frames]):
        pass
    return meter.result()


def _lab(frame: Frames) -> Array:
    cells = cv2.resize(frame, (GRID, GRID), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(cells.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return lab.reshape(-1, 3).astype(np.float32)


def _filled(values: list[float], length: int) -> Array:
    """[length], the first value, or 0, standing for those that are missing at the start."""
    first = values[0] if values else 0.0
    return np.array([first] * (length - len(values)) + values, np.float32)
