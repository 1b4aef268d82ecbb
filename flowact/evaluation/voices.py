"""Recorded voices, said by actors: there is no truth of their mouths, but there is their sound."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from flowact.data.actors.behaviour import FPS, Beat
from flowact.data.actors.captions import make_captions
from flowact.data.actors.identity import Identity
from flowact.data.manifest import Clip, Interval
from flowact.evaluation.actor_streams import Scene
from flowact.geometry import Geometry
from flowact.media.audio import probe_audio

SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma")


def find_recordings(folder: str | Path) -> list[Path]:
    """The sound files in a folder, by name.

    Raises:
        ValueError: it is none, or holds none.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"voices={folder}: is no folder; give one of recordings of speech")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"voices={folder}: holds no sound file ({', '.join(SUFFIXES)})")
    return found


def said_by(clips: Sequence[Clip], recordings: Sequence[Path], geometry: Geometry) -> list[Scene]:
    """Each recording as the speech of an actor, who does nothing else; the actors take turns.

    Raises:
        ValueError: a recording cannot be decoded.
    """
    scenes = []
    for recording, clip in zip(recordings, cycle(clips)):
        assert clip.seeds is not None, "actors have seeds"
        seconds = probe_audio(recording).seconds
        frames = geometry.frames(round(seconds * geometry.sample_rate))
        beat = Beat(0, frames, "speak", "none")
        pronoun = Identity.from_seed(clip.seeds["identity"]).pronoun
        (caption,) = make_captions([beat], pronoun, clip.seeds["phrasing"])
        speaks = Interval(0.0, frames / FPS, beat.state, caption, beat.action)
        scenes.append(Scene(recording.name, clip, recording, (speaks,), frames))
    return scenes
