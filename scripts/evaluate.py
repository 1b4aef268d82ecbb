"""Measure videos, or a model: lip sync, prompt following, identity, drift, seams, diversity.

    python scripts/evaluate.py videos=FILE_OR_DIR suite=actors|video output=scores.json [truth=DIR]
    python scripts/evaluate.py weights=DIR suite=actors clips=40 seconds=20 output=scores.json
    python scripts/evaluate.py weights=DIR suite=voices voices=DIR clips=6 output=voices.json

Prints a table with 95 % confidence intervals, writes the same as JSON, and plots beside it. With
weights (or model=PRESET) it makes actors and streams each from its first frame, sound and captions;
the table then begins with their truth and with the autoencoder's round trip, the ceiling. The
videos stay in a folder beside the output, and the same words again go on from there. Processes that
torchrun --nproc-per-node N starts share the actors out, and the last to end measures. With
suite=voices the actors also say the recordings in a folder, and all are measured by their sound.
"""

import json

from flowact.cli import RESUMES, main
from flowact.evaluation.settings import EvaluateConfig


def work(config: EvaluateConfig) -> None:
    from flowact.data.whole_file import whole_file
    from flowact.evaluation.model_run import evaluate_model
    from flowact.evaluation.plots import draw, draw_frames
    from flowact.evaluation.report import describe, describe_model, table
    from flowact.evaluation.suites import evaluate
    from flowact.media.files import check_output

    output = check_output(config.output, suffix=".json")
    if config.videos is None:
        run = evaluate_model(config)
        if run is None:
            print("this process, one of several, has no more to do; the last to end measures all")
            return
        columns, report = run.columns, describe_model(run, config)
    else:
        columns = {"mean": evaluate(config)}
        report = describe(columns["mean"], config)
    with whole_file(output) as file:
        file.write(json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(table(columns))
    pictures = list(draw(list(columns.values())[-1], output))
    if config.videos is None:
        pictures += [draw_frames(columns, output)]
    for picture in pictures:
        print(f"see {picture}")


if __name__ == "__main__":
    main("evaluate", EvaluateConfig, work, __doc__, RESUMES)
