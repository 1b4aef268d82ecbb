"""The memory table counts what real steps allocate."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from tiny import tiny_config
from tiny_stage import Network, TinyStage
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore

from flowact.config import load_config
from flowact.runs import MemoryConfig
from flowact.training import roles
from flowact.training.memory import counted_step, markdown, memory_table, on_each, size_of
from flowact.training.memory_step import (
    ONLY_STREAM,
    LiveBytes,
    build_network,
    make_windows,
    watch_step,
)
from flowact.training.objective import Draws
from flowact.training.settings import OptimiserConfig, OptimiserKind, Strategy, TrainingPrecision
from flowact.training.window_loss import flow_matching
from flowact.training.window_settings import AutoregressiveConfig, LoraSettings

TOKENS = 20
# A few numbers of a window, such as positions and levels, have values in the count, and operations
# on them may make one more or less.
SMALL = 4_096


@pytest.mark.parametrize(
    ("kind", "precision", "rank"),
    [
        (OptimiserKind.adamw, TrainingPrecision.bf16, None),
        (OptimiserKind.muon, TrainingPrecision.fp32, 2),
    ],
)
def test_what_is_counted_is_what_a_real_step_allocates(kind, precision, rank):
    lora = LoraSettings(rank=rank)
    config = MemoryConfig(
        model=tiny_config(),
        micro_batch=2,
        text_tokens=TOKENS,
        precision=precision,
        optimiser=kind,
        lora=lora,
    )
    rows = memory_table(config)
    for checkpointing in (False, True):
        step = real_step(config, checkpointing)
        counted = rows["one process, checkpointing" if checkpointing else "one process"]
        for name in ("parameters", "gradients", "optimiser", "average"):
            assert getattr(counted, name) == size_of(getattr(step, name))
        assert counted.activations == pytest.approx(step.activations, abs=SMALL)
    one, ddp, fsdp = (rows[name] for name in ("one process", "ddp x 8", "fsdp x 8"))
    assert ddp == replace(one, exchange=one.gradients)
    assert fsdp.parameters < one.parameters / 6  # small ones are not cut evenly
    assert fsdp.activations == one.activations
    lines = markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def real_step(config, checkpointing):
    network = build_network(config.model, config.text_tokens, config.lora)
    network.checkpoint_layers(checkpointing)
    windows = make_windows(config.model, config.micro_batch, config.text_tokens)
    optimiser = OptimiserConfig(kind=config.optimiser)
    return watch_step(network, windows, config.model, config.precision, optimiser)


def test_a_step_of_the_demo_allocates_what_is_counted(caplog):
    config = load_config("memory", ["model=demo"], MemoryConfig)
    _, counted = counted_step(config, checkpointing=False)
    step = real_step(config, checkpointing=False)
    assert counted.activations == pytest.approx(step.activations, abs=SMALL)
    assert not caplog.messages  # such as of captions that are cut


def test_the_watch_sees_what_the_allocator_gives():
    network = nn.Sequential(*(nn.Linear(256, 256) for _ in range(8)))
    x = torch.zeros(512, 256)

    def step():
        hidden = x
        for layer in network:
            hidden = nn.functional.gelu(layer(hidden))
        hidden.square().mean().backward()

    step()  # gradients are there from now on
    with LiveBytes() as live:
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = profiled.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    assert live.now == 0
    # The allocator rounds up to 64 bytes, and a kernel may take as much as its output for a moment.
    assert max(itertools.accumulate(sizes)) == pytest.approx(live.peak, rel=0.05)


@pytest.fixture
def group_of_eight():
    """This process as the first of eight that are not there."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    dist.destroy_process_group()


def test_shards_are_as_large_as_those_of_fsdp(group_of_eight):
    """Those of a network, its average and its gradients, in the middle of a step too."""
    lora = LoraSettings(rank=2)
    network = build_network(tiny_config(), TOKENS, lora)
    windows = make_windows(tiny_config(), 1, TOKENS)
    step = watch_step(network, windows, tiny_config(), TrainingPrecision.fp32, OptimiserConfig())
    counted = on_each(step, network, Strategy.fsdp, ranks=8)
    network.zero_grad()
    stage = TinyStage()
    stage.networks, stage.trained, stage.averaged = {"model": network}, ("model",), {"model": 0.9}
    roles.prepare(stage, torch.device("cpu"), Strategy.fsdp, ranks=8)
    with roles.gradients_shared(network, shared=False):
        draws = Draws(0, "memory", 0, (0,))
        config = AutoregressiveConfig(tasks=ONLY_STREAM)
        flow_matching(network, windows, draws, tiny_config(), config).total.backward()
    average = stage.networks["model_average"]
    assert held(network.parameters()) == counted.parameters
    assert held(average.parameters()) == counted.average
    assert held(p.grad for p in network.parameters() if p.requires_grad) == counted.gradients


def held(tensors):
    """Bytes of the shards of this process."""
    return size_of(tensor.to_local() for tensor in tensors)


class Heavy(Network):
    """A network of which no device holds the whole."""

    def to(self, *args, **kwargs):
        raise AssertionError("moved as a whole")


def test_what_is_sharded_is_not_moved_as_a_whole(group_of_eight):
    stage = TinyStage()
    stage.networks = {role: Heavy(role) for role in stage.networks}
    roles.prepare(stage, torch.device("cpu"), Strategy.fsdp, ranks=8)
    for network in stage.networks.values():
        assert held(network.parameters()) < size_of(Network("").parameters())


def test_buckets_of_ddp_are_as_large_as_the_gradients(group_of_eight):
    network = nn.Linear(30, 40)
    told = DistributedDataParallel(network)._get_ddp_logging_data()
    sizes = [int(size) for size in told["bucket_sizes"].split(",")]
    assert sum(sizes) == size_of(network.parameters())
