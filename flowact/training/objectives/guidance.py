"""Stage 3a: guidance distillation (design 8.3, paper 2.4).

The student takes the scales of guidance as input, and learns the velocity that its teacher gives in
two or three passes, on stage 2's windows with all of their level patterns.
"""

import dataclasses

import torch
from torch import Tensor, nn

from flowact.data.data_folder import Windows
from flowact.diffusion.flow import expand
from flowact.diffusion.guidance import UncondGuidance
from flowact.pipeline import FlowActPipeline
from flowact.training.distill_settings import GuidanceConfig
from flowact.training.objective import Draws, Losses
from flowact.training.objectives.audio_motion import AudioMotion, draw_lags, heard_late
from flowact.training.settings import TrainConfig
from flowact.training.window_loss import flow_matching
from flowact.training.window_model import Buffer, WindowModel
from flowact.training.window_start import guided_copy, install_guided


class GuidanceDistillation(AudioMotion):
    """Learn the guided velocity of ``network``, which has no guidance embedding yet.

    Raises:
        ValueError: ``network`` was distilled before.
    """

    name = "guidance"
    config: GuidanceConfig

    def _roles(self, network: WindowModel) -> dict[str, WindowModel]:
        return {"model": guided_copy(network), "teacher": network}

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        student, teacher = self.networks[role], self.networks["teacher"]
        batch = heard_late(batch, draw_lags(self.config, draws), self.model.geometry)
        scales = draw_scales(self.config, draws).to(batch.stream.device)

        def told(buffer: Buffer) -> Tensor:
            return student(dataclasses.replace(buffer, guidance=scales))

        def guided(buffer: Buffer) -> Tensor:
            return guided_velocity(teacher, buffer, scales, self.config.apart)

        return flow_matching(told, batch, draws, self.model, self.config, guided)

    def _install(self, network: nn.Module, pipeline: FlowActPipeline) -> None:
        super()._install(network, pipeline)
        install_guided(pipeline, self.config.stream(self.model.stream))


def build_guidance(config: TrainConfig) -> GuidanceDistillation:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    return GuidanceDistillation.begin(config, config.guidance_distillation)


def draw_scales(config: GuidanceConfig, draws: Draws) -> Tensor:
    """Scales of text and audio [B, 2], drawn evenly."""
    drawn = []
    for name, (low, high) in (("text", config.text_scales), ("audio", config.audio_scales)):
        drawn.append(low + (high - low) * draws.uniform(f"{name} scale"))
    text, audio = drawn
    return torch.stack([text, audio if config.apart else text], dim=1)


def guided_velocity(network: nn.Module, buffer: Buffer, scales: Tensor, apart: bool) -> Tensor:
    """Velocity [B, C, F, H, W] under guidance ``scales`` [B, 2] of text and audio.

    ``apart`` is three passes; without it there are two, and the text's scale is that of both.
    """
    text, audio = (expand(scale[:, None]) for scale in scales.unbind(1))
    guidance = UncondGuidance(text, audio)
    full, uncond = network(buffer), network(buffer.unconditional())
    if not apart:
        return guidance.together(uncond, full)
    return guidance.apart(uncond, network(buffer.unheard()), full)
