"""Arms and sleeves: two bones as round-ended strokes, and the hand at their end."""

import skia

from flowact.data.actors.body import Point
from flowact.data.actors.drawing.hands import HandArt
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.looks import Clothes
from flowact.data.actors.drawing.palette import Rgb, darker
from flowact.data.actors.drawing.pose import Arm

UPPER, FORE = 0.205, 0.16
"""Widths of upper arm and forearm."""
SKIN_UPPER, SKIN_FORE = 0.16, 0.13
RIM = 0.018


class ArmArt:
    def __init__(self, skin: Rgb, clothes: Clothes, ink: Ink):
        self._hand = HandArt(skin, ink)
        cloth = clothes.second if clothes.pattern == "two-coloured" else clothes.colour
        rim = ink.edge(cloth)
        self._long = clothes.garment not in ("t-shirt", "tank top")
        self._short = clothes.garment == "t-shirt"
        seamless = clothes.pattern == "plain" and clothes.garment != "tank top"
        self._joint = fill(cloth) if seamless else None
        self._skin = (line(skin, SKIN_UPPER), line(skin, SKIN_FORE))
        skin_rim = ink.edge(skin)
        self._skin_rim = (
            line(skin_rim, SKIN_UPPER + 2 * RIM),
            line(skin_rim, SKIN_FORE + 2 * RIM),
        )
        self._sleeve = (line(cloth, UPPER), line(cloth, FORE))
        self._sleeve_rim = (line(rim, UPPER + 2 * RIM), line(rim, FORE + 2 * RIM))
        self._hem = line(darker(cloth, 0.3), UPPER + 0.02, flat=True)
        self._cuff = line(darker(cloth, 0.3), FORE + 0.012, flat=True)

    def draw(self, canvas: skia.Canvas, arm: Arm) -> None:
        self._draw_limb(canvas, arm, *(self._sleeve_rim if self._long else self._skin_rim))
        self._draw_limb(canvas, arm, *(self._sleeve if self._long else self._skin))
        if self._short:
            end = _between(arm.shoulder, arm.elbow, 0.62)
            hem = _between(arm.shoulder, arm.elbow, 0.7)
            canvas.drawLine(*arm.shoulder, *end, self._sleeve_rim[0])
            canvas.drawLine(*arm.shoulder, *end, self._sleeve[0])
            canvas.drawLine(*end, *hem, self._hem)
        if self._joint:
            x, y = arm.shoulder
            canvas.drawCircle(x - 0.05 * arm.side, y + 0.02, 0.45 * UPPER, self._joint)
        self._hand.draw(canvas, arm)
        if self._long:
            canvas.drawLine(*_between(arm.elbow, arm.wrist, 0.88), *arm.wrist, self._cuff)

    def draw_grip(self, canvas: skia.Canvas, arm: Arm) -> None:
        self._hand.draw_grip(canvas, arm)

    def _draw_limb(
        self, canvas: skia.Canvas, arm: Arm, upper: skia.Paint, fore: skia.Paint
    ) -> None:
        canvas.drawLine(*arm.shoulder, *arm.elbow, upper)
        canvas.drawLine(*arm.elbow, *arm.wrist, fore)


def _between(start: Point, end: Point, share: float) -> Point:
    return (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
