"""Pictures, and the places of their parts, of an actor that follows tracks."""

import math
from typing import Literal

import numpy as np
import skia
from numpy.typing import NDArray

from flowact.data.actors.drawing.arms import ArmArt
from flowact.data.actors.drawing.eyes import EyeArt
from flowact.data.actors.drawing.hair import HairArt
from flowact.data.actors.drawing.hat import HatArt
from flowact.data.actors.drawing.head import Globe, HeadArt
from flowact.data.actors.drawing.ink import Ink
from flowact.data.actors.drawing.mouth import MouthArt
from flowact.data.actors.drawing.pose import Head, Pose, poses
from flowact.data.actors.drawing.scene import CupArt, draw_legs, draw_place, draw_table
from flowact.data.actors.drawing.torso import TorsoArt
from flowact.data.actors.identity import Identity
from flowact.data.actors.tracks import Tracks

Framing = Literal["hips", "full"]

WIDTH = 2.44
"""Width of the figure with a hand beside the head, or the cup on its table, in heads."""
HEADROOM = 0.28
"""Over the crown: hair, hats and a nod."""
FOOTROOM = 0.12
SMALLEST = 16
"""Pixels a side of a picture, at least."""


class Renderer:
    """Draws one actor in pictures of one size.

    The ``hips`` framing fills the picture's height from head to hips, the ``full`` one from head
    to feet; in a narrow picture the width decides, and more of the legs, or of the place, is seen.

    It draws into one buffer of its own: use a renderer from one thread at a time.

    Args:
        identity: who is drawn.
        height, width: of the pictures, in pixels.
        framing: "hips" or "full".

    Raises:
        ValueError: if the framing is unknown or the picture is smaller than ``SMALLEST``.
    """

    def __init__(self, identity: Identity, height: int, width: int, framing: Framing = "hips"):
        if framing not in ("hips", "full"):
            raise ValueError(f"framing is {framing!r}; use 'hips' or 'full'")
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"height x width is {height}x{width}; use at least {SMALLEST} pixels each"
            )
        face, body, clothes = identity.face, identity.body, identity.clothes
        self._identity, self._height, self._width = identity, height, width
        tall = HEADROOM + 1 + body.neck + body.torso
        if framing == "full":
            tall += body.leg + FOOTROOM
        self._unit = min(height / tall, width / WIDTH)
        spare = height / self._unit - tall
        self._left = 0.5 * width / self._unit
        self._top = HEADROOM + 1 + body.neck + 0.3 * spare
        ink = Ink(identity.style)
        self._ink = ink
        globe = Globe(face)
        mouth_level = 0.5 - body.mouth_height
        self._globe, self._mouth_level = globe, mouth_level
        self._head = HeadArt(face, mouth_level, ink, globe)
        self._eyes = EyeArt(face, ink, globe)
        self._mouth = MouthArt(face, mouth_level, ink, globe)
        self._hair = HairArt(face, ink, globe)
        self._hat = HatArt(face, ink, globe)
        self._torso = TorsoArt(face.skin, clothes, body, ink, self._unit)
        self._arms = ArmArt(face.skin, clothes, ink)
        self._cup = CupArt(identity.scene, ink)
        self._pixels = np.zeros((height, width, 4), np.uint8)
        surface = skia.Surface(self._pixels, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
        self._canvas = surface.getCanvas()
        self._surface = surface
        self._canvas.scale(self._unit, self._unit)
        self._canvas.translate(self._left, self._top)
        self._draw_still()
        self._still = self._pixels.copy()

    def render(self, tracks: Tracks) -> NDArray[np.uint8]:
        """The pictures, [T, H, W, 3] RGB; each depends on its own row of the tracks alone."""
        frames = np.empty((len(tracks), self._height, self._width, 3), np.uint8)
        for frame, pose in zip(frames, poses(tracks, self._identity.body), strict=True):
            np.copyto(self._pixels, self._still)
            self._draw(pose)
            frame[:] = self._pixels[..., :3]
        return frames

    def landmarks(self, tracks: Tracks) -> dict[str, NDArray[np.float32]]:
        """Where parts are in the pictures, in fractions of the picture's height.

        x is from the picture's left edge, y from its upper one.

        Returns:
            face [T, 3]: middle of the head (x, y) and its height; mouth [T, 3]: its middle (x, y)
            and half its width; right_wrist, left_wrist and cup, each [T, 2].
        """
        rows: dict[str, list[tuple[float, ...]]] = {
            name: [] for name in ("face", "mouth", "right_wrist", "left_wrist", "cup")
        }
        size = self._unit / self._height
        for pose in poses(tracks, self._identity.body):
            spot = self._globe.spot(pose.head, 0, self._mouth_level)
            mouth = self._place(*pose.head.to_figure(spot.x, spot.y))
            half_width = self._mouth.half_width(pose) * spot.across * size
            rows["face"].append((*self._place(*pose.head.to_figure(0, 0)), size))
            rows["mouth"].append((*mouth, half_width))
            for arm in pose.arms:
                name = "right_wrist" if arm.side < 0 else "left_wrist"
                rows[name].append(self._place(*arm.wrist))
            rows["cup"].append(self._place(*pose.cup))
        return {name: np.array(values, np.float32) for name, values in rows.items()}

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """A point of the figure's space in fractions of the picture's height."""
        size = self._unit / self._height
        return ((x + self._left) * size, (y + self._top) * size)

    def _draw_still(self) -> None:
        """What never moves: the place, the legs and the table."""
        identity, canvas = self._identity, self._canvas
        right = self._width / self._unit - self._left
        bottom = self._height / self._unit - self._top
        draw_place(canvas, identity.scene, (-self._left, -self._top, right, bottom), identity.body)
        draw_legs(canvas, identity.clothes, identity.body, self._ink)
        draw_table(canvas, identity.scene, identity.body, self._ink)

    def _draw(self, pose: Pose) -> None:
        canvas, head = self._canvas, pose.head
        table_side = self._identity.body.table_side
        self._enter_head(head)
        self._hair.draw_back(canvas, head)
        canvas.restore()
        self._torso.draw(canvas, pose)
        self._enter_head(head)
        self._draw_head(pose)
        canvas.restore()
        if not pose.cup_held:
            self._cup.draw(canvas, pose, table_side)
        for arm in pose.arms:
            self._arms.draw(canvas, arm)
            if pose.cup_held and arm.side == table_side:
                self._cup.draw(canvas, pose, -table_side)
                self._arms.draw_grip(canvas, arm)

    def _draw_head(self, pose: Pose) -> None:
        canvas, head = self._canvas, pose.head
        self._head.draw_ears(canvas, head)
        self._head.draw_skin(canvas, head)
        self._head.draw_beard(canvas, head)
        self._mouth.draw(canvas, pose)
        self._hair.draw_front(canvas, head)
        self._eyes.draw(canvas, pose)
        self._head.draw_nose(canvas, head)
        self._hat.draw(canvas, head)

    def _enter_head(self, head: Head) -> None:
        """Saves the canvas and makes it that of head space."""
        self._canvas.save()
        self._canvas.rotate(math.degrees(head.tilt), *head.pivot)
        self._canvas.translate(head.x, head.y)
