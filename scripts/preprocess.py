"""Videos in, what training reads out: latents, audio features and text of clips.

    python scripts/preprocess.py input=DIR output=DIR [weights=DIR] [model=demo]

The input is a folder with a manifest.jsonl, or any folder of videos, which stay as they are. A run
that was stopped goes on where it was. Several processes share the work:

    torchrun --nproc-per-node=4 scripts/preprocess.py input=DIR output=DIR
"""

from flowact.cli import RESUMES, main
from flowact.data.settings import PreprocessConfig


def work(config: PreprocessConfig) -> None:
    from flowact.data.preprocess import preprocess
    from flowact.data.report import read_report, table

    if preprocess(config):
        print(table(read_report(config.output)))
    else:
        print("this rank is done; the last one to end writes the manifest")


if __name__ == "__main__":
    main("preprocess", PreprocessConfig, work, __doc__, RESUMES)
