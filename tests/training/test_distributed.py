"""Two processes over gloo are one process, copied or sharded, and go on exactly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_stage import STEPS, train, weights_of

from flowact.training.settings import CheckpointsConfig, LogConfig, OptimiserConfig, OptimiserKind

REPOSITORY = Path(__file__).parents[2]
CPU2 = REPOSITORY / "configs" / "accelerate" / "cpu2.yaml"
RUN = Path(__file__).parent / "run_tiny.py"
# float32 sums in another order, through six steps of AdamW or Muon at lr 0.01.
ROUNDING = 2e-6
STRATEGIES = ("ddp", "fsdp")


def launch(folder, **runs):
    """The runs one after another, each on two processes; returns what is said if that fails."""
    words = [f"{name}={json.dumps(asked)}" for name, asked in runs.items()]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CPU2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*launcher, RUN, folder, *words], capture_output=True, text=True, env=environment
    )
    return done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on_two")
    runs = {}
    for strategy in STRATEGIES:
        runs[strategy] = {"strategy": strategy}
        runs[f"{strategy}_muon"] = {"strategy": strategy, "optimiser": "muon"}
        runs[f"{strategy}_infinite"] = {"strategy": strategy, "infinite": 29}
        runs[f"{strategy}_stopped"] = {"strategy": strategy, "signals": {"3": "SIGTERM"}}
    said = launch(folder, **runs)
    assert not said, said
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of each strategy, killed in its sixth step and gone on with in new processes."""
    folder = tmp_path_factory.mktemp("killed")
    for strategy in STRATEGIES:
        assert launch(folder, **{strategy: {"strategy": strategy, "signals": {"5": "SIGKILL"}}})
        assert (folder / strategy / "checkpoints" / "step-0000004").is_dir()
        assert not (folder / strategy / "checkpoints" / "step-0000006").is_dir()
    said = launch(folder, **{strategy: {"strategy": strategy} for strategy in STRATEGIES})
    assert not said, said
    return folder


def on_one(folder, kind=OptimiserKind.adamw):
    """The same run on this process alone."""
    optimiser = OptimiserConfig(kind=kind, lr=1e-2, warmup_steps=2)
    checkpoints = CheckpointsConfig(every=2)
    return train(folder, optimiser=optimiser, checkpoints=checkpoints, log=LogConfig(every=1))


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", OptimiserKind)
def test_two_processes_are_one(on_two, tmp_path, strategy, kind):
    on_one(tmp_path, kind)
    name = strategy if kind is OptimiserKind.adamw else f"{strategy}_muon"
    one, two = weights_of(tmp_path), weights_of(on_two / name)
    assert one.keys() == two.keys()
    for weight in one:
        torch.testing.assert_close(two[weight], one[weight], rtol=0, atol=ROUNDING)
    for ours, theirs in zip(lines(tmp_path), lines(on_two / name), strict=True):
        for value in ("critic.loss", "critic.grad_norm", "critic.level", "lr", "samples"):
            assert theirs[value] == pytest.approx(ours[value], abs=ROUNDING)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_one_process_sees_stops_both(on_two, strategy):
    output = on_two / f"{strategy}_infinite"
    said = (output / "error.txt").read_text()
    assert "the loss of critic is not finite, on samples 28, 29" in said
    assert "step-0000002" in said


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stop_saves_first(on_two, strategy):
    assert (on_two / f"{strategy}_stopped" / "checkpoints" / "step-0000004").is_dir()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_run_goes_on_bit_for_bit(on_two, killed, strategy):
    whole, resumed = weights_of(on_two / strategy), weights_of(killed / strategy)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_goes_on_with_another_number_of_processes(on_two, tmp_path, strategy):
    on_one(tmp_path / "whole")
    whole = weights_of(tmp_path / "whole")
    stopped = on_two / f"{strategy}_stopped"
    assert on_one(stopped).step == STEPS
    resumed = weights_of(stopped)
    for name in whole:
        torch.testing.assert_close(resumed[name], whole[name], rtol=0, atol=ROUNDING)
