"""What an actor does and looks like, in English; the wording is drawn by the phrasing seed."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from flowact.data.actors.behaviour import Beat
from flowact.data.actors.phrases import (
    ACTIVITIES,
    APPEARANCES,
    GO_ON,
    LEAVE,
    PHRASES,
    SENTENCES,
)
from flowact.data.splits import Pool, pool_of
from flowact.seeds import stable_seed

Form = Literal["base", "singular", "gerund"]
Choose = Callable[[Sequence[str]], str]
"""Picks one of some wordings."""

THEIR = {"she": "her", "he": "his", "they": "their"}
_VERB = re.compile(r"\{(\w+)\}")
_VOWELS = "aeiou"


def make_captions(script: Sequence[Beat], pronoun: str, seed: int) -> list[str]:
    """One caption for every beat of ``script``, in words of the pool of ``seed``.

    Each says the state and the action; most say what has ended or goes on since the last beat.
    """
    rng = np.random.default_rng(stable_seed(seed, "captions"))
    pool = pool_of(seed)
    captions = []
    for i, beat in enumerate(script):
        previous = script[i - 1] if i and rng.random() < 0.7 else None
        captions.append(caption(beat, previous, pronoun, pool, _chooser(rng)))
    return captions


def caption(beat: Beat, previous: Beat | None, pronoun: str, pool: Pool, choose: Choose) -> str:
    """One sentence for ``beat``, which tells the change from ``previous`` if that is given."""
    form: Form = "base" if pronoun == "they" else "singular"
    state = choose(PHRASES[pool][beat.state])
    goes_on = previous is not None and previous.state == beat.state
    if goes_on:
        state = f"{choose(GO_ON[pool])} {_conjugate(state, 'gerund')}"
    ended = _ended(beat, previous)
    if ended:
        state = f"{choose(LEAVE[pool])} {ended}{' and' if beat.action == 'none' else ','} {state}"
    if beat.action == "none":
        sentence, action = "{They} {state}.", ""
    elif ended:
        sentence, action = "{They} {state} and {action}.", choose(PHRASES[pool][beat.action])
    else:
        # "keeping talking" is no English.
        sentences = [s for s in SENTENCES[pool] if not (goes_on and "tate_ing" in s)]
        sentence, action = choose(sentences), choose(PHRASES[pool][beat.action])
    words = {
        "they": pronoun,
        "state": _conjugate(state, form),
        "state_ing": _conjugate(state, "gerund"),
        "action": _conjugate(action, form),
        "action_ing": _conjugate(action, "gerund"),
    }
    return _fill(sentence, words).replace("$their", THEIR[pronoun])


def make_appearance(words: Mapping[str, str], seed: int) -> str:
    """Who is seen and where, from ``Identity.words()``, in words of the pool of ``seed``."""
    rng = np.random.default_rng(stable_seed(seed, "appearance"))
    features = _listed(words["hair"], words["accessories"])
    return _fill(
        _chooser(rng)(APPEARANCES[pool_of(seed)]),
        {**words, "features": features, "a_person": f"a {words['person']}"},
    )


def _listed(hair: str, accessories: str) -> str:
    """ "hair and glasses", or "hair, a beard and glasses"."""
    if not accessories:
        return hair
    return f"{hair}{',' if ' and ' in accessories else ' and'} {accessories}"


def _ended(beat: Beat, previous: Beat | None) -> str:
    """What ``previous`` had and ``beat`` has not, as a gerund; empty if there is nothing."""
    if previous is None:
        return ""
    if previous.state != beat.state:
        return ACTIVITIES[previous.state]
    if beat.action == "none" and previous.action != "none":
        return ACTIVITIES[previous.action]
    return ""


def _chooser(rng: np.random.Generator) -> Choose:
    return lambda options: options[int(rng.integers(len(options)))]


def _fill(sentence: str, words: Mapping[str, str]) -> str:
    """``sentence`` with ``words``, and with their capitals where it names them so."""
    capitals = {key.capitalize(): text[:1].upper() + text[1:] for key, text in words.items()}
    return sentence.format(**words, **capitals)


def _conjugate(phrase: str, form: Form) -> str:
    """``phrase`` with its verbs in ``form``."""
    return _VERB.sub(lambda verb: _inflect(verb[1], form), phrase)


def _inflect(verb: str, form: Form) -> str:
    if form == "base":
        return verb
    if form == "singular":
        if verb == "have":
            return "has"
        if verb[-1] == "y" and verb[-2] not in _VOWELS:
            return verb[:-1] + "ies"
        return verb + ("es" if verb.endswith(("ch", "sh", "s", "x", "z", "o")) else "s")
    if verb.endswith("e"):
        return verb[:-1] + "ing"
    # "nod" is doubled, "listen", "lay" and "speak" are not.
    doubled = re.fullmatch(r"[^aeiou]*u?[aeiou][^aeiouwxy]", verb)
    return verb + (verb[-1] if doubled else "") + "ing"
