"""The stages by name, and what builds each."""

from collections.abc import Callable
from typing import Any

import torch

from flowact.seeds import stable_seed
from flowact.training.objective import Objective
from flowact.training.objectives.audio_motion import build_audio_motion
from flowact.training.objectives.autoregressive import build_autoregressive
from flowact.training.objectives.dmd import build_dmd
from flowact.training.objectives.guidance import build_guidance
from flowact.training.objectives.speech import build_speech
from flowact.training.objectives.steps import build_steps
from flowact.training.objectives.text import build_text
from flowact.training.objectives.vae import build_vae
from flowact.training.settings import TrainConfig

STAGES: dict[str, Callable[[TrainConfig], Objective[Any]]] = {
    "vae": build_vae,
    "text": build_text,
    "speech": build_speech,
    "autoregressive": build_autoregressive,
    "audio_motion": build_audio_motion,
    "guidance": build_guidance,
    "steps": build_steps,
    "dmd": build_dmd,
}


def build(config: TrainConfig) -> Objective[Any]:
    """The stage that ``config`` names; what is not loaded is drawn by its seed.

    Raises:
        ValueError: there is no such stage, or its data or weights do not do.
    """
    if config.stage not in STAGES:
        raise ValueError(f"stage is {config.stage}; there are {', '.join(STAGES)}")
    with torch.random.fork_rng():
        torch.manual_seed(stable_seed(config.seed, "weights"))
        return STAGES[config.stage](config)
