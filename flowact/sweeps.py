"""Scores over settings of the stream: every combination is a run of scripts/evaluate.py."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flowact.ablations import METRICS, SEED, check_scores, whiskers
from flowact.data.claim import claim
from flowact.evaluation.statistics import Estimate, interval
from flowact.index import pipeline_hash, read_index
from flowact.runs import StreamOverrides
from flowact.subruns import run_script

FREE = ("output", "over", "launch")  # what a sweep may be gone on with changed

Point = tuple[str, ...]


@dataclass(kw_only=True)
class SweepConfig:
    """Some settings of the stream, each with its values; all others are the model's own.

    Attributes:
        weights: a folder saved by ``FlowActPipeline``.
        over: ["refine_every=0,4,8", "refine_level=0.1,0.3"]: the first is along the plots' axis,
            and each combination of the others a line.
        output: a folder for the scores, the table and the plot; what is done is not done again.
        clips, seconds, seed: of the actors that are streamed, the same for all. From two minutes
            on it is the last one's scores that are told.
        launch: a file of configs/accelerate, whose processes share the actors out; None is one.
        device: as in scripts/evaluate.py.
    """

    weights: str
    over: tuple[str, ...]
    output: str
    clips: int = 6
    seconds: float = 20.0
    seed: int = SEED
    launch: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        known = {f.name for f in fields(StreamOverrides)} - {"memory"}  # whose values are lists
        if self.clips < 1:
            raise ValueError(f"clips is {self.clips}; it must be 1 or more")
        if not self.seconds >= 1:
            raise ValueError(f"seconds is {self.seconds}; it must be 1 or more")
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                f"over names a setting twice: {', '.join(self.names)}; join its values"
            )
        if not self.over:
            raise ValueError("over is empty; give it settings, as in over=[audio_lag=0,1,2]")
        for word in self.over:
            name, _, values = word.partition("=")
            if name not in known or not all(map(_is_number, values.split(","))):
                names = ", ".join(sorted(known))
                raise ValueError(f"over has {word!r}; give NAME=VALUE,VALUE with one of {names}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(word.partition("=")[0] for word in self.over)

    @property
    def points(self) -> list[Point]:
        """All combinations of values, the first setting's changing last."""
        values = [word.partition("=")[2].split(",") for word in self.over]
        return list(itertools.product(*values))


def sweep(config: SweepConfig) -> str:
    """Do all points; the table, in Markdown, which is written beside the plot.

    Raises:
        ValueError: there are no such weights, a point is no setting of a stream, the output's
            folder is of another sweep or of other weights, or a run has ended with an error.
    """
    output, weights = Path(config.output), Path(config.weights)
    model, _ = read_index(weights)
    for point in config.points:
        values = (int(v) if v.isdigit() else float(v) for v in point)
        settings: Any = dict(zip(config.names, values, strict=True))
        StreamOverrides(**settings).over(model.stream)
    told = {name: v for name, v in asdict(config).items() if name not in FREE}
    claim(output, told | {"weights_are": pipeline_hash(weights)})
    reports = {point: _report(point, config) for point in config.points}
    text = table(config.names, reports)
    (output / "table.md").write_text(text)
    draw(config.names, reports, output / "sweep.png")
    return text


def _report(point: Point, config: SweepConfig) -> dict[str, Any]:
    settings = _telling(config.names, point)
    scores = Path(config.output) / f"{' '.join(settings)}.json"
    if not scores.is_file():
        words = [f"weights={config.weights}", "suite=actors", "columns=[model]"]
        words += [f"clips={config.clips}", f"seconds={config.seconds}", f"seed={config.seed}"]
        words += [f"device={config.device}", f"output={scores}"]
        words += [*(f"stream.{setting}" for setting in settings)]
        run_script("evaluate.py", words, config.launch)
        check_scores(scores)
    report: dict[str, Any] = json.loads(scores.read_text())
    return report


def _telling(names: Sequence[str], point: Point) -> list[str]:
    """The ``NAME=VALUE`` that make a stream: one that repairs nothing has no level for it."""
    values = dict(zip(names, point, strict=True))
    if values.get("refine_every") == "0":
        values.pop("refine_level", None)
    return [f"{name}={value}" for name, value in values.items()]


def _score(report: dict[str, Any], metric: str) -> Estimate | None:
    """Of the last minute, where there are two or more; None where it is not defined."""
    found: Estimate | None = report["scores"].get(metric)
    if minutes := report["last_minute_and_first"]:
        found = minutes[metric]["last"] if metric in minutes else None
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _heading(reports: dict[Point, dict[str, Any]]) -> str:
    minutes = any(report["last_minute_and_first"] for report in reports.values())
    return "Scores of the last minute" if minutes else "Scores of the whole videos"


def table(names: Sequence[str], reports: dict[Point, dict[str, Any]]) -> str:
    """A line for each point, with 95 % intervals."""
    heads = [f"`{name}`" for name in (*names, *METRICS)]
    lines = [_heading(reports), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for point, report in reports.items():
        cells = [*point, *(interval(_score(report, metric)) for metric in METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(names: Sequence[str], reports: dict[Point, dict[str, Any]], output: Path) -> None:
    """A panel for each metric: along the first setting, a line for each value of the others."""
    from matplotlib.figure import Figure  # takes a while; every command imports this file

    figure = Figure((10, 7), layout="constrained")
    figure.suptitle(_heading(reports))
    along = list(dict.fromkeys(point[0] for point in reports))
    for axes, metric in zip(figure.subplots(2, 3).flat, METRICS, strict=False):
        for others in dict.fromkeys(point[1:] for point in reports):
            scores = [_score(reports[first, *others], metric) for first in along]
            shown = [(x, s) for x, s in enumerate(scores) if s is not None]
            axes.errorbar(
                [x for x, _ in shown],
                [s["mean"] for _, s in shown],
                whiskers(s for _, s in shown),
                marker="o",
                capsize=3,
                label=" ".join(f"{n}={v}" for n, v in zip(names[1:], others, strict=True)),
            )
        axes.set_title(metric)
        axes.set_xticks(range(len(along)), along)
        axes.set_xlabel(names[0])
    if len(names) > 1:
        axes.legend()
    figure.savefig(output, dpi=110)
