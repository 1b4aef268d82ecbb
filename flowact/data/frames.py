"""Frames of a video by their index, upright, at the size they are needed in.

decord reads and scales them in one go. Where it cannot (it knows no AV1, and stumbles over
transport streams), PyAV does.
"""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from flowact.data.video import TIE_SECONDS, VideoFacts, video_errors

Frames = NDArray[np.uint8]
"""[T, H, W, 3], RGB."""


# Share of frames that decord may replace by their neighbours, as it does where seeking fails.
NO_STAND_INS = 1e-9


class FrameReader:
    """Reads frames of one video; decoders are closed with it.

    Args:
        facts: of the video.
        height, width: that the whole upright picture is scaled to, smoothly.
        threads: that decode.
    """

    def __init__(self, facts: VideoFacts, height: int, width: int, threads: int = 1) -> None:
        self._decord = _decord_reader(facts, height, width, threads)
        self._sequential = _SequentialReader(facts, height, width)

    def read(self, indices: NDArray[np.int64]) -> Frames:
        """Frames [n, height, width, 3] at ``indices``, which ascend, repeats allowed.

        Raises:
            ValueError: they cannot be decoded.
        """
        if self._decord is not None:
            import decord

            try:
                return np.asarray(self._decord.get_batch(indices).asnumpy(), np.uint8)
            except (decord.DECORDError, decord.DECORDLimitReachedError):
                self._decord = None
        return self._sequential.read(indices)


def _decord_reader(facts: VideoFacts, height: int, width: int, threads: int) -> Any:
    """A decord reader, if it has the very frames that ``facts`` tell of."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    file = str(facts.path.absolute())
    try:
        reader = decord.VideoReader(
            file, width=width, height=height, num_threads=threads, fault_tol=NO_STAND_INS
        )
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    except (decord.DECORDError, RuntimeError, AssertionError):
        return None
    same = len(times) == len(facts.times) and np.allclose(
        times - times[0], facts.times, rtol=0, atol=TIE_SECONDS
    )
    return reader if same else None


class _SequentialReader:
    """Frames by index from PyAV, decoding what lies between; from the start again to go back."""

    def __init__(self, facts: VideoFacts, height: int, width: int) -> None:
        self._facts = facts
        self._size = (width, height) if facts.turns % 2 else (height, width)
        self._frames: Iterator[Frames] = iter(())
        self._newest: Frames | None = None
        self._position = -1

    def read(self, indices: NDArray[np.int64]) -> Frames:
        if self._newest is None or indices[0] < self._position:
            self._frames, self._position = self._decode(), -1
        frames = []
        for index in indices:
            while self._position < index or self._newest is None:
                self._newest = next(self._frames)
                self._position += 1
            frames.append(self._newest)
        upright = np.rot90(np.stack(frames), self._facts.turns, axes=(1, 2))
        return np.ascontiguousarray(upright)

    def _decode(self) -> Iterator[Frames]:
        path, scaler = self._facts.path, VideoReformatter()
        height, width = self._size
        with video_errors(path), av.open(f"file:{path}", metadata_errors="replace") as container:
            for packet in container.demux(container.streams.best("video")):
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame)
                    scaled = scaler.reformat(frame, width, height, "rgb24", interpolation="AREA")
                    yield np.asarray(scaled.to_ndarray(), np.uint8)
