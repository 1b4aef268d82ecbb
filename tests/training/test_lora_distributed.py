"""Stage 2 with low-rank updates on two processes over gloo is that on one."""

import multiprocessing
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from real_stages import make_data, run, stage_config

from flowact.training.checkpoint import find_checkpoint, load_network
from flowact.training.settings import Strategy
from flowact.training.stages import build
from flowact.training.window_settings import LoraSettings


def config_of(folder, name, strategy):
    config = stage_config("audio_motion", folder / "data", folder / name, strategy)
    settings = replace(config.audio_motion, lora=LoraSettings(rank=4, alpha=8))
    return replace(config, audio_motion=settings)


def weights_of(config):
    """The averages in the last checkpoint of a run, and what it left as it was."""
    network = build(config).networks["model"]
    load_network(find_checkpoint(Path(config.output), None), "model_average", network)
    return network.state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on two processes: a copy of the network each, and a shard each."""
    folder = tmp_path_factory.mktemp("lora")
    make_data(folder / "data")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flowact.training.stages", "flowact.training.loop"])
    for strategy in Strategy:
        config = config_of(folder, strategy.name, strategy)
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        started = [
            context.Process(target=run, args=(config, None, rank, 2, port)) for rank in (0, 1)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
            assert process.exitcode == 0
    return folder


@pytest.fixture(scope="module")
def on_one(folder):
    config = config_of(folder, "one", Strategy.ddp)
    run(config, None, 0, 1, 0)
    return weights_of(config)


@pytest.mark.parametrize("strategy", Strategy)
def test_two_processes_are_one(folder, on_one, strategy):
    on_two = weights_of(config_of(folder, strategy.name, strategy))
    assert on_two.keys() == on_one.keys()
    for name, value in on_one.items():
        # float32 sums in another order, through four steps of Muon or AdamW at lr 0.001.
        torch.testing.assert_close(on_two[name], value, rtol=0, atol=2e-6)
