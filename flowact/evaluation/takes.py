"""A video, and what it should show, made ready for the metrics: all that they may look at."""

import hashlib
from collections import deque
from dataclasses import dataclass, field, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.dataset import load_truth
from flowact.data.actors.tracks import Tracks
from flowact.data.manifest import Clip
from flowact.evaluation.appearance import Appearance, AppearanceMeter, appearance
from flowact.evaluation.identity import framing_of, gallery
from flowact.evaluation.mouth_region import Box, find_mouth, mouth_motion
from flowact.evaluation.probe import Probe, Reading
from flowact.evaluation.sound import at_frames, loudness, silent, sound_offset
from flowact.evaluation.video import Video, open_video, read_frames, read_sound
from flowact.geometry import Geometry

# Two sounds whose loudness correlates less are not takes of the same speech.
ALIKE = 0.5

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Take:
    """Any video.

    Attributes:
        id: names it in the report.
        video: the file.
        fps: frames per second at which it was read.
        appearance: of its T frames.
        mouth: [T], how open the mouth is, or how much it moves.
        loud: [T], loudness of its sound over each frame; 0 without sound.
        quiet: [T], where nothing is said; everywhere without sound.
        identity: [T, D], embeddings, or None where no probe has looked.
        box: where the mouth was looked for, or None if the probe found it.
        chunk_frames: frames per chunk of whoever made the video.
        chunk_offset: the first frame of a chunk.
    """

    id: str
    video: Video
    fps: float
    appearance: Appearance
    mouth: Array
    loud: Array
    quiet: NDArray[np.bool_]
    identity: Array | None
    box: Box | None
    chunk_frames: int
    chunk_offset: int


@dataclass(frozen=True)
class ActorTake(Take):
    """A video of an actor, beside the truth; what is compared is as long as the shorter of them.

    Attributes:
        clip: the truth's line of the manifest.
        reading: what the probe sees.
        tracks: what it should see.
        wrists: [T, 4], where it should see the wrists, as in ``Reading``.
        sound_late: seconds by which the video's sound is later than the truth's; None if it has
            none, or another one.
        reference: the truth's first frame, at the video's size.
        people: [N, D], embeddings of the actor and of look-alikes.
    """

    clip: Clip
    reading: Reading
    tracks: Tracks
    wrists: Array
    sound_late: float | None
    reference: Appearance
    people: Array


@dataclass(frozen=True)
class TakeLoader:
    """Reads videos once or twice from end to end, in constant memory but for a few numbers a frame.

    Attributes:
        geometry: of the stream that made the videos.
        probe: reads actors; None for filmed people.
        chunk_offset: frame at which a chunk begins.
        box: where filmed people have their mouth; None to find it by the sound.
        galleries: of clips that were loaded before, by id and size: another video of one has the
            same, and it costs as much as the video.
    """

    geometry: Geometry
    probe: Probe | None
    chunk_offset: int = 0
    box: Box | None = None
    galleries: dict[tuple[str, int, int], Array] = field(default_factory=dict)

    def load(self, name: str, path: Path) -> Take:
        """A video of which nothing is known, at its own frame rate.

        Raises:
            ValueError: the file cannot be read.
        """
        video = open_video(path)
        return self._take(name, video, video.fps)[0]

    def load_actor(self, path: Path, clip: Clip, truth: Path) -> ActorTake:
        """A video of the actor of ``clip``, at the geometry's frame rate, beside its truth.

        Args:
            path: the video.
            clip: a line of the manifest in the folder ``truth``.

        Raises:
            ValueError: a file cannot be read, or the clip has no truth.
        """
        if clip.truth is None or clip.seeds is None:
            raise ValueError(f"clip {clip.id} of {truth} has no truth; measure it by suite=video")
        video = open_video(path)
        take, reading, loud = self._take(clip.id, video, float(self.geometry.fps))
        assert self.probe is not None, "actors are read by a probe"
        assert reading is not None
        tracks, landmarks = load_truth(truth / clip.truth)
        wrists = np.concatenate([landmarks["right_wrist"], landmarks["left_wrist"]], axis=-1)
        size = (video.height, video.width)
        actor, length = clip.seeds["identity"], min(len(reading), len(tracks))
        key = (clip.id, *size)
        if key not in self.galleries:
            framing = framing_of(actor, tracks, landmarks, *size)
            self.galleries[key] = gallery(self.probe, actor, tracks, *size, framing)
        return ActorTake(
            **{f.name: getattr(take, f.name) for f in fields(Take)},
            clip=clip,
            reading=reading[:length],
            tracks=tracks[:length],
            wrists=wrists[:length],
            sound_late=self._sound_late(loud, clip, truth),
            reference=_reference(truth / clip.video, *size),
            people=self.galleries[key],
        )

    def _take(self, name: str, video: Video, fps: float) -> tuple[Take, Reading | None, Array]:
        """The take, what the probe reads, and the sound's loudness at ``sound.RATE``."""
        meter = AppearanceMeter()
        blocks = meter.watch(read_frames(video, fps))
        reading = self.probe.read(blocks) if self.probe else None
        deque(blocks, maxlen=0)  # all that the probe, if there is none, has left
        seen = meter.result()
        loud = loudness(read_sound(video, self.geometry), self.geometry)
        by_frame = at_frames(loud, len(seen), fps)
        if reading is not None:
            box, mouth = None, reading.mouth_open
        else:
            box = self.box or find_mouth(read_frames(video, fps), by_frame, fps)
            mouth = mouth_motion(read_frames(video, fps), box)
        take = Take(
            id=name,
            video=video,
            fps=fps,
            appearance=seen,
            mouth=mouth,
            loud=by_frame,
            quiet=silent(by_frame),
            identity=None if reading is None else reading.identity,
            box=box,
            chunk_frames=round(self.geometry.chunk_seconds * fps),
            chunk_offset=self.chunk_offset,
        )
        return take, reading, loud

    def _sound_late(self, loud: Array, clip: Clip, truth: Path) -> float | None:
        reference = loudness(
            read_sound(open_video(truth / clip.video), self.geometry), self.geometry
        )
        if not len(loud) or not len(reference):
            return None
        seconds, alike = sound_offset(loud, reference)
        return seconds if alike >= ALIKE else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reference(path: Path, height: int, width: int) -> Appearance:
    first = next(read_frames(open_video(path), block=1))[0]
    if first.shape[:2] != (height, width):
        first = cv2.resize(first, (width, height), interpolation=cv2.INTER_AREA)
    return appearance(first[None])
