"""Colours: how they are drawn by chance, compared and called."""

import colorsys
from collections.abc import Sequence

import numpy as np

Rgb = tuple[int, int, int]

WHITE: Rgb = (255, 255, 255)
BLACK: Rgb = (0, 0, 0)

SKIN: tuple[Rgb, ...] = (
    (84, 52, 42),
    (122, 76, 54),
    (164, 108, 76),
    (203, 146, 106),
    (233, 184, 146),
    (251, 218, 192),
)
HAIR: tuple[Rgb, ...] = (
    (32, 26, 30),
    (58, 38, 32),
    (104, 62, 38),
    (150, 66, 34),
    (204, 98, 40),
    (206, 156, 82),
    (240, 208, 136),
    (176, 176, 182),
    (238, 236, 232),
)
_CLOTH_HUES = (64, 110, 150, 172, 194, 214, 234, 262, 290, 322, 346)
_HUES = (
    (14, "red"),
    (42, "orange"),
    (68, "yellow"),
    (160, "green"),
    (198, "teal"),
    (255, "blue"),
    (288, "purple"),
    (338, "pink"),
    (361, "red"),
)


def from_hls(hue: float, lightness: float, saturation: float) -> Rgb:
    """A colour from hue in degrees, lightness and saturation from 0 to 1."""
    red, green, blue = colorsys.hls_to_rgb(hue % 360 / 360, lightness, saturation)
    return (round(255 * red), round(255 * green), round(255 * blue))


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """``first`` with ``share`` of ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def darker(colour: Rgb, share: float) -> Rgb:
    """A warm shadow of ``colour``: towards a deep violet instead of black."""
    return mix(colour, (46, 26, 58), share)


def lighter(colour: Rgb, share: float) -> Rgb:
    return mix(colour, WHITE, share)


def luma(colour: Rgb) -> float:
    """Perceived lightness, 0 to 1."""
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def distance(first: Rgb, second: Rgb) -> float:
    """How unlike two colours look, 0 to about 1; lightness counts most."""
    return (
        abs(luma(first) - luma(second))
        + 0.25 * sum(abs(a - b) / 255 for a, b in zip(first, second, strict=True)) / 3
    )


def along(anchors: Sequence[Rgb], place: float) -> Rgb:
    """The colour at ``place`` in [0, 1] of the line through ``anchors``."""
    place = place * (len(anchors) - 1)
    before = min(int(place), len(anchors) - 2)
    return mix(anchors[before], anchors[before + 1], place - before)


def cloth(rng: np.random.Generator) -> Rgb:
    """A colour that any skin stands out from: none is both warm and of middling lightness."""
    kind = rng.random()
    if kind < 0.12:
        return from_hls(rng.uniform(0, 360), rng.uniform(0.88, 0.94), 0.3)
    if kind < 0.24:
        return from_hls(rng.uniform(200, 280), rng.uniform(0.16, 0.26), rng.uniform(0.1, 0.4))
    hue = rng.choice(_CLOTH_HUES) + rng.uniform(-14, 14)
    return from_hls(hue, rng.uniform(0.36, 0.66), rng.uniform(0.38, 0.7))


def name(colour: Rgb) -> str:
    """The everyday word for a colour."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(c / 255 for c in colour))
    if lightness > 0.86:
        return "white"
    if lightness < 0.12 or (saturation < 0.45 and lightness < 0.22):
        return "black"
    if saturation < 0.14:
        return "grey"
    word = next(word for end, word in _HUES if 360 * hue < end)
    dull = {"red": 0.45, "orange": 0.75, "yellow": 0.75}
    if lightness < 0.4 and saturation < dull.get(word, 0):
        return "brown"
    if lightness > 0.66 and word not in ("pink", "yellow", "orange"):
        return "pink" if word == "red" else f"light {word}"
    return f"dark {word}" if lightness < 0.3 else word


def hair_name(colour: Rgb) -> str:
    """The word for a colour of hair."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(c / 255 for c in colour))
    if lightness < 0.16:
        return "black"
    if saturation < 0.2:
        return "white" if lightness > 0.82 else "grey"
    if not 8 < 360 * hue < 52:
        return name(colour)
    if lightness > 0.52 and 360 * hue > 30:
        return "blond"
    return "red" if saturation > 0.55 and lightness > 0.33 else "brown"
