"""Captions are English, say state and action, and are never shared by two splits."""

import itertools
import re
from collections.abc import Iterator, Sequence

import pytest

from flowact.data.actors.behaviour import PLAUSIBLE, Beat, make_script
from flowact.data.actors.captions import caption, make_appearance, make_captions
from flowact.data.actors.phrases import APPEARANCES, GO_ON, LEAVE, PHRASES, SENTENCES
from flowact.data.actors.tracks import ACTIONS, STATES
from flowact.data.splits import Pool

POOLS: tuple[Pool, ...] = ("train", "validation", "test")
WORDS = {
    "person": "woman",
    "hair": "short curly red hair",
    "clothes": "a striped green shirt",
    "scene": "a plain blue wall",
    "style": "a flat cartoon",
    "accessories": "round glasses",
}


def all_wordings(beat: Beat, previous: Beat | None, pool: Pool) -> Iterator[str]:
    """Every caption that some choice gives: the choices are counted up like an odometer."""
    path: list[int] = []
    while True:
        sizes: list[int] = []

        def choose(options: Sequence[str], sizes: list[int] = sizes) -> str:
            sizes.append(len(options))
            if len(path) < len(sizes):
                path.append(0)
            return options[path[len(sizes) - 1]]

        yield caption(beat, previous, "she", pool, choose)
        while path and path[-1] == sizes[len(path) - 1] - 1:
            path.pop()
        if not path:
            return
        path[-1] += 1


def sentences(pool: Pool) -> set[str]:
    """Everything said in ``pool`` of a beat on its own, and of one after a change of each kind."""
    said: set[str] = set()
    for state in STATES:
        for action in ("none", *PLAUSIBLE[state]):
            said.update(all_wordings(Beat(0, 50, state, action), None, pool))
    for before, after in itertools.product(STATES, STATES):
        beat = Beat(50, 100, after, "none")
        said.update(all_wordings(beat, Beat(0, 50, before, "wave"), pool))
    return said


def test_no_sentence_is_said_in_two_splits() -> None:
    said = {pool: sentences(pool) for pool in POOLS}
    assert len(said["train"]) > 10_000
    assert not said["train"] & said["validation"]
    assert not said["train"] & said["test"]
    assert not said["validation"] & said["test"]


def test_no_wording_is_shared_by_two_pools() -> None:
    for first, second in itertools.combinations(POOLS, 2):
        for name in (*STATES, *ACTIONS[1:]):
            assert not set(PHRASES[first][name]) & set(PHRASES[second][name])
        for table in (SENTENCES, APPEARANCES, GO_ON, LEAVE):
            assert not set(table[first]) & set(table[second])


@pytest.mark.parametrize("name", [*STATES, *ACTIONS[1:]])
def test_training_has_many_wordings_and_measuring_shares_their_words(name: str) -> None:
    trained = PHRASES["train"][name]
    assert len(set(trained)) >= 12
    known = set(re.findall(r"\w+", " ".join(itertools.chain(*PHRASES["train"].values()))))
    for pool in ("validation", "test"):
        words = set(re.findall(r"\w+", " ".join(PHRASES[pool][name])))
        assert len(words - known) <= 1


def first_of(options: Sequence[str]) -> str:
    return options[0]


@pytest.mark.parametrize(
    ("pronoun", "beat", "previous", "expected"),
    [
        ("she", ("speak", "none"), None, "She speaks."),
        ("he", ("speak", "fold_arms"), None, "He speaks and folds his arms."),
        ("they", ("listen", "clap"), None, "They listen and clap."),
        ("she", ("speak", "wave"), ("speak", "none"), "She keeps speaking and waves."),
        ("he", ("listen", "none"), ("speak", "none"), "He stops talking and listens."),
        ("they", ("think", "wave"), ("listen", "none"), "They stop listening, think and wave."),
        ("she", ("idle", "none"), ("idle", "fold_arms"),
         "She stops folding her arms and keeps waiting."),
    ],
)  # fmt: skip
def test_grammar(
    pronoun: str, beat: tuple[str, str], previous: tuple[str, str] | None, expected: str
) -> None:
    before = Beat(0, 50, *previous) if previous else None
    assert caption(Beat(50, 100, *beat), before, pronoun, "train", first_of) == expected


def test_every_caption_of_a_script_is_one_plain_sentence() -> None:
    for seed, pronoun in itertools.product(range(200), ("she", "he", "they")):
        for text in make_captions(make_script(seed, 500), pronoun, seed):
            assert re.fullmatch(r"[A-Z][a-zA-Z ,'-]+\.", text), text
            # "keeping keeping", "stop and", a doubled word.
            assert not re.search(r"\b(\w+) \1\b", text), text


def test_only_pointing_names_a_side() -> None:
    for pool in POOLS:
        for name, phrases in PHRASES[pool].items():
            for phrase in phrases:
                sides = {side for side in ("left", "right") if side in phrase}
                assert sides == ({name.removeprefix("point_")} if "point_" in name else set())


def test_appearance_says_all_there_is() -> None:
    for seed in (*range(20), *range(900_000, 900_010)):
        text = make_appearance(WORDS, seed).lower()
        assert all(phrase in text for phrase in WORDS.values())
    assert "  " not in make_appearance({**WORDS, "accessories": ""}, 1)
