"""What a micro-batch of windows is used for: the stream under some context, or a repair."""

from enum import StrEnum

from flowact.data.data_folder import Windows
from flowact.data.windows import Kind
from flowact.geometry import Geometry
from flowact.training.objective import Draws
from flowact.training.window_model import Buffer
from flowact.training.window_settings import TasksConfig


class Task(StrEnum):
    """What is denoised, and under what.

    The stream goes without memory at times, since distillation asks for its scores so, and the
    model then has to take the person from the reference.
    """

    STREAM = "stream"
    WITHOUT_LONG_TERM = "without_long_term"
    REFERENCE_ALONE = "reference_alone"
    REFINEMENT = "refinement"


def draw_task(config: TasksConfig, draws: Draws, windows: Windows) -> Task:
    """The task of a micro-batch, drawn by its first sample: buffers of two tasks differ in shape.

    There is nothing to repair at the start of a clip, where the short-term latent is the image.
    """
    u = float(draws.uniform("task")[0])
    for task, odds in (
        (Task.WITHOUT_LONG_TERM, config.without_long_term),
        (Task.REFERENCE_ALONE, config.reference_alone),
        (Task.REFINEMENT, config.refinement),
    ):
        if u < odds:
            at_start = windows.infos[0].kind is Kind.CLIP_START
            return Task.STREAM if task is Task.REFINEMENT and at_start else task
        u -= odds
    return Task.STREAM


def clean_buffer(windows: Windows, task: Task, geometry: Geometry) -> Buffer:
    """The latents that ``task`` denoises, before noise, with the context it has."""
    if task is Task.REFINEMENT:
        return _short_term(windows, geometry)
    slots = geometry.slots(windows.context.shape[2] - 2)
    short_term = len(slots) - 1
    kept = {
        Task.STREAM: list(range(len(slots))),
        Task.WITHOUT_LONG_TERM: [0, short_term],
        Task.REFERENCE_ALONE: [0],
    }[task]
    clean = windows.stream.float()
    size = geometry.chunk_latents
    return Buffer(
        latents=clean,
        levels=clean.new_zeros(len(clean), clean.shape[2]),
        slots=geometry.stream_slots(clean.shape[2] // size),
        context=windows.context[:, :, kept].float(),
        context_slots=tuple(slots[place] for place in kept),
        captions=tuple(
            tuple(caption for caption in info.captions for _ in range(size))
            for info in windows.infos
        ),
        audio=windows.audio,
    )


def _short_term(windows: Windows, geometry: Geometry) -> Buffer:
    """The true short-term latent in its slot, under reference and long-term memory."""
    *anchors, slot = geometry.slots(windows.context.shape[2] - 2)
    context = windows.context.float()
    return Buffer(
        latents=windows.short_term.float(),
        levels=context.new_zeros(len(context), 1),
        slots=(slot,),
        context=context[:, :, :-1],
        context_slots=tuple(anchors),
        captions=tuple((info.memory_caption,) for info in windows.infos),
        audio=windows.memory_audio,
    )
