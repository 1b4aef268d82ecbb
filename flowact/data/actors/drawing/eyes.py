"""Eyes, lids, brows and glasses."""

import skia

from flowact.data.actors.drawing.head import Globe, Spot
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.looks import Face
from flowact.data.actors.drawing.palette import WHITE, darker
from flowact.data.actors.drawing.pose import Head, Pose

GAZE = (0.42, 0.34)
"""How far the iris moves at most, in half widths and half heights of the eye."""
BROW_LIFT = 0.055
DROOP = 0.16
"""Share of the eye's upper half that the lid covers at rest."""


class EyeArt:
    def __init__(self, face: Face, ink: Ink, globe: Globe):
        self._face, self._globe = face, globe
        self._apart = face.eye_apart * face.width
        self._lid = fill(darker(face.skin, 0.14))
        self._white = fill((250, 250, 248))
        self._iris = fill(face.eye)
        self._pupil = fill((28, 22, 30))
        self._shine = fill(WHITE)
        dark = darker(face.skin, 0.85)
        self._lash = line(dark, 0.02 + 0.016 * face.lashes)
        self._rim = line(darker(face.skin, 0.5 if ink.outlined else 0.28), 0.012)
        self._brow = line(face.brow, face.brow_width)
        self._frame = line(face.glasses_colour, 0.024)
        self._glass = fill(WHITE, 40)

    def draw(self, canvas: skia.Canvas, pose: Pose) -> None:
        for side in (-1, 1):
            spot = self._globe.spot(pose.head, side * self._apart, self._face.eye_level)
            self._draw_eye(canvas, pose, spot, side)
            self._draw_brow(canvas, pose, side)
        if self._face.glasses != "none":
            self._draw_glasses(canvas, pose.head)

    def _draw_eye(self, canvas: skia.Canvas, pose: Pose, spot: Spot, side: int) -> None:
        face = self._face
        width, height = face.eye_width, face.eye_height
        canvas.save()
        canvas.translate(spot.x, spot.y)
        canvas.scale(spot.across, spot.down)
        slant = -side * face.eye_slant * 0.35
        canvas.skew(0, -slant)
        canvas.drawOval(skia.Rect(-width, -height, width, height), self._lid)
        lower = 0.94 * height * (1 - 0.35 * max(pose.smile, 0.0))
        upper = -(1 - DROOP) * height
        upper += (0.55 * lower - upper) * pose.blink
        lower += (0.55 * lower - lower) * pose.blink
        opening = _lens(width, upper, lower)
        if lower - upper > 0.012:
            canvas.drawPath(opening, self._white)
            canvas.save()
            canvas.clipPath(opening, doAntiAlias=True)
            radius = min(0.68 * width, 0.74 * height)
            x, y = GAZE[0] * width * pose.gaze[0], GAZE[1] * height * pose.gaze[1]
            canvas.drawCircle(x, y, radius, self._iris)
            canvas.drawCircle(x, y, 0.56 * radius, self._pupil)
            canvas.drawCircle(x - 0.35 * radius, y - 0.4 * radius, 0.27 * radius, self._shine)
            canvas.restore()
        lid = skia.Path()
        lid.moveTo(-width, 0.3 * upper)
        lid.cubicTo(-0.75 * width, 1.3 * upper, 0.75 * width, 1.3 * upper, width, 0.3 * upper)
        if face.lashes > 0.5:
            lid.lineTo(*((1.3 * width, 0.3 * upper - 0.02) if side > 0 else (width, 0.3 * upper)))
            if side < 0:
                lid.moveTo(-width, 0.3 * upper)
                lid.lineTo(-1.3 * width, 0.3 * upper - 0.02)
        canvas.drawPath(lid, self._lash)
        canvas.restore()

    def _draw_brow(self, canvas: skia.Canvas, pose: Pose, side: int) -> None:
        face = self._face
        level = face.eye_level - face.eye_height - 0.05 - BROW_LIFT * pose.brow
        spot = self._globe.spot(pose.head, side * self._apart, level)
        width = 1.2 * face.eye_width * spot.across
        slant = 0.05 * face.brow_slant + 0.02 * min(pose.brow, 0.0)
        path = skia.Path()
        path.moveTo(spot.x - width * side, spot.y - slant)
        path.quadTo(spot.x, spot.y - 0.12 * face.brow_arch, spot.x + width * side, spot.y + slant)
        canvas.drawPath(path, self._brow)

    def _draw_glasses(self, canvas: skia.Canvas, head: Head) -> None:
        face, ends = self._face, []
        size = max(face.eye_width, face.eye_height) * 1.32
        size = min(size, 0.92 * self._apart)
        for side in (-1, 1):
            spot = self._globe.spot(head, side * self._apart, face.eye_level + 0.015)
            reach = size * spot.across
            box = skia.Rect(spot.x - reach, spot.y - size, spot.x + reach, spot.y + size)
            corner = size if face.glasses == "round" else 0.35 * size
            canvas.drawRoundRect(box, corner * spot.across, corner, self._glass)
            canvas.drawRoundRect(box, corner * spot.across, corner, self._frame)
            ends.append((spot.x, reach, spot.y - 0.15 * size))
            temple = side * face.width - 0.06 * head.turn
            if side * (temple - spot.x) > reach:
                canvas.drawLine(
                    spot.x + side * reach, spot.y - 0.2 * size, temple, spot.y - 0.1, self._frame
                )
        (left, left_reach, y), (right, right_reach, _) = ends
        if right - right_reach > left + left_reach:
            canvas.drawLine(left + left_reach, y, right - right_reach, y, self._frame)


def _lens(width: float, upper: float, lower: float) -> skia.Path:
    """An eye's opening between two lids that are ``upper`` and ``lower`` in its middle."""
    path = skia.Path()
    corner = 0.3 * upper + 0.3 * lower
    path.moveTo(-width, corner)
    up, down = (upper - 0.25 * corner) / 0.75, (lower - 0.25 * corner) / 0.75
    path.cubicTo(-0.85 * width, up, 0.85 * width, up, width, corner)
    path.cubicTo(0.85 * width, down, -0.85 * width, down, -width, corner)
    path.close()
    return path
