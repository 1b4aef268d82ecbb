"""The memory table counts what real steps allocate."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from tiny import tiny_config
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore

from flowact.runs import MemoryConfig
from flowact.training.memory import markdown, memory_table, size_of
from flowact.training.memory_step import LiveBytes, build_network, make_windows, watch_step
from flowact.training.settings import OptimiserConfig, OptimiserKind, TrainingPrecision
from flowact.training.window_settings import LoraSettings

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
        network = build_network(config.model, TOKENS, lora)
        network.checkpoint_layers(checkpointing)
        windows = make_windows(config.model, 2, TOKENS)
        step = watch_step(network, windows, config.model, precision, OptimiserConfig(kind=kind))
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
    network = nn.Sequential(nn.Linear(3, 13), nn.LayerNorm(13), nn.Linear(13, 17))
    expected = size_of(network.parameters(), shards=8)
    fully_shard(network, mesh=init_device_mesh("cpu", (8,)))
    assert size_of(p.to_local() for p in network.parameters()) == expected


def test_buckets_of_ddp_are_as_large_as_the_gradients(group_of_eight):
    network = nn.Linear(30, 40)
    told = DistributedDataParallel(network)._get_ddp_logging_data()
    sizes = [int(size) for size in told["bucket_sizes"].split(",")]
    assert sum(sizes) == size_of(network.parameters())
