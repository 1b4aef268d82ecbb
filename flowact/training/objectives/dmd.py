"""Stage 3c: distribution matching distillation of the stream (design 8.3, paper 2.4).

The generator streams, under the memory that it makes itself (Self-Forcing, arXiv 2506.08009), by
the sampler's own ticks. What it sees in its queue at the last of them is moved to where the teacher
finds it more likely than the fake score does, which learns what the generator makes (DMD, arXiv
2311.18828; DMD2, arXiv 2405.14867).
"""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.data.windows import Kind
from flowact.diffusion import flow
from flowact.diffusion.levels import shift_level
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.distill_settings import DmdConfig, Normaliser
from flowact.training.objective import Draws, Losses
from flowact.training.objectives.audio_motion import AudioMotion
from flowact.training.objectives.steps import Jump, draw_lag, draw_seeds
from flowact.training.settings import TrainConfig
from flowact.training.stream_model import Streams, TickCall, untracked
from flowact.training.tasks import Task
from flowact.training.window_loss import velocity_error
from flowact.training.window_model import Buffer, WindowModel
from flowact.training.window_settings import AutoregressiveConfig
from flowact.training.window_start import guided, guided_student, install_guided, load_start

logger = logging.getLogger(__name__)
RECENT = 20  # micro-batches over which samples, and the fake score, are judged


class Dmd(AudioMotion):
    """Match what ``network``, distilled for steps, streams to what ``teacher`` finds likely.

    Args:
        teacher: distilled for guidance, which ``network`` was distilled from.
        warmup_steps: of the generator, from its first on: the run's own may be over by then.

    Raises:
        ValueError: a network takes no scales of guidance, or clips are too short for rollouts.
    """

    name = "dmd"
    config: DmdConfig
    trained = ("fake", "model")

    def __init__(
        self,
        network: WindowModel,
        teacher: WindowModel,
        model: ModelConfig,
        config: DmdConfig,
        micro_batch: int,
        seed: int,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
        weights: str | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self._teacher = teacher
        super().__init__(network, model, config, micro_batch, seed, made_by, weights)
        self._warmup_steps = warmup_steps
        self._recent: defaultdict[str, list[float]] = defaultdict(list)

    @classmethod
    def begin(cls, run: TrainConfig, config: AutoregressiveConfig) -> Self:
        """The stage on the weights of ``run``, with the teacher that ``config`` names.

        Raises:
            ValueError: weights or data do not do.
        """
        assert isinstance(config, DmdConfig)
        if config.teacher is None:
            raise ValueError("dmd.teacher is missing; give the weights of experiment=guidance")
        if run.steps <= config.alone:
            raise ValueError(
                f"steps is {run.steps}, dmd.alone is {config.alone}: the generator would not take "
                "a step"
            )
        folders = tuple(config.mix)
        start = load_start(run.model, run.weights, run.seed, folders)
        try:
            teacher = load_start(run.model, config.teacher, run.seed, folders)
            guided(teacher.network)
        except ValueError as error:
            raise ValueError(f"dmd.teacher={config.teacher}: {error}") from error
        for what, own, taught in (
            ("geometry", start.model.geometry, teacher.model.geometry),
            ("stream.shift", start.model.stream.shift, teacher.model.stream.shift),
            ("data", start.made_by, teacher.made_by),
        ):
            if own != taught:
                raise ValueError(
                    f"dmd.teacher={config.teacher}: {what} is {taught}; that of weights is {own}"
                )
        return cls(
            start.network,
            teacher.network,
            start.model,
            config,
            run.micro_batch,
            run.seed,
            start.made_by,
            run.weights,
            run.optimiser.warmup_steps,
        )

    def turns(self, step: int) -> tuple[str, ...]:
        """The fake score at every step, the generator at every ``config.every``-th later on."""
        after = step - self.config.alone
        return ("fake", "model") if after >= 0 and after % self.config.every == 0 else ("fake",)

    def rate(self, role: str, step: int) -> float:
        """The fake score's own; the generator's rises from zero as the run's has done before."""
        if role == "fake":
            return self.config.fake_rate
        return min(1.0, (step - self.config.alone + 1) / max(1, self._warmup_steps))

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        if role == "fake":
            return self._fake_loss(batch, draws)
        if draws.of_step("task") < self.config.tasks.refinement:
            jump = Jump(batch, self.model, self.config, draws)
            losses = jump.repair_loss(self.networks["model"], self.networks["teacher"])
            # The image is not repaired; but all processes have to make the same calls.
            return losses if jump.made else Losses(0 * losses.total)
        return self._generator_loss(batch, draws)

    def _roles(self, network: WindowModel) -> dict[str, WindowModel]:
        student, fake = guided_student(network), guided(network)
        return {"fake": fake, "model": student, "teacher": guided(self._teacher)}

    def _chunks(self) -> int:
        return self.config.ticks + self.model.geometry.depth - 1

    def _install(self, network: nn.Module, pipeline: FlowActPipeline) -> None:
        super()._install(network, pipeline)
        install_guided(pipeline, self.config.stream(self.model.stream))

    # --- the generator --------------------------------------------------------------------------

    def _generator_loss(self, windows: Windows, draws: Draws) -> Losses:
        """Half the square of the direction: its gradient is the direction, for each number."""
        streams, call = self._rolled(windows, draws)
        estimates, _ = self.networks["model"](call)
        noisy = self._noised(streams, call, estimates.detach(), draws)
        with untracked():
            fake, real = (
                flow.clean_from_velocity(
                    noisy.latents, self.networks[score](noisy), flow.expand(noisy.levels)
                )
                for score in ("fake", "teacher")
            )
        direction = dmd_direction(estimates.detach(), fake, real, self.config.normaliser)
        total = 0.5 * (estimates - (estimates - direction).detach()).square().mean()
        return Losses(total, self._health(estimates.detach(), streams, call))

    def _rolled(self, windows: Windows, draws: Draws) -> tuple[Streams, TickCall]:
        """Streams, and their tick that is scored; the number of those before is the step's."""
        refined = draws.of_step("refined") < self.config.refined
        lag = draw_lag(self.config, draws)
        settings = replace(self.config.stream(self.model.stream), audio_lag=lag, refine_every=0)
        streams = Streams(windows, self.model.geometry, settings, draw_seeds(draws))
        # There is nothing to repair in a ramp-up; but all processes have to make the same calls.
        ramps_up = windows.infos[0].kind is Kind.CLIP_START and not refined
        state = streams.state(0 if ramps_up else self.model.geometry.depth - 1)
        low, high = self.config.tasks.refinement_levels
        level = low + (high - low) * draws.of_step("refinement level")
        repairing = replace(settings, refine_every=int(refined), refine_level=level)
        rolled = replace(streams, settings=repairing)
        before = int(draws.of_step("ticks") * self.config.ticks)
        return streams, streams.call(rolled.roll(self.networks["model"], state, before))

    def _noised(self, streams: Streams, call: TickCall, estimates: Tensor, draws: Draws) -> Buffer:
        """What the generator saw, as both scores are asked for it: at one level for all latents."""
        alone = draws.of_step("reference alone") < self.config.reference_alone
        buffer = streams.buffer(call, estimates, reference_alone=alone)
        low, high = self.config.score_levels
        u = low + (high - low) * draws.uniform("score level")
        levels = shift_level(u, self.model.stream.shift).to(estimates.device)
        noise = draws.normal("score noise", tuple(estimates.shape[1:])).to(estimates.device)
        return buffer.noised(noise, levels[:, None].expand(-1, estimates.shape[2]))

    def _health(self, estimates: Tensor, streams: Streams, call: TickCall) -> dict[str, Tensor]:
        """Motion and variance of samples, of the truth's; says so if either is gone."""
        truth = streams.truth(call)
        figures = {
            "motion": _motion(estimates) / _motion(truth),
            "variance": estimates.var() / truth.var(),
        }
        for name, figure in figures.items():
            mean = self._recent_mean(name, figure)
            if mean < self.config.collapse or mean * self.config.collapse > 1:
                logger.warning(
                    "the generator collapses: over %d micro-batches the %s of its samples was "
                    "%.2f of the truth's; stop, and begin again with less optimiser.lr",
                    RECENT,
                    name,
                    mean,
                )
        return figures

    def _recent_mean(self, name: str, figure: Tensor) -> float:
        """Of the last figures of a name, each time there are ``RECENT`` more; NaN in between."""
        recent = self._recent[name]
        recent.append(float(figure))
        if len(recent) < RECENT:
            return math.nan
        del self._recent[name]
        return sum(recent) / RECENT

    # --- the fake score -------------------------------------------------------------------------

    def _fake_loss(self, windows: Windows, draws: Draws) -> Losses:
        """Flow matching on what the generator makes now."""
        streams, call = self._rolled(windows, draws)
        with untracked():
            estimates, _ = self.networks["model"](call)
        noisy = self._noised(streams, call, estimates, draws)
        noise = flow.noise_from_clean(noisy.latents, estimates, flow.expand(noisy.levels))
        wanted = flow.velocity(estimates, noise)

        def losses(score: str, buffer: Buffer) -> Losses:
            errors = self.networks[score](buffer) - wanted
            return velocity_error(
                errors, noisy.levels, windows, Task.STREAM, self.model, self.config
            )

        own = losses("fake", noisy)
        parts = {"error": own.total.detach()}
        if draws.step % self.config.health_every == 0:
            # At scales of 1 the teacher gives what it expects of the truth, sharpened by nothing.
            plain = replace(noisy, guidance=estimates.new_ones(len(estimates), 2))
            with torch.no_grad():
                floor = losses("teacher", plain).total
            parts |= {"error_of_teacher": floor, "error_over_teacher": parts["error"] / floor}
            if draws.step >= self.config.alone:
                self._check_fake(parts["error_over_teacher"])
        return Losses(own.total, parts)

    def _check_fake(self, error_over_teacher: Tensor) -> None:
        """Say so if it knows the samples no better than the teacher, which knows the truth."""
        mean = self._recent_mean("error", error_over_teacher)
        if mean >= 1:
            logger.warning(
                "the fake score does not know the samples: over %d micro-batches its error on them "
                "was %.2f of the teacher's; raise dmd.every, or dmd.fake_rate",
                RECENT,
                mean,
            )


def build_dmd(config: TrainConfig) -> Dmd:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    return Dmd.begin(config, config.dmd)


def dmd_direction(samples: Tensor, fake: Tensor, real: Tensor, normaliser: Normaliser) -> Tensor:
    """Where samples [B, C, F, H, W] go, from the clean latents that two scores see in them.

    It leads from ``real`` to ``fake`` and is descended: samples go to what is real. A sample's does
    not depend on the others of its batch.
    """
    direction = fake - real
    if normaliser is Normaliser.none:
        return direction
    distance = (samples - real).abs()
    dims = (1, 3, 4) if normaliser is Normaliser.latent else (1, 2, 3, 4)
    return direction / distance.mean(dim=dims, keepdim=True)


def _motion(latents: Tensor) -> Tensor:
    """Mean change [] from latent to latent of [B, C, F, H, W]."""
    return latents.diff(dim=2).abs().mean()
