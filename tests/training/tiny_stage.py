"""A tiny real stage: two trained networks that take turns, a frozen one, and an average."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import Dataset

from flowact.rng import keyed_normal
from flowact.training.loop import Trainer
from flowact.training.objective import Losses, Objective
from flowact.training.settings import LoopConfig

DIM = 6
STEPS = 6
CONFIG = {"steps": STEPS, "global_batch": 8, "micro_batch": 2, "seed": 3}


class Block(nn.Module):
    """Called by another name than forward, as the backbone's are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)

    def run(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(x))


class Network(nn.Module):
    _repeated_blocks = ("Block",)

    def __init__(self, role: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.out = nn.Linear(DIM, DIM)
        for name, parameter in self.named_parameters():
            parameter.data = keyed_normal(tuple(parameter.shape), role, name) * 0.3

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block.run(x)
        return self.out(x)


class Numbers(Dataset[Tensor]):
    def __getitem__(self, sample: int) -> Tensor:
        return keyed_normal((DIM,), "numbers", sample)


class TinyStage(Objective[Tensor]):
    """The student learns the teacher from noisy inputs, every other step; the critic the student.

    ``signals`` are sent to the first process when the student's loss of a step is asked for;
    ``infinite`` is a sample without a finite loss.
    """

    name = "tiny"
    trained = ("critic", "student")

    def __init__(self, signals: dict[int, str] | None = None, infinite: int | None = None) -> None:
        self.networks = {role: Network(role) for role in ("student", "critic", "teacher")}
        self.averaged = {"student": 0.9}
        self.dataset = Numbers()
        self._signals = {int(step): name for step, name in (signals or {}).items()}
        self._infinite = infinite

    def collate(self, items):
        return torch.stack(list(items))

    def turns(self, step):
        return self.trained if step % 2 else ("critic",)

    def loss(self, role, batch, draws):
        noise, level = draws.normal("noise", (DIM,)), draws.uniform("level", (1,))
        x = (1 - level) * batch + level * noise
        if role == "critic":
            with torch.no_grad():
                target = self.networks["student"](x)
        else:
            target = self.networks["teacher"](x)
            name = self._signals.pop(draws.step, None)
            if name and os.environ.get("RANK", "0") == "0":
                os.kill(os.getpid(), getattr(signal, name))
        total = (self.networks[role](x) - target).square().mean()
        if self._infinite in draws.samples:
            total = total / 0
        return Losses(total, {"level": level.mean()})

    def install(self, pipeline):
        """There is no pipeline with such networks."""

    def preview(self, folder, step):
        weight = self.networks["student_average"].out.weight.sum().item()
        (folder / "weight.txt").write_text(str(weight))
        return {"weight": weight}


def train(output: Path, stage: TinyStage | None = None, kind=LoopConfig, **changes) -> Trainer:
    """Run the stage in ``output``, told by a config of ``kind``; its weights are put there too,
    whole."""
    trainer = Trainer(stage or TinyStage(), kind(output=str(output), **(CONFIG | changes)))
    trainer.run()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = {
        f"{role}.{name}": value
        for role in ("student", "critic", "student_average")
        for name, value in get_model_state_dict(
            trainer.objective.networks[role], options=whole
        ).items()
    }
    if trainer.accelerator.is_main_process:
        torch.save(weights, output / "weights.pt")
    return trainer


def weights_of(output: Path) -> dict[str, Tensor]:
    return torch.load(output / "weights.pt", weights_only=True)
