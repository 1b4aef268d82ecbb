"""Recorded voices, said by actors: there is no truth of their mouths, but there is their sound."""

import logging
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from flowact.data.actors.behaviour import FPS, Beat
from flowact.data.actors.captions import make_captions
from flowact.data.actors.identity import Identity
from flowact.data.manifest import Clip, Interval
from flowact.evaluation.actor_streams import Scene
from flowact.geometry import Geometry
from flowact.media.audio import probe_audio

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma")


def find_recordings(folder: str | Path) -> dict[Path, float]:
    """The sound files in a folder, by name, and their seconds; what is no sound is left out.

    Raises:
        ValueError: it is no folder, or holds none.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"voices={folder}: is no folder; give one of recordings of speech")
    found = {}
    for file in sorted(path.glob("[!.]*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            try:
                found[file] = probe_audio(file).seconds
            except ValueError as error:
                logger.warning("%s is left out: %s", file.name, error)
    if not found:
        raise ValueError(f"voices={folder}: holds no sound file ({', '.join(SUFFIXES)})")
    return found


def said_by(
    clips: Sequence[Clip], recordings: Mapping[Path, float], geometry: Geometry
) -> list[Scene]:
    """Each recording as the speech of an actor, who does nothing else; the actors take turns."""
    scenes = []
    for (recording, seconds), clip in zip(recordings.items(), cycle(clips), strict=False):
        assert clip.seeds is not None, "actors have seeds"
        frames = geometry.frames(round(seconds * geometry.sample_rate))
        beat = Beat(0, frames, "speak", "none")
        pronoun = Identity.from_seed(clip.seeds["identity"]).pronoun
        (caption,) = make_captions([beat], pronoun, clip.seeds["phrasing"])
        speaks = Interval(0.0, frames / FPS, beat.state, caption, beat.action)
        scenes.append(Scene(recording.name, clip, recording, (speaks,), frames))
    return scenes
