"""Leave out the paper's parts, one at a time, and measure what is left.

    python scripts/ablate.py row=stream output=outputs/ablations [shipped=DIR]
    python scripts/ablate.py demo=outputs/demo output=outputs/ablations [row=full_attention]

DEMO is what scripts/train_demo.sh wrote. Some rows stream its stages; others stream the shipped
weights without one part or another, and need no demo; others train on a stage of it. row=stream are
all that do not train. Prints the table of all rows that are done, and writes it to OUTPUT/table.md
and OUTPUT/ablations.png; the same words again go on.
"""

from flowact.ablations import AblateConfig
from flowact.cli import RESUMES, main


def work(config: AblateConfig) -> None:
    from flowact.ablations import ablate

    print(ablate(config))


if __name__ == "__main__":
    main("ablate", AblateConfig, work, __doc__, RESUMES)
