"""Scores over settings of the stream: every combination is a run of scripts/evaluate.py."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flowact.data.claim import claim
from flowact.evaluation.statistics import Estimate, interval
from flowact.runs import StreamOverrides
from flowact.subruns import run_script

FREE = ("output", "over")  # what a sweep may be gone on with changed
METRICS = (
    "lip_sync_r",
    "action_accuracy",
    "identity_top1",
    "drift_colour",
    "drift_identity",
    "drift_sharpness",
)

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
    """

    weights: str
    over: tuple[str, ...]
    output: str
    clips: int = 6
    seconds: float = 20.0
    seed: int = 920_000

    def __post_init__(self) -> None:
        known = {f.name for f in fields(StreamOverrides)} - {"memory"}  # whose values are lists
        if not self.over:
            raise ValueError("over is empty; give it settings, as in over=[audio_lag=0,1,2]")
        for word in self.over:
            name, _, values = word.partition("=")
            if name not in known or not all(values.split(",")):
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
        ValueError: the output's folder is of another sweep, or a run has ended with an error.
    """
    output = Path(config.output)
    claim(output, {name: v for name, v in asdict(config).items() if name not in FREE})
    reports = {point: _report(point, config) for point in config.points}
    text = table(config.names, reports)
    (output / "table.md").write_text(text)
    draw(config.names, reports, output / "sweep.png")
    return text


def _report(point: Point, config: SweepConfig) -> dict[str, Any]:
    settings = [f"{name}={value}" for name, value in zip(config.names, point, strict=True)]
    scores = Path(config.output) / f"{' '.join(settings)}.json"
    if not scores.is_file():
        words = [f"weights={config.weights}", "suite=actors", "columns=[model]"]
        words += [f"clips={config.clips}", f"seconds={config.seconds}", f"seed={config.seed}"]
        words += [f"output={scores}", *(f"stream.{setting}" for setting in settings)]
        run_script("evaluate.py", words)
    report: dict[str, Any] = json.loads(scores.read_text())
    return report


def _score(report: dict[str, Any], metric: str) -> Estimate | None:
    """Of the last minute, where there is more than one; None where it is not defined."""
    of_minutes = report["last_minute_and_first"].get(metric)
    found: Estimate | None = of_minutes["last"] if of_minutes else report["scores"].get(metric)
    return found


def table(names: Sequence[str], reports: dict[Point, dict[str, Any]]) -> str:
    """A line for each point, with 95 % intervals."""
    heads = [f"`{name}`" for name in (*names, *METRICS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for point, report in reports.items():
        cells = [*point, *(interval(_score(report, metric)) for metric in METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(names: Sequence[str], reports: dict[Point, dict[str, Any]], output: Path) -> None:
    """A panel for each metric: along the first setting, a line for each value of the others."""
    from matplotlib.figure import Figure  # takes a while; every command imports this file

    figure = Figure((10, 7), layout="constrained")
    along = list(dict.fromkeys(point[0] for point in reports))
    for axes, metric in zip(figure.subplots(2, 3).flat, METRICS, strict=True):
        for others in dict.fromkeys(point[1:] for point in reports):
            scores = [_score(reports[first, *others], metric) for first in along]
            shown = [(x, s) for x, s in enumerate(scores) if s is not None]
            axes.errorbar(
                [x for x, _ in shown],
                [s["mean"] for _, s in shown],
                [
                    [s["mean"] - s["low"] for _, s in shown],
                    [s["high"] - s["mean"] for _, s in shown],
                ],
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
