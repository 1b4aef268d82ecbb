"""Worker processes end with their parent, even if that is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def lives(pid):
    """Whether a process is there and has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_workers_of_a_killed_process_end():
    parent = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "worker_pools.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # that semaphores were left behind by the kill
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    told = []
    while (line := parent.stdout.readline().strip()) not in ("ready", ""):
        told.append(int(line))
    workers = set(told)
    assert len(workers) >= 3  # two that load, and one of those that make at least
    assert all(lives(pid) for pid in workers)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(lives(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if lives(pid)]
