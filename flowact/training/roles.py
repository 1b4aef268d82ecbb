"""The networks of a stage on their devices: wrapped or sharded, frozen or trained, and averaged."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from flowact.training.objective import Objective
from flowact.training.settings import Strategy

AVERAGE = "_average"


def prepare(
    objective: Objective[Any], device: torch.device, strategy: Strategy, ranks: int
) -> None:
    """Put a stage's networks on ``device`` and share them among ``ranks``, in their places.

    The averages, equal to their networks, join them; what is frozen in both is one and the same,
    unless it is sharded.
    """
    sharded = ranks > 1 and strategy is Strategy.fsdp
    for role in tuple(objective.networks):
        network, trained = objective.networks[role], role in objective.trained
        if not sharded:
            network.to(device)
        if role in objective.averaged:
            frozen = {id(p): p for p in network.parameters() if not p.requires_grad}
            average = copy.deepcopy(network, {} if sharded else frozen)
            objective.networks[role + AVERAGE] = average.requires_grad_(False).eval()
            if sharded:
                _shard(average, device, ranks)
        if not trained:
            network.requires_grad_(False).eval()
        if sharded:
            _shard(network, device, ranks)
        elif trained and ranks > 1:
            objective.networks[role] = DistributedDataParallel(network)


def _shard(network: nn.Module, device: torch.device, ranks: int) -> None:
    """FSDP2, gathering one block at a time: those that diffusers' models name as repeated.

    They go to ``device`` one at a time too, so that it never holds more than one whole.
    """
    mesh = init_device_mesh(device.type, (ranks,))
    for block in repeated_blocks(network):
        # Blocks are called by other names than forward too, and gather only when told.
        methods = [name for name, f in vars(type(block)).items() if inspect.isfunction(f)]
        fully_shard(block, mesh=mesh)
        for method in methods:
            if not method.startswith("_"):
                register_fsdp_forward_method(block, method)
    fully_shard(network, mesh=mesh)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Those that FSDP2 gathers one at a time."""
    names = {
        name for module in network.modules() for name in getattr(module, "_repeated_blocks", ())
    }
    return [module for module in network.modules() if type(module).__name__ in names]


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, sharded or not."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def frozen_names(network: nn.Module) -> set[str]:
    """Of the parameters of ``network`` that are not trained, under each name they have."""
    named = unwrapped(network).named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if not parameter.requires_grad}


@contextmanager
def gradients_shared(network: nn.Module, shared: bool) -> Iterator[None]:
    """A forward and backward after which gradients are the mean of all processes', or may wait.

    Those of FSDP2 never do: until they are shared, each process holds them whole.
    """
    if isinstance(network, DistributedDataParallel) and not shared:
        with network.no_sync():
            yield
    else:
        yield


def clip_gradients(network: nn.Module, highest: float) -> Tensor:
    """Scale gradients down to norm ``highest`` of all of them; returns what it was."""
    parameters = [p for p in network.parameters() if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
    clip_grads_with_norm_(parameters, highest, whole)
    return whole


@torch.no_grad()
def update_average(objective: Objective[Any], role: str, step: int) -> None:
    """Move a role's average towards its network after step ``step``, counted from 0.

    The decay grows to the objective's, so that a start from random weights is soon forgotten.
    """
    average = objective.networks[role + AVERAGE]
    network = unwrapped(objective.networks[role])
    decay = min(objective.averaged[role], (1 + step) / (10 + step))
    pairs = zip(average.parameters(), network.parameters(), strict=True)
    trained = [(mean, value) for mean, value in pairs if value.requires_grad]
    means, values = ([_local(pair[n]) for pair in trained] for n in (0, 1))
    torch._foreach_lerp_(means, values, 1 - decay)
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor.data
