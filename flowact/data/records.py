"""What has been preprocessed, on disk: by rank while it goes on, merged in the end.

Each rank appends to ``parts/RANK.jsonl``: a line for a clip once its tensors are on disk, and one
for a source video once all its clips are. A kill loses at most the line that it tears.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowact.data.manifest import Clip, from_values, to_values, write_manifest
from flowact.data.whole_file import whole_file

PARTS = "parts"
QUARANTINE = "quarantine.jsonl"
REPORT = "report.json"
SETTINGS = "preprocess.json"

Place = tuple[Path, int]
"""A file and the byte at which a line begins."""


class Records:
    """The records of all ranks as they were when this was made, and this rank's new ones.

    Args:
        output: the folder of the dataset.
        rank: of this process; only its file is written.
    """

    def __init__(self, output: Path, rank: int) -> None:
        self._output = output
        folder = output / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / f"{rank:05d}.jsonl"
        _drop_torn_line(own)
        self._clips, self._finished = _read_parts(folder)
        self._file = own.open("a", encoding="utf-8")

    def clips(self, source: str) -> dict[str, Clip]:
        """The recorded clips of a source, by id."""
        places = self._clips.get(source, {})
        return {id: _clip_at(place) for id, place in places.items()}

    def finished(self, source: str) -> bool:
        """Whether all clips of a source are recorded; what was set aside is to be tried again."""
        place = self._finished.get(source)
        return place is not None and _line(place)["reason"] is None

    def changed(self, source: Clip) -> bool:
        """Whether the line of a source that is done with was another."""
        place = self._finished.get(source.id)
        return place is not None and _line(place)["line"] != to_values(source)

    def add_clip(self, source: str, clip: Clip) -> None:
        self._append({"of": source, "clip": to_values(clip)})

    def finish(self, source: Clip, seconds: float, reason: str | None) -> None:
        """Record that a source is done with; ``reason`` says why it was set aside."""
        line = to_values(source)
        self._append({"source": source.id, "line": line, "seconds": seconds, "reason": reason})

    def close(self) -> None:
        self._file.close()

    def _append(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def merge(output: Path, sources: Sequence[str], problems: Sequence[Mapping[str, Any]]) -> bool:
    """Write manifest, quarantine and report if all sources are done with, by whichever rank.

    The order is that of ``sources``, so that the number of ranks makes no difference.

    Args:
        problems: of lines that are no clips, to be set aside too.

    Returns:
        Whether they were written.
    """
    clips, finished = _read_parts(output / PARTS)
    if not all(source in finished for source in sources):
        return False
    ends = [_line(finished[source]) for source in sources]
    usable = [end["source"] for end in ends if end["reason"] is None]

    def lines() -> Iterator[Clip]:
        for source in usable:
            for _, place in sorted(clips.get(source, {}).items()):
                yield _clip_at(place)

    write_manifest(output, lines())
    aside = [
        {"id": end["source"], "video": end["line"]["video"], "reason": end["reason"]}
        for end in ends
        if end["reason"] is not None
    ]
    with whole_file(output / QUARANTINE) as file:
        for entry in [*problems, *aside]:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    report = {
        "sources": len(sources),
        "source_seconds": round(sum(end["seconds"] for end in ends), 3),
        **_totals(lines()),
        "set_aside": len(aside) + len(problems),
        "ranks": {path.stem: json.loads(path.read_text()) for path in _rank_reports(output)},
    }
    _write_json(output / REPORT, report)
    return True


def write_rank_report(output: Path, rank: int, values: Mapping[str, Any]) -> None:
    """What a rank has to tell of its run, for the report."""
    _write_json(output / PARTS / f"{rank:05d}.json", values)


def check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings that clips depend on beside them.

    Raises:
        ValueError: the folder was made with others.
    """
    file = output / SETTINGS
    values = json.loads(json.dumps(settings))
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        _write_json(file, values)
        return
    try:
        theirs = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged; give output=... another folder") from error
    for key in values:
        if theirs.get(key) != values[key]:
            raise ValueError(
                f"output={output} was made with {key} {theirs.get(key)}, now it is {values[key]}; "
                "give another folder, or the same settings"
            )


def _totals(clips: Iterator[Clip]) -> dict[str, Any]:
    count: Counter[str] = Counter()
    for clip in clips:
        assert clip.source is not None
        count["clips"] += 1
        count["frames"] += clip.frames
        count["captioned"] += bool(clip.intervals)
    return {key: count[key] for key in ("clips", "frames", "captioned")}


def _rank_reports(output: Path) -> list[Path]:
    return sorted((output / PARTS).glob("*.json"))


def _read_parts(folder: Path) -> tuple[dict[str, dict[str, Place]], dict[str, Place]]:
    """Where the lines of clips, by source and id, and of finished sources are."""
    clips: dict[str, dict[str, Place]] = {}
    finished: dict[str, Place] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for offset, values in _whole_lines(path):
            if "clip" in values:
                clips.setdefault(values["of"], {})[values["clip"]["id"]] = path, offset
            elif values["reason"] is None or values["source"] not in finished:
                finished[values["source"]] = path, offset
    return clips, finished


def _whole_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines and where they begin; one that is being written is left out."""
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield offset, json.loads(line)
            offset += len(line)


def _line(place: Place) -> dict[str, Any]:
    path, offset = place
    with path.open("rb") as file:
        file.seek(offset)
        values: dict[str, Any] = json.loads(file.readline())
    return values


def _clip_at(place: Place) -> Clip:
    return from_values(_line(place)["clip"])


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        whole = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole[0]) + len(whole[1]))


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(values, indent=2) + "\n")
