"""Leave out the paper's parts, one at a time, and measure what is left.

    python scripts/ablate.py demo=outputs/demo output=outputs/ablations [row=without_reference]

DEMO is what scripts/train_demo.sh wrote. Rows that only stream use its weights; rows that train
share a beginning, `steps` and a baseline; row=stream are all that do not. Prints the table of all
rows that are done, and writes it to OUTPUT/table.md; the same words again go on.
"""

from flowact.ablations import AblateConfig
from flowact.cli import RESUMES, main


def work(config: AblateConfig) -> None:
    from flowact.ablations import ablate

    print(ablate(config))


if __name__ == "__main__":
    main("ablate", AblateConfig, work, __doc__, RESUMES)
