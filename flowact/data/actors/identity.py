"""Who an actor is: every constant of the drawing, drawn from one seed."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from flowact.data.actors.body import Body
from flowact.data.actors.drawing import palette
from flowact.data.actors.drawing.looks import STYLES, Clothes, Face, Scene
from flowact.seeds import stable_seed

_PERSON = {"she": "woman", "he": "man", "they": "person"}
_STYLE = {
    "flat": "a flat cartoon",
    "outlined": "a cartoon with dark outlines",
    "soft": "a softly shaded cartoon",
}
_CUT = {
    "bald": "a bald head",
    "buzz": "very short {} hair",
    "short": "short {} hair",
    "swept": "side-swept {} hair",
    "spiky": "spiky {} hair",
    "curly": "short curly {} hair",
    "afro": "a big {} afro",
    "fringe": "{} hair with a fringe",
    "bob": "a {} bob",
    "long": "long {} hair",
    "wavy": "long wavy {} hair",
    "bun": "{} hair in a bun",
    "ponytail": "{} hair in a ponytail",
    "pigtails": "{} hair in two puffs",
    "mohawk": "a {} mohawk",
}
_PLACE = {
    "plain": "a plain {} wall",
    "gradient": "a {} backdrop",
    "window": "a {} wall with a window",
    "shelf": "a {} wall with a shelf of books",
    "plant": "a {} wall and a plant",
    "picture": "a {} wall with pictures",
    "panelled": "a {} wall with panels",
    "night": "a {} wall with a window at night",
}
_BEARD = {
    "none": "",
    "stubble": "stubble",
    "moustache": "a moustache",
    "goatee": "a goatee",
    "beard": "a beard",
}
_HAT = {
    "none": "",
    "beanie": "a {} beanie",
    "cap": "a {} cap",
    "hat": "a {} hat",
    "headband": "a {} headband",
}


@dataclass(frozen=True)
class Identity:
    """One actor in one place, in one drawing style.

    Attributes:
        face: face, hair, skin and accessories.
        clothes, scene: what they wear, and where they are.
        style: one of ``STYLES``.
        body: proportions.
    """

    face: Face
    clothes: Clothes
    scene: Scene
    style: str
    body: Body

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """The actor of ``seed``; each part has its own stream of chance."""

        def rng(part: str) -> np.random.Generator:
            return np.random.default_rng(stable_seed(seed, "identity", part))

        clothes = Clothes.drawn_by(rng("clothes"))
        return cls(
            face=Face.drawn_by(rng("face")),
            clothes=clothes,
            scene=Scene.drawn_by(rng("scene"), clothes),
            style=STYLES[rng("style").integers(len(STYLES))],
            body=_body(rng("body")),
        )

    @property
    def pronoun(self) -> str:
        """ "she", "he" or "they"."""
        return self.face.pronoun

    def with_face_of(self, other: "Identity") -> Self:
        """This style, body, place and clothes, with the face, hair and skin of ``other``."""
        return replace(self, face=other.face)

    def words(self) -> dict[str, str]:
        """Phrases for an appearance caption.

        Keys: person, hair, clothes, scene, style, and accessories (empty if there are none).
        """
        face, clothes = self.face, self.clothes
        accessories = (
            _BEARD[face.beard],
            "" if face.glasses == "none" else f"{face.glasses} glasses",
            _HAT[face.hat].format(palette.name(face.hat_colour)),
            "earrings" if face.earrings else "",
        )
        return {
            "person": _PERSON[face.pronoun],
            "hair": _CUT[face.cut].format(palette.hair_name(face.hair)),
            "clothes": _article(f"{_cloth(clothes)} {clothes.garment}"),
            "scene": _article_of(_PLACE[self.scene.place].format(palette.name(self.scene.wall))),
            "style": _STYLE[self.style],
            "accessories": _listed([words for words in accessories if words]),
        }


def _body(rng: np.random.Generator) -> Body:
    return Body(
        shoulder=rng.uniform(0.43, 0.53),
        upper_arm=rng.uniform(0.56, 0.62),
        forearm=rng.uniform(0.54, 0.6),
        torso=rng.uniform(1.02, 1.12),
        hip=rng.uniform(0.31, 0.4),
        leg=rng.uniform(1.2, 1.45),
        neck=rng.uniform(0.13, 0.18),
        mouth_height=rng.uniform(0.2, 0.25),
        table_side=int(rng.choice([-1, 1])),
    )


def _cloth(clothes: Clothes) -> str:
    """Pattern and colours, as far as they are seen: a pattern's second colour goes unnamed."""
    first, second = palette.name(clothes.colour), palette.name(clothes.second)
    if clothes.pattern == "two-coloured":  # in its sleeves
        sleeved = clothes.garment != "tank top"
        return f"{first} and {second}" if sleeved and second != first else first
    return first if clothes.pattern == "plain" else f"{clothes.pattern} {first}"


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _article_of(phrase: str) -> str:
    """``phrase`` with its article made to fit the word after it."""
    return _article(phrase.removeprefix("a "))


def _listed(words: list[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])
