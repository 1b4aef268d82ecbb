"""The paper's parts, one left out at a time: each row is a run of the project's own scripts.

Rows that only stream use the weights of a whole demo. Rows that train share a beginning, a number
of steps and a baseline.
"""

import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from flowact.data.claim import MADE_BY, claim
from flowact.evaluation.statistics import interval
from flowact.geometry import Geometry
from flowact.settings import StreamSettings
from flowact.subruns import SCRIPTS, run_script

TEACHER = ("stream.micro_steps=4", "stream.guidance=2")
SHIPPED = "shipped"  # instead of a stage's name
FREE = ("row", "output", "launch")  # what a row may be gone on with changed
SEED = 920_000  # of the actors that are streamed
METRICS = (
    "lip_sync_r",
    "action_accuracy",
    "identity_top1",
    "drift_colour",
    "drift_identity",
    "seam_change",
)


@dataclass(kw_only=True)
class AblateConfig:
    """One row of the ablations, or all of them.

    Attributes:
        row: its name, or all, or none, which makes the table of those that are done; or stream,
            all that train nothing.
        demo: what scripts/train_demo.sh wrote.
        output: a folder for the runs and the table; what is done in it is not done again.
        shipped: the stage whose weights are streamed without one part or another.
        steps: of rows that train, in place of stage 2's; distilled ones take as many.
        clips, seconds, seed: of the actors that are streamed.
        launch: a file of configs/accelerate, for training.
    """

    demo: str
    output: str
    row: str = "all"
    shipped: str = "stage3c"
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


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        says: what it is.
        weights: of the demo, which are streamed, or trained on.
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


def _without(part: str) -> tuple[str, ...]:
    kept = [p for p in ("reference", "long_term", "short_term") if p != part]
    return (f"stream.memory=[{','.join(kept)}]",)


# On weights that have remembered nothing generated yet; what they remember was made by stage 2a's.
_STAGE2 = Row("stage 2", "stage1a", TEACHER, "audio_motion")
_DMD = Row("distribution matching", "stage3b", (), "dmd")
ROWS = {
    "teacher": Row("teacher", "stage2", TEACHER),
    "guidance": Row("after guidance distillation", "stage3a"),
    "steps": Row("after step distillation", "stage3b"),
    "dmd": Row("after distribution matching", "stage3c"),
    "refinement": Row("memory refined every 8 chunks", SHIPPED, ("stream.refine_every=8",)),
    "without_reference": Row("without the reference", SHIPPED, _without("reference")),
    "without_long_term": Row("without long-term memory", SHIPPED, _without("long_term")),
    "without_short_term": Row("without the short-term latent", SHIPPED, _without("short_term")),
    "reference_alone": Row("the reference alone", SHIPPED, ("stream.memory=[reference]",)),
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
    """Do the rows that are asked for; the table, in Markdown, of all that are done.

    Raises:
        ValueError: the demo lacks weights, or a script has ended with an error.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, row in ROWS.items():
        if config.row in ("all", name) or (config.row == "stream" and row.experiment is None):
            _do(name, row, config)
    text = table(output)
    (output / "table.md").write_text(text)
    return text


def table(output: Path) -> str:
    """Of the rows that are done in ``output``, with 95 % intervals."""
    names = " | ".join(f"`{name}`" for name in METRICS)
    lines = [f"| | trained for it | calls a chunk | {names} |", "|---" * (3 + len(METRICS)) + "|"]
    for name, row in ROWS.items():
        path = output / name / "scores.json"
        if path.is_file():
            report = json.loads(path.read_text())
            told = json.loads((output / name / MADE_BY).read_text())
            trained = f"{told['steps']} steps" if row.experiment else ""
            cells = [interval(report["scores"].get(metric)) for metric in METRICS]
            lines.append(f"| {row.says} | {trained} | {_calls(report)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _calls(report: dict[str, Any]) -> int:
    """In all of a chunk's life."""
    known = {f.name for f in fields(StreamSettings)} - {"update", "memory"}
    stream = report["made_by"]["streamed"]["stream"]
    settings = StreamSettings(**{name: stream[name] for name in known})
    return Geometry().depth * settings.micro_steps * settings.passes


def _do(name: str, row: Row, config: AblateConfig) -> None:
    """Train if it has to, and stream; what is done already is not done again."""
    folder, demo = Path(config.output) / name, Path(config.demo)
    scores = folder / "scores.json"
    told = {name: value for name, value in asdict(config).items() if name not in FREE}
    claim(folder, told)
    if scores.is_file():
        return
    stage = config.shipped if row.weights == SHIPPED else row.weights
    weights = demo / f"{stage}.weights"
    if not weights.is_dir():
        raise ValueError(f"demo={demo}: has no {weights.name}; run scripts/train_demo.sh")
    if row.experiment is not None:
        weights = _trained(folder, weights, row, config)
    words = [f"weights={weights}", "suite=actors", "columns=[model]", f"output={scores}"]
    words += [f"clips={config.clips}", f"seconds={config.seconds}", f"seed={config.seed}"]
    run_script("evaluate.py", [*words, *row.stream])


def _trained(folder: Path, start: Path, row: Row, config: AblateConfig) -> Path:
    """Weights that ``row`` has trained from those of ``start``."""
    made = folder / "weights"
    if made.is_dir():
        return made
    if row.attention != "fake_causal":
        start = _with_attention(start, folder / "start", row.attention)
    assert row.experiment is not None
    data = ",".join(str(path) for path in sorted(Path(config.demo).glob("data-*")))
    words = [f"experiment={row.experiment}", f"output={folder / 'run'}", f"weights={start}"]
    words += [f"{row.experiment}.folders=[{data}]", "log.preview_every=null", *row.train]
    words += [f"steps={config.steps}", f"optimiser.decay_steps={config.steps}"]
    words += [f"optimiser.warmup_steps={config.steps // 10}"]
    if row.experiment == "dmd":
        words += [f"dmd.teacher={Path(config.demo) / 'stage3a.weights'}"]
        words += [f"dmd.alone={config.steps // 10}"]
    launch = SCRIPTS.parent / "configs" / "accelerate" / f"{config.launch}.yaml"
    launcher = ("-m", "accelerate.commands.launch", "--config_file", str(launch))
    run_script("train.py", words, *launcher)
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
