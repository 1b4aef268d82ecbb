"""Which clips are made of a video, and their frames and sound."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowact.data.buckets import Crop, choose_crop
from flowact.data.frames import FrameReader, Frames
from flowact.data.manifest import Clip, Interval, Source
from flowact.data.shots import ShotDetector, clip_spans
from flowact.data.sound import SoundReader, sound_span
from flowact.data.video import VideoFacts, inspect_video
from flowact.geometry import Geometry

TIME_DIGITS = 6  # of seconds in a manifest
# What a rate that was rounded, such as 30 for 29.97, makes of some minutes.
MISSING_SECONDS = 0.25


@dataclass(frozen=True)
class ClipRules:
    """How videos are cut.

    Attributes:
        geometry: of the clips.
        buckets: (height, width) that pictures are cropped to.
        min_seconds, max_seconds: of a clip.
        shots: cuts are sought, and no clip goes across one.
        audio_tolerance: seconds of the picture that may have no sound.
        threads: that decode.
    """

    geometry: Geometry
    buckets: tuple[tuple[int, int], ...]
    min_seconds: float
    max_seconds: float
    shots: bool
    audio_tolerance: float
    threads: int


@dataclass(frozen=True)
class Plan:
    """What is made of a video.

    Attributes:
        source: its line in the manifest that was read.
        facts: about its picture.
        sound: the file with its sound, and the second of that file's clock at which the sound of
            the first frame begins.
        shown: the source frame of every frame at the geometry's rate.
        crop: to the bucket.
        clips: the lines of the clips, in order.
    """

    source: Clip
    facts: VideoFacts
    sound: tuple[Path, float]
    shown: NDArray[np.int64]
    crop: Crop
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Material:
    """A clip, ready to be encoded.

    Attributes:
        source: id of the video it was cut from.
        clip: its line.
        frames: uint8 [T, H, W, 3], RGB, of the bucket's size.
        wave: float32 [n], the sound from frame 1 on, and as far past the end as its last features
            hear.
    """

    source: str
    clip: Clip
    frames: Frames
    wave: NDArray[np.float32]


def plan_clips(source: Clip, folder: Path, output: Path, rules: ClipRules) -> Plan:
    """Inspect a video and choose its clips.

    Args:
        source: a line of the manifest in ``folder``.
        output: the folder of the clips' manifest.

    Raises:
        ValueError: the video or its sound cannot be used; the message is the reason.
    """
    geometry = rules.geometry
    detector = ShotDetector() if rules.shots else None
    path = folder / source.video
    facts = inspect_video(path, detector.see if detector else None)
    told = source.frames / source.fps if source.fps else 0.0
    if told - facts.seconds > MISSING_SECONDS:
        raise ValueError(
            f"video file {path} is truncated: it has {facts.seconds:.2f} s of {told:.2f} s by the "
            "manifest"
        )
    sound = _sound(source, folder, facts, rules)
    shown = facts.shown(geometry.fps)
    # A shot begins with the first frame that shows what follows the cut.
    cuts = np.searchsorted(shown, detector.cuts if detector else []).tolist()
    bounds = sorted({0, *cuts, len(shown)})
    spans = clip_spans(
        list(itertools.pairwise(bounds)), geometry, rules.min_seconds, rules.max_seconds
    )
    if not spans:
        raise ValueError(
            f"video file {path} is too short: no shot of its {facts.seconds:.2f} s gives a clip of "
            f"{rules.min_seconds:g} s"
        )
    crop = choose_crop(facts.height, facts.width, rules.buckets)
    box = crop.box(facts.height, facts.width)
    clips = tuple(_clip(source, folder, output, span, geometry, box) for span in spans)
    return Plan(source, facts, sound, shown, crop, clips)


def materials(plan: Plan, wanted: Iterable[Clip], rules: ClipRules) -> Iterator[Material]:
    """The material of some of a plan's clips, in their order, one at a time.

    Raises:
        ValueError: frames or sound cannot be decoded.
    """
    geometry, crop = rules.geometry, plan.crop
    frames = FrameReader(plan.facts, crop.scaled_height, crop.scaled_width, rules.threads)
    sound = SoundReader(plan.sound[0], geometry.sample_rate, plan.sound[1])
    for clip in wanted:
        start = first_frame(clip, geometry)
        pixels = crop.cut(frames.read(plan.shown[start : start + clip.frames]))
        heard = geometry.audio_end(geometry.chunks(clip.frames - 1) - 1)
        wave = sound.read((start + 1) * geometry.frame_samples, heard)
        yield Material(plan.source.id, clip, np.ascontiguousarray(pixels), wave)


def first_frame(clip: Clip, geometry: Geometry) -> int:
    """A clip's first frame, counted in its source at the geometry's rate."""
    assert clip.source is not None
    return round(clip.source.start * geometry.fps)


def _sound(source: Clip, folder: Path, facts: VideoFacts, rules: ClipRules) -> tuple[Path, float]:
    """The file with the sound and where it begins; it must cover the picture."""
    path = folder / (source.audio or source.video)
    # A file of its own begins with the picture; a video's own track is on the video's clock.
    origin = (0.0 if source.audio else facts.start) + source.sync_offset
    span = sound_span(path, rules.geometry.sample_rate)
    late, short = span.start - origin, facts.seconds - (span.end - origin)
    for missing, what in (
        (late, f"is shorter than the video: it begins {late:.2f} s after the picture"),
        (short, f"is shorter than the video: it ends {short:.2f} s before the picture"),
        (span.missing, f"has gaps of {span.missing:.2f} s in all"),
    ):
        if missing > rules.audio_tolerance:
            raise ValueError(f"audio of {path} {what}; {rules.audio_tolerance:g} s may be missing")
    return path, origin


def _clip(
    source: Clip,
    folder: Path,
    output: Path,
    span: tuple[int, int],
    geometry: Geometry,
    box: tuple[int, int, int, int],
) -> Clip:
    """The line of a clip of ``span`` (start frame, frames); paths are relative to ``output``."""
    start, frames = span
    seconds, length = start / geometry.fps, frames / geometry.fps
    # Resolved, since ".." of a link leads elsewhere.
    folder, output = folder.resolve(), output.resolve()
    video, audio, truth = (
        None if name is None else os.path.relpath(folder / name, output)
        for name in (source.video, source.audio, source.truth)
    )
    assert video is not None
    shifted = (_shifted(interval, seconds, length) for interval in source.intervals)
    return dataclasses.replace(
        source,
        id=f"{source.id}-{start:06d}",
        video=video,
        fps=float(geometry.fps),
        frames=frames,
        audio=audio,
        intervals=tuple(i for i in shifted if i.end - i.start >= 1 / geometry.fps),
        truth=truth,
        source=Source(video, seconds, *box),
    )


def _shifted(interval: Interval, start: float, length: float) -> Interval:
    """An interval in a clip's own seconds, cut to it; of negative length where it is outside."""
    return dataclasses.replace(
        interval,
        start=round(max(0.0, interval.start - start), TIME_DIGITS),
        end=round(min(length, interval.end - start), TIME_DIGITS),
    )
