"""Hats, which sit on the hair and turn with the head."""

import math

import skia

from flowact.data.actors.drawing.head import EAR_LEVEL, SKULL, Globe
from flowact.data.actors.drawing.ink import Ink, fill, smooth
from flowact.data.actors.drawing.looks import Face
from flowact.data.actors.drawing.palette import darker
from flowact.data.actors.drawing.pose import Head


class HatArt:
    def __init__(self, face: Face, ink: Ink, globe: Globe):
        self._face, self._ink, self._globe = face, ink, globe
        self._colour = face.hat_colour
        self._band_colour = darker(face.hat_colour, 0.28)
        self._paint = ink.body(face.hat_colour, (-face.width, -0.65, face.width, -0.1))
        self._band = fill(self._band_colour)
        self._reach = face.width + 0.07
        self._tall = SKULL + {"hat": 0.17, "cap": 0.1}.get(face.hat, 0.13)

    def draw(self, canvas: skia.Canvas, head: Head) -> None:
        if self._face.hat == "none":
            return
        if self._face.hat == "headband":
            self._draw_band(canvas, head, -0.34, -0.24)
            return
        self._draw_dome(canvas, head)
        if self._face.hat == "beanie":
            self._draw_band(canvas, head, -0.3, -0.17)
        elif self._face.hat == "cap":
            self._draw_visor(canvas, head)
        else:
            self._draw_band(canvas, head, -0.36, -0.26)
            self._draw_brim(canvas, head)

    def _draw_dome(self, canvas: skia.Canvas, head: Head) -> None:
        count = 12
        rim = []
        for i in range(count + 1):
            angle = math.pi * i / count
            y = EAR_LEVEL - 0.12 - (self._tall - 0.12) * math.sin(angle)
            rim.append((-self._reach * math.cos(angle), y))
        path = smooth([*rim, (self._reach, -0.16), *self._edge(head, -0.21), (-self._reach, -0.16)])
        self._ink.draw(canvas, path, self._paint, self._colour)

    def _edge(self, head: Head, y: float) -> list[tuple[float, float]]:
        """A line around the front of the head, from its right side to its left."""
        width = self._face.width
        inner = self._globe.line(head, [(f * width, y) for f in (0.75, 0.4, 0.0, -0.4, -0.75)])
        right, left = (self._reach, y + 0.04), (-self._reach, y + 0.04)
        return [right, right, *inner, left, left]

    def _draw_band(self, canvas: skia.Canvas, head: Head, top: float, bottom: float) -> None:
        path = smooth([*self._edge(head, top)[::-1], *self._edge(head, bottom)])
        self._ink.draw(canvas, path, self._band, self._band_colour)

    def _draw_visor(self, canvas: skia.Canvas, head: Head) -> None:
        shift = 0.3 * math.sin(head.turn)
        upper = self._edge(head, -0.27)[2:-2]
        reach = 0.85 * self._face.width
        y = -0.17 + 0.2 * math.sin(head.nod)
        path = smooth(
            [*upper[::-1], (shift + reach, y - 0.04), (shift, y), (shift - reach, y - 0.04)]
        )
        self._ink.draw(canvas, path, self._band, self._band_colour)

    def _draw_brim(self, canvas: skia.Canvas, head: Head) -> None:
        reach = self._face.width + 0.24
        y = -0.23 + 0.15 * math.sin(head.nod)
        self._ink.oval(canvas, 0.05 * math.sin(head.turn), y, reach, 0.065, self._colour)
