"""Recorded voices, said by actors: there is no truth of their mouths, but there is their sound."""

import logging
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


def said_by(clip: Clip, recording: Path, seconds: float, geometry: Geometry) -> Scene:
    """A recording as the speech of the actor of ``clip``, who does nothing else."""
    assert clip.seeds is not None, "actors have seeds"
    frames = geometry.frames(round(seconds * geometry.sample_rate))
    beat = Beat(0, frames, "speak", "none")
    pronoun = Identity.from_seed(clip.seeds["identity"]).pronoun
    (caption,) = make_captions([beat], pronoun, clip.seeds["phrasing"])
    speaks = Interval(0.0, frames / FPS, beat.state, caption, beat.action)
    return Scene(recording.name, clip, recording, (speaks,), frames)
