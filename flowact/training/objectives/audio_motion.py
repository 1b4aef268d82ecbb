"""Stage 2: joint audio-motion training on general and conversation clips (design 8.2, paper 2.2).

It differs from stage 1 in the adapter, which is trained, and in the audio, which windows have,
and which their youngest chunks wait for.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowact.data.data_folder import Windows
from flowact.geometry import Geometry
from flowact.settings import ModelConfig
from flowact.training.objective import Draws, Losses
from flowact.training.objectives.windows import WindowObjective
from flowact.training.settings import TrainConfig
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AudioMotionConfig


class AudioMotion(WindowObjective):
    """Flow matching on windows with audio; ``network`` has an audio adapter.

    Raises:
        ValueError: ``audio_lags`` are more than the stream can wait, or the model has no adapter.
    """

    name = "audio_motion"
    hears = True
    config: AudioMotionConfig

    def __init__(
        self,
        network: WindowModel,
        model: ModelConfig,
        config: AudioMotionConfig,
        micro_batch: int,
        seed: int,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
        weights: str | None = None,
    ) -> None:
        depth = model.geometry.depth
        if not 1 <= len(config.audio_lags) <= depth:
            raise ValueError(
                f"audio_lags is {config.audio_lags}; give 1 to {depth} numbers, since a chunk "
                f"leaves after {depth} ticks"
            )
        super().__init__(network, model, config, micro_batch, seed, made_by, weights)

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        lags = draw_lags(self.config, draws)
        return super().loss(role, heard_late(batch, lags, self.model.geometry), draws)


def build_audio_motion(config: TrainConfig) -> AudioMotion:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    return AudioMotion.begin(config, config.audio_motion)


def draw_lags(config: AudioMotionConfig, draws: Draws) -> Tensor:
    """Ticks [B] that a chunk waits for its audio, as ``StreamSettings.audio_lag``."""
    edges = torch.tensor(config.audio_lags).cumsum(0)[:-1]
    return torch.bucketize(draws.uniform("audio lag"), edges, right=True)


def heard_late(windows: Windows, lags: Tensor, geometry: Geometry) -> Windows:
    """``windows`` in which chunks younger than ``lags`` [B] ticks have null audio."""
    assert windows.audio is not None
    size = geometry.chunk_latents
    ages = torch.arange(windows.audio.shape[1] // size - 1, -1, -1).repeat_interleave(size)
    heard = (ages >= lags[:, None]).to(windows.audio.device)
    return replace(windows, audio=windows.audio * heard[:, :, None, None])
