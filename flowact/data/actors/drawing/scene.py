"""The place behind the actor, the side table and the cup."""

import numpy as np
import skia

from flowact.data.actors.body import Body
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.looks import Clothes, Scene
from flowact.data.actors.drawing.palette import darker, from_hls, lighter, mix
from flowact.data.actors.drawing.pose import Pose

Box = tuple[float, float, float, float]


class CupArt:
    def __init__(self, scene: Scene, ink: Ink):
        self._scene, self._ink = scene, ink
        half, tall = scene.cup_width / 2, scene.cup_height / 2
        path = skia.Path()
        path.moveTo(-half, -tall)
        path.lineTo(half, -tall)
        path.lineTo(0.8 * half, 0.8 * tall)
        path.quadTo(0.78 * half, tall, 0.55 * half, tall)
        path.lineTo(-0.55 * half, tall)
        path.quadTo(-0.78 * half, tall, -0.8 * half, 0.8 * tall)
        path.close()
        self._path = path
        self._paint = ink.body(scene.cup, (-half, -tall, half, tall))

    def draw(self, canvas: skia.Canvas, pose: Pose, side: int) -> None:
        """The cup where the pose has it, its handle to ``side``."""
        half, tall = self._scene.cup_width / 2, self._scene.cup_height / 2
        canvas.save()
        canvas.translate(*pose.cup)
        canvas.rotate(float(np.degrees(pose.cup_angle)))
        handle = skia.Rect.MakeXYWH(side * half - 0.05, -0.45 * tall, 0.1, 0.85 * tall)
        canvas.drawOval(handle, line(darker(self._scene.cup, 0.2), 0.026))
        self._ink.draw(canvas, self._path, self._paint, self._scene.cup)
        rim = skia.Rect(-half, -tall - 0.022, half, -tall + 0.022)
        canvas.drawOval(rim, fill(lighter(self._scene.cup, 0.4)))
        canvas.drawOval(
            skia.Rect(-0.8 * half, -tall - 0.013, 0.8 * half, -tall + 0.013), fill((74, 42, 28))
        )
        canvas.restore()


def draw_place(canvas: skia.Canvas, scene: Scene, box: Box, body: Body) -> None:
    """The wall and what is on it, filling ``box`` of the figure's space."""
    left, top, right, bottom = box
    rng = np.random.default_rng(scene.layout)
    wall = skia.Rect(left, top, right, bottom)
    canvas.drawRect(wall, fill(scene.wall))
    floor = body.torso + body.leg - 0.12
    side = float(rng.choice([-1, 1]))
    match scene.place:
        case "gradient":
            shader = skia.GradientShader.MakeLinear(
                [skia.Point(0, top), skia.Point(0, bottom)],
                [skia.Color(*lighter(scene.wall, 0.35)), skia.Color(*darker(scene.wall, 0.3))],
            )
            canvas.drawRect(wall, skia.Paint(AntiAlias=True, Shader=shader))
            return
        case "window" | "night":
            _draw_window(canvas, scene, side * rng.uniform(0.75, 0.9), rng)
        case "shelf":
            _draw_shelf(canvas, scene, box, rng)
        case "plant":
            _draw_plant(canvas, -body.table_side * 1.0, floor, scene, rng)
        case "picture":
            for direction in (-1, 1):
                _draw_picture(canvas, scene, direction * rng.uniform(0.85, 0.98), rng)
        case "panelled":
            rail = rng.uniform(0.05, 0.3)
            canvas.drawRect(skia.Rect(left, rail, right, bottom), fill(darker(scene.wall, 0.16)))
            canvas.drawLine(left, rail, right, rail, line(lighter(scene.wall, 0.4), 0.035))
    if bottom > floor:
        canvas.drawRect(skia.Rect(left, floor, right, bottom), fill(darker(scene.wall, 0.4)))
        canvas.drawLine(left, floor, right, floor, line(lighter(scene.wall, 0.3), 0.04))


def _draw_window(canvas: skia.Canvas, scene: Scene, x: float, rng: np.random.Generator) -> None:
    night = scene.place == "night"
    frame = skia.Rect(x - 0.42, -1.35, x + 0.42, -0.25)
    canvas.drawRect(frame, fill((38, 44, 86) if night else (178, 220, 244)))
    canvas.save()
    canvas.clipRect(frame)
    if night:
        for _ in range(14):
            place = (x + rng.uniform(-0.4, 0.4), rng.uniform(-1.3, -0.5))
            canvas.drawCircle(*place, rng.uniform(0.008, 0.016), fill((250, 246, 210)))
        canvas.drawCircle(x + 0.18, -1.1, 0.09, fill((250, 240, 200)))
    else:
        for _ in range(3):
            cx, cy = x + rng.uniform(-0.4, 0.4), rng.uniform(-1.25, -0.8)
            for dx in (-0.08, 0.0, 0.09):
                canvas.drawCircle(cx + dx, cy, 0.08, fill((246, 250, 252)))
    hill = (40, 60, 74) if night else (128, 186, 112)
    canvas.drawCircle(x + rng.uniform(-0.3, 0.3), 0.15, 0.62, fill(hill))
    canvas.restore()
    bar = line(lighter(scene.wall, 0.6), 0.05)
    canvas.drawRect(frame, bar)
    canvas.drawLine(x, -1.35, x, -0.25, bar)
    canvas.drawLine(x - 0.42, -0.8, x + 0.42, -0.8, bar)


def _draw_shelf(canvas: skia.Canvas, scene: Scene, box: Box, rng: np.random.Generator) -> None:
    wood = darker(scene.table, 0.1)
    for y in (-0.95, -0.25):
        x = box[0]
        while x < box[2]:
            width, height = rng.uniform(0.05, 0.11), rng.uniform(0.25, 0.42)
            colour = mix(from_hls(rng.uniform(0, 360), 0.5, 0.45), scene.wall, 0.35)
            if rng.random() < 0.85:
                canvas.drawRect(skia.Rect(x, y - height, x + width, y), fill(colour))
            x += width + 0.008
        canvas.drawRect(skia.Rect(box[0], y, box[2], y + 0.06), fill(wood))


def _draw_plant(
    canvas: skia.Canvas, x: float, floor: float, scene: Scene, rng: np.random.Generator
) -> None:
    base = 0.55
    green = from_hls(rng.uniform(95, 150), rng.uniform(0.3, 0.42), 0.45)
    for i in range(9):
        lean = (i - 4) / 4
        tip = (x + 0.42 * lean, base - 0.95 + 0.4 * abs(lean) + rng.uniform(-0.08, 0.08))
        leaf = skia.Path()
        leaf.moveTo(x, base)
        leaf.quadTo(x + 0.1 * lean - 0.12, base - 0.5, *tip)
        leaf.quadTo(x + 0.1 * lean + 0.16, base - 0.4, x, base)
        canvas.drawPath(leaf, fill(mix(green, lighter(green, 0.3), rng.random())))
    pot = skia.Path()
    pot.moveTo(x - 0.2, base - 0.02)
    pot.lineTo(x + 0.2, base - 0.02)
    pot.lineTo(x + 0.15, base + 0.36)
    pot.lineTo(x - 0.15, base + 0.36)
    pot.close()
    canvas.drawPath(pot, fill(scene.accent))
    stand = line(darker(scene.table, 0.2), 0.04)
    for side in (-0.1, 0.1):
        canvas.drawLine(x + side, base + 0.36, x + 1.3 * side, floor + 0.1, stand)


def _draw_picture(canvas: skia.Canvas, scene: Scene, x: float, rng: np.random.Generator) -> None:
    y = rng.uniform(-1.15, -0.75)
    half, tall = rng.uniform(0.17, 0.26), rng.uniform(0.18, 0.28)
    frame = skia.Rect(x - half, y - tall, x + half, y + tall)
    canvas.drawRect(frame, fill(lighter(scene.wall, 0.7)))
    colour = mix(from_hls(rng.uniform(0, 360), 0.55, 0.5), scene.wall, 0.25)
    canvas.drawCircle(x, y, 0.6 * half, fill(colour))
    canvas.drawRect(frame, line(darker(scene.table, 0.2), 0.035))


def draw_table(canvas: skia.Canvas, scene: Scene, body: Body, ink: Ink) -> None:
    """The side table, its top under the cup."""
    x, middle = body.cup
    top = middle + scene.cup_height / 2
    floor = body.torso + body.leg
    near, far = x - body.table_side * 0.16, x + body.table_side * 0.5
    left, right = min(near, far), max(near, far)
    dark = darker(scene.table, 0.3)
    for leg in (left + 0.1, right - 0.1):
        canvas.drawLine(leg, top + 0.05, leg, floor, line(dark, 0.06))
    board = skia.Path.RRect(skia.Rect(left, top, right, top + 0.075), 0.03, 0.03)
    ink.draw(canvas, board, fill(scene.table), scene.table)


def draw_legs(canvas: skia.Canvas, clothes: Clothes, body: Body, ink: Ink) -> None:
    """Trousers and shoes; the feet stand still."""
    hips, soles = body.torso - 0.06, body.torso + body.leg
    colour = clothes.trousers
    for side in (-1, 1):
        foot = side * (0.55 * body.hip)
        shoe = skia.Path()
        shoe.addRoundRect(
            skia.Rect.MakeXYWH(foot - 0.13 + side * 0.05, soles - 0.13, 0.26, 0.13), 0.06, 0.06
        )
        ink.draw(canvas, shoe, fill(clothes.shoes), clothes.shoes)
        leg = skia.Path()
        leg.moveTo(side * (body.hip + 0.02), hips)
        leg.lineTo(foot + side * 0.12, soles - 0.1)
        leg.lineTo(foot - side * 0.11, soles - 0.1)
        leg.lineTo(-side * 0.02, hips + 0.2)
        leg.lineTo(-side * 0.02, hips)
        leg.close()
        ink.draw(canvas, leg, fill(colour), colour)
