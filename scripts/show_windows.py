r"""Draw training windows of a preprocessed folder, for the eye.

    python scripts/show_windows.py data=DIR output=windows.png [rows=12] [seed=0] [weights=DIR]

A row is a window: reference, long-term and short-term memory, then the chunks being denoised, each
latent by the frame in its middle, under its slot on the model's time axis. Below are the audio
features and the caption that each chunk is told.
"""

from flowact.cli import main
from flowact.runs import ShowWindowsConfig


def work(config: ShowWindowsConfig) -> None:
    from flowact.evaluation.window_sheet import show_windows

    show_windows(config)
    print(f"{config.output}: {config.rows} windows of {config.data}")


if __name__ == "__main__":
    main("show_windows", ShowWindowsConfig, work, __doc__)
