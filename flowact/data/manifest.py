"""``manifest.jsonl``: what a folder of clips holds, one line a clip, actors and real video alike.

JSON lines (design 7); absent keys have the defaults of ``Clip``. Times are in seconds of the clip's
picture: 0 is when its first frame is shown.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowact.data.actors.tracks import STATES
from flowact.data.form import Finding, form_findings
from flowact.data.whole_file import whole_file

MANIFEST = "manifest.jsonl"
ID = re.compile(r"[\w.-]+")
# Bytes. Ids name files, whose names have 255 at most; to that of a video, preprocessing adds where
# a clip of it starts.
LONGEST_ID, LONGEST_START = 200, 10


@dataclass(frozen=True)
class Interval:
    """What happens in a part of a clip ("dense annotations", paper 2.2).

    Attributes:
        start, end: seconds of the clip.
        state: one of ``STATES``, or empty where it is not known.
        caption: the behaviour in words; empty where nobody described it.
        action: what the actor world calls it; None for real clips.
    """

    start: float
    end: float
    state: str
    caption: str
    action: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a preprocessed clip was cut out.

    Attributes:
        video: the file, relative to the manifest's folder.
        start: second of that video's picture at which the clip's frame 0 is shown.
        x, y, width, height: the part that was kept, in pixels of the upright picture.
    """

    video: str
    start: float
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Clip:
    """One line of a manifest. Paths are relative to the manifest's folder.

    Attributes:
        id: unique in the manifest; letters, digits, ``_``, ``-`` and ``.``, 200 bytes at most.
        video: the file with the picture.
        fps: of the picture; the mean, where its rate varies. 0 if it is not known.
        frames: of the picture. 0 if they are not known.
        audio: the file with the sound; None if the video has its own.
        sync_offset: seconds by which the sound is late.
        appearance: who is seen, and where, in words that hold for the whole clip.
        intervals: in order, not overlapping; gaps are allowed.
        truth: safetensors of the actor's tracks and landmarks, one row a frame.
        seeds: those an actor was made from.
        source: of a preprocessed clip, what it was cut from; ``video`` and ``truth`` are its.
    """

    id: str
    video: str
    fps: float
    frames: int
    audio: str | None = None
    sync_offset: float = 0.0
    appearance: str = ""
    intervals: tuple[Interval, ...] = ()
    truth: str | None = None
    seeds: Mapping[str, int] | None = None
    source: Source | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a line, and how to mend it.

    Attributes:
        file: the manifest.
        line: counted from 1.
        field: such as ``intervals[2].end``; empty if it is the whole line.
        message: what is there, what must be, or what to do.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        field = f" {self.field}:" if self.field else ""
        return f"{self.file}:{self.line}:{field} {self.message}"


def manifest_path(path: str | Path) -> Path:
    """The manifest that ``path`` is, or that is in the folder ``path``."""
    path = Path(path)
    return path / MANIFEST if path.is_dir() else path


def read_manifest(path: str | Path) -> list[Clip]:
    """The clips of a folder or a manifest file.

    Raises:
        ValueError: the file cannot be read, or a line is not a clip; the first is named.
    """
    clips, problems = load_clips(path)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")
    return clips


def load_clips(path: str | Path) -> tuple[list[Clip], list[Problem]]:
    """The well-formed clips, and what is wrong with the other lines.

    Raises:
        ValueError: the file cannot be read.
    """
    file = manifest_path(path)
    clips: list[Clip] = []
    problems: list[Problem] = []
    line_of_id: dict[str, int] = {}
    for line, text in _lines(file):
        values, found = _parsed(text)
        found += [] if found else form_findings(values, Clip)
        if not found:
            clip = from_values(values)
            found += _rules(clip)
            first = line_of_id.setdefault(clip.id, line)
            if first != line:
                found.append(("id", f"{clip.id!r} is also that of line {first}; give it another"))
            if not found:
                clips.append(clip)
        problems += [Problem(str(file), line, field, message) for field, message in found]
    return clips, problems


def check_manifest(path: str | Path) -> list[Problem]:
    """All that is wrong with a manifest: its form, and files that are not there.

    Raises:
        ValueError: the file cannot be read.
    """
    file = manifest_path(path)
    _, problems = load_clips(file)
    for line, text in _lines(file):
        values, _ = _parsed(text)
        for field in ("video", "audio", "truth"):
            name = values.get(field) if isinstance(values, dict) else None
            if isinstance(name, str) and not (file.parent / name).is_file():
                message = (
                    f"there is no file {name} in {file.parent}; put it there, or mend the path"
                )
                problems.append(Problem(str(file), line, field, message))
    return sorted(problems, key=lambda problem: problem.line)


def write_manifest(path: str | Path, clips: Iterable[Clip]) -> None:
    """Write a folder's manifest, or a file of that name: there as a whole or not at all."""
    with whole_file(manifest_path(path)) as file:
        for clip in clips:
            file.write(to_json(clip) + "\n")


def to_json(clip: Clip) -> str:
    """The line of a clip."""
    return json.dumps(to_values(clip), ensure_ascii=False)


def from_json(text: str) -> Clip:
    """The clip of a well-formed line."""
    return from_values(json.loads(text))


def from_values(values: Mapping[str, Any]) -> Clip:
    """The clip of a well-formed object of JSON."""
    intervals = tuple(Interval(**interval) for interval in values.get("intervals", ()))
    source = None if values.get("source") is None else Source(**values["source"])
    return Clip(**{**values, "intervals": intervals, "source": source})


def to_values(item: Clip | Interval | Source) -> dict[str, Any]:
    """What JSON holds of a clip or a part of it: no key that has its default."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(item):
        value = getattr(item, f.name)
        if value == f.default:
            continue
        if f.name == "intervals":
            value = [to_values(interval) for interval in value]
        elif isinstance(value, Source):
            value = to_values(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        values[f.name] = value
    return values


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank."""
    try:
        with file.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                if text.strip():
                    yield number, text
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _parsed(text: bytes) -> tuple[Any, list[Finding]]:
    """The JSON value of a line, or why it is none."""
    try:
        values = json.loads(text)
        # Half of an escaped pair, such as "\\ud83d", is read, but can be written nowhere.
        json.dumps(values, ensure_ascii=False).encode()
        return values, []
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        return None, [("", f"is not JSON in UTF-8 ({reason}); write one object a line")]


def _rules(clip: Clip) -> Iterator[Finding]:
    """What well-typed values of a clip must hold besides."""
    longest = LONGEST_ID + (LONGEST_START if clip.source else 0)
    if not ID.fullmatch(clip.id) or len(clip.id.encode()) > longest:
        yield (
            "id",
            f"is {clip.id!r}; use letters, digits, '_', '-' and '.', {longest} bytes at most",
        )
    if not clip.video:
        yield "video", "is empty; name the file with the picture"
    for field, value in (("fps", clip.fps), ("frames", clip.frames)):
        if not value > 0:
            yield field, f"is {value}; it must be above 0"
    if not clip.fps > 0:
        return
    seconds = clip.frames / clip.fps
    if not abs(clip.sync_offset) < seconds:
        yield "sync_offset", f"is {clip.sync_offset:g} s, of a clip of {seconds:g} s; give seconds"
    free = 0.0
    for index, interval in enumerate(clip.intervals):
        field = f"intervals[{index}]"
        if interval.state and interval.state not in STATES:
            known = ", ".join(STATES)
            yield f"{field}.state", f"is {interval.state!r}; give one of {known}, or leave it empty"
        if interval.start < free:
            mend = f"it must be {free:g} or more, where the one before ends"
            yield f"{field}.start", f"is {interval.start:g}; {mend}"
        if not interval.end > interval.start:
            yield f"{field}.end", f"is {interval.end:g}; it must be after start, {interval.start:g}"
        # Half a frame is what rounding to milliseconds or to frames may add.
        if interval.end > seconds + 0.5 / clip.fps:
            mend = f"the clip ends at {seconds:g} (frames / fps)"
            yield f"{field}.end", f"is {interval.end:g}; {mend}"
        free = interval.end
