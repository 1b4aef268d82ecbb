"""A checkpoint is whole or not there, and nothing goes on from one that does not fit."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from tiny_stage import STEPS, Network, train, weights_of

from flowact.training.checkpoint import load_network
from flowact.training.settings import CheckpointsConfig, LogConfig, OptimiserConfig, TrainConfig
from flowact.training.window_settings import AudioMotionConfig, AutoregressiveConfig

RUN = Path(__file__).parent / "run_tiny.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of which all checkpoints are kept."""
    output = tmp_path_factory.mktemp("finished")
    train(output, checkpoints=CheckpointsConfig(every=2))
    return output


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def names(output):
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def test_the_last_and_every_nth_are_kept(tmp_path):
    train(tmp_path, checkpoints=CheckpointsConfig(every=1, keep=2, keep_every=3))
    assert names(tmp_path) == ["step-0000003", "step-0000005", "step-0000006"]


def test_saving_changes_nothing_even_of_a_role_that_has_not_stepped_yet(tmp_path):
    train(tmp_path / "often", checkpoints=CheckpointsConfig(every=1))
    train(tmp_path / "once")
    often, once = weights_of(tmp_path / "often"), weights_of(tmp_path / "once")
    assert all(torch.equal(often[name], once[name]) for name in once)


def test_a_kill_loses_nothing_and_the_run_goes_on_bit_for_bit(tmp_path):
    def run(*words):
        command = [sys.executable, RUN, tmp_path, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr

    killed, _ = run("whole={}", 'killed={"signals": {"5": "SIGKILL"}}')
    assert killed == -signal.SIGKILL
    assert names(tmp_path / "killed") == ["step-0000002", "step-0000004"]
    code, said = run("killed={}")
    assert code == 0, said
    resumed, whole = weights_of(tmp_path / "killed"), weights_of(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_save_that_fails_leaves_all_earlier_ones(tmp_path):
    train(tmp_path, steps=2)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*.distcp")}
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    try:
        with pytest.raises(ValueError, match=r"step-0000004: the checkpoint cannot be written: "):
            train(tmp_path, steps=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert {path: path.read_bytes() for path in before} == before
    train(tmp_path, steps=4)
    assert names(tmp_path) == ["step-0000002", "step-0000004"]
    train(tmp_path / "whole", steps=4)
    resumed, whole = weights_of(tmp_path), weights_of(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed was 3, is 4"),
        ({"micro_batch": 4}, "micro_batch was 2, is 4"),
        ({"optimiser": OptimiserConfig(lr=0.5)}, "optimiser.lr was 0.0001, is 0.5"),
    ],
)
def test_a_run_does_not_go_on_under_another_config(finished, changes, named):
    with pytest.raises(ValueError, match=f"was made otherwise: {named}; give the old values"):
        train(finished, checkpoints=CheckpointsConfig(every=2), **changes)


def test_a_run_does_not_go_on_from_other_weights_or_data_of_the_same_name(tmp_path):
    weights, data, output = tmp_path / "weights", tmp_path / "data", tmp_path / "run"
    model, manifest = weights / "transformer" / "model.safetensors", data / "manifest.jsonl"
    for file in (weights / "model_index.json", model, manifest):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a")
    (data / "generated-1").mkdir()
    changes = {
        "kind": partial(TrainConfig, stage="tiny", model=tiny_config()),
        "weights": str(weights),
        "autoregressive": AutoregressiveConfig(folders=(str(data),)),
        "audio_motion": AudioMotionConfig(folders=(str(data),), generated_memory=0.5),
    }
    train(output, **changes)
    (data / "latents-of-another-model").mkdir()
    (weights / "notes.txt").write_text("")
    train(output, **changes)
    for file, named in ((model, "weights"), (manifest, r"autoregressive\.folders")):
        file.write_text("b")
        with pytest.raises(ValueError, match=rf"{named}=\S+ .*holds other files than when the run"):
            train(output, **changes)
        file.write_text("a")
    (data / "generated-1").rename(data / "generated-2")
    with pytest.raises(ValueError, match=r"step-0000006: audio_motion\.folders=\S+ holds other"):
        train(output, **changes)


def test_a_run_goes_on_for_longer_and_with_other_logs(copied):
    changes = {"checkpoints": CheckpointsConfig(every=7, keep=1), "log": LogConfig(every=3)}
    assert train(copied, steps=STEPS + 1, workers=1, **changes).step == STEPS + 1
    assert names(copied) == ["step-0000007"]


def test_a_damaged_file_is_named_and_the_one_before_it_still_serves(copied):
    last = copied / "checkpoints" / "step-0000006"
    path = next(last.glob("*.distcp"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path} is damaged; remove {last}"):
        train(copied, checkpoints=CheckpointsConfig(every=2))
    shutil.rmtree(last)
    whole = weights_of(copied)
    train(copied, checkpoints=CheckpointsConfig(every=2))
    resumed = weights_of(copied)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_another_format_is_refused(copied):
    path = copied / "checkpoints" / "step-0000006" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="is of format 99; this code reads 2"):
        train(copied, checkpoints=CheckpointsConfig(every=2))


def test_meta_tells_what_a_checkpoint_is(finished):
    meta = json.loads((finished / "checkpoints" / "step-0000006" / "meta.json").read_text())
    assert (meta["step"], meta["samples_seen"]) == (6, 48)
    assert meta["config"]["optimiser"]["kind"] == "adamw"
    assert meta["source"]
    assert ".metadata" in meta["hashes"]


def test_a_role_is_loaded_by_itself_and_strictly(finished):
    path = finished / "checkpoints" / "step-0000006"
    network = Network("other")
    load_network(path, "student_average", network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights_of(finished)[f"student_average.{name}"])
    with pytest.raises(ValueError, match=r"does not fit: it lacks .*nobody/out.weight"):
        load_network(path, "nobody", network)
    network.more = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"it lacks \['networks/student/more.bias'"):
        load_network(path, "student", network)
    network = Network("other")
    network.out = torch.nn.Linear(6, 7)
    with pytest.raises(ValueError, match=r"out.weight is \(6, 6\) there, \(7, 6\) here"):
        load_network(path, "student", network)
