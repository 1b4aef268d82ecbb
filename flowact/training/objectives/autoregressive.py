"""Stage 1: a bidirectional model becomes the stream's (design 8.1, paper 2.2)."""

from flowact.training.objectives.windows import WindowObjective
from flowact.training.settings import TrainConfig


class Autoregressive(WindowObjective):
    """Flow matching on windows without audio; the audio adapter, if there is one, is frozen."""

    name = "autoregressive"
    hears = False


def build_autoregressive(config: TrainConfig) -> Autoregressive:
    """The stage of ``config``.

    Raises:
        ValueError: its weights or its data do not do.
    """
    return Autoregressive.begin(config, config.autoregressive)
