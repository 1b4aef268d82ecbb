"""Stage 1 learns, on what its settings say, whatever the batches."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.data.windows import Kind, WindowsConfig
from flowact.geometry import Geometry
from flowact.training.objectives.autoregressive import Autoregressive
from flowact.training.tasks import Task, draw_task
from flowact.training.window_loss import flow_matching
from flowact.training.window_settings import (
    AutoregressiveConfig,
    FocusConfig,
    LevelsConfig,
    TasksConfig,
)

PAPER = Geometry()
NO_TASKS = TasksConfig(without_long_term=0, reference_alone=0, refinement=0)


def make_objective(make_transformer, folder, micro_batch=1, **changes):
    config = AutoregressiveConfig(folders=(str(folder),), **changes)
    network = make_network(make_transformer(audio_feature_dim=None))
    return Autoregressive(network, make_model_config(), config, micro_batch, seed=0)


def batch_of(objective, samples):
    return objective.collate([objective.dataset[sample] for sample in samples])


def only(task):
    odds = {name: 0.0 for name in ("without_long_term", "reference_alone", "refinement")}
    return TasksConfig(**(odds if task is Task.STREAM else odds | {str(task): 1.0}))


def test_a_window_is_learnt_by_heart(make_transformer, tmp_path):
    """Its own noise too: at one level and one noise, the velocity is one tensor."""
    folder = make_clips(tmp_path / "data", [8])
    objective = make_objective(
        make_transformer,
        folder,
        tasks=NO_TASKS,
        levels=LevelsConfig(staircase=1, independent=0, common=0),
    )
    windows, draws = batch_of(objective, [0]), make_draws([0])
    trained = [p for p in objective.networks["model"].parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(80):
        loss = objective.loss("model", windows, draws).total
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # Latents and noise have variance 1 each, so that a velocity of zero costs 2.
    assert losses[0] > 1.5
    assert losses[-1] < 0.5


@pytest.mark.parametrize("task", list(Task))
def test_a_batch_costs_the_mean_of_its_samples(make_transformer, tmp_path, task):
    """Weights and draws are the samples' own, and so are their gradients."""
    folder = make_clips(tmp_path / "data", [8, 9, 12])
    objective = make_objective(
        make_transformer,
        folder,
        micro_batch=2,
        tasks=only(task),
        windows=WindowsConfig(start_weight=0.5),
    )
    network = objective.networks["model"]

    def gradient_of(batches):
        network.zero_grad()
        for samples in batches:
            share = len(samples) / 4
            draws = make_draws(samples)
            (share * objective.loss("model", batch_of(objective, samples), draws).total).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.requires_grad])

    two, four = gradient_of([(0, 1), (2, 3)]), gradient_of([(0,), (1,), (2,), (3,)])
    # Other sums in float32; norms of one.
    assert (two - four).norm() < 1e-4 * four.norm()


def test_the_start_of_a_clip_weighs_what_it_is_told(make_transformer, tmp_path):
    folder = make_clips(tmp_path / "data", [8, 9])
    losses = []
    for weight in (1.0, 0.5):
        windows = WindowsConfig(start=(0.5, 0.5, 0.0), start_weight=weight)
        objective = make_objective(make_transformer, folder, tasks=NO_TASKS, windows=windows)
        batch = batch_of(objective, [0])
        assert batch.infos[0].kind is Kind.CLIP_START
        losses.append(objective.loss("model", batch, make_draws([0])))
    assert torch.equal(losses[1].total, losses[0].total / 2)
    assert torch.equal(losses[1].parts["stream"], losses[0].parts["stream"])


def test_focus_moves_the_error_from_cell_to_cell(make_transformer, tmp_path):
    """Where two clips' maps are all in one half, the error of the other half counts 1 in 1 + f."""
    objective = make_objective(
        make_transformer,
        make_clips(tmp_path / "data", [8]),
        tasks=NO_TASKS,
        focus=FocusConfig(motion=1.0, sound=2.0),
    )
    windows, draws = batch_of(objective, [0]), make_draws([0])
    half = torch.zeros(1, 2, 4, 6)
    half[..., :3] = 2.0  # of mean 1
    other = half.flip(-1)
    losses = [
        float(objective.loss("model", replace(windows, focus=focus), draws).total.detach())
        for focus in (half, other, torch.ones_like(half))
    ]
    left, right, alike = losses
    # (7/4 left + 1/4 right), and the other way round: their mean is the error without focus.
    assert (left + right) / 2 == pytest.approx(alike, rel=1e-5)
    assert left != pytest.approx(right, rel=1e-3)
    plain = replace(objective.config, focus=FocusConfig())
    whole = flow_matching(
        objective.networks["model"], windows, draws, objective.model, plain
    ).total.detach()
    assert alike == pytest.approx(float(whole), rel=1e-5)


def test_errors_count_by_a_power_of_their_level(make_transformer, tmp_path):
    """At one level for all: what tells the powers apart is that level alone."""
    folder = make_clips(tmp_path / "data", [8])
    losses = []
    for power in (0.0, 1.0, 2.0):
        levels = LevelsConfig(staircase=0, independent=0, common=1, power=power)
        objective = make_objective(make_transformer, folder, tasks=NO_TASKS, levels=levels)
        losses.append(objective.loss("model", batch_of(objective, [0]), make_draws([0])))
    plain, once, twice = (float(loss.total.detach()) for loss in losses)
    level = once / plain / 2
    assert 0 < level < 1
    assert twice == pytest.approx(3 * level**2 * plain, rel=1e-5)
    assert losses[0].parts == losses[2].parts


def test_parts_tell_the_ages_apart(make_transformer, tmp_path):
    objective = make_objective(
        make_transformer, make_clips(tmp_path / "data", [8]), tasks=NO_TASKS,
        windows=WindowsConfig(start=(0.0, 0.0, 0.0)),
    )  # fmt: skip
    losses = objective.loss("model", batch_of(objective, [0]), make_draws([0]))
    assert set(losses.parts) == {"stream", "age_0", "age_1", "age_2"}
    ages = torch.stack([losses.parts[f"age_{age}"] for age in range(3)])
    # A mean of means, in another order.
    assert ages.mean() == pytest.approx(float(losses.total.detach()), rel=1e-5)
    assert not any(part.requires_grad for part in losses.parts.values())


def test_the_text_encoder_learns_too(make_transformer, tmp_path):
    objective = make_objective(make_transformer, make_clips(tmp_path / "data", [8]))
    objective.loss("model", batch_of(objective, [0]), make_draws([0])).total.backward()
    encoder = objective.networks["model"].text_encoder
    assert all(p.grad is not None and p.grad.any() for p in encoder.model.encoder.parameters())


def test_the_adapter_is_left_as_it_is(make_transformer, tmp_path):
    """A model that has one is trained without audio, and its adapter not at all."""
    config = AutoregressiveConfig(folders=(str(make_clips(tmp_path / "data", [8])),))
    network = make_network(make_transformer())
    objective = Autoregressive(network, make_model_config(), config, 1, seed=0)
    assert batch_of(objective, [0]).audio is None
    objective.loss("model", batch_of(objective, [0]), make_draws([0])).total.backward()
    adapter = [p for n, p in network.named_parameters() if "audio" in n]
    assert adapter
    assert all(p.grad is None and not p.requires_grad for p in adapter)
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def test_tasks_are_drawn_as_often_as_asked(make_transformer, tmp_path):
    folder = make_clips(tmp_path / "data", [8])
    objective = make_objective(
        make_transformer, folder, windows=WindowsConfig(start=(0.0, 0.0, 0.0))
    )
    config = TasksConfig(without_long_term=0.3, reference_alone=0.1, refinement=0.2)
    windows, n = batch_of(objective, [0]), 2000
    drawn = Counter(draw_task(config, make_draws([sample]), windows) for sample in range(n))
    odds = {
        Task.STREAM: 0.4,
        Task.WITHOUT_LONG_TERM: 0.3,
        Task.REFERENCE_ALONE: 0.1,
        Task.REFINEMENT: 0.2,
    }
    for task, p in odds.items():
        assert abs(drawn[task] - n * p) < 5 * (n * p * (1 - p)) ** 0.5  # standard deviations


def test_the_image_is_not_repaired(make_transformer, tmp_path):
    """At the start of a clip the short-term latent is the image: nothing was generated yet."""
    folder = make_clips(tmp_path / "data", [8])
    objective = make_objective(
        make_transformer, folder, windows=WindowsConfig(start=(1.0, 0.0, 0.0))
    )
    windows = batch_of(objective, [0])
    assert draw_task(only(Task.REFINEMENT), make_draws([0]), windows) is Task.STREAM


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refinement": 1.1}, r"tasks.refinement are 0.05, 0.05, 1.1; .*sum to 1 at most"),
        ({"refinement_levels": (0.5, 0.1)}, r"tasks.refinement_levels is \(0.5, 0.1\)"),
        ({"refinement_levels": (0.0, 0.1)}, "two levels above 0"),
    ],
)
def test_tasks_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TasksConfig(), **changes)
