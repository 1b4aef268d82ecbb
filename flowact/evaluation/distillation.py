"""How near a distilled model comes to what it was distilled from, on windows of unseen clips."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.data.window_dataset import WindowDataset
from flowact.index import read_index
from flowact.runtime import resolve_device
from flowact.settings import ModelConfig
from flowact.training.distill_settings import (
    UNDROPPED,
    DistillationConfig,
    GuidanceConfig,
    StepsConfig,
)
from flowact.training.objective import Draws
from flowact.training.objectives.guidance import guided_velocity
from flowact.training.objectives.steps import Jump, one_call
from flowact.training.stream_model import StreamModel
from flowact.training.tasks import Task, clean_buffer
from flowact.training.window_loss import stream_levels
from flowact.training.window_start import load_start

ROUNDING = 1e-9  # of two orders of summation in float32, squared, of latents around 1


def report_distillation(config: DistillationConfig) -> dict[str, Any]:
    """Errors of the student beside what it would be to have learnt nothing; written as JSON too.

    A student of guidance is asked for its velocity at all scales; one of steps, where it lands from
    the beginning of each segment. 0 is the teacher, 1 is the teacher without guidance, or in one
    step. Which of them the student is, its teacher tells: that of steps takes scales itself.

    Raises:
        ValueError: weights or data do not do, or the two are not student and teacher.
    """
    if not Path(config.output).parent.is_dir():
        raise ValueError(f"output={config.output}: its folder does not exist; make it first")
    model, taught = (read_index(Path(path))[0] for path in (config.weights, config.teacher))
    if not model.transformer.guidance_embeds:
        raise ValueError("weights: the model is not distilled; give those of experiment=guidance")
    jumps = taught.transformer.guidance_embeds
    if jumps and model.stream.micro_steps > 1:
        raise ValueError(
            f"teacher={config.teacher} is distilled for guidance, and its students make one step; "
            f"weights={config.weights} makes {model.stream.micro_steps}: if it is of experiment="
            "guidance, give its teacher of stage 2"
        )
    folders = tuple(map(Path, config.folders))
    device = torch.device(resolve_device(config.device))
    starts = [
        load_start(settings, path, config.seed, folders)
        for settings, path in ((model, config.weights), (taught, config.teacher))
    ]
    student, teacher = (StreamModel.of(start.network).to(device).eval() for start in starts)
    data = WindowDataset(
        dict.fromkeys(folders, 1.0),
        model.geometry,
        replace(UNDROPPED, start=(0.0,) * model.geometry.depth),
        1,
        config.seed,
        made_by=starts[0].made_by,
        long_term_stride=model.stream.long_term_stride,
    )
    windows = [data[sample].to(device) for sample in range(config.windows)]
    with torch.no_grad():
        if jumps:
            rows = _jumps(student, teacher, windows, model, config)
        else:
            rows = _guidance(student, teacher, windows, model, config)
    report = {"config": dataclasses.asdict(config), "rows": rows}
    Path(config.output).write_text(json.dumps(report, indent=2) + "\n")
    return report


def _guidance(
    student: nn.Module,
    teacher: nn.Module,
    windows: list[Windows],
    model: ModelConfig,
    config: DistillationConfig,
) -> list[dict[str, Any]]:
    """By scales: the student's error, in three passes' and in two's, of what guidance changes."""
    pairs = [(s, s) for s in config.scales]
    pairs += [(s, 1.0) for s in config.scales] + [(1.0, s) for s in config.scales]
    sums: dict[tuple[float, float], list[Tensor]] = {pair: [] for pair in pairs}
    for sample, window in enumerate(windows):
        draws = Draws(config.seed, "distillation report", 0, (sample,))
        clean = clean_buffer(window, Task.STREAM, model.geometry)
        levels = stream_levels(clean.latents.shape[2], draws, model, GuidanceConfig().levels)
        noise = draws.normal("noise", tuple(clean.latents.shape[1:])).to(clean.latents.device)
        noisy = clean.noised(noise, levels.to(noise.device))
        plain = teacher(noisy)
        for pair in pairs:
            scales = noise.new_tensor([pair])
            wanted = guided_velocity(teacher, noisy, scales, apart=pair[0] != pair[1])
            made = student(replace(noisy, guidance=scales))
            sums[pair].append(torch.stack([_square(made - wanted), _square(plain - wanted)]))
    return [
        {"text": text, "audio": audio, "passes": 2 if text == audio else 3, **_share(errors)}
        for (text, audio), errors in sums.items()
    ]


def _jumps(
    student: nn.Module,
    teacher: nn.Module,
    windows: list[Windows],
    model: ModelConfig,
    config: DistillationConfig,
) -> list[dict[str, Any]]:
    """By segment: the error of where a chunk lands, of that of the teacher's one step."""
    depth, size = model.geometry.depth, model.geometry.chunk_latents
    stage = StepsConfig(teacher_steps=config.teacher_steps, audio_lags=(1.0,))
    errors: list[list[Tensor]] = [[] for _ in range(depth)]
    for sample, window in enumerate(windows):
        draws = Draws(config.seed, "distillation report", 0, (sample,))
        jump = Jump(window, model, stage, draws)
        state = jump.streams.state(depth - 1)
        _, landed = teacher(jump.taught().call(state))
        call = jump.streams.call(state)
        made, plain = (network(call)[0] for network in (student, teacher))
        wanted, _ = one_call(state, landed, model.geometry, jump.streams.settings)
        for place in range(depth):
            own = slice(place * size, (place + 1) * size)
            pair = [_square((x - wanted)[:, :, own]) for x in (made, plain)]
            errors[depth - 1 - place].append(torch.stack(pair))
    return [{"segment": age, **_share(own)} for age, own in enumerate(errors)]


def _square(errors: Tensor) -> Tensor:
    return errors.square().mean()


def _share(errors: list[Tensor]) -> dict[str, float | None]:
    """Of errors [2] of the student and of what has learnt nothing: means, and their ratio.

    None where there is nothing to learn: at scales of 1, or from a teacher of one step.
    """
    student, nothing = torch.stack(errors).mean(dim=0).tolist()
    share = student / nothing if nothing > ROUNDING else None
    return {"error": student, "error_untaught": nothing, "share": share}


def table(report: dict[str, Any]) -> str:
    """The rows as text, a line each."""
    rows = report["rows"]
    names = list(rows[0])
    lines = ["  ".join(f"{name:>14}" for name in names)]
    lines += ["  ".join(_cell(row[name]) for name in names) for row in rows]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return " " * 14 if value is None else f"{value:14.4g}"
