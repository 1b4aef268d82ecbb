"""The mouth: lips, the dark inside, teeth and tongue, from openness, width, rounding and smile."""

import skia

from flowact.data.actors.drawing.head import Globe
from flowact.data.actors.drawing.ink import Ink, fill, line
from flowact.data.actors.drawing.looks import Face
from flowact.data.actors.drawing.palette import darker, distance
from flowact.data.actors.drawing.pose import Pose


class MouthArt:
    def __init__(self, face: Face, level: float, ink: Ink, globe: Globe):
        self._face, self._level, self._globe = face, level, globe
        ground = face.hair if face.beard in ("beard", "goatee") else face.skin
        lip = face.lip if distance(face.lip, ground) > 0.14 else (196, 92, 92)
        self._lip = fill(lip)
        self._rim = line(darker(lip, 0.6), 0.014) if ink.outlined else None
        self._seam = line(darker(lip, 0.72), 0.022)
        self._inside = fill((66, 16, 26))
        self._teeth = fill((250, 248, 242))
        self._tongue = fill((214, 96, 104))

    def half_width(self, pose: Pose) -> float:
        """Of the lips, in head space, before foreshortening."""
        spread = 1 + 0.36 * pose.mouth_width + 0.12 * max(pose.smile, 0.0)
        return self._face.mouth_width * spread * (1 - 0.5 * pose.mouth_round)

    def draw(self, canvas: skia.Canvas, pose: Pose) -> None:
        spot = self._globe.spot(pose.head, 0, self._level)
        canvas.save()
        canvas.translate(spot.x, spot.y)
        canvas.scale(spot.across, spot.down)
        self._draw_flat(canvas, pose)
        canvas.restore()

    def _draw_flat(self, canvas: skia.Canvas, pose: Pose) -> None:
        width, rounding = self.half_width(pose), pose.mouth_round
        up, down = 0.05 * pose.mouth_open, 0.135 * pose.mouth_open
        smile = (pose.smile + self._face.warmth) * (1 - 0.6 * rounding)
        corner = -0.055 * smile + 0.03 * pose.mouth_open
        middle = 0.022 * smile
        lip = 0.028 * self._face.lip_fullness * (1 + 0.35 * rounding)
        inner = width - 0.5 * lip
        lips = _lens(
            width, corner, middle - up - lip, middle + down + 1.25 * lip, rounding, cupid=0.35 * lip
        )
        canvas.drawPath(lips, self._lip)
        if self._rim:
            canvas.drawPath(lips, self._rim)
        if up + down < 0.012:
            canvas.drawPath(_seam(inner, corner, middle), self._seam)
            return
        opening = _lens(inner, corner, middle - up, middle + down, rounding)
        canvas.drawPath(opening, self._inside)
        canvas.save()
        canvas.clipPath(opening, doAntiAlias=True)
        floor = middle + down
        canvas.drawOval(
            skia.Rect(-0.62 * inner, floor - 0.55 * down, 0.62 * inner, floor + 0.6 * down),
            self._tongue,
        )
        bite = middle - up + (0.03 + 0.2 * up) * (1 - 0.6 * rounding)
        canvas.drawRect(
            skia.Rect(-0.85 * inner, middle - up - 0.05, 0.85 * inner, bite), self._teeth
        )
        canvas.restore()


def _lens(
    width: float, corner: float, upper: float, lower: float, rounding: float, cupid: float = 0.0
) -> skia.Path:
    """Two curves between the corners, ``upper`` and ``lower`` in the middle; round at 1."""
    lean = width * (0.5 + 0.45 * rounding)
    up, down = (upper - 0.25 * corner) / 0.75, (lower - 0.25 * corner) / 0.75
    path = skia.Path()
    path.moveTo(-width, corner)
    if cupid:
        path.cubicTo(-lean, up, -0.3 * lean, up, 0, upper + cupid)
        path.cubicTo(0.3 * lean, up, lean, up, width, corner)
    else:
        path.cubicTo(-lean, up, lean, up, width, corner)
    path.cubicTo(lean, down, -lean, down, -width, corner)
    path.close()
    return path


def _seam(width: float, corner: float, middle: float) -> skia.Path:
    path = skia.Path()
    bend = (middle - 0.25 * corner) / 0.75
    path.moveTo(-width, corner)
    path.cubicTo(-0.5 * width, bend, 0.5 * width, bend, width, corner)
    return path
