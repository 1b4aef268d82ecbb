"""Launch files: accelerate knows their keys, and the SLURM script starts, stops and goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from flowact.config import load_config
from flowact.training.loop import Trainer
from flowact.training.settings import TrainConfig
from flowact.training.stages import build

REPOSITORY = Path(__file__).parents[2]
ACCELERATE = sorted((REPOSITORY / "configs" / "accelerate").glob("*.yaml"))
# A stage without files to read, as small as it goes.
WORDS = ["experiment=vae", "precision=fp32", "workers=0", "global_batch=2", "micro_batch=1"]
WORDS += ["vae.images=0", "vae.clip_frames=5", "log.every=1", "log.preview_every=null"]
WORDS += ["model.height=32", "model.width=32", "model.autoencoder.config.base_dim=4"]
LIMIT = 300  # seconds, of what hangs; a busy machine is slow
# float32 sums in another order, through a few steps of Muon.
ROUNDING = 1e-5
# What SLURM does, with two tasks of this machine for its nodes. $0 is in the folder of the test.
SLURM = {
    "srun": """
        [[ " $* " == *" --cpus-per-task=$SLURM_CPUS_PER_TASK "* ]] || exit 1  # else one core each
        while [[ $1 == --* ]]; do shift; done
        SLURM_NODEID=0 "$@" & echo $! > "$0.tasks"
        SLURM_NODEID=1 "$@" & echo $! >> "$0.tasks"
        wait -n && wait -n""",
    "scontrol": """
        case $1 in
            show) echo localhost; sleep 0.1; echo elsewhere;;  # and whoever read but one is gone
            requeue) echo "$2" > "$0.requeued";;
        esac""",
    "scancel": """
        [[ $* == "--signal=TERM $SLURM_JOB_ID.0" ]] && kill -TERM $(cat "${0%/*}/srun.tasks")""",
}


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_knows_every_key(path):
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.mixed_precision == "no"  # precision is named in the run's own config
    known = {f.name for f in fields(ClusterConfig)}
    keys = {line.partition(":")[0] for line in path.read_text().splitlines() if line[:1].isalpha()}
    assert keys <= known


@pytest.fixture
def sbatch(tmp_path):
    """``sbatch(*words)``: the batch script on two nodes of one process each, started."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, body in SLURM.items():
        (folder / name).write_text(f"#!/bin/bash{body}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | {
        "PATH": os.pathsep.join(
            (str(folder), str(Path(sys.executable).parent), os.environ["PATH"])
        ),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_CONFIG": "configs/accelerate/cpu2.yaml",
        "SLURM_JOB_ID": str(free_port() - 20_000),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "64",
        "SLURM_JOB_NODELIST": "node[0-1]",
    }

    def start(*words):
        return subprocess.Popen(
            ["bash", "scripts/train.sbatch", *words],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def free_port():
    """One of those that the batch script takes."""
    for port in range(20_000 + os.getpid() % 9_000, 30_000):
        with socket.socket() as asked:
            if asked.connect_ex(("localhost", port)):
                return port
    raise AssertionError("no port is free")


def lines(folder):
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def test_a_job_of_two_nodes_stops_goes_on_and_equals_one_process(sbatch, tmp_path):
    output, requeued = tmp_path / "run", tmp_path / "slurm" / "scontrol.requeued"
    job = sbatch(*WORDS, f"output={output}", "steps=100000")
    deadline = time.monotonic() + LIMIT
    while not lines(output) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    said, _ = job.communicate(timeout=LIMIT)
    assert job.returncode == 0, said
    assert said.count("the same command goes on from there") == 1
    assert requeued.is_file()

    steps = len(lines(output)) + 1  # and the same words go on, on however many processes
    for folder in (output, tmp_path / "one"):
        words = [*WORDS, f"output={folder}", f"steps={steps}"]
        config = load_config("train", words, TrainConfig)
        Trainer(build(config), config).run()
    assert len(lines(output)) == steps
    for ours, theirs in zip(lines(tmp_path / "one"), lines(output), strict=True):
        for name in ("step", "autoencoder.loss", "autoencoder.grad_norm"):
            assert theirs[name] == pytest.approx(ours[name], rel=ROUNDING)
