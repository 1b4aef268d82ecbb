"""Actors for the tests of the instruments, seen by an eye without errors or by the probe."""

import numpy as np

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.identity import Identity
from flowact.data.actors.renderer import Renderer
from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.data.manifest import Clip
from flowact.data.splits import derived_seed
from flowact.evaluation.appearance import appearance
from flowact.evaluation.identity import gallery
from flowact.evaluation.probe import FACE_TARGETS, Reading, load_probe
from flowact.evaluation.sound import at_frames, loudness, silent, sound_offset
from flowact.evaluation.takes import ActorTake
from flowact.evaluation.video import Video
from flowact.geometry import Geometry
from flowact.seeds import stable_seed

GEOMETRY = Geometry()
FPS = GEOMETRY.fps
SIZE = 96
PEOPLE = 10
# Of the test split, and speaking for some of its time.
SEED = 900_101


def one_hot(labels, classes):
    """Log-probabilities [T, classes] of one who is sure."""
    return np.where(np.arange(classes) == labels[:, None], -0.01, -9.0).astype(np.float32)


def face_code(person):
    """The unit vector by which the eye knows a person."""
    code = np.random.default_rng(stable_seed("face", person)).normal(size=64)
    return (code / np.linalg.norm(code)).astype(np.float32)


def true_reading(tracks, landmarks, person):
    """What there is to be seen, as the probe would say it."""
    return Reading(
        face=landmarks["face"],
        wrists=np.concatenate([landmarks["right_wrist"], landmarks["left_wrist"]], -1),
        state=one_hot(tracks.state, len(STATES)),
        action=one_hot(tracks.action, len(ACTIONS)),
        identity=np.tile(face_code(person), (len(tracks), 1)),
        **{name: getattr(tracks, name) for name in FACE_TARGETS},
    )


class Actor:
    """A clip of ``SEED``, drawn once."""

    def __init__(self, frames, seeds=None):
        self.clip = make_clip(seeds or ActorSeeds.of(SEED), frames)
        renderer = Renderer(self.clip.identity, SIZE, SIZE)
        self.frames = renderer.render(self.clip.tracks)
        self.landmarks = renderer.landmarks(self.clip.tracks)
        self.loud = loudness([self.clip.soundtrack.samples], GEOMETRY)
        self.people = np.stack([face_code(person) for person in range(PEOPLE)])

    def read(self, frames, tracks, person):
        """What is seen on ``frames``, on which ``person`` (0: the actor) does as in ``tracks``."""
        return true_reading(tracks, self.landmarks, person)

    def take(self, frames=None, tracks=None, person=0, sound=None):
        """The video of ``frames`` on which ``tracks`` and ``person`` are seen, with ``sound``."""
        frames = self.frames if frames is None else frames
        tracks = self.clip.tracks if tracks is None else tracks
        sound = self.clip.soundtrack.samples if sound is None else sound
        reading = self.read(frames, tracks, person)
        loud = loudness([sound], GEOMETRY)
        by_frame = at_frames(loud, len(frames), FPS)
        return ActorTake(
            id="actor",
            video=Video("actor.mp4", SIZE, SIZE, 0, FPS, 0.0, 0.0),
            fps=float(FPS),
            appearance=appearance(frames),
            mouth=reading.mouth_open,
            loud=by_frame,
            quiet=silent(by_frame),
            identity=reading.identity,
            box=None,
            chunk_frames=GEOMETRY.chunk_frames,
            chunk_offset=0,
            clip=Clip("actor", "actor.mp4", FPS, len(frames), intervals=self.clip.intervals),
            reading=reading,
            tracks=self.clip.tracks,
            wrists=true_reading(self.clip.tracks, self.landmarks, 0).wrists,
            sound_late=sound_offset(loud, self.loud)[0],
            reference=appearance(self.frames[:1]),
            people=self.people,
        )


class ProbedActor(Actor):
    """The same, seen by the probe that ships, which finds its people in a gallery."""

    def __init__(self, frames, seeds):
        super().__init__(frames, seeds)
        self.seed = seeds.identity
        self.probe = load_probe()
        self.people = gallery(self.probe, self.seed, self.clip.tracks, SIZE, SIZE, "hips")

    def read(self, frames, tracks, person):
        if person:
            other = Identity.from_seed(derived_seed(self.seed, f"stranger {person}"))
            actor = self.clip.identity.with_face_of(other)
            frames = Renderer(actor, SIZE, SIZE).render(tracks)
        return self.probe.read(frames)
