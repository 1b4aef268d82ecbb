"""The shipped stages at a tiny size, run in processes of their own and killed in them."""

import os
import signal
from dataclasses import replace
from enum import Enum
from pathlib import Path

import torch
import torch.distributed as dist
from tiny import tiny_config
from window_training import make_clips

from flowact.data.encoders import load_encoders
from flowact.data.store import CacheReader, CacheWriter
from flowact.pipeline import FlowActPipeline
from flowact.settings import ModelConfig
from flowact.training.distill_settings import DmdConfig, GuidanceConfig, StepsConfig
from flowact.training.loop import Trainer
from flowact.training.settings import (
    CheckpointsConfig,
    LogConfig,
    OptimiserConfig,
    OptimiserKind,
    Strategy,
    ThinConfig,
    TrainConfig,
    VaeConfig,
    VaePart,
)
from flowact.training.stages import build
from flowact.training.window_settings import AudioMotionConfig, AutoregressiveConfig, TasksConfig

TEACHER = "teacher"  # weights beside the clips
STEPS = 3
SAVED = 2  # of them are in a checkpoint when a run is killed
# Every task comes up within a few micro-batches.
TASKS = TasksConfig(without_long_term=0.25, reference_alone=0.25, refinement=0.25)


class Kill(Enum):
    """Where a run is killed: among the micro-batches of its last step, or writing what it did."""

    STEP = "step"
    SAVE = "save"


def make_data(path: Path) -> None:
    """Clips for the tiny model, and others in the place of what a model made of them."""
    encoders = load_encoders(tiny_config(), None, 0, torch.float32, "cpu")
    made_by = {kind: encoders.made_by(kind) for kind in ("latents", "features")}
    dim = tiny_config().transformer.audio_feature_dim
    make_clips(path, [8, 9], encoders.config.geometry, made_by=made_by, feature_dim=dim)
    truth = CacheReader(path, "latents")
    writer = CacheWriter(path, "generated", {"latents": made_by["latents"]})
    for id in truth.ids:
        writer.add(id, {"latents": -truth.read(id, "latents")[:, 1:]})
    writer.close()
    FlowActPipeline.untrained(tiny_model("dmd"), seed=0).save_pretrained(path / TEACHER)


def stage_config(experiment: str, data: Path, output: Path, strategy: Strategy) -> TrainConfig:
    windows = {
        "folders": (str(data),), "tasks": TASKS, "generated_memory": 0.5, "average": 0.9,
    }  # fmt: skip
    jumps = windows | {"tasks": TasksConfig(refinement=0.25)}
    part = {"vae_decoder": VaePart.decoder, "vae_thin": VaePart.thin}.get(experiment, VaePart.all)
    thin = ThinConfig(widths=(8, 6, 4), blocks=1)
    return TrainConfig(
        model=tiny_model(experiment),
        stage="vae" if part is not VaePart.all else experiment,
        output=str(output),
        steps=STEPS,
        global_batch=4,
        micro_batch=1,
        strategy=strategy,
        optimiser=OptimiserConfig(kind=OptimiserKind.muon, lr=1e-3, warmup_steps=1),
        checkpoints=CheckpointsConfig(every=SAVED),
        log=LogConfig(every=1),
        vae=VaeConfig(part=part, thin=thin, images=8, stills=2, clip_frames=5),
        autoregressive=AutoregressiveConfig(**windows),
        audio_motion=AudioMotionConfig(**windows),
        guidance_distillation=GuidanceConfig(**windows),
        step_distillation=StepsConfig(**jumps),
        dmd=DmdConfig(**jumps, teacher=str(data / TEACHER), ticks=3, alone=1, every=1),
    )


def tiny_model(experiment: str) -> ModelConfig:
    """Distilled for guidance, if the stage begins with that."""
    model = tiny_config()
    if experiment in ("steps", "dmd"):
        model.transformer.guidance_embeds = True
        model.stream = replace(model.stream, text_scale=2.0, audio_scale=2.0)
    return model


def run(config: TrainConfig, kill: Kill | None, rank: int, ranks: int, port: int) -> None:
    """A whole run, as one of ``ranks`` processes; the first kills itself."""
    if ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in place.items()}
        os.environ |= {"MASTER_ADDR": "localhost", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    trainer = Trainer(build(config), config)
    if kill and rank == 0:
        die_in(trainer, kill)
    trainer.run()
    if ranks > 1:
        dist.destroy_process_group()


def die_in(trainer: Trainer, kill: Kill) -> None:
    """Kill this process where ``kill`` says, when it gets there."""
    loss, hashes = trainer.objective.loss, trainer.checkpoints._hashes
    micro_batches = 0

    def dying_loss(role, batch, draws):
        nonlocal micro_batches
        micro_batches += draws.step == STEPS - 1
        if micro_batches > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(role, batch, draws)

    def dying_hashes(path):
        if path.name == f"step-{STEPS:07d}.aside":
            os.kill(os.getpid(), signal.SIGKILL)
        return hashes(path)

    if kill is Kill.STEP:
        trainer.objective.loss = dying_loss
    else:
        trainer.checkpoints._hashes = dying_hashes
