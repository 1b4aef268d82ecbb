"""Trackers are told the config and the lines, and nothing leaves the machine unasked."""

from tiny import tiny_config
from tiny_stage import train

from flowact.training.checkpoint import described
from flowact.training.log import _flat
from flowact.training.settings import LogConfig, TrainConfig


def test_wandb_is_offline_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tmp_path, log=LogConfig(every=2, trackers=("wandb",)))
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    told = run.read_bytes()
    assert b"critic.grad_norm" in told
    assert b"optimiser.weight_decay" in told


def test_a_config_is_told_as_numbers_and_texts():
    """Tensorboard takes nothing else."""
    config = described(TrainConfig(model=tiny_config(), stage="vae", output="DIR"))
    told = _flat(config)
    assert {type(value) for value in told.values()} == {bool, int, float, str}
    assert told["optimiser.betas"] == "[0.9, 0.95]"
    assert told["weights"] == "null"
    assert told["model.geometry.fps"] == config["model"]["geometry"]["fps"]
