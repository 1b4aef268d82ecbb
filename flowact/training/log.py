"""What a run tells: a line of JSON every so many steps, trackers, and a progress bar."""

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from flowact.training.checkpoint import leaves
from flowact.training.settings import LogConfig, LoopConfig

FILE = "log.jsonl"


def check_trackers(config: LogConfig) -> None:
    """Raise ValueError if a tracker is not installed: accelerate would leave it out in silence."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for tracker in config.trackers:
        if tracker not in available:
            raise ValueError(f"log.trackers has {tracker}; install it, or leave it out")


class Log:
    """Gathers values on every process, tells them on the main one.

    Args:
        accelerator: of the run, made with ``config.log.trackers``.
        config: of the run.
        described: the config as plain values, for the trackers.
        step: at which the run begins; lines of later steps, by a run that was killed, go.
    """

    def __init__(
        self, accelerator: Accelerator, config: LoopConfig, described: dict[str, Any], step: int
    ) -> None:
        self._accelerator = accelerator
        self._config = config
        self._path = Path(config.output) / FILE
        self._values: defaultdict[str, list[Tensor | float]] = defaultdict(list)
        self._waited = 0.0
        self._since = time.perf_counter()
        self._samples_told = step * config.global_batch
        if accelerator.is_main_process:
            _drop_lines_after(self._path, step)
        if config.log.trackers:
            wandb = {"mode": config.log.wandb_mode, "dir": config.output}
            accelerator.init_trackers("flowact", _flat(described), {"wandb": wandb})
        self._bar = tqdm(
            total=config.steps * config.global_batch,
            initial=step * config.global_batch,
            unit="sample",
            # None shows it on a terminal alone.
            disable=None if accelerator.is_main_process else True,
        )

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        for tracker in self._accelerator.trackers:
            tracker.finish()

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Values of a micro-batch or a step; the line tells their mean."""
        for name, value in values.items():
            self._values[name].append(value.detach() if isinstance(value, Tensor) else value)

    def waited(self, seconds: float) -> None:
        """Data came so late."""
        self._waited += seconds

    def step(self, step: int) -> None:
        """``step`` steps are done; called on every process."""
        self._bar.update(self._config.global_batch)
        if step % self._config.log.every == 0 or step == self._config.steps:
            self._tell(step)

    def preview(self, step: int, numbers: Mapping[str, float]) -> None:
        """What the preview after ``step`` measured."""
        self._write(step, {f"preview.{name}": value for name, value in numbers.items()})

    def _tell(self, step: int) -> None:
        samples = step * self._config.global_batch
        elapsed = time.perf_counter() - self._since
        sums = {name: (float(sum(v)), len(v)) for name, v in self._values.items()}
        everyone: list[dict[str, tuple[float, int]]] = gather_object([sums])
        names = sorted({name for one in everyone for name in one})
        line: dict[str, float] = {"samples": samples}
        for name in names:
            told = [one[name] for one in everyone if name in one]
            line[name] = sum(total for total, _ in told) / sum(count for _, count in told)
        line["samples_per_second"] = (samples - self._samples_told) / elapsed
        line["waiting_for_data"] = self._waited / elapsed
        self._values.clear()
        self._waited, self._since, self._samples_told = 0.0, time.perf_counter(), samples
        self._write(step, line)

    def _write(self, step: int, line: Mapping[str, float]) -> None:
        if self._accelerator.is_main_process:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **line}) + "\n")
        if self._config.log.trackers:
            self._accelerator.log(dict(line), step=step)


def _flat(described: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The config as tensorboard takes it: one level of numbers and texts."""
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in leaves(described)
    }


def _drop_lines_after(path: Path, step: int) -> None:
    """Keep the lines up to ``step``; what a kill left unfinished goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except json.JSONDecodeError:
            break
        kept.append(line + "\n")
    aside = path.with_suffix(".aside")
    aside.write_text("".join(kept))
    os.replace(aside, path)
