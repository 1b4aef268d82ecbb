"""AdamW, Muon for matrices, and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import AdamW, Optimizer

from flowact.training.settings import Decay, OptimiserConfig, OptimiserKind

MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Of the odd polynomial that drives singular values towards 1 fast (Jordan et al. 2024, Muon).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
# Gives an orthogonal update the size of AdamW's, so that both share lr and decay (Liu et al. 2025).
ADAMW_RMS = 0.2


def learning_rate(step: int, config: OptimiserConfig) -> float:
    """Of step ``step``, counted from 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.decay_steps is None:
        return config.lr
    past = (step - config.warmup_steps) / (config.decay_steps - config.warmup_steps)
    left = 1 - min(past, 1.0)
    if config.decay is Decay.linear:
        return config.lr * left
    return config.lr * (1 - math.cos(math.pi * left)) / 2


def make_optimisers(
    network: nn.Module, config: OptimiserConfig, precision: torch.dtype = torch.float32
) -> list[Optimizer]:
    """What trains the parameters of ``network`` that require a gradient.

    ``precision`` is that of Muon's matrix products; weights and momentum stay as they are.

    Raises:
        ValueError: nothing is to be trained, or ``config.adamw`` names what is not there.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError(f"{type(network).__name__} is to be trained and has no such parameter")
    muon: dict[str, nn.Parameter] = {}
    if config.kind is OptimiserKind.muon:
        names = {
            f"{prefix}.weight".lstrip(".")
            for prefix, module in network.named_modules()
            if isinstance(module, MATRICES)
        }
        for part in config.adamw:
            own = {name for name in names if f".{part}." in f".{name}"}
            if not own:
                raise ValueError(f"optimiser.adamw has {part!r}; the network has no such matrices")
            names -= own
        muon = {name: p for name, p in trained.items() if name in names}
    rest = [p for name, p in trained.items() if name not in muon]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    scale = config.adamw_scale if config.kind is OptimiserKind.muon else 1.0
    optimisers: list[Optimizer] = []
    if groups := [group for group in groups if group["params"]]:
        optimisers.append(AdamW(groups, lr=config.lr, betas=config.betas))
        for group in optimisers[0].param_groups:
            group["lr_scale"] = scale
    if muon:
        optimisers.append(
            Muon(muon.values(), config.lr, config.momentum, config.weight_decay, precision)
        )
    return optimisers


class Muon(Optimizer):
    """Momentum, made orthogonal: every direction of a matrix learns at one speed.

    A convolution is the matrix [out, in * kernel]. A sharded matrix is gathered for it.

    Args:
        precision: of the products that make it so, nearly all of the work; bfloat16 is enough.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float,
        weight_decay: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "lr_scale": 1.0}
        super().__init__(params, defaults)
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad, state, beta = parameter.grad, self.state[parameter], group["momentum"]
        assert grad is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(grad)
        state["momentum"].lerp_(grad, 1 - beta)
        update = _orthogonal(grad.lerp(state["momentum"], beta), self._precision)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"])


def _orthogonal(update: Tensor, precision: torch.dtype) -> Tensor:
    """The nearest matrix whose singular values are about equal, as large as an AdamW update."""
    if isinstance(update, DTensor):
        whole = _orthogonal(update.full_tensor(), precision)
        same = DTensor.from_local(
            whole, update.device_mesh, [Replicate()] * update.device_mesh.ndim
        )
        return same.redistribute(placements=update.placements)
    matrix = update.flatten(1)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(precision)
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.T if tall else x
    scale = ADAMW_RMS * max(matrix.shape) ** 0.5
    return x.to(update.dtype).mul(scale).view_as(update)
