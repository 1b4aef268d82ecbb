r"""Stream a talking person from an image and an audio file.

    python scripts/sample.py image=face.png audio=speech.wav output=video.mp4 \
        [prompt="She waves."] [prompts=schedule.json] [model=demo] [weights=DIR] [seed=0]
    torchrun --nproc N scripts/sample.py ... parallel=frames

The video lasts as long as the audio. Beside it a report, video.json, says how it was made.
"""

from flowact.cli import main
from flowact.runs import SampleConfig


def work(config: SampleConfig) -> None:
    from flowact.sampling import sample

    report = sample(config)
    if report is None:  # another process tells
        return
    if report["interrupted"]:
        print(f"stopped: {config.output} holds the {report['frames']} frames made so far, playable")
        raise SystemExit(130)
    print(f"{config.output}: {report['frames']} frames, the first after {report['ttff_s']:.2f} s")


if __name__ == "__main__":
    main("sample", SampleConfig, work, __doc__)
