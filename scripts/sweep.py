"""Scores over settings of the stream: a table and a plot.

    python scripts/sweep.py weights=DIR "over=['refine_every=0,4,8,16','refine_level=0.1,0.3']" \
        seconds=600 output=outputs/refinement
    python scripts/sweep.py weights=DIR "over=['audio_lag=0,1,2']" output=outputs/audio_lag

Streams the same unseen actors with every combination. The same words again go on, and more values
may be asked for.
"""

from flowact.cli import RESUMES, main
from flowact.sweeps import SweepConfig


def work(config: SweepConfig) -> None:
    from flowact.sweeps import sweep

    print(sweep(config))


if __name__ == "__main__":
    main("sweep", SweepConfig, work, __doc__, RESUMES)
