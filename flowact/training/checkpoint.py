"""Checkpoints of a run: whole or not there, exact, and strict about what goes on from them.

A checkpoint is a folder ``step-0001000`` with the files of torch's distributed checkpoint, which
any number of processes may load, and ``meta.json``. It is written aside and renamed.
"""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

import flowact
from flowact.training.contents import check_contents, contents, of_models
from flowact.training.roles import frozen_names
from flowact.training.settings import CheckpointsConfig

FORMAT = 2
META = "meta.json"
# What a run may go on with changed: none of it changes what is computed, but for rounding. Previews
# may too, of whatever stage.
MAY_CHANGE = ("output", "steps", "workers", "strategy", "checkpoints", "log")


def described(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON holds it."""
    plain = dataclasses.asdict(config)
    return json.loads(json.dumps(plain, default=lambda v: v.name if isinstance(v, Enum) else v))


def leaves(tree: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    """The values of ``described``, by KEY.KEY."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{key}{name}.")
        else:
            yield f"{key}{name}", value


class Checkpoints:
    """The checkpoints of a run; every process of it calls every method.

    Args:
        folder: that they are in.
        accelerator: of the run.
        config: how many are kept.
        run: the resolved config of the run, as plain values.
    """

    def __init__(
        self, folder: Path, accelerator: Accelerator, config: CheckpointsConfig, run: dict[str, Any]
    ) -> None:
        self.folder = folder
        self._accelerator = accelerator
        self._config = config
        self._run = run
        # Read by one process, so that all come to one verdict.
        mine = [contents(run) if accelerator.is_main_process else None]
        self._contents: dict[str, str] = broadcast_object_list(mine)[0]

    def latest(self) -> Path | None:
        """The one of most steps."""
        found = _finished(self.folder)
        return found[-1] if found else None

    def save(self, step: int, samples: int, state: dict[str, Any]) -> Path:
        """Write ``state`` after ``step`` steps; then remove what is not kept.

        Raises:
            ValueError: it cannot be written; all earlier ones are as they were.
        """
        path = self.folder / f"step-{step:07d}"
        aside = path.with_suffix(".aside")
        if self._accelerator.is_main_process:
            for left in self.folder.glob("*.aside"):
                shutil.rmtree(left)
            aside.mkdir(parents=True)
        self._accelerator.wait_for_everyone()
        try:
            with _quiet():
                save(state, checkpoint_id=aside)
        except CheckpointException as error:
            reason = next(iter(error.failures.values()))[0]
            raise ValueError(f"{path}: the checkpoint cannot be written: {reason}") from error
        hashes = self._hashes(aside)
        if self._accelerator.is_main_process:
            meta = {
                "format": FORMAT,
                "step": step,
                "samples_seen": samples,
                "config": self._run,
                "contents": self._contents,
                "source": _source(),
                "hashes": hashes,
            }
            (aside / META).write_text(json.dumps(meta, indent=2) + "\n")
            aside.rename(path)
            self._remove_old()
        self._accelerator.wait_for_everyone()
        return path

    def load(self, path: Path, state: dict[str, Any]) -> int:
        """Read ``path`` into ``state``, exactly; returns its steps.

        Raises:
            ValueError: it is damaged, of another format, made by another config or from other
                weights or data, or does not hold just what ``state`` does.
        """
        meta = _read_meta(path)
        _check_config(path, meta["config"], self._run)
        check_contents(meta["contents"], self._contents, str(path))
        damaged = sorted(
            name for name, found in self._hashes(path).items() if meta["hashes"].get(name) != found
        )
        if damaged:
            raise ValueError(
                f"{path / damaged[0]} is damaged; remove {path} to go on from the one before"
            )
        _load(path, state)
        return int(meta["step"])

    def _hashes(self, path: Path) -> dict[str, str]:
        """Of every file of a checkpoint, shared out among the processes."""
        names = sorted(file.name for file in path.iterdir() if file.name != META)
        rank, ranks = self._accelerator.process_index, self._accelerator.num_processes
        mine = {name: _hash(path / name) for name in names[rank::ranks]}
        parts: list[dict[str, str]] = gather_object([mine])
        return {name: digest for part in parts for name, digest in part.items()}

    def _remove_old(self) -> None:
        every = self._config.keep_every
        for path in _finished(self.folder)[: -self._config.keep]:
            if every is None or _step(path) % every:
                shutil.rmtree(path)


def find_checkpoint(run: Path, step: int | None) -> Path:
    """A checkpoint of the run in ``run``: of ``step``, or the latest.

    Raises:
        ValueError: there is none.
    """
    found = _finished(run / "checkpoints")
    if step is not None:
        found = [path for path in found if _step(path) == step]
    if not found:
        wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
        raise ValueError(f"run={run} has no {wanted}")
    return found[-1]


def run_config(path: Path) -> dict[str, Any]:
    """The resolved config of the run that wrote the checkpoint ``path``, as plain values.

    Raises:
        ValueError: ``path`` is no checkpoint of this format.
    """
    config: dict[str, Any] = _read_meta(path)["config"]
    return config


def check_beginning(path: Path, run: Mapping[str, Any]) -> None:
    """Whether the weights that the run ``run``, of the checkpoint ``path``, began with are as then.

    Raises:
        ValueError: they are not, or ``path`` is no checkpoint of this format.
    """
    check_contents(of_models(_read_meta(path)["contents"]), of_models(contents(run)), str(path))


def load_network(path: Path, role: str, network: nn.Module) -> None:
    """Weights of one role, such as "transformer_average", of a checkpoint into ``network``.

    Frozen parameters, which no checkpoint has, stay as they are.

    Raises:
        ValueError: there is no such checkpoint or role, or its weights do not fit ``network``.
    """
    _read_meta(path)
    frozen = frozen_names(network)
    state = {
        f"networks/{role}/{name}": value
        for name, value in network.state_dict().items()
        if name not in frozen
    }
    _load(path, state, f"networks/{role}/")


def _load(path: Path, state: dict[str, Any], prefix: str = "") -> None:
    held = FileSystemReader(path).read_metadata().state_dict_metadata
    inside = {name for name in held if name.startswith(prefix)}
    missing, unexpected = sorted(state.keys() - inside), sorted(inside - state.keys())
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit: it lacks {missing or 'nothing'} and has besides "
            f"{unexpected or 'nothing'}"
        )
    for name, value in state.items():
        size = getattr(held[name], "size", None)
        if size is not None and tuple(size) != tuple(value.shape):
            raise ValueError(f"{path}: {name} is {tuple(size)} there, {tuple(value.shape)} here")
    with _quiet():
        load(state, checkpoint_id=path)


def _finished(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*") if p.suffix != ".aside"), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((path / META).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint: {META} cannot be read: {error}") from error
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path} is of format {meta.get('format')}; this code reads {FORMAT}")
    return meta


def _check_config(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    was, is_now = dict(leaves(before)), dict(leaves(now))
    changed = [
        f"{key} was {was.get(key)!r}, is {is_now.get(key)!r}"
        for key in sorted(was.keys() | is_now.keys())
        if was.get(key) != is_now.get(key) and not _may_change(key)
    ]
    if changed:
        raise ValueError(
            f"{path} was made otherwise: {'; '.join(changed)}; give the old values, or another "
            "output"
        )


def _may_change(key: str) -> bool:
    first, *inner = key.split(".")
    return first in MAY_CHANGE or "preview" in inner


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _source() -> str:
    """The version of this code, and its git revision where it is a checkout."""
    folder = Path(flowact.__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return flowact.__version__
    return f"{flowact.__version__} {told}"


def _quiet() -> warnings.catch_warnings:
    """Torch warns of every save on one process that it is on one process."""
    return warnings.catch_warnings(action="ignore")
