"""One frame of the tracks as joints: where head, shoulders, elbows, wrists and cup are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from flowact.data.actors.body import GRIP, Body, Point
from flowact.data.actors.tracks import HAND_SHAPES, Tracks

TURN = 0.42
"""Radians that the head turns at most; the far eye stays within the face."""
NOD = 0.19
TILT = 0.19
DEPTH = 0.38
"""How much nearer than the shoulders a hand before the body is."""
ELBOW = (0.45, 0.89)
"""Where elbows hang: outwards and down."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head's place. Head space has its origin in the middle of the head and its unit is 1."""

    x: float
    y: float
    pivot: Point
    turn: float
    nod: float
    tilt: float

    def to_figure(self, x: float, y: float) -> Point:
        """A point of head space in the figure's space."""
        cosine, sine = math.cos(self.tilt), math.sin(self.tilt)
        dx, dy = self.x + x - self.pivot[0], self.y + y - self.pivot[1]
        return (
            self.pivot[0] + cosine * dx - sine * dy,
            self.pivot[1] + sine * dx + cosine * dy,
        )


@dataclass(frozen=True, slots=True)
class Arm:
    """``side`` is -1 for the right arm, which is at the picture's left, and 1 for the left one."""

    side: int
    shoulder: Point
    elbow: Point
    wrist: Point
    turn: float
    shape: str


@dataclass(frozen=True, slots=True)
class Pose:
    """``arms`` come in the order in which they are drawn; ``shift`` is that of the shoulders."""

    head: Head
    arms: tuple[Arm, Arm]
    shift: Point
    breath: float
    shrug: float
    mouth_open: float
    mouth_width: float
    mouth_round: float
    smile: float
    gaze: Point
    blink: float
    brow: float
    cup: Point
    cup_angle: float
    cup_held: bool


def poses(tracks: Tracks, body: Body) -> Iterator[Pose]:
    """The pose of every frame, each from its own row alone."""
    columns = {name: array.tolist() for name, array in tracks.arrays().items()}
    for values in zip(*columns.values(), strict=True):
        yield _pose(dict(zip(columns, values, strict=True)), body)


def _pose(row: dict[str, float | int | list[float]], body: Body) -> Pose:
    scalars = {name: value for name, value in row.items() if not isinstance(value, list)}
    points = {name: value for name, value in row.items() if isinstance(value, list)}
    shift = (points["sway"][0], points["sway"][1])
    head = _head(points["head"], shift, scalars["shrug"], body)
    arms = [
        _arm(side, name, scalars, points[f"{name}_hand"], shift, head, body)
        for side, name in ((-1, "right"), (1, "left"))
    ]
    holder = arms[(body.table_side + 1) // 2]
    if scalars["right_front"] > scalars["left_front"]:
        arms.reverse()
    held = scalars["cup"] == 1
    return Pose(
        head=head,
        arms=(arms[0], arms[1]),
        shift=shift,
        gaze=(points["gaze"][0], points["gaze"][1]),
        cup=_ahead(holder.wrist, holder.turn, GRIP) if held else body.cup,
        cup_angle=-body.table_side * scalars["cup_tilt"] if held else 0.0,
        cup_held=held,
        **{
            name: scalars[name]
            for name in (
                "breath",
                "shrug",
                "mouth_open",
                "mouth_width",
                "mouth_round",
                "smile",
                "blink",
                "brow",
            )
        },
    )


def _head(motion: list[float], shift: Point, shrug: float, body: Body) -> Head:
    turn, nod, tilt = motion
    return Head(
        x=shift[0] + 0.03 * turn,
        y=shift[1] - body.neck - 0.5 + 0.05 * nod + 0.02 * shrug,
        pivot=(shift[0], shift[1] - 0.5 * body.neck),
        turn=TURN * turn,
        nod=NOD * nod,
        tilt=TILT * tilt,
    )


def _arm(
    side: int,
    name: str,
    scalars: dict[str, float | int],
    hand: list[float],
    shift: Point,
    head: Head,
    body: Body,
) -> Arm:
    lift = 0.13 * scalars["shrug"] + 0.022 * scalars["breath"]
    shoulder = (
        shift[0] + side * (body.shoulder - 0.02 * scalars["shrug"]),
        shift[1] - lift,
    )
    chin_height = 0.5 - body.mouth_height
    mouth = head.to_figure(0.35 * math.sin(head.turn), chin_height + 0.3 * math.sin(head.nod))
    rest = (shift[0], shift[1] - body.neck - body.mouth_height)
    follow = scalars[f"{name}_follow"]
    target = (
        hand[0] + shift[0] + follow * (mouth[0] - rest[0]),
        hand[1] + shift[1] + follow * (mouth[1] - rest[1]),
    )
    elbow, wrist = _reach(shoulder, target, side, body)
    return Arm(
        side=side,
        shoulder=shoulder,
        elbow=elbow,
        wrist=wrist,
        turn=scalars[f"{name}_turn"],
        shape=HAND_SHAPES[int(scalars[f"{name}_shape"])],
    )


def _reach(shoulder: Point, target: Point, side: int, body: Body) -> tuple[Point, Point]:
    """Elbow and wrist of an arm that reaches for ``target``, as they are seen from the front.

    A hand before the body is also nearer to the viewer, so that arms fold as they do in space.
    The elbow hangs outwards and down as far as the arm lets it; where the arm itself goes that
    way the elbow is seen on it, so that it never jumps from one side to the other.
    """
    upper, fore = body.upper_arm, body.forearm
    longest = 0.985 * (upper + fore)
    dx, dy = target[0] - shoulder[0], target[1] - shoulder[1]
    flat = math.hypot(dx, dy) + 1e-6
    shrink = min(1.0, longest / flat)
    dx, dy, flat = dx * shrink, dy * shrink, flat * shrink
    before = DEPTH * math.exp(-((target[0] / 0.55) ** 2))
    dz = min(before, math.sqrt(max(longest**2 - flat**2, 0.0)))
    length = max(math.hypot(flat, dz), abs(upper - fore) + 0.05)
    ax, ay, az = dx / length, dy / length, dz / length
    share = (upper**2 - fore**2 + length**2) / (2 * length**2)
    height = math.sqrt(max(upper**2 - (share * length) ** 2, 0.0))
    down = ax * side * ELBOW[0] + ay * ELBOW[1]
    ex, ey, ez = side * ELBOW[0] - down * ax, ELBOW[1] - down * ay, -down * az
    size = math.sqrt(ex**2 + ey**2 + ez**2) + 1e-6
    swing = height * math.tanh(3.0 * size) / size
    elbow = (shoulder[0] + share * dx + swing * ex, shoulder[1] + share * dy + swing * ey)
    return elbow, (shoulder[0] + dx, shoulder[1] + dy)


def _ahead(start: Point, turn: float, length: float) -> Point:
    return (start[0] + length * math.cos(turn), start[1] + length * math.sin(turn))
