"""Paints of a drawing style, and smooth paths."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import skia

from flowact.data.actors.body import Point
from flowact.data.actors.drawing.palette import Rgb, darker, lighter

OUTLINE = 0.022
"""Width of an outline, in figure units: about one pixel at 128 x 128."""


@lru_cache(4096)
def fill(colour: Rgb, alpha: int = 255) -> skia.Paint:
    return skia.Paint(AntiAlias=True, Color=skia.Color(*colour, alpha))


@lru_cache(4096)
def line(colour: Rgb, width: float, flat: bool = False) -> skia.Paint:
    """A pen with round ends, or with flat ones."""
    cap = skia.Paint.kButt_Cap if flat else skia.Paint.kRound_Cap
    return skia.Paint(
        AntiAlias=True,
        Color=skia.Color(*colour),
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=width,
        StrokeCap=cap,
        StrokeJoin=skia.Paint.kRound_Join,
    )


class Ink:
    """How one style fills and outlines shapes: ``flat``, ``outlined`` or ``soft``."""

    def __init__(self, style: str):
        self.outlined = style == "outlined"
        self._soft = style == "soft"

    def body(self, colour: Rgb, box: tuple[float, float, float, float]) -> skia.Paint:
        """Fill of a large part; the soft style lights it from the upper left of ``box``."""
        if not self._soft:
            return fill(colour)
        left, top, right, bottom = box
        shades = [lighter(colour, 0.16), colour, darker(colour, 0.24)]
        shader = skia.GradientShader.MakeLinear(
            [skia.Point(left, top), skia.Point(right, bottom)],
            [skia.Color(*shade) for shade in shades],
            [0.0, 0.45, 1.0],
        )
        return skia.Paint(AntiAlias=True, Shader=shader)

    def edge(self, colour: Rgb) -> Rgb:
        """Colour of the rim that tells a part from another of the same colour behind it."""
        return darker(colour, 0.8 if self.outlined else 0.3)

    def draw(self, canvas: skia.Canvas, path: skia.Path, paint: skia.Paint, colour: Rgb) -> None:
        """``path`` filled, with an outline if the style has one."""
        canvas.drawPath(path, paint)
        if self.outlined:
            canvas.drawPath(path, line(self.edge(colour), OUTLINE))

    def oval(
        self, canvas: skia.Canvas, x: float, y: float, rx: float, ry: float, colour: Rgb
    ) -> None:
        box = skia.Rect(x - rx, y - ry, x + rx, y + ry)
        canvas.drawOval(box, fill(colour))
        if self.outlined:
            canvas.drawOval(box, line(self.edge(colour), OUTLINE))


def smooth(points: Sequence[Point], closed: bool = True) -> skia.Path:
    """A curve that is led by ``points``: quadratic arcs between the middles of neighbours."""
    path = skia.Path()
    if closed:
        (x0, y0), (x1, y1) = points[-1], points[0]
        path.moveTo((x0 + x1) / 2, (y0 + y1) / 2)
        ring = [*points, points[0]]
    else:
        path.moveTo(*points[0])
        ring = [*points[1:]]
    for (x0, y0), (x1, y1) in pairwise(ring):
        path.quadTo(x0, y0, (x0 + x1) / 2, (y0 + y1) / 2)
    if closed:
        path.close()
    else:
        path.lineTo(*points[-1])
    return path
