"""When each frame of a video file is shown, and whether all of the file can be decoded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowact.media.files import input_file

# A frame counts as shown if it comes up to this long after the moment that is looked at: at twice
# the rate, that moment is a boundary between frames, on either side by rounding.
TIE_SECONDS = 1e-3
# Headers give durations of the longest track, of padding too.
HEADER_SECONDS = 1.0
# Of the small pictures in which shots are sought.
SMALL_HEIGHT = 72


@dataclass(frozen=True)
class VideoFacts:
    """What one decoding of a video found.

    Attributes:
        path: the file.
        start: second of the file's clock at which the first frame is shown.
        times: float64 [n], when each frame is shown, in seconds after the first.
        seconds: from the first frame to the end of the last.
        height, width: in pixels, upright and with square pixels.
        turns: quarter turns, counter-clockwise, that bring a decoded frame upright.
    """

    path: Path
    start: float
    times: NDArray[np.float64]
    seconds: float
    height: int
    width: int
    turns: int

    def shown(self, fps: int) -> NDArray[np.int64]:
        """The frames on screen in the middle of each ``1 / fps`` seconds, as indices [m].

        Whatever the rate of the file, what happens in it is moved by at most half a frame of
        ``fps``, and not late or early on average.
        """
        count = int(np.ceil((self.seconds + TIE_SECONDS) * fps - 0.5))
        moments = (np.arange(count) + 0.5) / fps - TIE_SECONDS
        return np.maximum(np.searchsorted(self.times, moments, side="right") - 1, 0)


def inspect_video(
    path: str | Path, watch: Callable[[NDArray[np.uint8]], None] | None = None
) -> VideoFacts:
    """Decodes a video once, from end to end, to find out whether and how it can be used.

    Args:
        path: the file.
        watch: is called with every frame, small, BGR: uint8 [72, w, 3].

    Raises:
        ValueError: the file cannot be read, has no picture or no times, ends before its header says
            so, or has packets that cannot be decoded.
    """
    file = input_file(path, "video")
    with video_errors(file), av.open(f"file:{file}", metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise ValueError(f"video file {file} has no picture")
        stream.thread_type = "AUTO"
        # Else decoders paint over what is damaged, and say nothing.
        stream.codec_context.options = {"err_detect": "explode"}
        scaler = VideoReformatter()
        times: list[float] = []
        frame: VideoFrame | None = None
        for frame in _decode(container, stream, file):
            if frame.time is None or (times and frame.time < times[-1]):
                raise ValueError(
                    f"video file {file} has no ascending times at frame {len(times)}; remux it"
                )
            times.append(frame.time)
            if watch:
                watch(_small(scaler, frame))
        if frame is None:
            raise ValueError(f"video file {file} has no frames")
        last = float((frame.duration or 0) * (frame.time_base or 0))
    seconds = times[-1] - times[0] + (last or (times[-1] - times[0]) / max(1, len(times) - 1))
    height, width = _upright_size(frame, float(stream.sample_aspect_ratio or 1))
    shown = np.array(times) - times[0]
    return VideoFacts(file, times[0], shown, seconds, height, width, round(frame.rotation / 90) % 4)


def _decode(container: InputContainer, stream: VideoStream, file: Path) -> Iterator[VideoFrame]:
    """All frames, after which it is checked that all packets were there and sound."""
    broken: list[float] = []
    end = 0.0
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is stream:
            try:
                yield from (frame for frame in packet.decode() if isinstance(frame, VideoFrame))
            except av.FFmpegError:
                broken.append(end)
    if broken:
        raise ValueError(
            f"video file {file} has {len(broken)} packets that cannot be decoded, the first about "
            f"{broken[0]:.1f} s in"
        )
    told = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
    if told - end > HEADER_SECONDS:
        raise ValueError(f"video file {file} is truncated: it ends at {end:.1f} s of {told:.1f} s")


def _small(scaler: VideoReformatter, frame: VideoFrame) -> NDArray[np.uint8]:
    width = max(2, round(SMALL_HEIGHT * frame.width / frame.height))
    small = scaler.reformat(frame, width, SMALL_HEIGHT, "bgr24", interpolation="FAST_BILINEAR")
    return np.asarray(small.to_ndarray(), np.uint8)


def _upright_size(frame: VideoFrame, aspect: float) -> tuple[int, int]:
    height, width = frame.height, round(frame.width * aspect)
    return (width, height) if round(frame.rotation / 90) % 2 else (height, width)


@contextmanager
def video_errors(path: Path) -> Iterator[None]:
    """Turns what PyAV raises into a ``ValueError`` that names the file."""
    try:
        yield
    except av.FFmpegError as error:
        raise ValueError(f"video file {path} cannot be decoded: {error.strerror}") from error
