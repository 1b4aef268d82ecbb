"""What a stage of the curriculum tells the loop; all stages are of this one shape (design 8, 9)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal, keyed_uniform

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Losses:
    """What a micro-batch costs.

    Attributes:
        total: what is minimised, a scalar: the mean over the samples.
        parts: what it is made of and what is worth watching, scalars, for the log.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Draws:
    """The random numbers of a micro-batch, each keyed by its sample.

    A sample's are the same in whatever batch, on whatever process and after whatever resume.

    Attributes:
        seed: of the run.
        purpose: whose draws they are: a stage and a role.
        step: of the run.
        samples: indices, in the order of the batch.
    """

    seed: int
    purpose: str
    step: int
    samples: tuple[int, ...]

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal [B, *shape], float32 on the CPU; ``name`` tells draws apart."""
        return torch.stack(
            [keyed_normal(shape, self.seed, self.purpose, name, s) for s in self.samples]
        )

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform in [0, 1), [B, *shape], float32 on the CPU; ``name`` tells draws apart."""
        return torch.stack(
            [keyed_uniform(shape, self.seed, self.purpose, name, s) for s in self.samples]
        )

    def of_step(self, name: str) -> float:
        """Uniform in [0, 1), the same for all samples of a step, on every process."""
        return float(keyed_uniform((), self.seed, self.purpose, name, "step", self.step))


class Objective(ABC, Generic[Batch]):
    """A stage: its networks, its data and its losses.

    All randomness comes from ``Draws`` or from a sample's index: no dropout layers, no global
    generators. A network is called through its ``forward`` alone, as ``self.networks[role](...)``
    at each use, since the loop puts a wrapped one in its place. Every parameter of a trained role
    that requires a gradient takes part in every loss, on every process.

    Attributes:
        name: of the stage.
        networks: each role's, in float32 on the CPU: trained, or frozen. The loop adds a running
            average of each of ``averaged`` as "ROLE_average", frozen.
        trained: roles with an optimiser.
        averaged: decay of the running average of a trained role.
        dataset: whose item n is a pure function of n, for n from 0 without end.
    """

    name: str
    networks: dict[str, nn.Module]
    trained: tuple[str, ...]
    averaged: dict[str, float]
    dataset: Dataset[Any]

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Batch:
        """Items of the dataset as a batch: tensors in dicts, tuples or lists, or what has
        ``to(device)``."""

    @abstractmethod
    def loss(self, role: str, batch: Batch, draws: Draws) -> Losses:
        """What a micro-batch costs a trained role; the batch is on the networks' device."""

    @abstractmethod
    def install(self, pipeline: FlowActPipeline) -> None:
        """Put what was trained into ``pipeline``, of the same model."""

    def turns(self, step: int) -> tuple[str, ...]:
        """The trained roles that take a step now, in this order."""
        return self.trained

    def rate(self, role: str, step: int) -> float:
        """What the learning rate of a step is multiplied by for a trained role."""
        return 1.0

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Put what is worth looking at into ``folder``; returns numbers for the log.

        Called without gradients on every process, since a sharded network needs all of them; the
        files of the main one are kept.
        """
        return {}
