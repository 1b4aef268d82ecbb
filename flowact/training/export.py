"""From a training run to a folder that ``FlowActPipeline`` loads."""

from pathlib import Path

import torch

from flowact.pipeline import FlowActPipeline
from flowact.training.checkpoint import check_beginning, described, load_network
from flowact.training.settings import TrainConfig
from flowact.training.stages import build
from flowact.training.window_start import begun_with


def export(
    config: TrainConfig,
    checkpoint: Path,
    output: Path,
    dtype: torch.dtype = torch.float32,
    note: str | None = None,
) -> FlowActPipeline:
    """Write the pipeline of a run to ``output``: averages of weights where there are some.

    What the stage has not trained is as it was at its beginning.

    Args:
        config: of the run.
        checkpoint: one of it.
        dtype: of the weights that are written.
        note: as in ``ExportConfig``.

    Raises:
        ValueError: weights or data that the run began with are gone or do not fit, or the weights
            are others now.
    """
    check_beginning(checkpoint, described(config))
    objective = build(config)
    for role in objective.trained:
        name = f"{role}_average" if role in objective.averaged else role
        load_network(checkpoint, name, objective.networks[role])
    pipeline = begun_with(config)
    objective.install(pipeline)
    pipeline.note = pipeline.note if note is None else note or None
    pipeline.cast(dtype).save_pretrained(output)
    return pipeline
