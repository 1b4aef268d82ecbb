"""Whether it is still the same person: the actor picked out among a hundred look-alikes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.identity import Identity
from flowact.data.actors.renderer import Framing, Renderer
from flowact.data.actors.tracks import Tracks
from flowact.data.splits import derived_seed
from flowact.evaluation.drift import unit_mean
from flowact.evaluation.probe import Probe

GALLERY = 100
POSES = 3

FRAMINGS: tuple[Framing, ...] = ("hips", "full")

Array = NDArray[np.float32]


def gallery(
    probe: Probe, seed: int, tracks: Tracks, height: int, width: int, framing: Framing
) -> Array:
    """Embeddings of an actor and of 99 others dressed and drawn alike, in the same place.

    Everyone strikes the same poses, those of some three frames of ``tracks``, and is known by their
    mean; only face, hair and skin differ. The others are drawn by ``seed``, in its split.

    Args:
        seed: of the actor.
        tracks: the actor's, of at least one frame.

    Returns:
        [GALLERY, D], unit vectors; the actor's is the first.
    """
    actor = Identity.from_seed(seed)
    others = (derived_seed(seed, f"look-alike {i}") for i in range(1, GALLERY))
    people = [actor, *(actor.with_face_of(Identity.from_seed(other)) for other in others)]
    step = max(1, len(tracks) // POSES)
    poses = tracks[slice(step // 2, None, step)]
    return np.stack(
        [
            unit_mean(probe.read(Renderer(person, height, width, framing).render(poses)).identity)
            for person in people
        ]
    )


def framing_of(
    seed: int, tracks: Tracks, landmarks: Mapping[str, Array], height: int, width: int
) -> Framing:
    """The framing that a clip was drawn in: that in which the head is as high as in its truth."""
    actor, first = Identity.from_seed(seed), tracks[:1]

    def miss(framing: Framing) -> float:
        drawn = Renderer(actor, height, width, framing).landmarks(first)["face"]
        return float(abs(drawn[0, 2] - landmarks["face"][0, 2]))

    return min(FRAMINGS, key=miss)


def top1(identity: Array, people: Array) -> float:
    """1 if the first of ``people`` is nearer than all others to the video's mean embedding, else 0.

    Args:
        identity: [T, D], unit vectors, of the video's frames.
        people: [N, D], unit vectors.
    """
    alike = people @ unit_mean(identity)
    return float((alike[0] > alike[1:]).all())
