"""``scripts/train.py`` as it is called: by hand, stopped, and wrongly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = str(REPOSITORY / "scripts" / "train.py")
# A stage without files to read, as small as it goes.
WORDS = ["experiment=vae", "precision=fp32", "workers=0", "global_batch=2", "micro_batch=1"]
WORDS += ["vae.images=0", "vae.clip_frames=5", "log.every=1", "log.preview_every=null"]
LIMIT = 300  # seconds, of what hangs; a busy machine is slow
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def start(*command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command], text=True, env=ENVIRONMENT, **pipes)


def lines(folder):
    log = folder / "log.jsonl"
    return log.read_text().splitlines() if log.is_file() else []


def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path):
    command = [sys.executable, SCRIPT, *WORDS, f"output={tmp_path}"]
    run = start(*command, "steps=100000")
    deadline = time.monotonic() + LIMIT
    while not lines(tmp_path) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    said, errors = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, errors
    steps = len(lines(tmp_path))
    assert f"stopped: step {steps} is saved" in said
    assert "the same command goes on from there" in said
    run = start(*command, f"steps={steps + 1}")
    said, errors = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, errors
    assert f"going on from {tmp_path / 'checkpoints' / f'step-{steps:07d}'}\n" in said
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == list(range(1, steps + 2))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["stage=vea"], "error: stage is vea; there are vae, text, speech, autoregressive"),
        (["global_batch=3", "micro_batch=2"], "error: global_batch is 3; it must be a multiple"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, named):
    run = start(sys.executable, SCRIPT, *WORDS, f"output={tmp_path}", *words)
    _, errors = run.communicate(timeout=LIMIT)
    assert run.returncode == 2
    assert errors.startswith(named)
    assert errors.count("\n") == 1
