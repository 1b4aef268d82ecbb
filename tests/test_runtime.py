"""Where the processes of a run go."""

import pytest

from flowact.runtime import resolve_device


@pytest.mark.parametrize(
    ("told", "gpus", "device"),
    [
        ({}, 0, "cpu"),
        ({"LOCAL_RANK": "3"}, 0, "cpu"),
        ({}, 4, "cuda:0"),
        ({"LOCAL_RANK": "3"}, 4, "cuda:3"),
        ({"LOCAL_RANK": "5"}, 4, "cuda:1"),  # shared, where there are fewer
        ({"SLURM_LOCALID": "2"}, 4, "cuda:2"),
        ({"SLURM_LOCALID": "2"}, 1, "cuda:0"),  # SLURM may show each process its own alone
    ],
)
def test_each_process_has_a_gpu_of_its_own(monkeypatch, told, gpus, device):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert resolve_device("auto") == device
    assert resolve_device("cpu") == "cpu"
