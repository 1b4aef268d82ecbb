"""Measure a preset end to end on this machine: files in, file out, everything in the path.

    python scripts/benchmark.py model=demo output=bench.json [seconds=20]
    python scripts/benchmark.py weights=DIR live=true stream.audio_lag=2 output=bench.json
    torchrun --nproc N scripts/benchmark.py model=demo parallel=frames output=bench.json
    python scripts/benchmark.py weights=DIR quantize=int8 errors=true output=errors.json
    python scripts/benchmark.py model=hunyuan15_decoupled plan=true output=plan.json

Prints a table and writes the same figures as JSON. With live=true the sound comes as it is spoken,
and ``reaction_s`` tells how long it takes to be seen. With errors=true it tells what quantize=...
and attention=... cost in accuracy, instead. With plan=true nothing runs: what a tick costs is
counted, on any machine, and how fast that can be on a GPU.
"""

import json
from typing import Any

from flowact.cli import main
from flowact.runs import BenchmarkConfig


def work(config: BenchmarkConfig) -> None:
    from flowact.evaluation.benchmark import benchmark
    from flowact.evaluation.plan import markdown, plan
    from flowact.media.files import check_output

    output = check_output(config.output, suffix=".json")
    if config.plan:
        counted = plan(config)
        output.write_text(json.dumps(counted, indent=2) + "\n")
        print(markdown(counted))
        return
    if (report := benchmark(config)) is None:
        return  # another process tells
    output.write_text(json.dumps(report, indent=2) + "\n")
    for key, value in rows(report):
        print(f"{key:36} {value:.4g}" if isinstance(value, float) else f"{key:36} {value}")


def rows(report: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested figures as one row each."""
    found: list[tuple[str, Any]] = []
    for key, value in report.items():
        inner = isinstance(value, dict)
        found += rows(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return found


if __name__ == "__main__":
    main("benchmark", BenchmarkConfig, work, __doc__)
