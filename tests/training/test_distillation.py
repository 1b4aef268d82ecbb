"""Guidance and step distillation: what the student learns, and that it can."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config
from window_training import make_clips, make_draws, make_model_config, make_network

from flowact.data.data_folder import DataFolder
from flowact.data.windows import Choice, Kind, WindowsConfig
from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.pipeline import FlowActPipeline
from flowact.settings import StreamSettings, Update
from flowact.training.distill_settings import GuidanceConfig, StepsConfig
from flowact.training.objectives.guidance import (
    GuidanceDistillation,
    draw_scales,
    guided_velocity,
)
from flowact.training.objectives.steps import StepDistillation, draw_lag, one_call
from flowact.training.stream_model import StreamModel, Streams
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import LevelsConfig, TasksConfig
from flowact.training.window_start import (
    guided_copy,
    install_guided,
    install_model,
    undistilled,
)

PAPER = Geometry()
REPAIRS = TasksConfig(refinement=0.9)
# Two orders of summation in float32, over a few layers, of values around 1.
REORDERED = 1e-5


@pytest.fixture
def folder(tmp_path):
    return make_clips(tmp_path / "data", [8, 9])


def noisy_buffer(folder, level=0.7):
    data = DataFolder(folder, PAPER)
    window = data.window(0, 3, Choice(2, 0, False, False), WindowsConfig())
    clean = clean_buffer(window, Task.STREAM, PAPER)
    noise = torch.randn(clean.latents.shape, generator=torch.Generator().manual_seed(0))
    return clean.noised(noise, torch.full_like(clean.levels, level))


def distil_guidance(transformer, folder, **changes):
    config = GuidanceConfig(folders=(str(folder),), **changes)
    return GuidanceDistillation(make_network(transformer), make_model_config(), config, 1, seed=0)


@torch.no_grad()
def test_the_guided_velocity_is_of_two_or_three_passes(make_transformer, folder):
    network, buffer = make_network(make_transformer()), noisy_buffer(folder)
    full, uncond = network(buffer), network(buffer.unconditional())
    with_text = network(replace(buffer, audio=torch.zeros_like(buffer.audio)))
    text, audio = 3.0, 1.5
    scales = torch.tensor([[text, audio]])
    two = uncond + text * (full - uncond)
    three = uncond + text * (with_text - uncond) + audio * (full - with_text)
    for apart, expected in ((False, two), (True, three)):
        made = guided_velocity(network, buffer, scales, apart)
        torch.testing.assert_close(made, expected, atol=REORDERED, rtol=REORDERED)
    assert not torch.allclose(two, three, atol=1e-2)


def test_a_distilled_model_goes_on_without_its_scales():
    pipeline = FlowActPipeline.untrained(tiny_config())
    before, stream = pipeline.transformer.state_dict(), pipeline.config.stream
    install_model(
        guided_copy(WindowModel(pipeline.transformer, pipeline.text_encoder, PAPER)), pipeline
    )
    install_guided(pipeline, GuidanceConfig().stream(stream))
    assert "guidance_embed" in "".join(pipeline.transformer.state_dict())
    undistilled(pipeline)
    after = pipeline.transformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert pipeline.config.transformer == tiny_config().transformer
    assert pipeline.config.stream.text_scale is pipeline.config.stream.audio_scale is None


def test_a_student_begins_as_its_teacher(make_transformer, folder):
    """At scale 1 guidance is none, and a fresh embedding adds nothing: the loss is 0."""
    none = {"text_scales": (1.0, 1.0), "audio_scales": (1.0, 1.0)}
    none |= {"text_scale": 1.0, "audio_scale": 1.0}
    objective = distil_guidance(make_transformer(), folder, **none)
    batch = objective.collate([objective.dataset[0]])
    assert objective.loss("model", batch, make_draws([0])).total < REORDERED**2
    for changed in ("text", "audio"):
        other = "audio" if changed == "text" else "text"
        scales = {f"{changed}_scales": (3.0, 3.0), f"{changed}_scale": 3.0}
        scales |= {f"{other}_scales": (1.0, 1.0), f"{other}_scale": 1.0}
        guided = distil_guidance(make_transformer(), folder, **scales)
        assert guided.loss("model", batch, make_draws([0])).total > 1e-4


def test_the_student_alone_is_trained_and_all_of_it(make_transformer, folder):
    objective = distil_guidance(make_transformer(), folder)
    objective.networks["teacher"].requires_grad_(False)  # as the loop does
    batch = objective.collate([objective.dataset[0]])
    objective.loss("model", batch, make_draws([0])).total.backward()
    student, teacher = objective.networks["model"], objective.networks["teacher"]
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    assert all(p.grad is None for p in teacher.parameters())
    own = {p.data_ptr() for p in student.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in teacher.parameters())


def test_scales_are_drawn_in_their_ranges():
    config = GuidanceConfig(text_scales=(1.0, 3.0), audio_scales=(2.0, 6.0))
    text, audio = draw_scales(config, make_draws(range(500))).unbind(1)
    for drawn, (low, high) in ((text, (1, 3)), (audio, (2, 6))):
        assert low <= drawn.min() < low + 0.1 < high - 0.1 < drawn.max() <= high
    together = draw_scales(replace(config, apart=False), make_draws(range(20)))
    assert torch.equal(together[:, 0], together[:, 1])


def test_what_is_distilled_streams_in_one_pass(tiny_pipeline, tmp_path):
    """An exported student has its scales, and is refused as a beginning of the same stage."""
    tiny_pipeline.save_pretrained(tmp_path / "weights")
    pipeline = FlowActPipeline.from_pretrained(tmp_path / "weights")
    parts = (pipeline.text_encoder, pipeline.config.geometry)
    network = WindowModel(pipeline.transformer, *parts)
    folders = (str(make_clips(tmp_path / "data", [8])),)
    config = GuidanceConfig(folders=folders, text_scale=3.0)
    model = replace(pipeline.config, stream=replace(pipeline.config.stream, guidance=2.0))
    pipeline.config = model
    objective = GuidanceDistillation(network, model, config, 1, seed=0)
    objective.install(pipeline)
    pipeline.save_pretrained(tmp_path / "distilled")
    distilled = FlowActPipeline.from_pretrained(tmp_path / "distilled")
    stream = distilled.config.stream
    assert (stream.text_scale, stream.audio_scale, stream.passes) == (3.0, 2.0, 1)
    assert stream.micro_steps == 4
    with pytest.raises(ValueError, match="it is distilled; give those of stage 2"):
        GuidanceDistillation(WindowModel(distilled.transformer, *parts), model, config, 1, seed=0)


# --- steps --------------------------------------------------------------------------------------


@pytest.fixture
def guided_transformer(make_transformer):
    return make_transformer(guidance_embeds=True)


def distil_steps(transformer, folder, **changes):
    config = StepsConfig(folders=(str(folder),), **changes)
    return StepDistillation(make_network(transformer), guided_model(), config, 1, seed=0)


def guided_model():
    model = make_model_config()
    stream = replace(model.stream, text_scale=2.0, audio_scale=2.0)
    return replace(model, stream=stream)


@pytest.mark.parametrize("update", list(Update))
@pytest.mark.parametrize("queued", [0, 1, 2])
@torch.no_grad()
def test_one_call_may_land_where_four_do(guided_transformer, folder, update, queued):
    """A student that sees what ``one_call`` wants ends its tick where the teacher ended its own."""
    teacher = StreamModel.of(make_network(guided_transformer))
    settings = StreamSettings(
        micro_steps=4, shift=2.0, text_scale=2.0, audio_scale=2.0, update=Update.euler
    )
    oldest = 2 if queued == 2 else 0
    window = DataFolder(folder, PAPER).window(
        0, 3, Choice(oldest, 0, False, False), WindowsConfig()
    )
    streams = Streams(window, PAPER, settings, seeds=(3,))
    state = streams.state(queued)
    _, landed = teacher(streams.call(state))
    student = replace(settings, micro_steps=1, update=update)
    wanted, levels = one_call(state, landed, PAPER, student)
    grid = Levels(3, 1, 2.0)
    chunks = [*landed.state.queue]
    if landed.finished:
        chunks = [landed.finished, *chunks]
    before = [*state.queue, replace(landed.state.queue[-1], latents=landed.state.queue[-1].noise)]
    for n, (start, chunk) in enumerate(zip(before, chunks, strict=True)):
        age = queued - n
        now, then = grid.at(age), grid.at(age + 1)
        assert torch.equal(levels[:, 3 * n : 3 * n + 3], torch.full((1, 3), now))
        clean = wanted[:, :, 3 * n : 3 * n + 3]
        if update is Update.renoise:
            ends = flow.add_noise(clean, start.noise, then)
        else:
            ends = flow.euler(start.latents, (start.latents - clean) / now, now, then)
        torch.testing.assert_close(ends, chunk.latents, atol=REORDERED, rtol=REORDERED)


def test_of_one_step_there_is_nothing_to_learn(guided_transformer, folder):
    """Then teacher and student are the same; of more they differ, in each age and the repair."""
    one = distil_steps(guided_transformer, folder, teacher_steps=1)
    four = distil_steps(guided_transformer, folder)
    for sample in range(12):
        batch = one.collate([one.dataset[sample]])
        draws = make_draws([sample])
        assert one.loss("model", batch, draws).total < REORDERED**2
        losses = four.loss("model", batch, draws)
        assert losses.total > 1e-6


def test_repairs_are_learnt_of_latents_that_were_made(guided_transformer, folder):
    """At the start of a clip there is the image alone, which no stream repairs."""
    objective = distil_steps(guided_transformer, folder, tasks=REPAIRS)
    draws = next(
        draws
        for step in range(20)
        if (draws := replace(make_draws([0]), step=step)).of_step("task") < REPAIRS.refinement
    )
    for sample in range(12):
        batch = objective.collate([objective.dataset[sample]])
        losses = objective.loss("model", batch, draws)
        at_start = batch.infos[0].kind is Kind.CLIP_START
        assert ("refinement" in losses.parts) is not at_start
        assert losses.total > 1e-6


def test_every_parameter_of_the_student_has_a_gradient(guided_transformer, folder):
    for tasks in (TasksConfig(refinement=0.0), REPAIRS):
        windows = replace(StepsConfig().windows, start=(0.0, 0.0, 0.0))
        objective = distil_steps(guided_transformer, folder, tasks=tasks, windows=windows)
        objective.networks["teacher"].requires_grad_(False)
        batch = objective.collate([objective.dataset[0]])
        objective.loss("model", batch, make_draws([0])).total.backward()
        student = objective.networks["model"]
        assert all(p.grad is not None for p in student.parameters() if p.requires_grad)


def test_a_model_without_scales_is_refused(make_transformer, folder):
    with pytest.raises(ValueError, match="distil it by experiment=guidance first"):
        distil_steps(make_transformer(), folder)


def test_a_step_has_one_lag():
    config = StepsConfig(audio_lags=(0.5, 0.2, 0.3))
    lags = [draw_lag(config, replace(make_draws([0]), step=step)) for step in range(1000)]
    for lag, p in enumerate(config.audio_lags):
        assert abs(lags.count(lag) / 1000 - p) < 5 * (p * (1 - p) / 1000) ** 0.5  # deviations


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        (GuidanceConfig, {"text_scales": (3.0, 1.0)}, "text_scales is"),
        (GuidanceConfig, {"audio_scale": 5.0}, "audio_scale is 5.0; scales from 1.0 to 4.0 are"),
        (GuidanceConfig, {"apart": False, "audio_scale": 3.0}, "only equal ones are learnt"),
        (StepsConfig, {"text_scale": -1.0}, "text_scale is -1"),
        (StepsConfig, {"tasks": TasksConfig(refinement_levels=(0.1, 0.7))}, "repairs from 0.1"),
        (StepsConfig, {"tasks": TasksConfig(reference_alone=0.3)}, "of levels and tasks only"),
        (StepsConfig, {"levels": LevelsConfig(segment_start=1.0)}, "of levels and tasks only"),
        (GuidanceConfig, {"micro_steps": 0}, "micro_steps is 0"),
        (StepsConfig, {"teacher_steps": 0}, "teacher_steps is 0"),
    ],
)
def test_settings_out_of_range_are_named(kind, settings, named):
    with pytest.raises(ValueError, match=named):
        kind(**settings)
