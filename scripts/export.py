"""Make a folder for weights=DIR out of a training run.

python scripts/export.py run=DIR output=DIR [step=1000]
"""

from pathlib import Path

from flowact.cli import main
from flowact.training.settings import ExportConfig, TrainConfig


def work(config: ExportConfig) -> None:
    from flowact.config import restore_config
    from flowact.training.checkpoint import find_checkpoint, run_config
    from flowact.training.export import export

    checkpoint = find_checkpoint(Path(config.run), config.step)
    run = restore_config(run_config(checkpoint), TrainConfig)
    pipeline = export(run, checkpoint, Path(config.output))
    trained = "" if pipeline.trained else "; its backbone is untrained as yet"
    print(f"{config.output}: {checkpoint} as a pipeline{trained}")


if __name__ == "__main__":
    main("export", ExportConfig, work, __doc__)
