"""The sound of a video by time, cut out window after window."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowact.media.audio import timed_audio


@dataclass(frozen=True)
class SoundSpan:
    """When there is sound, in seconds of the file's clock.

    Attributes:
        start, end: of the first and last sample.
        missing: seconds between them without any.
    """

    start: float
    end: float
    missing: float


def sound_span(path: Path, sample_rate: int) -> SoundSpan:
    """Decodes a sound track once, to learn where it is.

    Raises:
        ValueError: there is none, or it cannot be decoded, or has samples that are not finite.
    """
    start, end, samples = None, 0, 0
    for position, block in timed_audio(path, sample_rate):
        if not np.isfinite(block).all():
            raise ValueError(f"audio file {path} has samples that are not finite")
        start = position if start is None else start
        end = max(end, position + len(block))
        samples += len(block)
    if start is None:
        raise ValueError(f"audio file {path} has no sound that can be decoded")
    missing = max(0, end - start - samples)
    return SoundSpan(start / sample_rate, end / sample_rate, missing / sample_rate)


class SoundReader:
    """Windows of a sound track, asked for in order of their starts; memory is that of a window.

    Args:
        path: a file that ``sound_span`` accepts.
        sample_rate: samples per second to be given.
        origin: second of the file's clock at which sample 0 is.
    """

    def __init__(self, path: Path, sample_rate: int, origin: float) -> None:
        self._blocks = timed_audio(path, sample_rate)
        self._origin = round(origin * sample_rate)
        self._held: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._ended = False

    def read(self, start: int, count: int) -> NDArray[np.float32]:
        """Samples [count] from sample ``start`` on, silence where the track has none."""
        self._hold(start, start + count)
        window = np.zeros(count, np.float32)
        for position, block in self._held:
            begin, stop = max(position, start), min(position + len(block), start + count)
            if begin < stop:
                window[begin - start : stop - start] = block[begin - position : stop - position]
        return window

    def _hold(self, start: int, stop: int) -> None:
        """Decode up to ``stop``, and drop what ends before ``start``."""
        while not self._ended and not (self._held and self._held[-1][0] >= stop):
            item = next(self._blocks, None)
            self._ended = item is None
            if item is not None:
                self._held.append((item[0] - self._origin, item[1]))
            while self._held and self._held[0][0] + len(self._held[0][1]) <= start:
                self._held.popleft()
