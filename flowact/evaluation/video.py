"""Any video file as frames on a regular clock and sound on the same clock, in constant memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av import AudioFrame, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowact.geometry import Geometry
from flowact.media.audio import timed_audio
from flowact.media.files import input_file

Frames = NDArray[np.uint8]
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Video:
    """What a file says about itself.

    Attributes:
        path: the file.
        height, width: of the picture, upright, in pixels.
        turns: quarter turns, counter-clockwise, that bring a decoded frame upright.
        fps: mean frames per second.
        start: second of the file's clock at which the first frame is shown.
        sound_delay: seconds from the first frame to the first sample, as the file's time stamps
            declare it; positive if the sound starts later. None without a sound track.
    """

    path: Path
    height: int
    width: int
    turns: int
    fps: float
    start: float
    sound_delay: float | None


def open_video(path: str | Path) -> Video:
    """Look at a file's tracks and the times at which they start.

    Raises:
        ValueError: the file is missing, has no picture, or none that can be decoded.
    """
    with _picture(path) as (container, track):
        first = next(_decoded(container, track), None)
        if first is None:
            raise ValueError(f"video file {path} has no frame that can be decoded; encode it again")
        rate = track.average_rate or track.guessed_rate
        if not rate:
            raise ValueError(f"video file {path} does not say its frame rate; encode it again")
        sound = _sound_start(path)
        start, turns = _time(first), round(first.rotation / 90) % 4
        delay = None if sound is None else sound - start
        size = (first.width, first.height) if turns % 2 else (first.height, first.width)
        return Video(Path(path), *size, turns, float(rate), start, delay)


def read_frames(video: Video, fps: float | None = None, block: int = 32) -> Iterator[Frames]:
    """Frames at a constant rate, block by block.

    Frame k is the picture that the file shows at (k + 1/2) / fps seconds after its first one: of a
    file whose rate is constant and ``fps``, these are its frames, each once.

    Args:
        fps: frames per second to give; None for the file's own mean rate.
        block: frames per block; the last may be shorter.

    Yields:
        uint8 [frames, height, width, 3], RGB.

    Raises:
        ValueError: the file cannot be decoded any further.
    """
    held: list[Frames] = []
    for picture in _on_clock(video, fps or video.fps):
        held.append(picture)
        if len(held) == block:
            yield np.stack(held)
            held.clear()
    if held:
        yield np.stack(held)


def read_sound(video: Video, geometry: Geometry) -> Iterator[Samples]:
    """The sound from the moment of the first frame on, in mono at the geometry's rate.

    Where the sound starts late or has gaps, there is silence; what sounds before the first frame is
    left out. Nothing is given for a file without sound.

    Yields:
        float32 [samples].
    """
    if video.sound_delay is None:
        return
    origin, given = round(video.start * geometry.sample_rate), 0
    for position, block in timed_audio(video.path, geometry.sample_rate):
        begin = position - origin
        if begin > given:
            yield np.zeros(begin - given, np.float32)
            given = begin
        yield block[given - begin :]
        given = max(given, begin + len(block))


def _on_clock(video: Video, fps: float) -> Iterator[Frames]:
    shown: Frames | None = None
    count, end = 0, 0.0
    with _picture(video.path) as (container, track):
        for frame in _decoded(container, track):
            now = _time(frame) - video.start
            while shown is not None and (count + 0.5) / fps < now:
                yield shown
                count += 1
            shown, end = _pixels(frame, video), now + 1 / video.fps
        while shown is not None and (count + 0.5) / fps < end:
            yield shown
            count += 1


def _pixels(frame: VideoFrame, video: Video) -> Frames:
    height, width = (video.width, video.height) if video.turns % 2 else (video.height, video.width)
    return np.rot90(frame.to_ndarray(format="rgb24", width=width, height=height), video.turns)


@contextmanager
def _picture(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its picture track; what FFmpeg raises becomes a ``ValueError``."""
    url = f"file:{input_file(path, 'video')}"  # so that a colon in a name starts no protocol
    try:
        with av.open(url, metadata_errors="replace") as container:
            track = container.streams.best("video")
            if not isinstance(track, VideoStream):
                raise ValueError(f"video file {path} has no picture; give a video")
            track.thread_type = "AUTO"
            yield container, track
    except av.FFmpegError as error:
        raise ValueError(
            f"video file {path} cannot be decoded ({error.strerror}); encode it again as MP4"
        ) from error


def _decoded(container: InputContainer, track: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown, without the packets that are broken."""
    for packet in container.demux(track):
        try:
            yield from track.decode(packet)
        except av.InvalidDataError:
            continue


def _time(frame: VideoFrame) -> float:
    return 0.0 if frame.time is None else frame.time


def _sound_start(path: str | Path) -> float | None:
    """Second at which the first sample after the codec's priming is heard."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        track = container.streams.best("audio")
        if track is None:
            return None
        first = next(container.decode(track), None)
        return float(first.time or 0.0) if isinstance(first, AudioFrame) else None
