"""``tiny_stage`` in processes of its own: python run_tiny.py OUTPUT NAME={json} ..."""

import json
import sys
from pathlib import Path

import torch.distributed as dist
from tiny_stage import TinyStage, train

from flowact.training.settings import (
    CheckpointsConfig,
    LogConfig,
    OptimiserConfig,
    OptimiserKind,
    Strategy,
)

folder = Path(sys.argv[1])
for word in sys.argv[2:]:
    name, _, text = word.partition("=")
    asked = json.loads(text)
    stage = TinyStage(asked.pop("signals", None), asked.pop("infinite", None))
    kind = OptimiserKind(asked.pop("optimiser", "adamw"))
    settings = {
        "strategy": Strategy(asked.pop("strategy", "ddp")),
        "optimiser": OptimiserConfig(kind=kind, lr=1e-2, warmup_steps=2),
        "checkpoints": CheckpointsConfig(every=asked.pop("every", 2)),
        "log": LogConfig(every=1),
    }
    try:
        train(folder / name, stage, **settings, **asked)
    except ValueError as error:
        (folder / name / "error.txt").write_text(str(error))
if dist.is_initialized():
    dist.destroy_process_group()
