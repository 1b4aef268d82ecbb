"""The one training loop: it knows roles, steps and samples, and nothing of any stage."""

import fcntl
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowact.data.sampler import WindowSampler
from flowact.training import roles
from flowact.training.checkpoint import Checkpoints, described
from flowact.training.log import Log, check_trackers
from flowact.training.objective import Draws, Objective
from flowact.training.optimiser import learning_rate, make_optimisers
from flowact.training.settings import LoopConfig, TrainingPrecision
from flowact.training.signals import Stop, start_worker
from flowact.training.state import fill, restore, training_state

logger = logging.getLogger(__name__)

LOCK = ".lock"


class MicroBatch(NamedTuple):
    samples: tuple[int, ...]
    batch: Any


class Trainer:
    """A stage under way.

    Args:
        objective: the stage; its networks are moved, wrapped and averaged in their places.
        config: of the loop.

    Attributes:
        step: steps done.

    Raises:
        ValueError: the batch sizes do not divide each other, a tracker is not installed, the output
            holds a run that this one does not go on with, or another process trains there.
    """

    def __init__(self, objective: Objective[Any], config: LoopConfig) -> None:
        check_trackers(config.log)
        self.objective = objective
        self.config = config
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),  # left to itself, it knows of several on GPUs alone
            mixed_precision="no",  # ours is config.precision, and no one else's
            log_with=list(config.log.trackers) or None,
            project_dir=config.output,
        )
        self.device = self.accelerator.device
        Path(config.output).mkdir(parents=True, exist_ok=True)
        if self._any(self.accelerator.is_main_process and not _locked(Path(config.output) / LOCK)):
            raise ValueError(
                f"output={config.output}: another process is training there; wait until it has "
                "ended, or name another output"
            )
        ranks = self.accelerator.num_processes
        roles.prepare(objective, self.device, config.strategy, ranks)
        self._bf16 = config.precision is TrainingPrecision.bf16
        precision = torch.bfloat16 if self._bf16 else torch.float32
        self.optimisers = {
            role: make_optimisers(
                roles.unwrapped(objective.networks[role]), config.optimiser, precision
            )
            for role in objective.trained
        }
        fill(objective, self.optimisers)
        self._described = described(config)
        self.checkpoints = Checkpoints(
            Path(config.output) / "checkpoints",
            self.accelerator,
            config.checkpoints,
            self._described,
        )
        self.step = self._resumed()
        self._saved = self.step

    def run(self) -> bool:
        """Train up to ``config.steps``; False if a signal came first. What is done is saved.

        Raises:
            ValueError: a loss or a gradient is not finite, or a checkpoint cannot be written.
        """
        config = self.config
        with (
            Stop() as stop,
            Log(self.accelerator, config, self._described, self.step) as log,
        ):
            batches = iter(self._loader())
            while self.step < config.steps and not self._any(stop.asked):
                self._step(batches, log)
                self.step += 1
                log.step(self.step)
                if self.step % config.checkpoints.every == 0:
                    self._save()
                if config.log.preview_every and self.step % config.log.preview_every == 0:
                    self._preview(log)
            if self._saved < self.step:
                self._save()
        return self.step >= config.steps

    def _resumed(self) -> int:
        path = self.checkpoints.latest()
        if path is None:
            return 0
        state = training_state(self.objective, self.optimisers)
        step = self.checkpoints.load(path, state)
        restore(self.objective, self.optimisers, state)
        return step

    def _loader(self) -> "DataLoader[Any]":
        config, objective = self.config, self.objective
        sampler = WindowSampler(
            config.global_batch,
            config.micro_batch,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            samples_seen=self.step * config.global_batch,
        )

        def collate(items: Sequence[tuple[int, Any]]) -> MicroBatch:
            samples = tuple(sample for sample, _ in items)
            return MicroBatch(samples, objective.collate([item for _, item in items]))

        return DataLoader(
            _Numbered(objective.dataset),
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=config.workers,
            worker_init_fn=start_worker,
        )

    def _step(self, batches: Iterator[MicroBatch], log: Log) -> None:
        """One step of the optimiser of each role whose turn it is, on the same samples."""
        config = self.config
        n_micro = config.global_batch // (config.micro_batch * self.accelerator.num_processes)
        began = time.perf_counter()
        micro_batches = [next(batches) for _ in range(n_micro)]
        log.waited(time.perf_counter() - began)
        lr = learning_rate(self.step, config.optimiser)
        log.add({"lr": lr})
        for role in self.objective.turns(self.step):
            totals = self._backward(role, micro_batches, log)
            norm = roles.clip_gradients(self.objective.networks[role], config.optimiser.clip)
            self._check_finite(role, micro_batches, totals, norm)
            log.add({f"{role}.grad_norm": norm})
            rate = lr * self.objective.rate(role, self.step)
            for optimiser in self.optimisers[role]:
                for group in optimiser.param_groups:
                    group["lr"] = rate * group["lr_scale"]
                optimiser.step()
                optimiser.zero_grad()
            if role in self.objective.averaged:
                roles.update_average(self.objective, role, self.step)

    def _backward(self, role: str, micro_batches: Sequence[MicroBatch], log: Log) -> list[Tensor]:
        """Leave the mean gradient of the step in ``role``; returns the losses."""
        network = self.objective.networks[role]
        totals = []
        for micro_batch in micro_batches:
            draws = Draws(
                self.config.seed, f"{self.objective.name}.{role}", self.step, micro_batch.samples
            )
            batch = send_to_device(micro_batch.batch, self.device)
            last = micro_batch is micro_batches[-1]
            with roles.gradients_shared(network, shared=last):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
                    losses = self.objective.loss(role, batch, draws)
                (losses.total / len(micro_batches)).backward()
            totals.append(losses.total.detach())
            log.add({f"{role}.loss": losses.total})
            log.add({f"{role}.{name}": value for name, value in losses.parts.items()})
        return totals

    def _check_finite(
        self,
        role: str,
        micro_batches: Sequence[MicroBatch],
        totals: Sequence[Tensor],
        norm: Tensor,
    ) -> None:
        """Stop all processes if a loss, or the gradient, of any is not finite."""
        losses = torch.stack([*totals, norm.to(totals[0].dtype)]).tolist()
        if not self._any(not all(map(math.isfinite, losses))):
            return
        bad = [
            s
            for m, x in zip(micro_batches, losses[:-1], strict=True)
            if not math.isfinite(x)
            for s in m.samples
        ]
        of_losses = sorted(gather_object(bad))
        everyone = sorted(gather_object([s for m in micro_batches for s in m.samples]))
        what = "loss" if of_losses else "gradient"
        samples = ", ".join(map(str, of_losses or everyone))
        raise ValueError(
            f"step {self.step} of {self.objective.name}: the {what} of {role} is not finite, on "
            f"samples {samples}; the last checkpoint is {self.checkpoints.latest()}"
        )

    def _any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on any process."""
        told = torch.tensor(float(flag), device=self.device)
        return bool(self.accelerator.reduce(told, "sum").item())

    def _save(self) -> None:
        state = training_state(self.objective, self.optimisers)
        self.checkpoints.save(self.step, self.step * self.config.global_batch, state)
        self._saved = self.step

    @torch.no_grad()
    def _preview(self, log: Log) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            folder = Path(elsewhere)
            if self.accelerator.is_main_process:
                folder = Path(self.config.output) / "previews" / f"step-{self.step:07d}"
                folder.mkdir(parents=True, exist_ok=True)
            numbers: dict[str, float] = {}
            try:
                numbers = self.objective.preview(folder, self.step)
            except (OSError, ValueError, torch.OutOfMemoryError) as error:
                # A picture is not worth the run.
                logger.warning("no preview after step %d: %s", self.step, error)
            torch.cuda.empty_cache()  # else what the stream took is kept from the steps
            log.preview(self.step, numbers)


def _locked(path: Path) -> bool:
    """Lock ``path`` until this process ends, in whatever way; False if another one has it locked.

    Its workers, which may outlive it for a moment, have no share in this kind of lock, and later
    runs of the same process are not in each other's way.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT)  # never closed, which would unlock
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("%s cannot be locked: %s; nothing else may train there", path, error)
    return True


class _Numbered(Dataset[tuple[int, Any]]):
    """Items with their indices, which key their draws."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, sample: int) -> tuple[int, Any]:
        return sample, self._dataset[sample]
