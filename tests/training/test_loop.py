"""One process: what a step is, who takes it, and what ends a run."""

import errno
import fcntl
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny import tiny_config
from tiny_stage import STEPS, TinyStage, train, weights_of
from torch import nn
from torch.nn.functional import mse_loss

from flowact.training import roles
from flowact.training.loop import Trainer
from flowact.training.objective import Draws
from flowact.training.optimiser import ADAMW_RMS, Muon, learning_rate, make_optimisers
from flowact.training.preview_settings import PreviewConfig
from flowact.training.settings import (
    CheckpointsConfig,
    Decay,
    LogConfig,
    LoopConfig,
    OptimiserConfig,
    OptimiserKind,
    Strategy,
    TrainConfig,
    TrainingPrecision,
)
from flowact.training.window_settings import AutoregressiveConfig

# float32 sums of a few dozen terms, taken in another order, through a few steps of AdamW.
ROUNDING = 1e-6


def equal(left, right):
    a, b = weights_of(left), weights_of(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def test_draws_of_a_sample_do_not_depend_on_its_batch():
    def draws(*samples, purpose="stage.role"):
        return Draws(0, purpose, 5, samples)

    many, alone = draws(3, 8), draws(8)
    assert torch.equal(many.normal("noise", (4, 2))[1], alone.normal("noise", (4, 2))[0])
    assert torch.equal(many.uniform("level")[1], alone.uniform("level")[0])
    assert not torch.equal(alone.normal("noise", (4,)), alone.normal("other", (4,)))
    assert not torch.equal(
        alone.normal("noise", (4,)), draws(8, purpose="stage.critic").normal("noise", (4,))
    )


def test_a_step_is_the_mean_gradient_of_its_samples(tmp_path):
    config = OptimiserConfig(lr=0.01, warmup_steps=0, clip=0.1)
    train(tmp_path, steps=2, optimiser=config)  # the student has the second
    stage = TinyStage()
    student, teacher = stage.networks["student"], stage.networks["teacher"]
    samples = tuple(range(8, 16))
    draws = Draws(3, "tiny.student", 1, samples)
    numbers = torch.stack([stage.dataset[s] for s in samples])
    level = draws.uniform("level", (1,))
    x = (1 - level) * numbers + level * draws.normal("noise", (6,))
    mse_loss(student(x), teacher(x).detach()).backward()
    nn.utils.clip_grad_norm_(student.parameters(), 0.1)
    for optimiser in make_optimisers(student, config):
        optimiser.step()
    trained = weights_of(tmp_path)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(trained[f"student.{name}"], value, rtol=0, atol=ROUNDING)


def test_four_micro_batches_of_two_are_two_of_four(tmp_path):
    train(tmp_path / "small", micro_batch=2)
    train(tmp_path / "large", micro_batch=4)
    small, large = weights_of(tmp_path / "small"), weights_of(tmp_path / "large")
    for name in small:
        torch.testing.assert_close(small[name], large[name], rtol=0, atol=ROUNDING)


def test_workers_change_nothing(tmp_path):
    train(tmp_path / "none")
    train(tmp_path / "two", workers=2)
    assert equal(tmp_path / "none", tmp_path / "two")


def test_roles_step_when_it_is_their_turn_and_frozen_ones_never(tmp_path):
    trainer = train(tmp_path, log=LogConfig(every=1))
    told = lines(tmp_path)
    assert [line["step"] for line in told] == list(range(1, STEPS + 1))
    assert ["student.loss" in line for line in told] == [False, True] * (STEPS // 2)
    assert all("critic.grad_norm" in line and "critic.level" in line for line in told)
    assert told[-1]["samples"] == 8 * STEPS
    teacher = trainer.objective.networks["teacher"].state_dict()
    for name, value in TinyStage().networks["teacher"].state_dict().items():
        assert torch.equal(teacher[name], value)


def test_the_learning_rate_is_a_function_of_the_step():
    warm = OptimiserConfig(lr=2.0, warmup_steps=4)
    assert [learning_rate(step, warm) for step in (0, 1, 3, 4, 999)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    linear = OptimiserConfig(lr=2.0, warmup_steps=4, decay=Decay.linear, decay_steps=8)
    assert [learning_rate(step, linear) for step in (4, 6, 8, 9)] == [2.0, 1.0, 0.0, 0.0]
    cosine = OptimiserConfig(lr=2.0, warmup_steps=0, decay=Decay.cosine, decay_steps=4)
    assert learning_rate(1, cosine) == pytest.approx(1 + math.cos(math.pi / 4))


def test_the_average_follows_its_network():
    stage = TinyStage()
    roles.prepare(stage, torch.device("cpu"), strategy=Strategy.ddp, ranks=1)
    student, average = stage.networks["student"], stage.networks["student_average"]
    was = average.out.weight.clone()
    with torch.no_grad():
        student.out.weight.add_(1)
    roles.update_average(stage, "student", step=2)
    # Of step 2 the decay is (1 + 2) / (10 + 2); of step 1000 it is the objective's own.
    torch.testing.assert_close(average.out.weight, was + 0.75)
    roles.update_average(stage, "student", step=1000)
    torch.testing.assert_close(average.out.weight, was + 0.75 + 0.1 * 0.25)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 10), (10, 4), (6, 3, 2, 2)])
def test_muon_moves_all_directions_alike(shape, precision):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=generator)
    Muon([weight], 1.0, momentum=0.95, weight_decay=0.0, precision=precision).step()
    matrix = weight.detach().flatten(1)
    singular = torch.linalg.svdvals(matrix) / (ADAMW_RMS * max(matrix.shape) ** 0.5)
    # Five steps of the polynomial leave singular values from about 0.7 to 1.2.
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    assert (matrix * weight.grad.flatten(1)).sum() < 0


def test_muon_takes_the_matrices_and_adamw_the_rest():
    network = nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 2, 3), nn.Embedding(5, 4)
    )
    adamw, muon = make_optimisers(network, OptimiserConfig(kind=OptimiserKind.muon))
    assert isinstance(muon, Muon)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(4, 3), (2, 1, 3, 3)]
    decayed, plain = adamw.param_groups
    assert [p.shape for p in decayed["params"]] == [(5, 4)]
    assert plain["weight_decay"] == 0
    assert len(plain["params"]) == 4


def test_muon_leaves_to_adamw_what_is_named():
    network = nn.ModuleDict({"first": nn.Linear(3, 4), "block": nn.Linear(4, 5)})
    named = OptimiserConfig(kind=OptimiserKind.muon, adamw=("first",), adamw_scale=0.2)
    adamw, muon = make_optimisers(network, named)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(5, 4)]
    assert [p.shape for p in adamw.param_groups[0]["params"]] == [(4, 3)]
    assert {g["lr_scale"] for g in adamw.param_groups} == {0.2}
    assert {g["lr_scale"] for g in muon.param_groups} == {1.0}
    with pytest.raises(ValueError, match=r"optimiser\.adamw has 'last'"):
        make_optimisers(network, replace(named, adamw=("last",)))


def test_bf16_is_of_the_arithmetic_alone(tmp_path):
    train(tmp_path / "fp32")
    trainer = train(tmp_path / "bf16", precision=TrainingPrecision.bf16)
    assert not equal(tmp_path / "fp32", tmp_path / "bf16")
    assert {value.dtype for value in weights_of(tmp_path / "bf16").values()} == {torch.float32}
    states = [s for o in trainer.optimisers["student"] for s in o.state.values()]
    assert {state["exp_avg"].dtype for state in states} == {torch.float32}


def test_a_loss_that_is_not_finite_stops_the_run_before_its_step(tmp_path):
    every = CheckpointsConfig(every=1)
    with pytest.raises(ValueError, match=r"step 3 of tiny: the loss of critic .* 28, 29") as error:
        train(tmp_path / "stopped", TinyStage(infinite=29), checkpoints=every)
    assert str(tmp_path / "stopped" / "checkpoints" / "step-0000003") in str(error.value)
    train(tmp_path / "stopped", checkpoints=every)
    train(tmp_path / "whole")
    assert equal(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "kind"), [("SIGTERM", OptimiserKind.adamw), ("SIGINT", OptimiserKind.muon)]
)
def test_a_stop_saves_first_and_the_run_goes_on_exactly(tmp_path, name, kind):
    settings = {"optimiser": OptimiserConfig(kind=kind, lr=1e-2), "log": LogConfig(every=1)}
    stopped = train(tmp_path / "stopped", TinyStage({3: name}), **settings)
    assert stopped.step == 4
    assert stopped.checkpoints.latest().name == "step-0000004"
    assert train(tmp_path / "stopped", **settings).step == STEPS
    train(tmp_path / "whole", **settings)
    assert equal(tmp_path / "stopped", tmp_path / "whole")
    timing = {"samples_per_second", "waiting_for_data"}
    for ours, theirs in zip(lines(tmp_path / "stopped"), lines(tmp_path / "whole"), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(ours[key] == theirs[key] for key in ours.keys() - timing)


def test_previews_are_kept_with_their_numbers(tmp_path):
    train(tmp_path, log=LogConfig(every=100, preview_every=3))
    folders = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert folders == ["step-0000003", "step-0000006"]
    told = {line["step"]: line for line in lines(tmp_path) if "preview.weight" in line}
    for folder in folders:
        text = (tmp_path / "previews" / folder / "weight.txt").read_text()
        assert told[int(folder[-7:])]["preview.weight"] == float(text)


@pytest.mark.parametrize("error", [ValueError, OSError, torch.OutOfMemoryError])
def test_a_preview_that_fails_is_told_and_ends_no_run(tmp_path, monkeypatch, caplog, error):
    def preview(self, folder, step):
        raise error("image me.jpg is missing")

    monkeypatch.setattr(TinyStage, "preview", preview)
    trainer = train(tmp_path, log=LogConfig(every=100, preview_every=3))
    assert trainer.step == STEPS
    assert [m for m in caplog.messages if m.startswith("no preview")] == [
        f"no preview after step {step}: image me.jpg is missing" for step in (3, 6)
    ]


def test_previews_may_change_on_the_way(tmp_path):
    def go_on(steps, average=0.9, **preview):
        stage = AutoregressiveConfig(average=average, preview=PreviewConfig(**preview))
        kind = partial(TrainConfig, stage="tiny", model=tiny_config(), autoregressive=stage)
        return train(tmp_path, steps=steps, kind=kind).step

    assert go_on(2) == 2
    assert go_on(3, actors=1, seconds=2.0, image="me.png", audio="my.wav") == 3
    with pytest.raises(ValueError, match=r"otherwise: autoregressive\.average was 0\.9, is 0\.8;"):
        go_on(4, average=0.8)


def test_a_run_folder_has_one_writer(tmp_path):
    """For as long as it lives: a lock of a process that was killed is gone."""
    code = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    holding = [sys.executable, "-c", f"{code}; print(flush=True); input()", tmp_path / ".lock"]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=f"output={tmp_path}: another process is training"):
            train(tmp_path)
        assert not (tmp_path / "checkpoints").exists()
        other.kill()
    assert train(tmp_path).step == STEPS


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def lockf(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert train(tmp_path).step == STEPS
    assert "cannot be locked" in caplog.text


def test_batches_that_cannot_be_dealt_out_are_refused(tmp_path):
    with pytest.raises(ValueError, match="global_batch is 6; it must be a multiple of 4"):
        train(tmp_path, global_batch=6, micro_batch=4)


def test_a_tracker_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("flowact.training.log.get_available_trackers", list)
    config = LoopConfig(output=str(tmp_path), log=LogConfig(trackers=("wandb",)))
    with pytest.raises(ValueError, match=r"log\.trackers has wandb; install it"):
        Trainer(TinyStage(), config)
