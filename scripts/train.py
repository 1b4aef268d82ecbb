"""Train a stage of the curriculum.

    python scripts/train.py experiment=autoregressive output=DIR [steps=1000]
    accelerate launch --config_file configs/accelerate/gpu8.yaml scripts/train.py experiment=...

A run that was stopped, even killed, goes on exactly, given the same words.
"""

from flowact.cli import RESUMES, main
from flowact.training.settings import TrainConfig


def work(config: TrainConfig) -> None:
    import torch.distributed as dist

    try:
        train(config)
    finally:
        if dist.is_initialized():  # left open, it may end the process with another exit code
            dist.destroy_process_group()


def train(config: TrainConfig) -> None:
    from flowact.training.loop import Trainer
    from flowact.training.stages import build

    trainer = Trainer(build(config), config)
    main_process = trainer.accelerator.is_main_process
    if main_process and trainer.step:
        print(f"going on from {trainer.checkpoints.latest()}")
    done = trainer.run()
    if main_process:
        saved = f"step {trainer.step} is saved in {trainer.checkpoints.latest()}"
        print(saved if done else f"stopped: {saved}; the same command goes on from there")


if __name__ == "__main__":
    main("train", TrainConfig, work, __doc__, RESUMES)
