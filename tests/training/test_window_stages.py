"""Stages 1 and 2 in the loop: stopped and gone on with, and in both precisions."""

import pytest
import torch
from window_training import make_clips, make_model_config, make_network

from flowact.training.loop import Trainer
from flowact.training.objectives.audio_motion import AudioMotion
from flowact.training.objectives.autoregressive import Autoregressive
from flowact.training.settings import LoopConfig, OptimiserConfig, TrainingPrecision
from flowact.training.window_settings import (
    AudioMotionConfig,
    AutoregressiveConfig,
    TasksConfig,
)

STAGES = {
    "autoregressive": (Autoregressive, AutoregressiveConfig),
    "audio_motion": (AudioMotion, AudioMotionConfig),
}
# Every task comes up within a few micro-batches.
TASKS = TasksConfig(without_long_term=0.25, reference_alone=0.25, refinement=0.25)


@pytest.fixture
def train(make_transformer, tmp_path):
    folder = make_clips(tmp_path / "data", [8, 9])

    def run(stage, output, steps, precision=TrainingPrecision.fp32):
        kind, config = STAGES[stage]
        network = make_network(make_transformer())
        settings = config(folders=(str(folder),), tasks=TASKS, average=0.9)
        objective = kind(network, make_model_config(), settings, micro_batch=2, seed=0)
        loop = LoopConfig(
            output=str(tmp_path / output),
            steps=steps,
            global_batch=4,
            micro_batch=2,
            precision=precision,
            optimiser=OptimiserConfig(lr=1e-3, warmup_steps=1),
        )
        trainer = Trainer(objective, loop)
        assert trainer.run()
        return {
            f"{role}.{name}": value
            for role, network in trainer.objective.networks.items()
            for name, value in network.state_dict().items()
        }

    return run


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_stopped_goes_on_exactly(train, stage):
    whole = train(stage, "whole", 4)
    train(stage, "parts", 2)
    parts = train(stage, "parts", 4)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("model_average.") for name in whole)
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_bf16_learns_much_the_same(train):
    exact = train("audio_motion", "exact", 2)
    rounded = train("audio_motion", "rounded", 2, TrainingPrecision.bf16)
    assert all(value.dtype == exact[name].dtype for name, value in rounded.items())
    # Adam moves a weight by lr, 1e-3, at most, in a step, whatever the size of its gradient.
    assert all((value - exact[name]).abs().max() <= 4e-3 for name, value in rounded.items())
    assert any(not torch.equal(value, exact[name]) for name, value in rounded.items())
