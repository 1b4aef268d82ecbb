"""Measure videos: lip sync, prompt following, identity, drift, seams, diversity.

    python scripts/evaluate.py videos=FILE_OR_DIR suite=actors output=scores.json [truth=DIR]
    python scripts/evaluate.py videos=FILE_OR_DIR suite=video output=scores.json

Prints a table with 95 % confidence intervals, writes the same as JSON, and plots beside it.
"""

import json

from flowact.cli import main
from flowact.runs import EvaluateConfig


def work(config: EvaluateConfig) -> None:
    from flowact.evaluation.plots import draw
    from flowact.evaluation.report import describe, table
    from flowact.evaluation.suites import evaluate
    from flowact.media.files import check_output

    output = check_output(config.output, suffix=".json")
    found = evaluate(config)
    output.write_text(json.dumps(describe(found, config), indent=2, allow_nan=False) + "\n")
    print(table(found))
    for picture in draw(found, output):
        print(f"see {picture}")


if __name__ == "__main__":
    main("evaluate", EvaluateConfig, work, __doc__)
