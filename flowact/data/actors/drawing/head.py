"""The head: its outline, ears, nose, cheeks, glasses, beard, and how the face turns with it."""

import math
from dataclasses import dataclass

import skia

from flowact.data.actors.body import Point
from flowact.data.actors.drawing.ink import Ink, fill, line, smooth
from flowact.data.actors.drawing.looks import Face
from flowact.data.actors.drawing.palette import Rgb, darker, lighter, mix
from flowact.data.actors.drawing.pose import Head

SKULL = 0.45
"""Height of the skull above the ears."""
EAR_LEVEL = -0.05


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the turned face: position in head space and foreshortening."""

    x: float
    y: float
    across: float
    down: float


class Globe:
    """The face as a part of an ellipsoid, so that features move and narrow as the head turns."""

    def __init__(self, face: Face):
        self._half = face.width
        self._height = 0.62

    def spot(self, head: Head, x: float, y: float) -> Spot:
        edge = self._half * _profile(y)
        width = 1.12 * edge
        longitude = math.asin(max(-1.0, min(1.0, x / width)))
        latitude = math.asin(max(-1.0, min(1.0, y / self._height)))
        across = math.cos(longitude + head.turn) / max(math.cos(longitude), 0.3)
        down = math.cos(latitude + head.nod) / max(math.cos(latitude), 0.3)
        return Spot(
            max(-edge, min(edge, width * math.sin(longitude + head.turn))),
            self._height * math.sin(latitude + head.nod),
            min(across, 1.15),
            min(down, 1.08),
        )

    def line(self, head: Head, points: list[Point]) -> list[Point]:
        spots = (self.spot(head, x, y) for x, y in points)
        return [(spot.x, spot.y) for spot in spots]


def _profile(y: float) -> float:
    """Half width of the face at height ``y``, relative to its widest."""
    if y > 0:
        return max(1 - 2.6 * y * y, 0.35)
    return math.sqrt(1 - min(abs(y) / 0.62, 0.9) ** 2)


def outline(face: Face) -> skia.Path:
    """The head from crown to chin, in head space."""
    width, crown, curve = face.width, -0.5, 0.55
    shoulder = EAR_LEVEL - curve * SKULL
    path = skia.Path()
    path.moveTo(0, crown)
    path.cubicTo(curve * width, crown, width, shoulder, width, EAR_LEVEL)
    path.cubicTo(width, face.cheek, face.jaw, 0.5, 0, 0.5)
    path.cubicTo(-face.jaw, 0.5, -width, face.cheek, -width, EAR_LEVEL)
    path.cubicTo(-width, shoulder, -curve * width, crown, 0, crown)
    path.close()
    return path


def jaw_line(face: Face, start: float) -> list[Point]:
    """Points along the outline's lower half from the left ear to the right, from ``start`` on."""

    def right(t: float) -> Point:
        u = 1 - t
        x = u**3 * face.width + 3 * u * u * t * face.width + 3 * u * t * t * face.jaw
        y = u**3 * EAR_LEVEL + 3 * u * u * t * face.cheek + (3 * u * t * t + t**3) * 0.5
        return (x, y)

    half = [right(start + (1 - start) * i / 6) for i in range(7)]
    return [(-x, y) for x, y in half] + half[-2::-1]


class HeadArt:
    """Everything on the head that is neither hair, eyes nor mouth."""

    def __init__(self, face: Face, mouth_level: float, ink: Ink, globe: Globe):
        self._face, self._ink, self._globe = face, ink, globe
        self._mouth_level = mouth_level
        self._outline = outline(face)
        self._skin = ink.body(face.skin, (-face.width, -0.5, face.width, 0.5))
        self._shadow: Rgb = darker(face.skin, 0.22)
        self._nose_level = 0.5 * (face.eye_level + mouth_level) + 0.02
        self._blush = fill(mix(face.skin, (235, 70, 90), 0.55), int(150 * face.blush))

    def draw_ears(self, canvas: skia.Canvas, head: Head) -> None:
        face = self._face
        for side in (-1, 1):
            x = side * (face.width + 0.25 * face.ears) - 0.09 * math.sin(head.turn)
            y = 0.04 - 0.12 * head.nod
            self._ink.oval(canvas, x, y, 0.8 * face.ears, 1.25 * face.ears, face.skin)
            canvas.drawOval(
                skia.Rect.MakeXYWH(
                    x - 0.35 * face.ears + side * 0.12 * face.ears,
                    y - 0.6 * face.ears,
                    0.7 * face.ears,
                    1.3 * face.ears,
                ),
                fill(self._shadow),
            )
            if face.earrings:
                canvas.drawCircle(x, y + 1.45 * face.ears, 0.032, fill(face.earrings))

    def draw_skin(self, canvas: skia.Canvas, head: Head) -> None:
        face = self._face
        self._ink.draw(canvas, self._outline, self._skin, face.skin)
        for side in (-1, 1):
            spot = self._globe.spot(head, side * 0.54 * face.width, face.eye_level + 0.13)
            radius = 0.075 * min(spot.across, 1)
            if face.blush:
                box = skia.Rect.MakeXYWH(
                    spot.x - radius * spot.across,
                    spot.y - 0.7 * radius,
                    2 * radius * spot.across,
                    1.4 * radius,
                )
                canvas.drawOval(box, self._blush)
            if face.freckles:
                for dx, dy in ((-0.05, 0.0), (0.0, 0.03), (0.05, -0.005), (0.01, -0.035)):
                    canvas.drawCircle(
                        spot.x + dx * spot.across, spot.y + dy, 0.011, fill(self._shadow)
                    )

    def draw_nose(self, canvas: skia.Canvas, head: Head) -> None:
        """The nose stands out from the face and so moves furthest."""
        face, size = self._face, 0.06 * self._face.nose_size
        spot = self._globe.spot(head, 0, self._nose_level)
        x = spot.x + 0.07 * math.sin(head.turn)
        y = spot.y + 0.05 * math.sin(head.nod)
        pen = line(self._shadow if not self._ink.outlined else darker(face.skin, 0.55), 0.022)
        path = skia.Path()
        if face.nose == "button":
            canvas.drawOval(
                skia.Rect(x - size, y - 0.8 * size, x + size, y + 0.7 * size), fill(self._shadow)
            )
            shine = fill(lighter(face.skin, 0.3))
            canvas.drawCircle(x - 0.3 * size, y - 0.3 * size, 0.25 * size, shine)
            return
        if face.nose == "hook":
            side = 1 if head.turn >= 0 else -1
            path.moveTo(x, y - 1.7 * size)
            path.quadTo(x + 1.5 * size * side, y + 0.5 * size, x - 0.5 * size, y + 0.5 * size)
        elif face.nose == "wide":
            path.moveTo(x - 1.2 * size, y)
            path.quadTo(x - 0.9 * size, y + 0.8 * size, x, y + 0.5 * size)
            path.quadTo(x + 0.9 * size, y + 0.8 * size, x + 1.2 * size, y)
        else:
            path = smooth(
                [(x, y - 2 * size), (x + 1.1 * size, y + size), (x - 1.1 * size, y + size)]
            )
            canvas.drawPath(path, fill(self._shadow))
            return
        canvas.drawPath(path, pen)

    def draw_beard(self, canvas: skia.Canvas, head: Head) -> None:
        face = self._face
        if face.beard == "none":
            return
        level, width = self._mouth_level, face.width
        colour = darker(face.hair, 0.1)
        if face.beard == "moustache":
            self._draw_moustache(canvas, head, colour)
            return
        if face.beard == "goatee":
            ring = [(0.0, level - 0.1), (0.17, level - 0.05), (0.17, 0.38), (0.1, 0.5), (0.0, 0.53)]
            ring += [(-x, y) for x, y in ring[-2:0:-1]]
            path = smooth(self._globe.line(head, ring))
            self._ink.draw(canvas, path, fill(colour), colour)
            return
        inner = [(0.97, 0.0), (0.85, 0.16), (0.5, 0.5 * level + 0.07), (0.2, level - 0.11)]
        half = [(x * width, y) for x, y in inner]
        upper = [*half, (0.0, level - 0.085), *((-x, y) for x, y in half[::-1])]
        grown = 1.0 if face.beard == "stubble" else 1.05
        lower = [(grown * x, grown * y) for x, y in jaw_line(face, 0.12)]
        path = smooth([*lower, *self._globe.line(head, upper)])
        if face.beard == "stubble":
            canvas.drawPath(path, fill(mix(face.hair, face.skin, 0.3), 90))
        else:
            self._ink.draw(canvas, path, fill(colour), colour)

    def _draw_moustache(self, canvas: skia.Canvas, head: Head, colour: Rgb) -> None:
        level = self._mouth_level
        half = [(0.0, level - 0.1), (0.1, level - 0.09), (0.2, level - 0.02), (0.1, level - 0.03)]
        ring = [*half, (0.0, level - 0.045), *((-x, y) for x, y in half[:0:-1])]
        path = smooth(self._globe.line(head, ring))
        self._ink.draw(canvas, path, fill(colour), colour)
