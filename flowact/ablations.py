"""The paper's parts, one left out at a time: each row is a run of the project's own scripts.

Rows that only stream are of a whole demo's stages, or of weights without one part or another. Rows
that train go on from a stage, and tell for how long; each is to be read beside its baseline.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from flowact.data.claim import MADE_BY, claim
from flowact.evaluation.statistics import Estimate, interval
from flowact.geometry import Geometry
from flowact.index import DEMO, pipeline_hash
from flowact.settings import StreamSettings
from flowact.subruns import run_script

TEACHER = ("stream.micro_steps=4", "stream.guidance=2")
SHIPPED, BEGUN = "shipped", "begun"  # instead of a stage's name: what the run names
SEED = 920_000  # of the actors that are streamed
METRICS = (
    "lip_sync_r",
    "action_accuracy",
    "identity_top1",
    "drift_colour",
    "drift_identity",
    "seam_change",
)

# By what a row is, how it was trained and its evaluations of a chunk: its scores.
Done = dict[tuple[str, str, str], dict[str, Estimate]]


@dataclass(kw_only=True)
class AblateConfig:
    """One row of the ablations, or all of them.

    Attributes:
        output: a folder for the runs, the table and its plot; what is done is not done again.
        row: its name, or all, or none, which makes the table of those that are done; or stream,
            all that train nothing: without a demo those of the shipped weights.
        demo: what scripts/train_demo.sh wrote, for rows of its stages.
        data: folders that it was trained on; none is its own data-*.
        shipped: a folder of weights, which are streamed without one part or another.
        begun: the stage whose weights rows of stage 2 train on; stage2a of a demo that itself went
            on from trained weights.
        steps: of rows that train, in place of stage 2's; distilled ones take as many.
        clips, seconds, seed: of the actors that are streamed, the same in all rows.
        launch: a file of configs/accelerate, for training and streaming.
    """

    output: str
    row: str = "all"
    demo: str | None = None
    data: tuple[str, ...] = ()
    shipped: str = str(DEMO)
    begun: str = "stage1a"
    steps: int = 500
    clips: int = 20
    seconds: float = 20.0
    seed: int = SEED
    launch: str = "cpu1"

    def __post_init__(self) -> None:
        if self.row not in ("all", "stream", "none", *ROWS):
            rows = ", ".join(ROWS)
            raise ValueError(f"row is {self.row}; choose all, stream, none, or among {rows}")
        for name in ("steps", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.seconds >= 1:
            raise ValueError(f"seconds is {self.seconds}; it must be 1 or more")
        if self.demo is None and any(row.weights != SHIPPED for row in self.rows.values()):
            raise ValueError(
                f"demo is missing, and row={self.row} is of its stages; give demo=DIR, or "
                "row=stream for those of the shipped weights"
            )

    @property
    def rows(self) -> dict[str, "Row"]:
        """Those that are asked for."""

        def asked(name: str, row: Row) -> bool:
            if self.row == "stream":
                return row.experiment is None and (self.demo is not None or row.weights == SHIPPED)
            return self.row in ("all", name)

        return {name: row for name, row in ROWS.items() if asked(name, row)}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        says: what it is.
        weights: which are streamed, or trained on: a stage of the demo, or what the run names.
        stream: words for scripts/evaluate.py.
        experiment: that it trains; None only streams.
        train: words for it.
        attention: of the backbone.
    """

    says: str
    weights: str
    stream: tuple[str, ...] = ()
    experiment: str | None = None
    train: tuple[str, ...] = ()
    attention: str = "fake_causal"


def _without(*parts: str) -> tuple[str, ...]:
    """Of memory, whatever the weights are streamed with."""
    kept = [p for p in ("reference", "long_term", "short_term") if p not in parts]
    return (f"stream.memory=[{','.join(kept)}]",)


# On weights that have remembered nothing generated yet, if they are stage 1a's; what they remember
# was made by stage 2a's.
_STAGE2 = Row("stage 2", BEGUN, TEACHER, "audio_motion")
_DMD = Row("distribution matching", "stage3b", (), "dmd")
ROWS = {
    "teacher": Row("teacher", "stage2", TEACHER),
    "guidance": Row("after guidance distillation", "stage3a"),
    "steps": Row("after step distillation", "stage3b"),
    "dmd": Row("after distribution matching", "stage3c"),
    "shipped": Row("shipped, all parts", SHIPPED, _without()),
    "refinement": Row(
        "memory refined every 8 chunks", SHIPPED, (*_without(), "stream.refine_every=8")
    ),
    "without_reference": Row("without the reference", SHIPPED, _without("reference")),
    "without_long_term": Row("without long-term memory", SHIPPED, _without("long_term")),
    "without_short_term": Row("without the short-term latent", SHIPPED, _without("short_term")),
    "reference_alone": Row("the reference alone", SHIPPED, _without("long_term", "short_term")),
    "baseline": replace(
        _STAGE2,
        says="stage 2 in few steps",
        train=("audio_motion.generated_memory=0.5",),
    ),
    "true_memory": replace(
        _STAGE2,
        says="the same without generated memory",
        train=("audio_motion.generated_memory=0",),
    ),
    "full_attention": replace(
        _STAGE2,
        says="the same, going on under full attention",
        train=("audio_motion.generated_memory=0.5",),
        attention="full",
    ),
    "rollouts": replace(_DMD, says="distribution matching in few steps"),
    "no_rollouts": replace(_DMD, says="the same on the clips' own memory", train=("dmd.ticks=1",)),
}


def ablate(config: AblateConfig) -> str:
    """Do the rows that are asked for; the table of all that are done, in Markdown, which is written
    beside its plot.

    Raises:
        ValueError: there are no such weights or data, the output's folder or a row in it was made
            otherwise, or a script has ended with an error.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    if config.rows:
        claim(output, {name: getattr(config, name) for name in ("clips", "seconds", "seed")})
    for name, row in config.rows.items():
        _do(output / name, row, config)
    done = _done(output)
    text = table(done)
    (output / "table.md").write_text(text)
    draw(done, output / "ablations.png")
    return text


def _done(output: Path) -> Done:
    """The rows that are done in ``output``."""
    done: Done = {}
    for name, row in ROWS.items():
        path = output / name / "scores.json"
        if path.is_file():
            report = json.loads(path.read_text())
            told = json.loads((output / name / MADE_BY).read_text())
            trained = f"{told['steps']} steps on {told['begun']}" if row.experiment else ""
            done[row.says, trained, str(_nfe(report))] = report["scores"]
    return done


def _nfe(report: dict[str, Any]) -> int:
    """Network evaluations of a chunk, in all of its life in a queue of the paper's depth."""
    known = {f.name for f in fields(StreamSettings)} - {"update", "memory"}
    stream = report["made_by"]["streamed"]["stream"]
    settings = StreamSettings(**{name: stream[name] for name in known})
    return Geometry().depth * settings.micro_steps * settings.passes


def table(done: Done) -> str:
    """A line for each row, with 95 % intervals."""
    heads = ["", "trained for it", "`nfe`", *(f"`{metric}`" for metric in METRICS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row, scores in done.items():
        cells = [*row, *(interval(scores.get(metric)) for metric in METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(done: Done, output: Path) -> None:
    """A panel for each metric: a bar for each row, with its interval."""
    from matplotlib.figure import Figure  # takes a while; every command imports this file

    figure = Figure((13, 2 + 0.5 * len(done)), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True)
    for axes, metric in zip(panels.flat, METRICS, strict=True):
        shown = {n: s[metric] for n, s in enumerate(done.values()) if metric in s}
        means = [score["mean"] for score in shown.values()]
        axes.barh(list(shown), means, xerr=whiskers(shown.values()), capsize=3, alpha=0.6)
        axes.set_title(metric)
        axes.set_yticks(
            range(len(done)), [f"{says}\n{trained}".strip() for says, trained, _ in done]
        )
    axes.invert_yaxis()  # of all, which share it: in the order of the table
    figure.savefig(output, dpi=110)


def whiskers(scores: Iterable[Estimate]) -> list[list[float]]:
    """How far intervals reach below and above their means, as plots take it."""
    reach = [(score["mean"] - score["low"], score["high"] - score["mean"]) for score in scores]
    return [[below for below, _ in reach], [above for _, above in reach]]


def _do(folder: Path, row: Row, config: AblateConfig) -> None:
    """Train if it has to, and stream; what is done already is not done again."""
    scores, weights = folder / "scores.json", _weights(row, config)
    told: dict[str, Any] = {"weights_are": pipeline_hash(weights)}
    if row.experiment is not None:
        told |= {"begun": weights.stem, "steps": config.steps, "data": _data(config)}
    claim(folder, told)
    if scores.is_file():
        return
    if row.experiment is not None:
        weights = _trained(folder, weights, row, config)
    words = [f"weights={weights}", "suite=actors", "columns=[model]", f"output={scores}"]
    words += [f"clips={config.clips}", f"seconds={config.seconds}", f"seed={config.seed}"]
    run_script("evaluate.py", [*words, *row.stream], config.launch)
    check_scores(scores)


def check_scores(scores: Path) -> None:
    """Whether a run of scripts/evaluate.py that ended well has left its scores.

    Raises:
        ValueError: it has not, as when one of its processes was lost.
    """
    if not scores.is_file():
        raise ValueError(
            f"{scores} was not written: not all was streamed; run the same words again"
        )


def _weights(row: Row, config: AblateConfig) -> Path:
    """Those that ``row`` streams, or trains on."""
    if row.weights == SHIPPED:
        weights = Path(config.shipped)
        if not weights.is_dir():
            raise ValueError(f"shipped={weights}: there is no such folder; give one of weights")
        return weights
    return _stage(config.begun if row.weights == BEGUN else row.weights, config)


def _stage(stage: str, config: AblateConfig) -> Path:
    """The weights of a stage of the demo."""
    weights = Path(config.demo or "") / f"{stage}.weights"
    if not weights.is_dir():
        raise ValueError(f"demo={config.demo}: has no {weights.name}; run scripts/train_demo.sh")
    return weights


def _data(config: AblateConfig) -> list[str]:
    """Folders that training rows see."""
    own = sorted(str(path) for path in Path(config.demo or "").glob("data-*"))
    folders = list(config.data) or own
    if not folders:
        raise ValueError(f"demo={config.demo}: has no data-*; give data=[DIR], what it was made of")
    return folders


def _trained(folder: Path, start: Path, row: Row, config: AblateConfig) -> Path:
    """Weights that ``row`` has trained from those of ``start``."""
    made = folder / "weights"
    if made.is_dir():
        return made
    if row.attention != "fake_causal":
        start = _with_attention(start, folder / "start", row.attention)
    assert row.experiment is not None
    words = [f"experiment={row.experiment}", f"output={folder / 'run'}", f"weights={start}"]
    words += [f"{row.experiment}.folders=[{','.join(_data(config))}]", *row.train]
    words += ["log.preview_every=null"]
    words += [f"steps={config.steps}", f"optimiser.decay_steps={config.steps}"]
    words += [f"optimiser.warmup_steps={config.steps // 10}"]
    if row.experiment == "dmd":
        words += [f"dmd.teacher={_stage('stage3a', config)}"]
        words += [f"dmd.alone={config.steps // 10}"]
    run_script("train.py", words, config.launch)
    aside = folder / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    run_script("export.py", [f"run={folder / 'run'}", f"output={aside}"])
    aside.rename(made)
    return made


def _with_attention(weights: Path, folder: Path, attention: str) -> Path:
    """The same weights under another attention, in ``folder``."""
    from flowact.pipeline import FlowActPipeline  # takes a while; every command imports this file

    if not folder.is_dir():
        pipeline = FlowActPipeline.from_pretrained(weights)
        pipeline.transformer.register_to_config(attention=attention)
        aside = folder.with_suffix(".aside")
        shutil.rmtree(aside, ignore_errors=True)
        pipeline.save_pretrained(aside)
        aside.rename(folder)
    return folder
