"""What the stages that train one network on windows have in common (design 7, 8)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from flowact.data.data_folder import Windows
from flowact.data.window_dataset import WindowDataset
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.generated_memory import with_generated_memory
from flowact.training.lora import add_lora, merge_lora
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.preview import WindowPreview
from flowact.training.roles import AVERAGE
from flowact.training.settings import TrainConfig
from flowact.training.window_loss import flow_matching
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AutoregressiveConfig
from flowact.training.window_start import install_model, load_start

logger = logging.getLogger(__name__)


class WindowObjective(Objective[Windows]):
    """Flow matching on windows.

    Args:
        network: that the run begins with.
        model: what it was built from.
        config: of the stage.
        micro_batch, seed: of the run.
        made_by: what must have made the folders' caches (see ``WindowDataset``).
        weights: the folder that the run began with; there are no previews without it.

    Attributes:
        hears: windows have their audio, and the audio adapter is trained.
    """

    hears: ClassVar[bool]
    trained: tuple[str, ...] = ("model",)

    def __init__(
        self,
        network: WindowModel,
        model: ModelConfig,
        config: AutoregressiveConfig,
        micro_batch: int,
        seed: int,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
        weights: str | None = None,
    ) -> None:
        self.model = model
        self.config = config
        networks = self._roles(network)
        self.networks = {**networks}
        for role in self.trained:
            self._prepare(networks[role])
        self.averaged = {"model": config.average}
        windows = WindowDataset(
            config.mix,
            model.geometry,
            config.windows,
            micro_batch,
            seed,
            self.hears,
            made_by,
            model.stream.long_term_stride,
            self._chunks(),
        )
        self.dataset = with_generated_memory(windows, config.generated_memory, seed)
        self._preview = (
            WindowPreview(networks["model"], self._install, Path(weights), config.preview)
            if weights
            else None
        )

    @classmethod
    def begin(cls, run: TrainConfig, config: AutoregressiveConfig) -> Self:
        """The stage on the weights of ``run``, or on its model untrained.

        Raises:
            ValueError: its weights or its data do not do.
        """
        start = load_start(run.model, run.weights, run.seed, tuple(config.mix))
        if run.log.preview_every and run.weights is None:
            logger.warning("there are no previews: they need the autoencoder of weights=DIR")
        return cls(
            start.network,
            start.model,
            config,
            run.micro_batch,
            run.seed,
            start.made_by,
            run.weights,
        )

    def collate(self, items: Sequence[Windows]) -> Windows:
        return Windows.joined(items)

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        return flow_matching(self.networks[role], batch, draws, self.model, self.config)

    def _roles(self, network: WindowModel) -> dict[str, WindowModel]:
        """The network of each role, of the one that the run begins with."""
        return {"model": network}

    def _prepare(self, network: WindowModel) -> None:
        """Have a network trained as the stage's settings say."""
        if self.config.lora.rank is not None:
            add_lora(network, self.config.lora)
        network.train_adapter(self.hears)
        network.checkpoint_layers(self.config.gradient_checkpointing)

    def _chunks(self) -> int | None:
        """Of a window; None is as many as a stream has at a tick."""
        return None

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Streams by the averaged weights, and their scores."""
        if self._preview is None:
            return {}
        return self._preview(self.networks["model" + AVERAGE], folder)

    def install(self, pipeline: FlowActPipeline) -> None:
        self._install(self.networks["model"], pipeline)

    def _install(self, network: nn.Module, pipeline: FlowActPipeline) -> None:
        install_model(network, pipeline)
        if self.config.lora.rank is not None:
            merge_lora(pipeline.transformer)
