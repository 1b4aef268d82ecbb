"""Trunk, neck and what is worn on them."""

import skia

from flowact.data.actors.body import Body, Point
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.looks import Clothes
from flowact.data.actors.drawing.palette import Rgb, darker, lighter
from flowact.data.actors.drawing.pose import Pose

SHOULDER_ROUND = 0.1
"""Height of the trunk's rim over the shoulder joints: half the width of a sleeve."""


class TorsoArt:
    def __init__(self, skin: Rgb, clothes: Clothes, body: Body, ink: Ink, unit: float):
        self._skin, self._clothes, self._body, self._ink = skin, clothes, body, ink
        box = (-body.shoulder, -0.1, body.shoulder, body.torso)
        self._cloth = _patterned(clothes, unit) or ink.body(clothes.colour, box)
        self._shade = darker(clothes.colour, 0.3)
        self._neck = 0.13

    def draw(self, canvas: skia.Canvas, pose: Pose) -> None:
        path = self._trunk(pose)
        self._ink.draw(canvas, path, self._cloth, self._clothes.colour)
        canvas.save()
        canvas.translate(pose.shift[0], pose.shift[1] - 0.5 * _lift(pose))
        self._draw_front(canvas)
        canvas.restore()
        canvas.save()
        canvas.translate(*pose.shift)
        self._draw_neck(canvas)
        canvas.restore()

    def _trunk(self, pose: Pose) -> skia.Path:
        """From the neck over the shoulders down to the hips, which stay where they are."""
        body = self._body
        dx, dy = pose.shift
        lift = _lift(pose)
        wide = body.shoulder * (1 + 0.035 * pose.breath)
        top = dy - SHOULDER_ROUND - lift
        collar = dy - 0.14 - 0.3 * lift
        path = skia.Path()
        path.moveTo(dx - self._neck - 0.02, collar)
        path.lineTo(dx + self._neck + 0.02, collar)
        for side in (1, -1):
            shoulder = dx + side * wide
            arm = shoulder + side * 0.06
            corners: list[tuple[Point, Point]] = [
                ((shoulder + side * 0.03, top), (arm, dy + 0.02 - lift)),
                (
                    (shoulder - side * 0.02, 0.3 * body.torso),
                    (side * body.hip * 1.02 + 0.3 * dx, 0.62 * body.torso),
                ),
                ((side * body.hip, 0.8 * body.torso), (side * (body.hip + 0.03), body.torso)),
            ]
            points = [point for corner in corners for point in corner]
            if side > 0:
                for control, end in zip(points[::2], points[1::2], strict=True):
                    path.quadTo(*control, *end)
                path.lineTo(-body.hip - 0.03, body.torso)
            else:
                for control, end in ((points[4], points[3]), (points[2], points[1])):
                    path.quadTo(*control, *end)
                path.quadTo(*points[0], dx - self._neck - 0.02, collar)
        path.close()
        return path

    def _draw_neck(self, canvas: skia.Canvas) -> None:
        body, half, skin = self._body, self._neck, self._skin
        deep = 0.06 if self._clothes.garment in ("sweater", "hoodie", "shirt") else 0.14
        if self._clothes.garment == "tank top":
            deep = 0.24
        shape = skia.Path()
        shape.moveTo(-half, -body.neck - 0.12)
        shape.lineTo(-half, -0.14)
        shape.cubicTo(
            -half - 0.03, -0.14 + deep * 1.3, half + 0.03, -0.14 + deep * 1.3, half, -0.14
        )
        shape.lineTo(half, -body.neck - 0.12)
        shape.close()
        self._ink.draw(canvas, shape, fill(skin), skin)
        shadow = skia.Rect(-half, -body.neck - 0.12, half, -body.neck + 0.05)
        canvas.drawRoundRect(shadow, 0.06, 0.06, fill(darker(skin, 0.24)))

    def _draw_front(self, canvas: skia.Canvas) -> None:
        """Collars, zips, pockets and strings."""
        clothes, torso = self._clothes, self._body.torso
        seam = line(self._shade, 0.02)
        match clothes.garment:
            case "hoodie":
                hood = skia.Rect(-0.3, -0.24, 0.3, 0.06)
                canvas.drawOval(hood, fill(self._shade))
                canvas.drawRoundRect(
                    skia.Rect(-0.2, 0.62 * torso, 0.2, 0.85 * torso), 0.06, 0.06, seam
                )
                cord = line(lighter(clothes.second, 0.5), 0.022)
                for side in (-1, 1):
                    canvas.drawLine(side * 0.08, 0.05, side * 0.09, 0.26, cord)
            case "shirt":
                canvas.drawLine(0, 0.02, 0, torso, seam)
                for i in range(4):
                    y = 0.14 + 0.22 * i
                    canvas.drawCircle(0.0, y, 0.018, fill(lighter(clothes.second, 0.4)))
                for side in (-1, 1):
                    collar = skia.Path()
                    collar.moveTo(0, 0.0)
                    collar.lineTo(side * 0.15, -0.17)
                    collar.lineTo(side * 0.2, -0.05)
                    collar.lineTo(side * 0.1, 0.09)
                    collar.close()
                    colour = lighter(clothes.colour, 0.3)
                    self._ink.draw(canvas, collar, fill(colour), colour)
            case "jacket":
                panel = skia.Path()
                panel.moveTo(-0.14, -0.15)
                panel.lineTo(0.14, -0.15)
                panel.lineTo(0.08, torso)
                panel.lineTo(-0.08, torso)
                panel.close()
                self._ink.draw(canvas, panel, fill(clothes.second), clothes.second)
                for side in (-1, 1):
                    lapel = skia.Path()
                    lapel.moveTo(side * 0.13, -0.15)
                    lapel.lineTo(side * 0.26, 0.05)
                    lapel.lineTo(side * 0.11, 0.42)
                    lapel.close()
                    self._ink.draw(canvas, lapel, fill(self._shade), self._shade)
            case "sweater":
                canvas.drawOval(skia.Rect(-0.19, -0.22, 0.19, 0.0), fill(self._shade))


def _lift(pose: Pose) -> float:
    return 0.13 * pose.shrug + 0.022 * pose.breath


def _patterned(clothes: Clothes, unit: float) -> skia.Paint | None:
    """A paint that repeats the pattern's tile; ``unit`` is the figure unit in pixels."""
    if clothes.pattern in ("plain", "two-coloured"):
        return None
    first, second = clothes.colour, clothes.second
    side = 0.22
    pixels = max(8, round(side * unit))
    surface = skia.Surface(pixels, pixels)
    canvas = surface.getCanvas()
    canvas.clear(skia.Color(*first))
    canvas.scale(pixels, pixels)
    match clothes.pattern:
        case "striped":
            canvas.drawRect(skia.Rect(0, 0.25, 1, 0.7), fill(second))
        case "dotted":
            canvas.drawCircle(0.5, 0.5, 0.24, fill(second))
        case "checked":
            band = fill(second, 120)
            canvas.drawRect(skia.Rect(0, 0.25, 1, 0.75), band)
            canvas.drawRect(skia.Rect(0.25, 0, 0.75, 1), band)
    tile = skia.TileMode.kRepeat
    matrix = skia.Matrix.Scale(side / pixels, side / pixels)
    image = surface.makeImageSnapshot()
    shader = image.makeShader(tile, tile, skia.SamplingOptions(skia.FilterMode.kLinear), matrix)
    return skia.Paint(AntiAlias=True, Shader=shader)
