"""Sound from any file FFmpeg reads, decoded and resampled in memory that does not grow with it."""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av import AudioFrame, AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from flowact.media.files import input_file

logger = logging.getLogger(__name__)

Layout = Literal["mono", "stereo"]

# Peaks below -80 dBFS are silence and its dither.
SILENT_PEAK = 1e-4
# Floating-point files in integer units reach this; anything larger, like NaN, is not sound.
LARGEST_SAMPLE = 2.0**31
PROBE_SECONDS = 1.0
# Containers round the times of packets to a millisecond or so; more is a gap.
GAP_SECONDS = 0.01


@dataclass(frozen=True)
class AudioInfo:
    """What one full decoding of a sound track found.

    Attributes:
        path: the file.
        sample_rate: samples per second, of the file as it is.
        channels: channels of the file as it is.
        samples: samples that were decoded, per channel.
        silent: nothing in it can be heard.
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int
    silent: bool

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def probe_audio(path: str | Path) -> AudioInfo:
    """Decodes a sound track once, from end to end, to find out whether it can be used.

    Packets that cannot be decoded are left out, with a warning, as players do.

    Raises:
        ValueError: the file is missing, a directory or empty, has no sound track, none that can be
            decoded, or one with samples that are not finite.
    """
    with _named_errors(path):
        frames = _decode(path, broken_level=logging.WARNING)
        first = next(frames)
        rate = first.sample_rate
        samples, peak = 0, 0.0
        for block in _resample(chain([first], frames), rate, "mono", PROBE_SECONDS):
            loudest = float(np.abs(block).max())
            if not loudest <= LARGEST_SAMPLE:
                raise ValueError(
                    f"audio file {path} has samples that are not finite, after {samples // rate} s"
                )
            samples += block.shape[1]
            peak = max(peak, loudest)
    return AudioInfo(Path(path), rate, first.layout.nb_channels, samples, peak < SILENT_PEAK)


def source_layout(path: str | Path) -> Layout:
    """The layout that keeps a sound track's width: "mono" if it has one channel, else "stereo".

    Raises:
        ValueError: the file cannot be opened or has no sound track.
    """
    with _named_errors(path), _sound_track(path) as (_, track):
        return "mono" if track.layout.nb_channels == 1 else "stereo"


def stream_audio(
    path: str | Path, sample_rate: int, layout: Layout = "mono", block_seconds: float = 1.0
) -> Iterator[NDArray[np.float32]]:
    """A sound track, block by block, at another rate and with one channel or two.

    Sample 0 is the first that is decoded, after the priming of the codec: where the sound of a
    video starts later than its picture, that gap is not kept. Channels are mixed down by
    their usual weights, scaled so that no mix is louder than its loudest channel; samples are
    not clipped.

    Args:
        path: a file that ``probe_audio`` accepts.
        sample_rate: samples per second to be given.
        layout: "mono" or "stereo".
        block_seconds: length of a block; the last may be shorter.

    Yields:
        float32 [samples] for mono, [2, samples] for stereo; as many in all as the sound track has
        seconds, to one sample.

    Raises:
        ValueError: as ``probe_audio``, but for samples that are not finite.
    """
    with _named_errors(path):
        for block in _resample(_decode(path), sample_rate, layout, block_seconds):
            yield block[0] if layout == "mono" else block


def timed_audio(
    path: str | Path, sample_rate: int, block_seconds: float = 1.0
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """A sound track in mono on its file's clock, with its late start and its gaps left open.

    Args:
        path: a file that ``probe_audio`` accepts.
        sample_rate: samples per second to be given.
        block_seconds: length of a block; the last before a gap may be shorter.

    Yields:
        The number of a block's first sample, sample 0 being at the file's time 0, and the block,
        float32 [samples].

    Raises:
        ValueError: as ``probe_audio``, but for samples that are not finite.
    """
    with _named_errors(path):
        for _, run in groupby(_decode(path), _RunNumber()):
            first = next(run)
            position = round((first.time or 0.0) * sample_rate)
            for block in _resample(chain([first], run), sample_rate, "mono", block_seconds):
                yield position, block[0]
                position += block.shape[1]


class _RunNumber:
    """Numbers the runs of frames that follow each other in time without a gap."""

    def __init__(self) -> None:
        self._number = 0
        self._end: float | None = None

    def __call__(self, frame: AudioFrame) -> int:
        if self._end is None or abs((frame.time or 0.0) - self._end) > GAP_SECONDS:
            self._number += 1
            self._end = frame.time or 0.0
        # Counted in samples, so that rounded time stamps do not add up.
        self._end += frame.samples / frame.sample_rate
        return self._number


def audio_blocks(
    audio: NDArray[np.floating], rate_in: int, rate_out: int, block_seconds: float = 1.0
) -> Iterator[NDArray[np.float32]]:
    """Samples in memory, as ``stream_audio`` would give a file of them in mono.

    Args:
        audio: [samples], or [channels, samples] with one channel or two.
        rate_in, rate_out: samples per second, of ``audio`` and to be given.
        block_seconds: length of a block; the last may be shorter.

    Raises:
        ValueError: the array has another shape or type, no samples, or some that are not finite.
    """
    channels = np.atleast_2d(audio)
    if channels.ndim != 2 or len(channels) > 2 or not channels.size:
        raise ValueError(f"audio has shape {audio.shape}; give [samples] or [1 or 2, samples]")
    if not np.issubdtype(channels.dtype, np.floating):
        raise ValueError(f"audio is {channels.dtype}; give floating-point samples in [-1, 1]")
    if not np.isfinite(channels).all():
        raise ValueError("audio has samples that are not finite; remove them")
    for block in _resample(_as_frames(channels, rate_in), rate_out, "mono", block_seconds):
        yield block[0]


@contextmanager
def _named_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        reason = f"cannot be decoded ({error.strerror}); convert it to mono or stereo WAV"
        raise ValueError(f"audio file {path} {reason}") from error


@contextmanager
def _sound_track(path: str | Path) -> Iterator[tuple[InputContainer, AudioStream]]:
    url = f"file:{input_file(path, 'audio')}"  # so that a colon in a name starts no protocol
    with av.open(url, metadata_errors="replace") as container:
        track = container.streams.best("audio")
        if not isinstance(track, AudioStream):
            raise ValueError(f"audio file {path} has no sound track")
        yield container, track


def _decode(path: str | Path, broken_level: int = logging.DEBUG) -> Iterator[AudioFrame]:
    """Frames of the best sound track, at least one, without the packets that are broken."""
    broken, decoded = 0, False
    with _sound_track(path) as (container, track):
        for packet in container.demux(track):
            try:
                frames = track.decode(packet)
            except av.FFmpegError:
                broken += 1
                continue
            decoded = decoded or bool(frames)
            yield from frames
    if not decoded:
        raise ValueError(f"audio file {path} has no sound that can be decoded")
    if broken:
        logger.log(broken_level, "audio file %s: broken packets left out: %d", path, broken)


def _as_frames(channels: NDArray[np.floating], rate: int) -> Iterator[AudioFrame]:
    layout = "mono" if len(channels) == 1 else "stereo"
    for start in range(0, channels.shape[1], rate):
        second = np.ascontiguousarray(channels[:, start : start + rate], dtype=np.float32)
        frame = AudioFrame.from_ndarray(second, format="fltp", layout=layout)
        frame.sample_rate = rate
        yield frame


def _resample(
    frames: Iterable[AudioFrame], rate: int, layout: str, block_seconds: float
) -> Iterator[NDArray[np.float32]]:
    """Blocks [channels, samples]; each run of frames of one format has its own resampler."""
    channels = AudioLayout(layout).nb_channels
    for kind, run in groupby(frames, lambda f: (f.sample_rate, f.layout.name, f.format.name)):
        resampler = AudioResampler(
            format="flt",
            layout=layout,
            rate=rate,
            frame_size=max(1, round(block_seconds * rate)),
            options={"rematrix_maxval": "1"},
        )
        taken = given = 0
        for frame in chain(run, [None]):
            taken += frame.samples if frame else 0
            for block in resampler.resample(frame):
                given += block.samples
                yield np.ascontiguousarray(block.to_ndarray().reshape(-1, channels).T)
        # The resampler gives nothing for less than its filter's length, some 20 samples.
        missing = math.ceil(taken * rate / kind[0]) - given
        if missing > 0:
            yield np.zeros((channels, missing), np.float32)
