"""Train the probe that measures actors (mouth, eyes, head, hands, behaviour, identity).

    python scripts/train_probe.py work=outputs/probe output=probe.safetensors

Renders what it learns from; the finished probe carries its own errors on held-out actors.
"""

from flowact.cli import RESUMES, main
from flowact.evaluation.settings import TrainProbeConfig


def work(config: TrainProbeConfig) -> None:
    from flowact.evaluation.probe import save_probe
    from flowact.evaluation.probe_run import train_probe
    from flowact.media.files import check_output

    output = check_output(config.output, suffix=".safetensors")
    probe = train_probe(config)
    save_probe(probe, output)
    for name, value in probe.measured.items():
        print(f"{name:36} {value:.4g}")


if __name__ == "__main__":
    main("train_probe", TrainProbeConfig, work, __doc__, RESUMES)
