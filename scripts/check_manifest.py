"""Check a manifest.jsonl, and that the files it names are there.

    python scripts/check_manifest.py manifest=DIR

One line for each problem, with file, line, field and mend, and exit code 2; or how many clips.
"""

from flowact.cli import main
from flowact.data.settings import CheckManifestConfig


def work(config: CheckManifestConfig) -> None:
    from flowact.data.manifest import check_manifest, load_clips

    problems = check_manifest(config.manifest)
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(2)
    print(f"{len(load_clips(config.manifest)[0])} clips, no problem")


if __name__ == "__main__":
    main("check_manifest", CheckManifestConfig, work, __doc__)
