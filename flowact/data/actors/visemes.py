"""Mouth shapes of speech: the visemes of phones, co-articulated into smooth tracks."""

# ruff: noqa: RUF001 (letters of the IPA)

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.phones import Phone
from flowact.geometry import Geometry

Array = NDArray[np.floating]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Viseme:
    """A mouth shape, as in ``Tracks``, and how firmly it is held against its neighbours'."""

    open: float
    width: float
    round: float
    dominance: float


VISEMES = {
    "silence": Viseme(0.0, 0.0, 0.0, 0.4),
    "closed": Viseme(0.0, 0.0, 0.0, 1.0),
    "lip_teeth": Viseme(0.08, 0.1, 0.0, 1.0),
    "dental": Viseme(0.2, 0.1, 0.0, 0.5),
    "alveolar": Viseme(0.2, 0.15, 0.0, 0.4),
    "postalveolar": Viseme(0.22, -0.35, 0.6, 0.8),
    "velar": Viseme(0.3, 0.0, 0.0, 0.3),
    "r": Viseme(0.25, -0.3, 0.4, 0.5),
    "rounded": Viseme(0.2, -0.9, 1.0, 1.0),
    "o": Viseme(0.5, -0.5, 0.7, 1.0),
    "open": Viseme(1.0, 0.1, 0.0, 1.0),
    "e": Viseme(0.55, 0.5, 0.0, 1.0),
    "i": Viseme(0.28, 1.0, 0.0, 1.0),
    "schwa": Viseme(0.4, 0.0, 0.0, 0.7),
}
LETTERS = {
    "closed": "pbmɓɸβʙ",
    "lip_teeth": "fvʋɱⱱ",
    "dental": "θð",
    "alveolar": "tdnszlrɾɬɮɗɺʈɖɳɭɽ",
    "postalveolar": "ʃʒɕʑʂʐ",
    "velar": "kgɡŋxɣqɢχʁʀɴhɦħʕʔ?cɟɲʎçʝɫɠʛ",
    "r": "ɹɻ",
    "rounded": "uʊwyʏʉɥɯɰ",
    "o": "oɔɒøœɵɞɤ",
    "open": "aɑɐæɶ",
    "e": "eɛ",
    "i": "iɪjɨᵻ",
    "schwa": "əɜɚɝɘʌ",
}
VISEME_OF = {letter: viseme for viseme, letters in LETTERS.items() for letter in letters}

REACH = 0.08  # seconds by which a shape shows before and after its phone
SEALED = 0.02  # seconds before and after its middle in which a closure is complete, at least
PARTING = 0.06  # seconds from there to where the closure has no effect
STEPS = 8  # points of the fine grid per frame


def visemes_of(symbol: str) -> list[str]:
    """The visemes of an IPA symbol, one after the other: two of a diphthong or an affricate.

    Length, stress, diacritics and tones are left out; letters outside the IPA, and symbols
    without any letter, count as schwa.
    """
    letters = [c for c in unicodedata.normalize("NFD", symbol) if c in VISEME_OF or _is_letter(c)]
    unknown = [letter for letter in letters if letter not in VISEME_OF]
    if unknown or not letters:
        logger.debug("phone %r has no viseme of its own; taken as schwa", symbol)
    return [VISEME_OF.get(letter, "schwa") for letter in letters] or ["schwa"]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character) in ("Ll", "Lu", "Lo")


def mouth_tracks(
    phones: Sequence[Phone], frames: int, geometry: Geometry
) -> dict[str, NDArray[np.float32]]:
    """The mouth while ``phones`` are spoken, and at rest in silence.

    Shapes blend over ``REACH``, the more dominant ones prevailing (Cohen & Massaro 1993), and the
    closures of p, b and m are complete however short they are.

    Args:
        phones: in order, not overlapping.
        frames: length of the tracks.
        geometry: gives the frame rate.

    Returns:
        mouth_open, mouth_width, mouth_round as in ``Tracks``: float32 [frames], each the value at
        the middle of its frame.
    """
    parts = _parts(phones)
    step = 1 / (geometry.fps * STEPS)
    margin = round(2 * REACH / step)
    times = (np.arange(-margin, frames * STEPS + margin)) * step
    shape = _blended(parts, times, round(REACH / step))
    shape *= _speaking(phones, times)
    shape[0] *= _unsealed(parts, times)
    middles = shape[:, margin + STEPS // 2 :: STEPS][:, :frames].astype(np.float32)
    return dict(zip(("mouth_open", "mouth_width", "mouth_round"), middles, strict=True))


def _parts(phones: Sequence[Phone]) -> list[tuple[float, float, str]]:
    """(start, end, viseme): each phone's time shared out among its visemes."""
    parts: list[tuple[float, float, str]] = []
    for phone in phones:
        visemes = visemes_of(phone.symbol)
        edges = np.linspace(phone.start, phone.end, len(visemes) + 1)
        parts += zip(edges[:-1].tolist(), edges[1:].tolist(), visemes, strict=True)
    return parts


def _blended(parts: Sequence[tuple[float, float, str]], times: Array, reach: int) -> Array:
    """[3, len(times)]: open, width and round, averaged over ``reach`` points to either side."""
    rest = VISEMES["silence"]
    targets = np.repeat([[rest.open], [rest.width], [rest.round]], len(times), axis=1)
    dominance = np.full(len(times), rest.dominance)
    for start, end, name in parts:
        viseme = VISEMES[name]
        now = slice(*np.searchsorted(times, (start, end)))
        targets[:, now] = [[viseme.open], [viseme.width], [viseme.round]]
        dominance[now] = viseme.dominance
    kernel = np.hanning(2 * reach + 1)
    total = np.convolve(dominance, kernel, "same")
    return np.stack([np.convolve(t * dominance, kernel, "same") / total for t in targets])


def _speaking(phones: Sequence[Phone], times: Array) -> Array:
    """1 during phones, falling to 0 within ``REACH`` of them."""
    distance = np.full(len(times), np.inf)
    for phone in phones:
        near = slice(*np.searchsorted(times, (phone.start - REACH, phone.end + REACH)))
        outside = np.maximum(phone.start - times[near], times[near] - phone.end)
        distance[near] = np.minimum(distance[near], outside)
    return 1 - _smooth_step(distance / REACH)


def _unsealed(parts: Sequence[tuple[float, float, str]], times: Array) -> Array:
    """0 while the lips are closed by a p, b or m, rising to 1 within ``PARTING``."""
    free = np.ones(len(times))
    for start, end, name in parts:
        if name == "closed":
            sealed = max(SEALED, 0.3 * (end - start))
            middle, reach = (start + end) / 2, sealed + PARTING
            near = slice(*np.searchsorted(times, (middle - reach, middle + reach)))
            away = np.abs(times[near] - middle) - sealed
            free[near] = np.minimum(free[near], _smooth_step(away / PARTING))
    return free


def _smooth_step(x: Array) -> Array:
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)
