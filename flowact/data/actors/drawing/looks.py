"""What an actor looks like: the face, the clothes and the place, each drawn from a generator."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from flowact.data.actors.drawing.palette import (
    BLACK,
    HAIR,
    SKIN,
    Rgb,
    along,
    cloth,
    darker,
    distance,
    from_hls,
    mix,
)

STYLES = ("flat", "outlined", "soft")
PRONOUNS = ("she", "he", "they")
CUTS = (
    "bald",
    "buzz",
    "short",
    "swept",
    "spiky",
    "curly",
    "afro",
    "fringe",
    "bob",
    "long",
    "wavy",
    "bun",
    "ponytail",
    "pigtails",
    "mohawk",
)
_CUT_WEIGHTS = {
    "she": (0.2, 0.3, 0.7, 0.6, 0.3, 1, 1, 1, 1.5, 1.6, 1.6, 1.3, 1.2, 1, 0.3),
    "he": (1.2, 1.3, 1.7, 1.5, 1.2, 1, 0.8, 0.8, 0.2, 0.3, 0.3, 0.3, 0.3, 0, 0.5),
    "they": (0.6, 0.8, 1, 1, 1, 1, 1, 1, 1, 0.8, 0.8, 0.6, 0.6, 0.5, 0.8),
}
BEARDS = ("none", "stubble", "moustache", "goatee", "beard")
GLASSES = ("none", "round", "square")
HATS = ("none", "beanie", "cap", "hat", "headband")
HATLESS_CUTS = ("afro", "bun", "pigtails", "mohawk", "spiky")
NOSES = ("button", "hook", "wedge", "wide")
GARMENTS = ("t-shirt", "sweater", "hoodie", "jacket", "shirt", "tank top")
PATTERNS = ("plain", "striped", "dotted", "checked", "two-coloured")
PLACES = ("plain", "gradient", "window", "shelf", "plant", "picture", "panelled", "night")


def _pick(rng: np.random.Generator, names: tuple[str, ...], weights: tuple[float, ...]) -> str:
    shares = np.asarray(weights)
    return names[rng.choice(len(names), p=shares / shares.sum())]


@dataclass(frozen=True)
class Face:
    """Everything above the neck. Lengths in heads, ``width`` and ``jaw`` being half widths."""

    pronoun: str
    skin: Rgb
    width: float
    jaw: float
    cheek: float
    ears: float
    eye: Rgb
    eye_width: float
    eye_height: float
    eye_apart: float
    eye_level: float
    eye_slant: float
    lashes: float
    brow: Rgb
    brow_width: float
    brow_arch: float
    brow_slant: float
    nose: str
    nose_size: float
    mouth_width: float
    lip: Rgb
    lip_fullness: float
    warmth: float
    blush: float
    freckles: bool
    hair: Rgb
    cut: str
    volume: float
    hairline: float
    parting: int
    beard: str
    glasses: str
    glasses_colour: Rgb
    hat: str
    hat_colour: Rgb
    earrings: Rgb | None

    @classmethod
    def drawn_by(cls, rng: np.random.Generator) -> Self:
        pronoun = _pick(rng, PRONOUNS, (0.46, 0.46, 0.08))
        skin = mix(along(SKIN, rng.random()), from_hls(rng.uniform(0, 50), 0.5, 0.6), 0.1)
        hair = _hair_colour(rng, skin)
        cut = _pick(rng, CUTS, _CUT_WEIGHTS[pronoun])
        soft = {"she": 0.0, "he": 1.0, "they": 0.5}[pronoun]
        width = rng.uniform(0.365, 0.465)
        lip_tone = from_hls(rng.uniform(-28, 8), rng.uniform(0.32, 0.47), rng.uniform(0.5, 0.85))
        lip = mix(skin, lip_tone, rng.uniform(0.65, 0.95) - 0.25 * soft)
        if distance(lip, skin) < 0.2:
            lip = darker(lip, 0.35)
        brow = darker(mix(hair, skin, rng.uniform(0, 0.2)), 0.25)
        if distance(brow, skin) < 0.2:
            brow = darker(brow, 0.5)
        hat = _pick(rng, HATS, (0.76, 0.07, 0.06, 0.05, 0.06))
        return cls(
            pronoun=pronoun,
            skin=skin,
            width=width,
            jaw=rng.uniform(0.1, 0.24) + 0.1 * soft,
            cheek=rng.uniform(0.12, 0.36),
            ears=rng.uniform(0.06, 0.11),
            eye=from_hls(
                rng.choice([24, 28, 34, 90, 140, 200, 215]), rng.uniform(0.22, 0.42), 0.47
            ),
            eye_width=rng.uniform(0.072, 0.104),
            eye_height=rng.uniform(0.07, 0.125) - 0.01 * soft,
            eye_apart=rng.uniform(0.4, 0.5),
            eye_level=rng.uniform(-0.03, 0.06),
            eye_slant=rng.uniform(-0.25, 0.2),
            lashes=rng.uniform(0.4, 1) * (1 - 0.8 * soft),
            brow=brow,
            brow_width=rng.uniform(0.016, 0.03) + 0.014 * soft,
            brow_arch=rng.uniform(0.1, 0.5),
            brow_slant=rng.uniform(-0.06, 0.26),
            nose=NOSES[rng.integers(len(NOSES))],
            nose_size=rng.uniform(0.75, 1.35),
            mouth_width=rng.uniform(0.118, 0.172),
            lip=lip,
            lip_fullness=rng.uniform(0.85, 1.45) - 0.2 * soft,
            warmth=rng.uniform(0.15, 0.55),
            blush=max(0.0, rng.uniform(-0.3, 0.5)),
            freckles=bool(rng.random() < 0.12),
            hair=hair,
            cut=cut,
            volume=rng.uniform(0.6, 1.4),
            hairline=rng.uniform(-0.05, 0.04),
            parting=int(rng.choice([-1, 1])),
            beard=_pick(rng, BEARDS, (1, *(v * soft for v in (0.25, 0.25, 0.25, 0.5)))),
            glasses=_pick(rng, GLASSES, (0.72, 0.15, 0.13)),
            glasses_colour=mix(cloth(rng), BLACK, rng.uniform(0.2, 0.8)),
            hat="none" if cut in HATLESS_CUTS and hat != "headband" else hat,
            hat_colour=cloth(rng),
            earrings=from_hls(rng.uniform(0, 360), 0.6, 0.8)
            if rng.random() < 0.4 - 0.3 * soft
            else None,
        )


def _hair_colour(rng: np.random.Generator, skin: Rgb) -> Rgb:
    """Mostly a natural colour, told apart from the skin."""
    while True:
        if rng.random() < 0.25:
            hair = from_hls(rng.uniform(0, 360), rng.uniform(0.25, 0.7), rng.uniform(0.45, 0.85))
        else:
            hair = along(HAIR, rng.random())
        if distance(hair, skin) > 0.2:
            return hair


@dataclass(frozen=True)
class Clothes:
    garment: str
    pattern: str
    colour: Rgb
    second: Rgb
    trousers: Rgb
    shoes: Rgb

    @classmethod
    def drawn_by(cls, rng: np.random.Generator) -> Self:
        colour = cloth(rng)
        second = cloth(rng)
        while distance(second, colour) < 0.22:
            second = cloth(rng)
        trousers = cloth(rng)
        while distance(trousers, colour) < 0.12:
            trousers = cloth(rng)
        return cls(
            garment=GARMENTS[rng.integers(len(GARMENTS))],
            pattern=_pick(rng, PATTERNS, (2, 1, 1, 1, 1)),
            colour=colour,
            second=second,
            trousers=trousers,
            shoes=mix(cloth(rng), BLACK, 0.35),
        )


@dataclass(frozen=True)
class Scene:
    """The place; ``layout`` is the seed of what stands where."""

    place: str
    wall: Rgb
    accent: Rgb
    table: Rgb
    cup: Rgb
    cup_width: float
    cup_height: float
    layout: int

    @classmethod
    def drawn_by(cls, rng: np.random.Generator, clothes: Clothes) -> Self:
        wall = _wall(rng)
        while distance(wall, clothes.colour) < 0.14:
            wall = _wall(rng)
        table = from_hls(rng.uniform(15, 40), rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.55))
        cup = cloth(rng)
        while min(distance(cup, wall), distance(cup, clothes.colour)) < 0.16:
            cup = cloth(rng)
        return cls(
            place=PLACES[rng.integers(len(PLACES))],
            wall=wall,
            accent=cloth(rng),
            table=table,
            cup=cup,
            cup_width=rng.uniform(0.19, 0.24),
            cup_height=rng.uniform(0.22, 0.28),
            layout=int(rng.integers(1 << 31)),
        )


def _wall(rng: np.random.Generator) -> Rgb:
    return from_hls(rng.uniform(0, 360), rng.uniform(0.55, 0.88), rng.uniform(0.15, 0.42))
