"""Speech by eSpeak NG through Praat: many voices and languages, each phone's time known.

Needs the optional ``praat-parselmouth`` (GPL), which runs in a process of its own: see
``espeak_server``.
"""

# ruff: noqa: RUF001 (letters of the IPA)

import importlib.util
import os
import pickle
import subprocess
import sys
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowact.data.actors.phones import SAMPLE_RATE, Phone, Utterance, faded
from flowact.data.actors.texts import sentences
from flowact.seeds import stable_seed

# Praat's names of eSpeak's languages, and whose sentences are read in them.
LANGUAGES = {
    "English (America)": "English",
    "English (Great Britain)": "English",
    "English (Received Pronunciation)": "English",
    "English (West Midlands)": "English",
    "English (Lancaster)": "English",
    "English (Scotland)": "English",
    "English (Caribbean)": "English",
    "German": "German",
    "French (France)": "French",
    "French (Belgium)": "French",
    "French (Switzerland)": "French",
    "Spanish (Spain)": "Spanish",
    "Spanish (Latin America)": "Spanish",
    "Italian": "Italian",
    "Portuguese (Brazil)": "Portuguese",
    "Portuguese (Portugal)": "Portuguese",
    "Dutch": "Dutch",
    "Chinese (Mandarin)": "Chinese",
    "Hindi": "Hindi",
}

# eSpeak's voice variants by split, in each of which every language is spoken: a test voice is
# heard in no language in training. Relatives (Steph, Steph2, ...) are of one split. Whispers and
# those of the unfinished Klatt synthesiser are left out.
VARIANTS = {
    "train": (
        *("default", "Male1", "Male2", "Male3", "Male4", "Andy", "Boris", "Denis", "Gene", "Gene2"),
        *("Iven", "Iven2", "Iven3", "Jacky", "John", "Kaukovalta", "Lee", "Mario", "Max", "Michel"),
        *("Female1", "Female2", "Female3", "Annie", "Steph", "Steph2", "Steph3", "Zac"),
    ),
    "validation": ("Male5", "Michael", "Norbert", "Rob", "Female4", "Linda"),
    "test": ("Male6", "Male7", "Robert", "Travis", "Female5", "Auntie"),
}

BLANK = 0.1  # seconds; a shorter silence before a plosive is its closure
PLOSIVES = "pbtdkɡgqcɟʈɖʔ"
RELEASE = 0.03  # seconds kept beyond the last phone, in which it dies away


def available() -> bool:
    """Whether ``praat-parselmouth`` is installed."""
    return importlib.util.find_spec("parselmouth") is not None


def voices(pool: str) -> list[tuple[str, str]]:
    """The (language, variant) pairs of a pool: train, validation or test."""
    return [(language, variant) for variant in VARIANTS[pool] for language in LANGUAGES]


def speak(seed: int, pool: str, seconds: float) -> tuple[str, list[Utterance]]:
    """Sentences in one voice of ``pool``, of ``seconds`` together at least, and the voice's name.

    The same seed gives the same bytes. Not to be called from several threads at once.

    Raises:
        ValueError: praat-parselmouth is not installed, or fails.
    """
    if not available():
        raise ValueError(
            'synthesiser "espeak" needs praat-parselmouth; '
            'pip install -e ".[speech]", or take synthesiser "formant"'
        )
    rng = np.random.default_rng(stable_seed(seed, "espeak"))
    language, variant = voices(pool)[rng.integers(len(voices(pool)))]
    request = {
        "language": language,
        "variant": variant,
        "sample_rate": SAMPLE_RATE,
        "pitch": float(rng.uniform(0.8, 1.35)),
        "pitch_range": float(rng.uniform(0.6, 1.5)),
        "words_per_minute": int(rng.integers(130, 200)),
        # The shortest sentences last over half a second.
        "sentences": list(islice(sentences(LANGUAGES[language], rng), 1 + int(2 * seconds))),
        "seconds": seconds,
    }
    return f"espeak: {language}, {variant}", [_utterance(*spoken) for spoken in _ask(request)]


def _utterance(
    samples: NDArray[np.float64], intervals: list[tuple[float, float, str]], words: list[float]
) -> Utterance:
    """What Praat gives, without the silence around it.

    Intervals are silences, which have no label, marks of a change of language, and phones.
    """
    heard = [interval for interval in intervals if interval[2] and interval[2][0] != "("]
    first, last = heard[0][0], heard[-1][1]
    phones: list[Phone] = []
    for start, end, symbol in heard:
        silence = start - first - phones[-1].end if phones else 0.0
        closure = silence if silence < BLANK and symbol[0] in PLOSIVES else 0.0
        phones.append(Phone(start - first - closure, end - first, symbol))
    ends = np.array([phone.end for phone in phones])
    nearest = {int(np.abs(ends + first - word).argmin()) for word in words}
    kept = slice(round(first * SAMPLE_RATE), round((last + RELEASE) * SAMPLE_RATE))
    return Utterance(
        faded(samples[kept].astype(np.float32)),
        tuple(phones),
        tuple(phones[index].end for index in sorted(nearest | {len(phones) - 1})),
    )


def _ask(request: dict[str, Any]) -> list[tuple[Any, ...]]:
    server = _server(os.getpid())
    assert server.stdin
    assert server.stdout
    try:
        pickle.dump(request, server.stdin)
        server.stdin.flush()
        return pickle.load(server.stdout)
    except (BrokenPipeError, EOFError) as error:
        _server.cache_clear()
        raise ValueError(
            'synthesiser "espeak" failed, as its own message above says; '
            'install praat-parselmouth again, or take synthesiser "formant"'
        ) from error


@cache
def _server(process: int) -> subprocess.Popen[bytes]:
    """The server of ``process``: a fork of it must not read its answers."""
    script = Path(__file__).with_name("espeak_server.py")
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-P", str(script)],
        stdin=pipe,
        stdout=pipe,
        start_new_session=True,  # Ctrl-C is for us to answer
    )
