"""Each shipped stage, killed and gone on with in new processes, is as if it had never stopped."""

import json
import multiprocessing
import signal
import socket

import pytest
from real_stages import SAVED, STEPS, Kill, make_data, run, stage_config

from flowact.training.settings import Strategy

# One kill of each kind for each number of processes and strategy.
KILLS = {
    "vae": Kill.SAVE,
    "vae_decoder": Kill.STEP,
    "vae_thin": Kill.STEP,
    "text": Kill.STEP,
    "speech": Kill.STEP,
    "autoregressive": Kill.STEP,
    "audio_motion": Kill.SAVE,
    "guidance": Kill.STEP,
    "steps": Kill.SAVE,
    "dmd": Kill.STEP,
}
SHARED = {
    "vae": Strategy.ddp,
    "autoregressive": Strategy.ddp,
    "audio_motion": Strategy.fsdp,
    "dmd": Strategy.fsdp,
}


@pytest.fixture(scope="module")
def processes():
    """Starts processes by forking one that has imported what training needs, and little else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flowact.training.stages", "flowact.training.loop"])
    return context


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume") / "data"
    make_data(path)
    return path


def train(processes, config, ranks, kill=None):
    """Exit codes of the processes of a run; once the first is killed, the others are too."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [
        processes.Process(target=run, args=(config, kill, rank, ranks, port))
        for rank in range(ranks)
    ]
    for process in started:
        process.start()
    started[0].join()
    for process in started[1:]:
        if kill:
            process.kill()
        process.join()
    return [process.exitcode for process in started]


def check_resumed(processes, data, folder, stage, ranks, strategy=Strategy.ddp):
    whole, killed = (stage_config(stage, data, folder / name, strategy) for name in ("a", "b"))
    assert train(processes, whole, ranks) == [0] * ranks
    assert train(processes, killed, ranks, KILLS[stage])[0] == -signal.SIGKILL
    left = {path.name for path in (folder / "b" / "checkpoints").iterdir()}
    aside = {f"step-{STEPS:07d}.aside"} if KILLS[stage] is Kill.SAVE else set()
    assert left == {f"step-{SAVED:07d}"} | aside
    assert train(processes, killed, ranks) == [0] * ranks
    ended, resumed = (hashes(folder / name) for name in ("a", "b"))
    assert ended == resumed
    assert ended != hashes(folder / "a", SAVED)


def hashes(output, step=STEPS):
    """Of the files of a checkpoint: weights, averages and optimiser states, bit for bit."""
    meta = output / "checkpoints" / f"step-{step:07d}" / "meta.json"
    return {k: v for k, v in json.loads(meta.read_text())["hashes"].items() if k != ".metadata"}


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_goes_on_exactly(processes, data, tmp_path, stage):
    check_resumed(processes, data, tmp_path, stage, ranks=1)


@pytest.mark.parametrize("stage", SHARED)
def test_a_killed_stage_goes_on_exactly_on_two_processes(processes, data, tmp_path, stage):
    check_resumed(processes, data, tmp_path, stage, ranks=2, strategy=SHARED[stage])
