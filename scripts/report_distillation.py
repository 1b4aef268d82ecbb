"""Measure a distilled model against what it was distilled from.

    python scripts/report_distillation.py weights=outputs/stage3a teacher=outputs/stage2 \
        folders=[outputs/unseen] output=outputs/guidance.json
    python scripts/report_distillation.py weights=outputs/stage3b teacher=outputs/stage3a \
        folders=[outputs/unseen] output=outputs/jumps.json

Prints and writes, by scale of guidance, the error of the student's velocity against two and three
passes of its teacher; or by segment of the noise levels, that of where its one call lands against
several of its teacher. A share of 0 is the teacher itself, 1 is to have learnt nothing; there is
none where nothing is to be learnt, as at scales of 1.
"""

from flowact.cli import main
from flowact.training.distill_settings import DistillationConfig


def work(config: DistillationConfig) -> None:
    from flowact.evaluation.distillation import report_distillation, table

    print(table(report_distillation(config)))


if __name__ == "__main__":
    main("report_distillation", DistillationConfig, work, __doc__)
