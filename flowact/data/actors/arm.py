"""One arm, in coordinates that are alike for both: what gestures are written in."""

from dataclasses import dataclass

import numpy as np

from flowact.data.actors.motion import Curve, smooth_noise
from flowact.data.actors.tracks import HAND_SHAPES, Array, Tracks

Path = Curve | float

INWARD, OUTWARD, UP = -np.pi / 2, np.pi / 2, np.pi
"""Directions of the fingers, in ``Arm``'s sense; hanging is 0."""

PALM = 0.2
"""From the wrist to the fingertips."""


@dataclass(frozen=True)
class Arm:
    """One arm's rows of a part, in coordinates that are alike for both arms.

    ``out`` is away from the body's middle, ``down`` as in the figure's space, and the fingers'
    ``lift`` grows from hanging (0) by pointing outwards to pointing up (pi).
    """

    part: Tracks
    side: int
    """-1 is the actor's right, at the picture's left."""

    @property
    def name(self) -> str:
        return "right" if self.side < 0 else "left"

    def _track(self, name: str) -> Array:
        track: Array = getattr(self.part, f"{self.name}_{name}")
        return track

    def hold(self, out: Path, down: Path, lift: Path, shape: str) -> None:
        """Put the hand there, before the other arm."""
        self._track("hand")[:, 0] = self.side * np.asarray(out)
        self._track("hand")[:, 1] = down
        self._track("turn")[:] = np.pi / 2 - self.side * np.asarray(lift)
        self._track("shape")[:] = HAND_SHAPES.index(shape)
        self.come_to_front()

    def follow_head(self, share: Path) -> None:
        self._track("follow")[:] = share

    def come_to_front(self) -> None:
        """Be drawn before the other arm."""
        self.part.right_front[:] = self.side < 0
        self.part.left_front[:] = self.side > 0

    def drift(self, rng: np.random.Generator, size: float) -> None:
        """No hand is ever quite still."""
        hand = self._track("hand")
        hand += size * smooth_noise(rng, len(hand), 1.6, 2)


def arms(part: Tracks) -> tuple[Arm, Arm]:
    return Arm(part, -1), Arm(part, 1)


def any_arm(part: Tracks, rng: np.random.Generator) -> Arm:
    """The right arm more often, as most people are right-handed."""
    return Arm(part, -1 if rng.random() < 0.65 else 1)


def towards(lift: Path, length: float) -> tuple[Path, Path]:
    """How far out and down a hand of ``length`` reaches from its wrist."""
    return length * np.sin(lift), length * np.cos(lift)
