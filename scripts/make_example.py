"""Make the bundled example: flowact/assets/actor.png, person.png, speech.flac and prompts.json.

    pip install -e ".[speech]" && python scripts/make_example.py

The actor is one of the actor world's test split; the person, who is none, is drawn by the code
below. The speech is synthesised by eSpeak NG, through Praat
(praat-parselmouth, GPL: needed here alone, its output is free). Running it again gives the
same files.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import parselmouth
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from flowact.data.actors.clip import ActorSeeds, make_clip
from flowact.data.actors.renderer import Renderer

ASSETS = Path(__file__).resolve().parents[1] / "flowact" / "assets"

SPEECH = (
    "Hello, and welcome! My lips follow this voice, and my hands follow your words. See you soon!"
)
PROMPTS = [
    {"start": 0.0, "text": "She talks to the camera."},
    {"start": 3.5, "text": "She talks and gestures with both hands."},
    {"start": 5.0, "text": "She talks to the camera."},
    {"start": 6.2, "text": "She nods and waves goodbye."},
]
ACTOR = 900_006
SECONDS = 8.0
SAMPLE_RATE = 24_000
LOUDNESS_DBFS = -20.0  # root mean square over the whole file

SIZE = 512
OVERSAMPLING = 4
FRAME = (26, 38, 486, 498)  # of the drawing, head to hips

SKIN, SKIN_SHADE, BLUSH = "#f0c3a0", "#d99a76", "#e8896f"
HAIR, HAIR_DARK, HAIR_LIGHT = "#5a3825", "#452a1b", "#7d5236"
SHIRT, SHIRT_SHADE, SHIRT_LIGHT = "#2f8f8b", "#1f6d6b", "#4fb0a8"
BROW, EYE, IRIS, WHITE = "#4a2d1c", "#2b1b14", "#6b4a2f", "#fdfaf6"
LIP, LIP_DARK = "#cc6a5f", "#a94c46"
SKY, GROUND = (233, 240, 245), (178, 201, 216)

Points = list[tuple[float, float]]
Mask = Image.Image


# --- shapes: masks at the oversampled size, from coordinates in a SIZE x SIZE drawing -----------


def points(text: str) -> Points:
    """Points written as in SVG: "x,y x,y"."""
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def spline(path: Points, closed: bool) -> Points:
    """A Catmull-Rom curve through ``path``."""
    around = np.pad(path, ((1, 2 if closed else 1), (0, 0)), mode="wrap" if closed else "edge")
    t = np.linspace(0, 1, 80)[:, None]
    curve: Points = []
    for a, b, c, d in zip(around, around[1:], around[2:], around[3:], strict=False):
        cubic = 3 * b - a - 3 * c + d
        part = b + 0.5 * t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * cubic))
        curve += [(float(x), float(y)) for x, y in part]
    return curve


def ellipses(shapes: Iterable[tuple[float, float, float, float]]) -> Mask:
    """The union of ellipses (centre x, centre y, radius x, radius y)."""
    mask = Image.new("L", (SIZE * OVERSAMPLING,) * 2)
    draw = ImageDraw.Draw(mask)
    for x, y, rx, ry in shapes:
        draw.ellipse([k * OVERSAMPLING for k in (x - rx, y - ry, x + rx, y + ry)], fill=255)
    return mask


def ellipse(x: float, y: float, rx: float, ry: float) -> Mask:
    return ellipses([(x, y, rx, ry)])


def limb(path: Points, start: float, end: float) -> Mask:
    """A smooth stroke along ``path`` whose radius goes from ``start`` to ``end``."""
    curve = spline(path, closed=False)
    radii = np.linspace(start, end, len(curve))
    return ellipses((x, y, r, r) for (x, y), r in zip(curve, radii, strict=True))


def blob(path: Points) -> Mask:
    """A smooth closed shape through ``path``."""
    mask = Image.new("L", (SIZE * OVERSAMPLING,) * 2)
    curve = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in spline(path, closed=True)]
    ImageDraw.Draw(mask).polygon(curve, fill=255)
    return mask


def mirrored(path: Points) -> Points:
    """The other half of the body."""
    return [(SIZE - x, y) for x, y in path]


def symmetric(left: Points) -> Mask:
    """A closed shape from its left outline; a point on the axis is its own mirror image."""
    return blob(left + [point for point in mirrored(left)[::-1] if point not in left])


# --- the person ----------------------------------------------------------------------------------


class Canvas:
    def __init__(self) -> None:
        rows = np.linspace(SKY, GROUND, SIZE * OVERSAMPLING).astype(np.uint8)
        self.image = Image.fromarray(np.repeat(rows[:, None], len(rows), axis=1))

    def fill(
        self,
        mask: Mask,
        colour: str,
        within: Mask | None = None,
        blur: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Paint ``mask``, softened by ``blur`` pixels, where ``within`` is."""
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * OVERSAMPLING))
        if within is not None:
            mask = ImageChops.multiply(mask, within)
        if opacity < 1:
            mask = mask.point(lambda value: round(value * opacity))
        self.image.paste(colour, mask=mask)

    def finished(self) -> Image.Image:
        box = [side * OVERSAMPLING for side in FRAME]
        return self.image.resize((SIZE, SIZE), Image.Resampling.HAMMING, box)


def draw_person() -> Image.Image:
    canvas = Canvas()
    draw_hair_behind(canvas)
    shirt = draw_body(canvas)
    draw_head(canvas)
    draw_face(canvas)
    draw_fringe(canvas)
    draw_arms(canvas, shirt)
    return canvas.finished()


def draw_hair_behind(canvas: Canvas) -> None:
    hair = symmetric(points("256,62 208,74 178,116 174,176 172,232 190,276 230,284"))
    canvas.fill(hair, HAIR_DARK)


def draw_body(canvas: Canvas) -> Mask:
    """Shirt and neck; the shirt's shape is where arms throw their shadow."""
    shirt = symmetric(
        points("256,272 222,272 192,286 162,302 148,334 150,390 156,440 158,500 152,560")
    )
    neck = symmetric(points("256,200 231,206 231,250 222,272 232,300 256,310"))
    canvas.fill(shirt, SHIRT)
    for x in (156, SIZE - 156):
        canvas.fill(ellipse(x, 430, 26, 110), SHIRT_SHADE, within=shirt, blur=14, opacity=0.8)
    canvas.fill(ellipse(256, 356, 56, 44), SHIRT_LIGHT, within=shirt, blur=24, opacity=0.35)
    canvas.fill(ellipse(256, 268, 45, 44), SHIRT_LIGHT, within=shirt)
    canvas.fill(ellipse(256, 265, 42, 42), SKIN, within=shirt)
    canvas.fill(neck, SKIN)
    canvas.fill(ellipse(256, 238, 36, 24), SKIN_SHADE, within=neck, blur=7, opacity=0.75)
    for bone in (points("231,287 245,292"), points("267,292 281,287")):
        canvas.fill(limb(bone, 1.2, 0.6), SKIN_SHADE, blur=0.6, opacity=0.6)
    return shirt


def draw_head(canvas: Canvas) -> None:
    face = symmetric(points("256,86 218,94 197,130 197,176 208,212 232,240 250,247"))
    canvas.fill(face, SKIN)
    canvas.fill(ellipse(192, 190, 12, 60), SKIN_SHADE, within=face, blur=9, opacity=0.45)
    canvas.fill(ellipse(320, 190, 12, 60), SKIN_SHADE, within=face, blur=9, opacity=0.45)
    for x in (219, SIZE - 219):
        canvas.fill(ellipse(x, 200, 15, 10), BLUSH, within=face, blur=7, opacity=0.4)


def draw_face(canvas: Canvas) -> None:
    for side, x in ((list, 230), (mirrored, SIZE - 230)):
        canvas.fill(limb(side(points("213,147 228,140 244,145")), 2.2, 2.8), BROW)
        eye = blob(side(points("215,171 230,161 244,171 230,180")))
        canvas.fill(eye, WHITE)
        canvas.fill(ellipse(x, 170, 8.6, 9), IRIS, within=eye)
        canvas.fill(ellipse(x, 170, 4.4, 4.6), EYE, within=eye)
        canvas.fill(ellipse(x + 2.6, 166.6, 2, 2), WHITE)
        canvas.fill(limb(side(points("213,171 221,163 231,160 245,170")), 2.0, 1.2), EYE)
    canvas.fill(limb(points("258,176 261,194 256,201 248,199"), 0.8, 1.7), SKIN_SHADE)
    canvas.fill(blob(points("234,214 249,213 256,215 263,213 278,214 256,231")), LIP)
    canvas.fill(limb(points("231,213 243,219 256,221 269,219 281,213"), 1.2, 1.2), LIP_DARK)
    canvas.fill(ellipse(256, 225.5, 8, 1.6), "#e59a8c", blur=1, opacity=0.8)


def draw_fringe(canvas: Canvas) -> None:
    left = blob(points("270,68 222,68 184,106 178,166 186,214 200,186 206,142 236,118 276,96"))
    right = blob(points("262,70 306,74 334,116 336,172 326,214 312,182 308,140 284,106"))
    for lock in (left, right):
        canvas.fill(lock, HAIR)
    shine = limb(points("206,104 232,84 268,80"), 3, 5)
    canvas.fill(shine, HAIR_LIGHT, within=left, blur=3, opacity=0.8)
    canvas.fill(limb(points("290,84 316,106"), 4, 3), HAIR_LIGHT, within=right, blur=3, opacity=0.7)


def draw_arms(canvas: Canvas, shirt: Mask) -> None:
    """Bent at the elbow, the hands folded before the waist."""
    for side in (list, mirrored):
        path = side(points("177,328 152,370 139,420 150,452 188,457 224,448"))
        arm = limb(path, 27, 15)
        canvas.fill(limb(path[1:], 27, 16), SHIRT_SHADE, within=shirt, blur=5, opacity=0.7)
        canvas.fill(arm, SHIRT)
        canvas.fill(limb(path[2:], 8, 5), SHIRT_LIGHT, within=arm, blur=7, opacity=0.5)
        canvas.fill(limb(side(points("220,449 228,448")), 15.5, 15), SHIRT_SHADE)
    for side in (mirrored, list):
        palm = limb(side(points("236,447 260,449")), 14, 15)
        canvas.fill(palm, SKIN_SHADE, blur=2, opacity=0.9)
        canvas.fill(palm, SKIN)
        for finger, reach in enumerate((279, 284, 283, 277)):
            y = 438 + 7 * finger
            shape = limb(side([(258, y), (reach, y + 1.5)]), 4.9, 4)
            canvas.fill(shape, SKIN_SHADE, blur=1)
            canvas.fill(shape, SKIN)
    canvas.fill(limb(points("242,437 258,431"), 5, 4.4), SKIN_SHADE, blur=1)
    canvas.fill(limb(points("242,438 258,432"), 5, 4.4), SKIN)


# --- the speech ----------------------------------------------------------------------------------


def synthesise() -> parselmouth.Sound:
    """``SPEECH`` in the middle of ``SECONDS``, at ``LOUDNESS_DBFS``."""
    call = parselmouth.praat.call
    voice = call("Create SpeechSynthesizer", "English (America)", "Female2")
    gap, pitch, pitch_range, words_per_minute = 0.01, 1.0, 1.0, 165
    call(
        voice, "Speech output settings...",
        SAMPLE_RATE, gap, pitch, pitch_range, words_per_minute, "IPA",
    )  # fmt: skip
    spoken = call(voice, "To Sound", SPEECH, "no")[0].values[0]
    samples = np.zeros(round(SECONDS * SAMPLE_RATE))
    start = (len(samples) - len(spoken)) // 2
    samples[start : start + len(spoken)] = spoken
    samples *= 10 ** (LOUDNESS_DBFS / 20) / np.sqrt(np.mean(samples**2))
    return parselmouth.Sound(samples, SAMPLE_RATE)


def draw_actor() -> Image.Image:
    """The first frame of an actor that nothing was trained on."""
    clip = make_clip(ActorSeeds.of(ACTOR), frames=1)
    (frame,) = Renderer(clip.identity, SIZE, SIZE).render(clip.tracks)
    return Image.fromarray(frame)


if __name__ == "__main__":
    draw_actor().save(ASSETS / "actor.png", optimize=True)
    draw_person().save(ASSETS / "person.png", optimize=True)
    synthesise().save(str(ASSETS / "speech.flac"), "FLAC")
    (ASSETS / "prompts.json").write_text(json.dumps(PROMPTS, indent=2) + "\n", encoding="utf-8")
