"""What training a preset takes on each GPU, by strategy, told by a machine that need not have one.

The network, its loss and its optimisers run as they are, on tensors without storage. Parameters,
gradients, optimiser states, averages and activations are counted. Estimated is what processes
exchange. Left out is what kernels take for a moment, what an allocator cannot use, and CUDA itself.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from flowact.runs import MemoryConfig
from flowact.training.memory_step import StepMemory, build_network, make_windows, watch_step
from flowact.training.roles import repeated_blocks
from flowact.training.settings import OptimiserConfig, Strategy

GB = 1e9

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU.

    Attributes:
        parameters, gradients, optimiser, average: that last from step to step.
        exchange: estimated: DDP's buckets, which hold all gradients again; FSDP2's gathered
            weights, those outside of blocks and two blocks, one of them being fetched, with the
            gradient of one.
        activations: the most that lives besides while a micro-batch goes forward and back.
    """

    parameters: int
    gradients: int
    optimiser: int
    average: int
    exchange: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, as when gradients of an earlier micro-batch are there."""
        return sum(astuple(self))


def memory_table(config: MemoryConfig) -> dict[str, Memory]:
    """Each way of sharing a network among processes, with and without gradient checkpointing."""
    rows: dict[str, Memory] = {}
    for checkpointing in (False, True):
        network, step = counted_step(config, checkpointing)
        suffix = ", checkpointing" if checkpointing else ""
        rows[f"one process{suffix}"] = on_each(step, network, None, 1)
        for strategy in Strategy:
            name = f"{strategy.name} x {config.ranks}{suffix}"
            rows[name] = on_each(step, network, strategy, config.ranks)
    return rows


def counted_step(config: MemoryConfig, checkpointing: bool) -> tuple[nn.Module, StepMemory]:
    """A network and its step on one process, of tensors without storage."""
    with torch.device("meta"):
        on_meta = build_network(config.model, config.text_tokens, config.lora)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = on_cpu(on_meta)
        windows = make_windows(config.model, config.micro_batch, config.text_tokens)
    network.checkpoint_layers(checkpointing)
    # Outside of the mode, so that what is not derived from weights or latents keeps its values:
    # whether a mask hides anything decides which kernel runs.
    optimiser = OptimiserConfig(kind=config.optimiser)
    return network, watch_step(network, windows, config.model, config.precision, optimiser)


def on_each(step: StepMemory, network: nn.Module, strategy: Strategy | None, ranks: int) -> Memory:
    """What ``step`` takes on each of ``ranks`` processes that share ``network``."""
    shards = ranks if strategy is Strategy.fsdp else 1
    # A sharded average has what is frozen of its own.
    average = step.parameters if strategy is Strategy.fsdp else step.average
    exchange = {
        None: 0,
        Strategy.ddp: size_of(step.gradients),
        Strategy.fsdp: _gathered(network),
    }[strategy]
    return Memory(
        parameters=size_of(step.parameters, shards),
        gradients=size_of(step.gradients, shards),
        optimiser=size_of(step.optimiser, shards),
        average=size_of(average, shards),
        exchange=exchange,
        activations=step.activations,
    )


def size_of(tensors: Iterable[Tensor], shards: int = 1) -> int:
    """Bytes of ``tensors``, of which FSDP2 cuts the first axis into ``shards``; of the first."""
    return sum(
        math.prod((math.ceil(t.shape[0] / shards), *t.shape[1:]) if t.ndim else ())
        * t.element_size()
        for t in tensors
    )


def markdown(rows: dict[str, Memory]) -> str:
    """The rows as a table, in GB."""
    names = [f.name for f in fields(Memory)]
    lines = [f"| GB on each GPU | {' | '.join(names)} | total |", "|---" * (len(names) + 2) + "|"]
    for name, memory in rows.items():
        values = (*astuple(memory), memory.total)
        lines.append(f"| {name} | {' | '.join(f'{value / GB:.3g}' for value in values)} |")
    return "\n".join(lines)


def on_cpu(network: Module) -> Module:
    """A network on the meta device as one on the CPU, whose kernels, unlike meta's, autocast.

    To be called under a ``FakeTensorMode``.
    """
    tensors: dict[int, Any] = {id(t): torch.empty_like(t, device="cpu") for t in network.buffers()}
    for parameter in network.parameters():
        empty = torch.empty_like(parameter, device="cpu")
        tensors[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    return copy.deepcopy(network, tensors)


def _gathered(network: nn.Module) -> int:
    blocks = repeated_blocks(network)
    own = [size_of(block.parameters()) for block in blocks]
    largest = max(blocks, key=lambda block: size_of(block.parameters()))
    gradient = size_of(p for p in largest.parameters() if p.requires_grad)
    return size_of(network.parameters()) - sum(own) + 2 * max(own) + gradient
