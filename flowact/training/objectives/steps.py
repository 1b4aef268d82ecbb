"""Stage 3b: step distillation, segment by segment (design 8.3, paper 2.4).

Teacher and student are ticks of the same streams: the teacher's of m micro-steps, the student's of
one. The student learns to land where the teacher does (Salimans and Ho, arXiv 2202.00512).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.data.windows import Kind
from flowact.diffusion import flow
from flowact.diffusion.levels import Levels
from flowact.geometry import Geometry
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig, StreamSettings, Update
from flowact.streaming.state import StreamState, Tick
from flowact.training.distill_settings import StepsConfig
from flowact.training.objective import Draws, Losses
from flowact.training.objectives.audio_motion import AudioMotion
from flowact.training.settings import TrainConfig
from flowact.training.stream_model import Streams, untracked
from flowact.training.tasks import Task
from flowact.training.window_loss import velocity_error
from flowact.training.window_model import WindowModel
from flowact.training.window_start import guided, guided_student, install_guided


class StepDistillation(AudioMotion):
    """Land in one call where ``network``, distilled for guidance, does in several.

    Raises:
        ValueError: ``network`` takes no scales of guidance.
    """

    name = "steps"
    config: StepsConfig

    def _roles(self, network: WindowModel) -> dict[str, WindowModel]:
        return {"model": guided_student(network), "teacher": guided(network)}

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        student, teacher = self.networks[role], self.networks["teacher"]
        jump = Jump(batch, self.model, self.config, draws)
        repairs = draws.of_step("task") < self.config.tasks.refinement
        if repairs and jump.made:
            return jump.repair_loss(student, teacher)
        return jump.loss(student, teacher)

    def _install(self, network: nn.Module, pipeline: FlowActPipeline) -> None:
        super()._install(network, pipeline)
        install_guided(pipeline, self.config.stream(self.model.stream))


def build_steps(config: TrainConfig) -> StepDistillation:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    return StepDistillation.begin(config, config.step_distillation)


class Jump:
    """A micro-batch of windows as streams before a tick, for a student and its teacher.

    Args:
        windows: with the clips' own chunks in the queue, at the levels where segments begin.
        model: of both.
        config: of the stage.
        draws: of the micro-batch.
    """

    def __init__(
        self, windows: Windows, model: ModelConfig, config: StepsConfig, draws: Draws
    ) -> None:
        self.windows, self.model, self.config = windows, model, config
        low, high = config.tasks.refinement_levels
        settings = replace(
            config.stream(model.stream),
            audio_lag=draw_lag(config, draws),
            refine_every=0,
            refine_level=low + (high - low) * draws.of_step("refinement level"),
        )
        self.streams = Streams(windows, model.geometry, settings, draw_seeds(draws))

    @property
    def made(self) -> bool:
        """Whether memory has a latent that is not the image, to be repaired."""
        return self.windows.infos[0].kind is not Kind.CLIP_START

    def loss(self, student: nn.Module, teacher: nn.Module) -> Losses:
        """Error of where the student lands, as that of a velocity, by segment."""
        geometry, streams = self.model.geometry, self.streams
        queued = self.windows.stream.shape[2] // geometry.chunk_latents - 1
        state = streams.state(queued)
        with untracked():
            _, landed = teacher(self.taught().call(state))
        estimates, _ = student(streams.call(state))
        wanted, levels = one_call(state, landed, geometry, streams.settings)
        errors = (wanted - estimates) / flow.expand(levels)
        return velocity_error(errors, levels, self.windows, Task.STREAM, self.model, self.config)

    def repair_loss(self, student: nn.Module, teacher: nn.Module) -> Losses:
        """The same of the repair of the short-term latent, which is the clip's."""
        with untracked():
            wanted = teacher(self.taught().repair())
        repaired = student(self.streams.repair())
        level = repaired.new_full((len(repaired), 1), self.streams.settings.refine_level)
        errors = (wanted - repaired) / flow.expand(level)
        return velocity_error(errors, level, self.windows, Task.REFINEMENT, self.model, self.config)

    def taught(self) -> Streams:
        """The same streams as the teacher moves them."""
        settings = replace(
            self.streams.settings, micro_steps=self.config.teacher_steps, update=Update.euler
        )
        return replace(self.streams, settings=settings)


def draw_seeds(draws: Draws) -> tuple[int, ...]:
    """Of the noise of each sample's stream."""
    return tuple(int(u * 2**31) for u in draws.uniform("stream seed").tolist())


def draw_lag(config: StepsConfig, draws: Draws) -> int:
    """Ticks that chunks wait for their audio: of a step, since a batch of streams has one."""
    u = draws.of_step("audio lag")
    edges = [sum(config.audio_lags[: n + 1]) for n in range(len(config.audio_lags) - 1)]
    return sum(u >= edge for edge in edges)


def one_call(
    state: StreamState, landed: Tick, geometry: Geometry, settings: StreamSettings
) -> tuple[Tensor, Tensor]:
    """What a student has to see in ``state`` for its tick to end where ``landed`` did.

    Returns:
        The clean latents [B, C, F, H, W] of the queue with the chunk that entered, and its levels
        before the tick [B, F].
    """
    levels = Levels(geometry.depth, 1, settings.shift)
    after = {chunk.index: chunk for chunk in landed.state.queue}
    entered = after[state.tick]
    before = (*state.queue, replace(entered, latents=entered.noise))
    wanted, at = [], []
    for chunk in before:
        age = state.tick - chunk.index
        now, then = levels.at(age), levels.at(age + 1)
        if chunk.index not in after:
            assert landed.finished is not None
            clean = landed.finished.latents
        elif settings.update is Update.renoise:
            clean = (after[chunk.index].latents - then * chunk.noise) / (1 - then)
        else:
            velocity = (after[chunk.index].latents - chunk.latents) / (then - now)
            clean = flow.clean_from_velocity(chunk.latents, velocity, now)
        wanted.append(clean)
        at += [now] * geometry.chunk_latents
    clean = torch.cat(wanted, dim=2)
    return clean, torch.tensor(at, device=clean.device).expand(len(clean), -1)
