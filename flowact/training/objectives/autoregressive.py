"""Stage 1: a bidirectional model becomes the stream's (design 8.1, paper 2.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowact.data.data_folder import Windows
from flowact.data.window_dataset import WindowDataset
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.generated_memory import with_generated_memory
from flowact.training.objective import Draws, Losses, Objective
from flowact.training.settings import TrainConfig
from flowact.training.window_loss import flow_matching
from flowact.training.window_model import WindowModel
from flowact.training.window_settings import AutoregressiveConfig
from flowact.training.window_start import install_model, load_start


class Autoregressive(Objective[Windows]):
    """Flow matching on windows without audio; the audio adapter, if there is one, is frozen.

    Args:
        network: of the role "model".
        model: what it was built from.
        config: of the stage.
        micro_batch, seed: of the run.
        made_by: what must have made the folders' caches (see ``WindowDataset``).
    """

    name = "autoregressive"

    def __init__(
        self,
        network: WindowModel,
        model: ModelConfig,
        config: AutoregressiveConfig,
        micro_batch: int,
        seed: int,
        made_by: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        network.train_adapter(False)
        network.checkpoint_layers(config.gradient_checkpointing)
        self.networks = {"model": network}
        self.trained = ("model",)
        self.averaged = {"model": config.average}
        windows = WindowDataset(
            config.mix, model.geometry, config.windows, micro_batch, seed, False, made_by
        )
        self.dataset = with_generated_memory(windows, config.generated_memory, seed)

    def collate(self, items: Sequence[Windows]) -> Windows:
        return Windows.joined(items)

    def loss(self, role: str, batch: Windows, draws: Draws) -> Losses:
        return flow_matching(self.networks[role], batch, draws, self.model, self.config)

    def install(self, pipeline: FlowActPipeline) -> None:
        install_model(self.networks["model"], pipeline)


def build_autoregressive(config: TrainConfig) -> Autoregressive:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    folders = tuple(config.autoregressive.mix)
    start = load_start(config.model, config.weights, config.seed, folders)
    return Autoregressive(
        start.network,
        start.model,
        config.autoregressive,
        config.micro_batch,
        config.seed,
        start.made_by,
    )
