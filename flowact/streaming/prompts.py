"""Which prompt a chunk is made under: fixed, or a schedule in seconds (design 4, 9)."""

import difflib
import json
import logging
import reprlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from flowact.geometry import Geometry

logger = logging.getLogger(__name__)

EXAMPLE = '[{"start": 0.0, "text": "She waves."}]'


class PromptSource(Protocol):
    """Whoever decides the prompts of a stream; it may decide as the stream goes."""

    def at(self, chunk: int) -> str:
        """The prompt of ``chunk``; empty for the null text."""
        ...

    def hear(self, samples: Tensor) -> None:
        """Sound [B, n] as the stream is given it, before the chunks that need it."""
        ...


class Prompt(NamedTuple):
    """A text and the second of the stream from which it is in force."""

    start: float
    text: str


@dataclass(frozen=True)
class PromptSchedule:
    """Prompts known in advance, each in force from its start to the next one's.

    Attributes:
        prompts: in order of their starts, which all differ.
        geometry: tells when a chunk is.

    Raises:
        ValueError: the starts are negative or do not ascend.
    """

    prompts: tuple[Prompt, ...]
    geometry: Geometry

    def __post_init__(self) -> None:
        starts = [prompt.start for prompt in self.prompts]
        if any(not start >= 0 for start in starts):
            raise ValueError(f"prompt starts are {starts}; each must be 0 or more seconds")
        if any(earlier >= later for earlier, later in pairwise(starts)):
            raise ValueError(f"prompt starts are {starts}; each must be later than the one before")

    @classmethod
    def constant(cls, text: str, geometry: Geometry) -> "PromptSchedule":
        """One prompt for the whole stream."""
        return cls((Prompt(0.0, text),), geometry)

    def at(self, chunk: int) -> str:
        """The prompt in force at the prompt frame of ``chunk``; empty before the first start."""
        frame = chunk * self.geometry.chunk_frames + self.geometry.prompt_frame
        begun = bisect_right(self.prompts, frame / self.geometry.fps, key=lambda p: p.start)
        return self.prompts[begun - 1].text if begun else ""

    def hear(self, samples: Tensor) -> None:
        """Nothing depends on the sound."""

    def warn_of_late(self, seconds: float) -> None:
        """Name those that start after the end of a stream of ``seconds``, where nobody sees them.

        They are kept: chunks that fill the queue at the end stand under them.
        """
        late = [f"{prompt.start:g} s" for prompt in self.prompts if prompt.start >= seconds]
        if late:
            logger.warning(
                "prompts that start at %s are not seen: the stream ends at %.2f s",
                ", ".join(late),
                seconds,
            )


def save_schedule(schedule: PromptSchedule, path: str | Path) -> None:
    """Write a schedule as ``load_schedule`` reads it."""
    prompts = [prompt._asdict() for prompt in schedule.prompts]
    Path(path).write_text(json.dumps(prompts, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load_schedule(path: str | Path, geometry: Geometry) -> PromptSchedule:
    """Read a schedule: JSON, a list of ``{"start": seconds, "text": "..."}``.

    Prompts may stand in any order (a warning says that they were sorted) and in any script.

    Raises:
        ValueError: the file cannot be read, is no such list, or two prompts start together; the
            message names the file, the entry (counted from 0), the key and the mend.
    """
    entries = _read_json(path)
    if not isinstance(entries, list):
        raise ValueError(
            f"{path}: holds {reprlib.repr(entries)}; it must hold a list such as {EXAMPLE}"
        )
    prompts = [_prompt(f"{path}: entry [{index}]", entry) for index, entry in enumerate(entries)]
    index_of_start: dict[float, int] = {}
    for index, prompt in enumerate(prompts):
        first = index_of_start.setdefault(prompt.start, index)
        if first != index:
            raise ValueError(
                f"{path}: entries [{first}] and [{index}] both start at {prompt.start:g} s; "
                "give them different starts, or remove one"
            )
    ordered = sorted(prompts)
    if ordered != prompts:
        logger.warning("%s: the prompts are not in order of their starts; they were sorted", path)
    return PromptSchedule(tuple(ordered), geometry)


def _read_json(path: str | Path) -> object:
    """The parsed file, every number a float: an integer of a million digits is inf, no error."""
    try:
        # A byte-order mark, as Windows editors write it, is no part of the text.
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: is empty; write a list such as {EXAMPLE}")
    try:
        return json.loads(text, parse_int=float)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno} is not JSON ({error.msg}); "
            f"write a list such as {EXAMPLE}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path}: is nested too deeply; write a list such as {EXAMPLE}") from error


def _prompt(where: str, entry: object) -> Prompt:
    """One checked entry; ``where`` opens the message if it is not well-formed."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {reprlib.repr(entry)}; write {EXAMPLE[1:-1]}")
    for key in entry:
        if key not in Prompt._fields:
            near = difflib.get_close_matches(key, Prompt._fields, n=1)
            mend = f"did you mean {near[0]!r}?" if near else "the keys are 'start' and 'text'"
            raise ValueError(f"{where} has the unknown key {reprlib.repr(key)}; {mend}")
    for key in Prompt._fields:
        if key not in entry:
            raise ValueError(f"{where} has no key {key!r}; write {EXAMPLE[1:-1]}")
    start, text = entry["start"], entry["text"]
    if not (isinstance(start, float) and 0 <= start < float("inf")):
        raise ValueError(
            f"{where}: start is {reprlib.repr(start)}; it must be a number of seconds, 0 or more"
        )
    if not isinstance(text, str):
        raise ValueError(f"{where}: text is {reprlib.repr(text)}; it must be a string")
    return Prompt(start, text)
