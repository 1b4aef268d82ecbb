"""Where the parts of an actor's body are, for those who draw it and those who move it."""

from dataclasses import dataclass

Point = tuple[float, float]

GRIP = 0.13
"""From the wrist, along the fingers, to the middle of a cup that the hand holds."""


@dataclass(frozen=True)
class Body:
    """Proportions of one actor, in the figure's space (see ``Tracks``).

    Attributes:
        shoulder: half the distance between the shoulder joints.
        upper_arm, forearm: lengths of the arms' two bones.
        torso: from the origin down to the hips.
        hip: half the width of the hips.
        leg: from hips to soles.
        neck: from the origin up to the chin.
        mouth_height: from the chin up to the mouth.
        table_side: -1 if the side table with the cup stands at the picture's left, else 1.
    """

    shoulder: float
    upper_arm: float
    forearm: float
    torso: float
    hip: float
    leg: float
    neck: float
    mouth_height: float
    table_side: int

    @property
    def right_shoulder(self) -> Point:
        return (-self.shoulder, 0.0)

    @property
    def left_shoulder(self) -> Point:
        return (self.shoulder, 0.0)

    @property
    def chin(self) -> Point:
        return (0.0, -self.neck)

    @property
    def mouth(self) -> Point:
        return (0.0, -self.neck - self.mouth_height)

    @property
    def crown(self) -> Point:
        return (0.0, -self.neck - 1.0)

    @property
    def cup(self) -> Point:
        """The middle of the cup on its table, within reach of the nearer hand."""
        reach = self.upper_arm + self.forearm
        return (self.table_side * (self.shoulder + 0.42 * reach), 0.66 * self.torso)
