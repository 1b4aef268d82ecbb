"""One clip of the actor world: everything there is to know about it, before anything is drawn."""

from dataclasses import dataclass
from typing import Self

from flowact.data.actors.behaviour import FPS, make_script, speech_spans
from flowact.data.actors.captions import make_appearance, make_captions
from flowact.data.actors.identity import Identity
from flowact.data.actors.performance import perform
from flowact.data.actors.speech import Soundtrack, Synthesiser, make_soundtrack
from flowact.data.actors.tracks import Tracks
from flowact.data.actors.visemes import mouth_tracks
from flowact.data.manifest import Interval
from flowact.data.splits import derived_seed
from flowact.geometry import Geometry


@dataclass(frozen=True)
class ActorSeeds:
    """What decides about a clip: who is seen, who is heard, what happens, in which words, and how.

    Clips that differ in ``motion`` alone are takes of one condition: their captions, intervals,
    speech and looks are equal, their movements are not.
    """

    identity: int
    voice: int
    script: int
    phrasing: int
    motion: int

    @classmethod
    def of(cls, seed: int) -> Self:
        """All seeds of clip ``seed``, in its split; its actor is ``Identity.from_seed(seed)``.

        Raises:
            ValueError: ``seed`` is in no split.
        """
        return cls(
            identity=seed,
            voice=derived_seed(seed, "voice"),
            script=derived_seed(seed, "script"),
            phrasing=derived_seed(seed, "phrasing"),
            motion=derived_seed(seed, "motion"),
        )


@dataclass(frozen=True)
class ActorClip:
    """A clip that can be rendered, heard, and told in words.

    Attributes:
        intervals: cover the clip; ``action`` is one of ``ACTIONS``.
        appearance: who is seen, and where.
    """

    seeds: ActorSeeds
    identity: Identity
    tracks: Tracks
    intervals: tuple[Interval, ...]
    appearance: str
    soundtrack: Soundtrack


def make_clip(seeds: ActorSeeds, frames: int, synthesiser: Synthesiser = "formant") -> ActorClip:
    """The clip of ``seeds`` with ``frames`` frames; nothing is drawn yet.

    Raises:
        ValueError: ``frames`` is below 1, a seed is in no split, or the synthesiser is not
            installed.
    """
    identity = Identity.from_seed(seeds.identity)
    script = make_script(seeds.script, frames)
    spans = speech_spans(script, seeds.script)
    soundtrack = make_soundtrack(spans, frames / FPS, seeds.voice, synthesiser)
    mouth = mouth_tracks(soundtrack.phones, frames, Geometry())
    captions = make_captions(script, identity.pronoun, seeds.phrasing)
    return ActorClip(
        seeds=seeds,
        identity=identity,
        tracks=perform(script, identity.body, mouth, seeds.motion),
        intervals=tuple(
            Interval(beat.start / FPS, beat.end / FPS, beat.state, caption, beat.action)
            for beat, caption in zip(script, captions, strict=True)
        ),
        appearance=make_appearance(identity.words(), seeds.phrasing),
        soundtrack=soundtrack,
    )
