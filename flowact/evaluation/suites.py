"""The suites: which videos are measured, by which metrics, and what is made of all of them."""

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flowact.data.manifest import MANIFEST, Clip, manifest_path, read_manifest
from flowact.data.scan import scan_folder
from flowact.evaluation.behaviour import chance, confusion
from flowact.evaluation.diversity import TRACKS, condition, diversity
from flowact.evaluation.metrics import ACTORS, ANY, CLASSES, Numbers, answers, numbers
from flowact.evaluation.minutes import Change, changes
from flowact.evaluation.mouth_region import Box
from flowact.evaluation.probe import Probe, load_probe
from flowact.evaluation.settings import EvaluateConfig, Mouth, Suite
from flowact.evaluation.statistics import Estimate, estimate
from flowact.evaluation.takes import ActorTake, Take, TakeLoader, file_hash
from flowact.geometry import Geometry

logger = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """All that was found.

    Attributes:
        scores: by metric, over all clips for which it is defined.
        chance: by kind of behaviour, the accuracies of not looking.
        confusion: by kind of behaviour, how often a class (column) was seen where another (row) was
            asked.
        clips: one row a video: its id, file and hash, and its numbers.
        left_out: by id, why a video was not measured.
        minutes: by metric, the last minute of long videos of actors beside their first.
        takes: what was measured, for plots.
    """

    scores: dict[str, Estimate] = field(default_factory=dict)
    chance: dict[str, Numbers] = field(default_factory=dict)
    confusion: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    clips: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    minutes: dict[str, Change] = field(default_factory=dict)
    takes: list[Take] = field(default_factory=list)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Measure the ``videos`` of ``config``.

    Raises:
        ValueError: a folder, manifest or probe cannot be read, or not one video can be measured.
    """
    suite = ActorSuite(config) if config.suite is Suite.actors else VideoSuite(config)
    assert config.videos is not None, "what a model makes is measured by evaluate_model"
    return measure(suite, Path(config.videos), config.seed)


def measure(suite: "ActorSuite | VideoSuite", videos: Path, seed: int) -> Evaluation:
    """Measure a file, or those of a folder, one after the other, under a progress bar.

    Raises:
        ValueError: there are none, or not one can be measured.
    """
    found = Evaluation()
    for name, path in tqdm(suite.find(videos).items(), videos.name, unit="video", disable=None):
        try:
            take = suite.load(name, path)
        except ValueError as error:
            found.left_out[name] = str(error)
            logger.warning("%s is left out: %s", name, error)
            continue
        row = {"id": name, "video": str(path), "sha256": file_hash(path)}
        found.clips.append(row | numbers(take, suite.metrics))
        found.takes.append(take)
    if not found.takes:
        raise ValueError(f"no video could be measured: {next(iter(found.left_out.values()))}")
    found.scores = scores(found.clips, seed)
    suite.conclude(found)
    return found


def scores(rows: Iterable[dict[str, Any]], seed: int) -> dict[str, Estimate]:
    """The estimate of each number over the rows that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                values[name].append(value)
    return {name: estimate(found, seed, name) for name, found in values.items()}


class VideoSuite:
    """Any videos; of their people nothing is known but the sound.

    Attributes:
        metrics: asked of each.
    """

    metrics = ANY

    def __init__(self, config: EvaluateConfig) -> None:
        probe = probe_of(config) if config.mouth is Mouth.probe else None
        box = Box(*config.mouth_box) if config.mouth_box else None
        self._loader = TakeLoader(Geometry(), probe, config.chunk_offset, box)

    def find(self, path: Path) -> dict[str, Path]:
        """The file, or those of the folder, by id."""
        return find_videos(path)

    def load(self, name: str, path: Path) -> Take:
        return self._loader.load(name, path)

    def conclude(self, found: Evaluation) -> None:
        """There is nothing that could be asked of all videos together."""


class ActorSuite:
    """Videos of actors, each beside the truth of the clip of the same id; as ``VideoSuite``."""

    metrics = ACTORS

    def __init__(self, config: EvaluateConfig) -> None:
        self._seed = config.seed
        truth = config.truth or config.videos
        assert truth is not None, "what a model makes is measured by evaluate_model"
        self._truth = Path(truth)
        if not manifest_path(self._truth).is_file():
            raise ValueError(
                f"{self._truth} has no {MANIFEST}; give truth=DIR, a folder made by "
                "scripts/make_actors.py, or suite=video"
            )
        self._clips = {clip.id: clip for clip in read_manifest(self._truth)}
        self._loader = TakeLoader(Geometry(), probe_of(config), config.chunk_offset)

    def find(self, path: Path) -> dict[str, Path]:
        """The file, or those of the folder, that belong to clips, by their ids."""
        return match_videos(path, self._clips)

    def load(self, name: str, path: Path) -> ActorTake:
        take = self._loader.load_actor(path, self._clips[name], self._truth)
        if take.sound_late is None and "speak" in {i.state for i in take.clip.intervals}:
            logger.warning("%s has no sound like the truth's; taken to be in step with it", name)
        return take

    def conclude(self, found: Evaluation) -> None:
        """What is asked of all together: confusions, the diversity of takes, and the minutes."""
        takes = [take for take in found.takes if isinstance(take, ActorTake)]
        for kind, classes in CLASSES.items():
            if given := [answer for take in takes for answer in answers(take, kind)]:
                found.confusion[kind] = confusion(given, len(classes))
                found.chance[kind] = chance(found.confusion[kind])
        found.scores |= scores(diversities(takes), self._seed)
        found.minutes = changes(takes, self._seed)


def diversities(takes: Iterable[ActorTake]) -> list[Numbers]:
    """One row for each condition of which there are several takes."""
    groups: dict[Hashable, list[ActorTake]] = defaultdict(list)
    for take in takes:
        groups[condition(take.clip)].append(take)
    rows = []
    for group in groups.values():
        if len(group) > 1:
            seen = [{name: getattr(take.reading, name) for name in TRACKS} for take in group]
            true = [
                {"wrists": take.wrists} | {n: getattr(take.tracks, n) for n in TRACKS[1:]}
                for take in group
            ]
            rows.append(diversity(seen, true))
    return rows


def probe_of(config: EvaluateConfig) -> Probe:
    return load_probe(config.probe) if config.probe else load_probe()


def find_videos(path: Path) -> dict[str, Path]:
    """A video file, or all videos under a folder, by id.

    Raises:
        ValueError: there is none.
    """
    if path.is_file():
        return {path.stem: path}
    return {clip.id: path / clip.video for clip in scan_folder(path)}


def match_videos(path: Path, clips: dict[str, Clip]) -> dict[str, Path]:
    """The videos of a folder that belong to clips: FOLDER/ID.mp4, or where the manifest has it.

    Instead of a folder, one file named by its clip's id will do.

    Raises:
        ValueError: there is none.
    """
    if path.is_file() and path.stem in clips:
        return {path.stem: path}
    found: dict[str, Path] = {}
    for name, clip in clips.items():
        places = (path / f"{name}.mp4", path / clip.video)
        if file := next((place for place in places if place.is_file()), None):
            found[name] = file
    if not found:
        example = f"{next(iter(clips), 'ID')}.mp4"
        raise ValueError(f"{path} holds no video of a clip; name them by ids, such as {example}")
    if missing := len(clips) - len(found):
        logger.warning("%s: %d of %d clips have no video", path, missing, len(clips))
    return found
