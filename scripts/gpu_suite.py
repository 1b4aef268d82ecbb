"""Full-size speed on a CUDA machine, one switch at a time, as a table and as JSON.

    python scripts/gpu_suite.py model=hunyuan15_decoupled output=gpu.json

``bash scripts/gpu_suite.sh`` runs the tests that need a GPU first. Weights are random: they do not
change speed. What the machine lacks is named in its row.
"""

import json

from flowact.cli import main
from flowact.runs import GpuSuiteConfig


def work(config: GpuSuiteConfig) -> None:
    from flowact.evaluation.gpu_suite import gpu_suite, markdown
    from flowact.media.files import check_output

    output = check_output(config.output, suffix=".json")
    told = gpu_suite(config)
    output.write_text(json.dumps(told, indent=2) + "\n")
    print(markdown(told))


if __name__ == "__main__":
    main("gpu_suite", GpuSuiteConfig, work, __doc__)
