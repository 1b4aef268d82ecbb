"""DMD against closed forms, and the roles of its networks."""

import logging
from dataclasses import replace

import pytest
import torch
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.diffusion import flow
from flowact.geometry import Geometry
from flowact.pipeline import FlowActPipeline
from flowact.rng import keyed_normal
from flowact.streaming.sampler import StreamSampler
from flowact.training.distill_settings import DmdConfig, GuidanceConfig, Normaliser
from flowact.training.loop import Trainer
from flowact.training.objectives.dmd import RECENT, Dmd, dmd_direction
from flowact.training.settings import LoopConfig, OptimiserConfig, TrainConfig
from flowact.training.stages import build
from flowact.training.stream_model import StreamModel, Streams
from flowact.training.window_model import Buffer, WindowModel
from flowact.training.window_settings import TasksConfig
from flowact.training.window_start import guided_copy, install_guided, install_model

PAPER = Geometry()
SHAPE = (4, 2, 6, 3, 3)


@pytest.fixture
def folder(tmp_path):
    return make_clips(tmp_path / "data", [11, 12])


@pytest.fixture
def make_dmd(make_transformer, folder):
    def make(warmup_steps=0, **changes):
        config = DmdConfig(folders=(str(folder),), **{"ticks": 4, "alone": 2, **changes})
        networks = [make_network(make_transformer(guidance_embeds=True)) for _ in range(2)]
        with torch.no_grad():  # or both scores would be one
            networks[1].transformer.proj_out.weight.mul_(0.5)
        model = make_model_config()
        stream = replace(model.stream, text_scale=2.0, audio_scale=2.0)
        model = replace(model, stream=stream)
        return Dmd(*networks, model, config, 1, seed=0, warmup_steps=warmup_steps)

    return make


# --- on Gaussians, of which all scores are known --------------------------------------------------


def seen_clean(x, level, mean, deviation):
    """E[x0 | x] of x = (1 - s) x0 + s e, where x0 is Gaussian."""
    signal, noise = (1 - level) * deviation, level
    gain = signal * deviation / (signal**2 + noise**2)
    return mean + gain * (x - (1 - level) * mean)


def direction_on_gaussians(samples, level, made, true):
    noise = keyed_normal(samples.shape, "noise")
    x = flow.add_noise(samples, noise, level)
    fake, real = (seen_clean(x, level, *which) for which in (made, true))
    return dmd_direction(samples, fake, real, Normaliser.none)


@pytest.mark.parametrize("level", [0.2, 0.6, 0.95])
def test_the_direction_is_that_of_the_divergence(level):
    """It is s^2 / (1 - s) times the gradient, by the sample, of what DMD's score difference is.

    For Gaussians of one deviation d and means a (made) and b (true) the scores differ by
    (1 - s) (b - a) / ((1 - s)^2 d^2 + s^2) everywhere, whatever the noise.
    """
    d, a, b = 0.8, 1.5, -0.5
    samples = a + d * keyed_normal(SHAPE, "samples")
    found = direction_on_gaussians(samples, level, (a, d), (b, d))
    scores = (1 - level) * (a - b) / (((1 - level) * d) ** 2 + level**2)
    expected = torch.full(SHAPE, level**2 / (1 - level) * scores)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # rounding of a difference


def test_its_fixed_point_is_the_truth():
    """A generator a + d e that descends the direction, with a fake score that knows it, gets there.

    At the truth the direction is 0 for every sample.
    """
    true = (-0.5, 0.8)
    mean, deviation = torch.tensor(1.5, requires_grad=True), torch.tensor(0.3, requires_grad=True)
    draws = keyed_normal((4096,), "generator")
    for step in range(400):
        samples = mean + deviation * draws
        level = 0.1 + 0.8 * (step % 8) / 7
        noise = keyed_normal((4096,), "noise", step)
        x = flow.add_noise(samples.detach(), noise, level)
        fake = seen_clean(x, level, mean.detach(), deviation.detach())
        real = seen_clean(x, level, *true)
        direction = dmd_direction(samples.detach(), fake, real, Normaliser.none)
        (samples * direction).mean().backward()
        with torch.no_grad():
            for parameter in (mean, deviation):
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
    # A mean over 4096 draws is known to 1/64 of a deviation.
    assert abs(mean.item() - true[0]) < 0.03
    assert abs(deviation.item() - true[1]) < 0.03
    samples = true[0] + true[1] * keyed_normal(SHAPE, "samples")
    assert not direction_on_gaussians(samples, 0.5, true, true).any()


@pytest.mark.parametrize("normaliser", list(Normaliser))
def test_a_samples_direction_does_not_depend_on_its_batch(normaliser):
    samples, fake, real = (keyed_normal(SHAPE, name) for name in ("samples", "fake", "real"))
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None, None, None]
    parts = [samples, fake, real * scale]
    whole = dmd_direction(*parts, normaliser)
    for n in range(len(samples)):
        alone = dmd_direction(*(part[n : n + 1] for part in parts), normaliser)
        assert torch.equal(whole[n : n + 1], alone)


def test_the_normalisers():
    samples, fake, real = (keyed_normal(SHAPE, name) for name in ("samples", "fake", "real"))
    plain = dmd_direction(samples, fake, real, Normaliser.none)
    assert torch.equal(plain, fake - real)
    ratio = plain / dmd_direction(samples, fake, real, Normaliser.sample)
    expected = (samples - real).abs().mean(dim=(1, 2, 3, 4), keepdim=True).expand(SHAPE)
    torch.testing.assert_close(ratio, expected)
    ratio = plain / dmd_direction(samples, fake, real, Normaliser.latent)
    expected = (samples - real).abs().mean(dim=(1, 3, 4), keepdim=True).expand(SHAPE)
    torch.testing.assert_close(ratio, expected)


# --- on the stream --------------------------------------------------------------------------------


def batch_of(objective, samples):
    return objective.collate([objective.dataset[sample] for sample in samples])


def test_the_fake_score_learns_first_and_more_often(make_dmd):
    objective = make_dmd(alone=2, every=3)
    turns = [objective.turns(step) for step in range(9)]
    both = ("fake", "model")
    assert turns == [("fake",), ("fake",), both] * 3
    assert tuple(objective.averaged) == ("model",)


def test_the_generator_warms_up_from_its_first_step(make_dmd, tmp_path, monkeypatch):
    """By then the run's own warm-up, which is the fake score's, is over."""
    objective = make_dmd(alone=3, every=2, fake_rate=0.5, ticks=1, warmup_steps=4)
    optimiser = OptimiserConfig(lr=1.0, warmup_steps=2)
    config = LoopConfig(
        output=str(tmp_path), steps=10, global_batch=1, micro_batch=1, optimiser=optimiser
    )
    trainer = Trainer(objective, config)
    rates = {}
    for role, (adamw,) in trainer.optimisers.items():
        told = rates[role] = []
        groups = adamw.param_groups
        monkeypatch.setattr(adamw, "step", lambda g=groups, t=told: t.append(g[0]["lr"]))
    trainer.run()
    assert rates["fake"] == [0.25] + [0.5] * 9
    assert rates["model"] == [0.25, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("role", "refinement", "reference_alone", "refined"),
    [
        ("fake", 0.0, 0.0, 0.0),
        ("fake", 0.0, 1.0, 1.0),
        ("model", 0.0, 0.0, 0.0),
        ("model", 0.0, 1.0, 0.0),
        ("model", 0.0, 0.0, 1.0),
        ("model", 0.9, 0.0, 0.0),
    ],
)
def test_a_role_has_all_its_gradients_and_no_other_has_any(
    make_dmd, role, refinement, reference_alone, refined, autocast
):
    """Under both contexts of the scores, on repaired memory and in repairs, of ramp-ups and of
    later ticks."""
    tasks = TasksConfig(refinement=refinement)
    objective = make_dmd(tasks=tasks, reference_alone=reference_alone, refined=refined)
    objective.networks["teacher"].requires_grad_(False)  # as the loop does
    for step in range(3):
        for network in objective.networks.values():
            network.zero_grad()
        draws = replace(make_draws([step]), step=step)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            losses = objective.loss(role, batch_of(objective, [step]), draws)
        losses.total.backward()
        for name, network in objective.networks.items():
            gradients = [p.grad is not None for p in network.parameters() if p.requires_grad]
            assert all(gradients) if name == role else not any(gradients)


def test_some_streams_repair_what_they_remember(make_dmd, monkeypatch):
    """At every tick before the one that is scored, whatever the window, from levels that vary."""
    levels, repair = [], StreamSampler.repair

    def watching(sampler, *told):
        levels.append(sampler.settings.refine_level)
        return repair(sampler, *told)

    monkeypatch.setattr(StreamSampler, "repair", watching)
    windows = replace(DmdConfig().windows, start=(0.5,))
    never, always = (make_dmd(windows=windows, refined=share) for share in (0.0, 1.0))
    kinds, drawn = set(), set()
    for step in range(6):
        batch, draws = batch_of(always, [step]), replace(make_draws([step]), step=step)
        never._rolled(batch, draws)
        assert not levels
        streams, call = always._rolled(batch, draws)
        ticks = int(draws.of_step("ticks") * always.config.ticks)
        assert len(levels) == ticks
        assert call.state.tick == streams.first + PAPER.depth - 1 + ticks
        assert streams.settings.refine_every == 0  # of the scored tick nothing is remembered
        kinds.add(batch.infos[0].kind)
        drawn |= set(levels)
        levels.clear()
    assert len(kinds) > 1
    assert len(drawn) > 2
    assert 0.1 <= min(drawn) < max(drawn) <= 0.5


def test_as_many_streams_repair_as_are_asked_for(make_dmd, monkeypatch):
    objective = make_dmd(refined=0.25)
    batch, repairing = batch_of(objective, [0]), []

    def roll(streams, network, state, ticks):
        repairing.append(streams.settings.refine_every)
        return state

    monkeypatch.setattr(Streams, "roll", roll)
    for step in range(400):
        objective._rolled(batch, replace(make_draws([0]), step=step))
    assert abs(sum(repairing) / 400 - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5  # deviations


def test_every_level_of_the_grid_has_output_gradient(make_dmd, monkeypatch):
    """Of the steady state's queue each chunk's estimate is moved, and so is the ramp-up's."""
    windows = replace(DmdConfig().windows, start=(0.6,))
    objective = make_dmd(reference_alone=0.0, refined=0.0, windows=windows)
    seen = {}
    forward = StreamModel.forward

    def watching(network, call):
        out = forward(network, call)
        if network is objective.networks["model"] and torch.is_grad_enabled():
            out[0].retain_grad()
            seen["estimates"] = out[0]
        return out

    monkeypatch.setattr(StreamModel, "forward", watching)
    lengths, step = set(), 0
    while lengths != {3, 6, 9}:
        assert step < 60, lengths
        draws = replace(make_draws([step]), step=step)
        losses = objective._generator_loss(batch_of(objective, [step]), draws)
        losses.total.backward()
        gradient = seen["estimates"].grad
        assert (gradient.abs().amax(dim=(0, 1, 3, 4)) > 0).all()
        lengths.add(gradient.shape[2])
        step += 1


def test_the_gradient_of_the_loss_is_the_direction(make_dmd, monkeypatch):
    """Where the fake score's velocity is larger by 1.5, what it sees clean is smaller by 1.5 s."""
    windows = replace(DmdConfig().windows, start=(0.0,))
    objective = make_dmd(normaliser=Normaliser.none, ticks=1, windows=windows)
    velocities = {id(objective.networks["fake"]): 2.0, id(objective.networks["teacher"]): 0.5}
    estimates, levels = torch.ones(1, 4, 9, 4, 6, requires_grad=True), []

    def given(network, call):
        if isinstance(call, Buffer):
            levels.append(call.levels)
            return torch.full_like(call.latents, velocities[id(network)])
        return estimates, None

    monkeypatch.setattr(StreamModel, "forward", given)
    objective._generator_loss(batch_of(objective, [0]), make_draws([0])).total.backward()
    assert torch.equal(levels[0], levels[1])
    expected = flow.expand(-1.5 * levels[0]).expand_as(estimates)
    found = estimates.grad * estimates.numel()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # rounding


def test_the_fake_score_is_measured_against_the_teacher(make_dmd, monkeypatch):
    """On the same samples, whatever the scales that the run matches."""
    objective = make_dmd(health_every=2)
    told, forward = [], StreamModel.forward

    def watching(network, call):
        if network is objective.networks["teacher"]:
            told.append(call.guidance)
        return forward(network, call)

    monkeypatch.setattr(StreamModel, "forward", watching)
    parts = [
        objective.loss("fake", batch_of(objective, [0]), replace(make_draws([0]), step=step)).parts
        for step in (0, 1)
    ]
    assert set(parts[0]) == {"error", "error_of_teacher", "error_over_teacher"}
    assert set(parts[1]) == {"error"}
    assert parts[0]["error"] > 0
    assert parts[0]["error_over_teacher"] == parts[0]["error"] / parts[0]["error_of_teacher"]
    assert len(told) == 1
    assert torch.equal(told[0], torch.ones(1, 2))


def test_a_fake_score_that_is_behind_is_said(make_dmd, caplog):
    """Once the generator trains: until then it has been given time to learn."""
    objective = make_dmd(health_every=1, alone=2, ticks=1)
    fake, teacher = (objective.networks[score] for score in ("fake", "teacher"))
    fake.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        fake.transformer.proj_out.weight.mul_(-1)
    batch = batch_of(objective, [0])

    def said_after(steps):
        for step in steps:
            objective.loss("fake", batch, replace(make_draws([0]), step=step))
        return [m for m in caplog.messages if "the fake score does not know the samples" in m]

    assert not said_after(range(2))
    assert not said_after(range(2, RECENT + 1))
    assert len(said_after([RECENT + 1])) == 1
    caplog.clear()
    with torch.no_grad():
        teacher.transformer.proj_out.weight.mul_(-10)
    assert not said_after(range(2, 2 + RECENT))


def test_a_collapse_is_said(make_dmd, caplog):
    objective = make_dmd()
    windows = batch_of(objective, [0])
    streams, call = objective._rolled(windows, make_draws([0]))
    truth = streams.truth(call)
    figures = objective._health(truth, streams, call)
    assert {name: float(f) for name, f in figures.items()} == {"motion": 1.0, "variance": 1.0}
    still = truth[:, :, :1].expand_as(truth)
    with caplog.at_level(logging.WARNING):
        for _ in range(RECENT - 1):
            objective._health(truth, streams, call)
        assert not caplog.records
        for _ in range(RECENT):
            objective._health(still, streams, call)
    assert any("motion of its samples was 0.00" in record.message for record in caplog.records)
    caplog.clear()
    silent = make_dmd(collapse=0.0)
    for _ in range(RECENT):
        silent._health(still, streams, call)
    assert not caplog.records


@pytest.mark.parametrize("wrong", ["missing", "too few steps", "not distilled", "another shift"])
def test_what_cannot_become_a_run_is_refused(tiny_pipeline, tmp_path, wrong):
    """Each before the first step, and by the name of its key."""
    tiny_pipeline.save_pretrained(tmp_path / "stage2")
    student = FlowActPipeline.from_pretrained(tmp_path / "stage2")
    parts = (student.transformer, student.text_encoder, student.config.geometry)
    install_model(guided_copy(WindowModel(*parts)), student)
    stream = GuidanceConfig().stream(student.config.stream)
    install_guided(student, stream)
    student.save_pretrained(tmp_path / "stage3a")
    install_guided(student, replace(stream, shift=3.0))
    student.save_pretrained(tmp_path / "shifted")
    teacher, named = {
        "missing": (None, "dmd.teacher is missing"),
        "too few steps": ("stage3a", "steps is 200, dmd.alone is 200"),
        "not distilled": ("stage2", "dmd.teacher=.*takes no guidance scales"),
        "another shift": ("shifted", "dmd.teacher=.*stream.shift is 3.0"),
    }[wrong]
    run = TrainConfig(
        model=student.config,
        stage="dmd",
        output=str(tmp_path / "run"),
        weights=str(tmp_path / "stage3a"),
        steps=200 if wrong == "too few steps" else 201,
        dmd=DmdConfig(folders=("no",), teacher=teacher and str(tmp_path / teacher)),
    )
    with pytest.raises(ValueError, match=named):
        build(run)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ticks": 0}, "ticks is 0"),
        ({"every": 0}, "every is 0"),
        ({"fake_rate": 0.0}, "fake_rate is 0"),
        ({"score_levels": (0.0, 1.0)}, "score_levels is"),
        ({"reference_alone": 2.0}, "reference_alone is 2"),
        ({"refined": -1.0}, "refined is -1"),
        ({"score_levels": (0.1,)}, "score_levels is"),
        ({"collapse": 1.0}, "collapse is 1"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(ValueError, match=named):
        DmdConfig(**settings)


def test_clips_have_to_be_long_enough(make_dmd):
    with pytest.raises(ValueError, match=r"has no clip .* needs 19 chunks"):
        make_dmd(ticks=16)
