"""Stage 2: joint audio-motion training on general and conversation clips (design 8.2, paper 2.2).

It differs from stage 1 in the adapter, which is trained, and in the audio, which windows have,
and which their youngest chunks wait for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowact.data.data_folder import Windows
from flowact.data.window_dataset import WindowDataset
from flowact.geometry import Geometry
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.generated_memory import with_generated_memory
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.settings import TrainConfig
from flowact.training.window_loss import flow_matching
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AudioMotionConfig
from flowact.training.window_start import install_model, load_start


class AudioMotion(Objective[Windows]):
    """Flow matching on windows with audio.

    Args:
        network: of the role "model", with an audio adapter.
        model: what it was built from.
        config: of the stage.
        micro_batch, seed: of the run.
        made_by: what must have made the folders' caches (see ``WindowDataset``).

    Raises:
        ValueError: ``audio_lags`` are more than the stream can wait, or the model has no adapter.
    """

    name = "audio_motion"

    def __init__(
        self,
        network: WindowModel,
        model: ModelConfig,
        config: AudioMotionConfig,
        micro_batch: int,
        seed: int,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        depth = model.geometry.depth
        if not 1 <= len(config.audio_lags) <= depth:
            raise ValueError(
                f"audio_lags is {config.audio_lags}; give 1 to {depth} numbers, since a chunk "
                f"leaves after {depth} ticks"
            )
        self.model = model
        self.config = config
        network.train_adapter(True)
        network.checkpoint_layers(config.gradient_checkpointing)
        self.networks = {"model": network}
        self.trained = ("model",)
        self.averaged = {"model": config.average}
        windows = WindowDataset(
            config.mix, model.geometry, config.windows, micro_batch, seed, True, made_by
        )
        self.dataset = with_generated_memory(windows, config.generated_memory, seed)

    def collate(self, items: Sequence[Windows]) -> Windows:
        return Windows.joined(items)

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        batch = heard_late(batch, draw_lags(self.config, draws), self.model.geometry)
        return flow_matching(self.networks[role], batch, draws, self.model, self.config)

    def install(self, pipeline: FlowActPipeline) -> None:
        install_model(self.networks["model"], pipeline)


def build_audio_motion(config: TrainConfig) -> AudioMotion:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    folders = tuple(config.audio_motion.mix)
    start = load_start(config.model, config.weights, config.seed, folders)
    return AudioMotion(
        start.network,
        start.model,
        config.audio_motion,
        config.micro_batch,
        config.seed,
        start.made_by,
    )


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
