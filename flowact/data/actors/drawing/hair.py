"""Hair: a cap over the skull whose hairline turns with the face, and what hangs or stands out."""

import math
from dataclasses import dataclass

import skia

from flowact.data.actors.body import Point
from flowact.data.actors.drawing.head import EAR_LEVEL, SKULL, Globe, outline
from flowact.data.actors.drawing.ink import Ink, fill, line, smooth
from flowact.data.actors.drawing.looks import Face
from flowact.data.actors.drawing.palette import darker, lighter
from flowact.data.actors.drawing.pose import Head


@dataclass(frozen=True)
class Cut:
    """The cap of a cut.

    Attributes:
        hairline: from the right ear to the left one; x in half widths of the head.
        side, top: how far the cap stands out from the skull, in heads.
        ends: where the cap ends beside the ears.
        bumps: number of bumps or spikes along its rim, 0 for a smooth one.
    """

    hairline: tuple[Point, ...]
    side: float = 0.035
    top: float = 0.06
    ends: float = 0.02
    bumps: int = 0


def _even(*half: Point) -> tuple[Point, ...]:
    """A hairline alike on both sides, from its right half, which ends in the middle."""
    return (*half, *((-x, y) for x, y in half[-2::-1]))


_HIGH = _even((0.97, -0.02), (0.9, -0.2), (0.7, -0.29), (0.4, -0.32), (0.0, -0.31))
_ROUND = _even((0.98, 0.04), (0.9, -0.14), (0.65, -0.25), (0.3, -0.29), (0.0, -0.29))
_PARTED = _even((1.0, 0.08), (0.93, -0.06), (0.7, -0.2), (0.3, -0.32), (0.0, -0.4))
_SWEPT = (
    (0.98, 0.04),
    (0.93, -0.06),
    (0.72, -0.13),
    (0.2, -0.2),
    (-0.3, -0.29),
    (-0.55, -0.37),
    (-0.72, -0.28),
    (-0.92, -0.12),
    (-0.98, 0.02),
)
_SIDE = (
    (1.0, 0.1),
    (0.95, -0.04),
    (0.8, -0.13),
    (0.35, -0.22),
    (-0.2, -0.33),
    (-0.42, -0.38),
    (-0.7, -0.24),
    (-0.93, -0.06),
    (-1.0, 0.1),
)
_FRINGE = _even((1.0, 0.1), (0.97, -0.05), (0.85, -0.14), (0.4, -0.16), (0.0, -0.155))
_JAGGED = _even(
    (0.97, -0.02), (0.86, -0.2), (0.7, -0.16), (0.5, -0.25), (0.25, -0.19), (0.0, -0.26)
)

_CUTS = {
    "buzz": Cut(_HIGH, side=0.008, top=0.012, ends=0.0),
    "short": Cut(_ROUND, side=0.025, top=0.055),
    "swept": Cut(_SWEPT, side=0.03, top=0.09),
    "spiky": Cut(_JAGGED, side=0.05, top=0.14, bumps=9),
    "curly": Cut(_ROUND, side=0.075, top=0.09, bumps=11),
    "afro": Cut(_HIGH, side=0.2, top=0.16, ends=0.12, bumps=13),
    "fringe": Cut(_FRINGE, side=0.045, top=0.06, ends=0.12),
    "bob": Cut(_FRINGE, side=0.06, top=0.06, ends=0.14),
    "long": Cut(_PARTED, side=0.045, top=0.05, ends=0.16),
    "wavy": Cut(_SIDE, side=0.06, top=0.08, ends=0.16),
    "bun": Cut(_ROUND, side=0.015, top=0.035),
    "ponytail": Cut(_SIDE, side=0.02, top=0.045),
    "pigtails": Cut(_PARTED, side=0.02, top=0.035),
    "mohawk": Cut(_HIGH, side=0.0, top=0.004, ends=0.0),
}


class HairArt:
    def __init__(self, face: Face, ink: Ink, globe: Globe):
        self._face, self._ink, self._globe = face, ink, globe
        self._cut = _CUTS.get(face.cut)
        colour = face.hair
        self._paint = ink.body(colour, (-face.width, -0.6, face.width, 0.3))
        self._back_colour = darker(colour, 0.22)
        self._back_paint = fill(self._back_colour)
        strand = lighter(colour, 0.16) if sum(colour) < 500 else darker(colour, 0.14)
        self._strand = line(strand, 0.018)
        self._skull = outline(face)
        self._shadow = fill(darker(face.skin, 0.2))
        self._back = _back(face)
        self._tufts = _tufts(face)
        if self._cut:
            self._outer = _outer(face, self._cut)
            self._hairline = _hairline(face, self._cut)

    def draw_back(self, canvas: skia.Canvas, head: Head) -> None:
        """What is behind the head; it goes against the turn."""
        if self._back:
            canvas.save()
            canvas.translate(-0.07 * math.sin(head.turn), -0.06 * math.sin(head.nod))
            self._ink.draw(canvas, self._back, self._back_paint, self._back_colour)
            canvas.restore()

    def draw_front(self, canvas: skia.Canvas, head: Head) -> None:
        face, cut = self._face, self._cut
        if cut:
            hairline = self._globe.line(head, self._hairline)
            if face.cut == "spiky":
                path = skia.Path()
                path.addPoly([skia.Point(x, y) for x, y in (*self._outer, *hairline)], True)
            else:
                path = smooth([*self._outer, *hairline])
            self._draw_shadow(canvas, path)
            self._ink.draw(canvas, path, self._paint, face.hair)
            if face.cut not in ("buzz", "mohawk", "afro", "curly"):
                self._draw_strands(canvas, hairline)
        if self._tufts:
            canvas.save()
            canvas.translate(0.12 * math.sin(head.turn), 0.1 * math.sin(head.nod))
            self._ink.draw(canvas, self._tufts, self._paint, face.hair)
            canvas.restore()

    def _draw_shadow(self, canvas: skia.Canvas, cap: skia.Path) -> None:
        """What the hair casts on the forehead."""
        canvas.save()
        canvas.clipPath(self._skull, doAntiAlias=True)
        canvas.translate(0, 0.03)
        canvas.drawPath(cap, self._shadow)
        canvas.restore()

    def _draw_strands(self, canvas: skia.Canvas, hairline: list[Point]) -> None:
        """Two soft lines from the parting along the skull."""
        low = min(hairline, key=lambda point: point[1])
        for side in (-1, 1):
            end = (side * 0.75 * self._face.width, -0.3)
            path = skia.Path()
            path.moveTo(low[0] + side * 0.03, low[1] - 0.06)
            path.quadTo(0.4 * side * self._face.width, low[1] - 0.07, *end)
            canvas.drawPath(path, self._strand)


def _hairline(face: Face, cut: Cut) -> list[Point]:
    """The cut's hairline in head space, parted on the face's own side."""
    points = [(x * face.width, y + face.hairline) for x, y in cut.hairline]
    return points if face.parting > 0 else [(-x, y) for x, y in reversed(points)]


def _outer(face: Face, cut: Cut) -> list[Point]:
    """The cap's outer rim, from the left ear over the crown to the right ear."""
    side, top = face.width + cut.side * face.volume, SKULL + cut.top * face.volume
    if face.cut == "spiky":
        turns = [(1.0 if i % 2 else 0.84, 0.05 * (i % 2)) for i in range(2 * cut.bumps + 1)]
    elif cut.bumps:
        turns = [(_bump(i), 0.0) for i in range(4 * cut.bumps + 1)]
    else:
        turns = [(1.0, 0.0)] * 13
    points = []
    for i, (reach, lean) in enumerate(turns):
        angle = math.pi * i / (len(turns) - 1)
        x = -side * math.cos(angle) * reach + lean * face.parting
        points.append((x, EAR_LEVEL - top * math.sin(angle) * reach))
    return [(-side, cut.ends), *points, (side, cut.ends)]


def _bump(step: int) -> float:
    """Reach of a bumpy rim's point, four points to a bump."""
    return 1 + 0.05 * (1, 0, -1, 0)[step % 4]


def _bumpy(x: float, y: float, rx: float, ry: float, bumps: int) -> skia.Path:
    points = []
    for i in range(4 * bumps):
        angle = 2 * math.pi * i / (4 * bumps)
        reach = _bump(i)
        points.append((x + rx * reach * math.cos(angle), y + ry * reach * math.sin(angle)))
    return smooth(points)


def _curtain(width: float, top: float, bottom: float, waves: float) -> skia.Path:
    """Hair that falls behind the head to ``bottom``, widening, its sides waved."""
    right = [(0.0, top), (0.7 * width, top), (width, top + 0.22)]
    steps = 8
    for i in range(1, steps + 1):
        y = top + 0.3 + (bottom - top - 0.3) * i / steps
        right.append((width * (1 + 0.1 * i / steps) + waves * (-1) ** i, y))
    right += [(0.75 * width, bottom + 0.05), (0.0, bottom + 0.02)]
    return smooth([*right, *((-x, y) for x, y in right[-2:0:-1])])


def _back(face: Face) -> skia.Path | None:
    """Hair behind the head, in head space."""
    width, grow = face.width, face.volume
    match face.cut:
        case "afro":
            return _bumpy(0, -0.12, width + 0.2 * grow, 0.5 + 0.1 * grow, 13)
        case "curly":
            return _bumpy(0, -0.08, width + 0.08 * grow, 0.46, 11)
        case "fringe":
            return _curtain(width + 0.03, -0.45, 0.24, 0.0)
        case "bob":
            return _curtain(width + 0.07 * grow, -0.45, 0.36 + 0.1 * (grow - 1), 0.0)
        case "long":
            return _curtain(width + 0.03 * grow, -0.45, 0.75 + 0.2 * grow, 0.0)
        case "wavy":
            return _curtain(width + 0.07 * grow, -0.45, 0.65 + 0.2 * grow, 0.025)
        case "ponytail":
            side = face.parting
            x = width + 0.05
            ring = [(0.2, -0.4), (x, -0.42), (x + 0.2 * grow, -0.1), (x + 0.16, 0.35), (x, 0.5)]
            ring += [(x + 0.02, 0.2), (x - 0.08, -0.1)]
            return smooth([(side * x, y) for x, y in ring])
    return None


def _tufts(face: Face) -> skia.Path | None:
    """What stands out at the crown or the sides, before or above the cap."""
    width, grow = face.width, face.volume
    path = skia.Path()
    match face.cut:
        case "bun":
            return _disc(0, -0.55, 0.14 * grow**0.5, 0.11 * grow**0.5)
        case "pigtails":
            for side in (-1, 1):
                path.addPath(
                    _bumpy(side * (width + 0.06), -0.36, 0.15 * grow**0.5, 0.15 * grow**0.5, 7)
                )
            return path
        case "mohawk":
            high = -0.56 - 0.09 * grow
            half = [(0.0, high), (0.09, high + 0.02), (0.12, -0.4), (0.09, -0.26), (0.0, -0.22)]
            return smooth([*half, *((-x, y) for x, y in half[-2:0:-1])])
    return None


def _disc(x: float, y: float, rx: float, ry: float) -> skia.Path:
    return skia.Path.Oval(skia.Rect(x - rx, y - ry, x + rx, y + ry))
