"""Make a folder for weights=DIR out of a training run.

python scripts/export.py run=DIR output=DIR [step=1000] [precision=bf16]
"""

from pathlib import Path

from flowact.cli import main
from flowact.training.settings import ExportConfig, TrainConfig, TrainingPrecision


def work(config: ExportConfig) -> None:
    import torch

    from flowact.config import restore_config
    from flowact.training.checkpoint import find_checkpoint, run_config
    from flowact.training.export import export

    checkpoint = find_checkpoint(Path(config.run), config.step)
    run = restore_config(run_config(checkpoint), TrainConfig)
    half = config.precision is TrainingPrecision.bf16
    dtype = torch.bfloat16 if half else torch.float32
    pipeline = export(run, checkpoint, Path(config.output), dtype, config.note)
    trained = "" if pipeline.trained else "; its backbone is untrained as yet"
    print(f"{config.output}: {checkpoint} as a pipeline{trained}")


if __name__ == "__main__":
    main("export", ExportConfig, work, __doc__)
