"""Hands: a palm with round-ended fingers, in the hand's own space, fingers along +x."""

import math

import skia

from flowact.data.actors.body import Point
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.palette import Rgb, darker
from flowact.data.actors.drawing.pose import Arm

FINGER = 0.058
RIM = 0.016
PALM = (0.095, 0.0, 0.085)
"""Middle and radius of the palm; the wrist is the origin."""

_FINGERS: dict[str, tuple[tuple[Point, Point], ...]] = {
    "relaxed": (
        ((0.13, -0.05), (0.21, -0.052)),
        ((0.14, -0.015), (0.235, -0.015)),
        ((0.14, 0.02), (0.225, 0.022)),
        ((0.13, 0.05), (0.2, 0.052)),
    ),
    "open": (
        ((0.12, -0.05), (0.225, -0.115)),
        ((0.13, -0.02), (0.27, -0.04)),
        ((0.13, 0.02), (0.27, 0.04)),
        ((0.12, 0.05), (0.225, 0.115)),
    ),
    "fist": (((0.13, -0.045), (0.15, -0.045)), ((0.13, 0.045), (0.15, 0.045))),
    "point": (((0.12, -0.02), (0.29, -0.025)), ((0.12, 0.045), (0.15, 0.045))),
    "thumb": (((0.12, -0.045), (0.16, -0.045)), ((0.12, 0.045), (0.16, 0.045))),
    "hold": (
        ((0.12, -0.052), (0.18, -0.055)),
        ((0.13, 0.0), (0.195, 0.0)),
        ((0.12, 0.052), (0.18, 0.055)),
    ),
}
_THUMBS: dict[str, tuple[Point, Point]] = {
    "relaxed": ((0.06, 0.06), (0.14, 0.095)),
    "open": ((0.05, 0.06), (0.13, 0.155)),
    "fist": ((0.06, 0.06), (0.14, 0.055)),
    "point": ((0.06, 0.06), (0.14, 0.085)),
    "thumb": ((0.07, 0.05), (0.085, 0.21)),
    "hold": ((0.05, 0.06), (0.13, 0.1)),
}
_KNUCKLES: dict[str, tuple[Point, ...]] = {
    "fist": ((0.15, -0.028), (0.155, 0.0), (0.15, 0.028)),
    "point": ((0.15, 0.01), (0.15, 0.035)),
    "thumb": ((0.16, -0.03), (0.165, 0.0), (0.16, 0.03)),
}


class HandArt:
    def __init__(self, skin: Rgb, ink: Ink):
        rim = ink.edge(skin)
        self._palm = fill(skin)
        self._palm_rim = line(rim, 2 * RIM)
        self._finger = line(skin, FINGER)
        self._finger_rim = line(rim, FINGER + 2 * RIM)
        self._crease = line(darker(skin, 0.3), 0.012)
        self._fingers = {shape: _strokes(lines) for shape, lines in _FINGERS.items()}
        self._grip = _strokes(tuple(((0.06, y), (0.125, y)) for y in (-0.055, 0.0, 0.055)))
        self._knuckles = {
            shape: _strokes(tuple(((x - 0.05, y), (x, y)) for x, y in points))
            for shape, points in _KNUCKLES.items()
        }

    def draw(self, canvas: skia.Canvas, arm: Arm) -> None:
        """The hand at the wrist of ``arm``."""
        canvas.save()
        canvas.translate(*arm.wrist)
        canvas.rotate(math.degrees(arm.turn))
        roll = _roll(arm)
        (x0, y0), (x1, y1) = _THUMBS[arm.shape]
        thumb = (x0, y0 * roll, x1, y1 * roll)
        fingers = self._fingers[arm.shape]
        canvas.drawCircle(*PALM, self._palm_rim)
        canvas.drawPath(fingers, self._finger_rim)
        canvas.drawLine(*thumb, self._finger_rim)
        canvas.drawCircle(*PALM, self._palm)
        canvas.drawPath(fingers, self._finger)
        canvas.drawLine(*thumb, self._finger)
        if arm.shape in self._knuckles:
            canvas.drawPath(self._knuckles[arm.shape], self._crease)
        canvas.restore()

    def draw_grip(self, canvas: skia.Canvas, arm: Arm) -> None:
        """The fingers that close around a held cup, drawn over it."""
        canvas.save()
        canvas.translate(*arm.wrist)
        canvas.rotate(math.degrees(arm.turn))
        for paint in (self._finger_rim, self._finger):
            canvas.drawPath(self._grip, paint)
        canvas.restore()


def _roll(arm: Arm) -> float:
    """-1 to 1: the side the thumb is on, and how far. It points inwards, or up if fingers do not.

    The hand rolls about its forearm in between, so that the thumb never jumps. A raised thumb
    stays on the side that is up when the fingers point to the other arm.
    """
    if arm.shape == "thumb":
        return float(arm.side)
    inwards = (
        math.cos(arm.turn + 0.75 * math.pi)
        if arm.side < 0
        else -math.cos(arm.turn + 0.25 * math.pi)
    )
    return max(-1.0, min(1.0, 3.0 * inwards))


def _strokes(lines: tuple[tuple[Point, Point], ...]) -> skia.Path:
    path = skia.Path()
    for start, end in lines:
        path.moveTo(*start)
        path.lineTo(*end)
    return path
