"""Cuts in a video, and clips inside its shots."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowact.geometry import Geometry

# Share of a shot that may be left over, for the sake of longer clips.
WASTE = 0.1


class ShotDetector:
    """PySceneDetect's adaptive detector: a jump in colour that stands out from its neighbours.

    Fast motion is no cut, and neither is a fade, which has no jump.
    """

    def __init__(self) -> None:
        from scenedetect.detectors import AdaptiveDetector

        # Cuts may follow each other at once: what is too short for a clip is left out later.
        self._detector = AdaptiveDetector(min_scene_len=1)
        self._seen = 0
        self.cuts: list[int] = []

    def see(self, frame: NDArray[np.uint8]) -> None:
        """The next frame, uint8 [h, w, 3], BGR; ``cuts`` grows by frames that open a shot."""
        from scenedetect import FrameTimecode

        # The detector only counts frames; the rate has no influence.
        now = FrameTimecode(self._seen, fps=1.0)
        self.cuts += [cut.frame_num for cut in self._detector.process_frame(now, frame)]
        self._seen += 1


def clip_spans(
    shots: Sequence[tuple[int, int]], geometry: Geometry, min_seconds: float, max_seconds: float
) -> list[tuple[int, int]]:
    """Clips (start frame, frames) of whole chunks and a reference frame, none across a cut.

    A shot longer than ``max_seconds`` is cut into clips of about equal length, of which there are
    as few as leave at most a tenth of it over. Shots shorter than ``min_seconds`` give none.

    Args:
        shots: first frame and the frame after the last of each, at the geometry's rate.
        min_seconds, max_seconds: of a clip without its reference frame.
    """
    fewest = max(1, int(np.ceil(min_seconds / geometry.chunk_seconds - 1e-9)))
    most = max(fewest, int(max_seconds / geometry.chunk_seconds + 1e-9))
    shortest, longest = (chunks * geometry.chunk_frames + 1 for chunks in (fewest, most))
    spans = []
    for start, stop in shots:
        length = stop - start
        pieces, rest = divmod(length, longest)
        if rest > WASTE * length:
            pieces = min(pieces + 1, length // shortest)
        for left in range(pieces, 0, -1):
            chunks = min(most, ((stop - start) // left - 1) // geometry.chunk_frames)
            frames = chunks * geometry.chunk_frames + 1
            spans.append((start, frames))
            start += frames
    return spans
