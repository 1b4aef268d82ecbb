#!/usr/bin/env bash
# Everything that only a CUDA machine can tell, in under nine minutes: correctness, then speed.
#
#     bash scripts/gpu_suite.sh [output=gpu.json] [model=hunyuan15_decoupled] [minutes=6] ...
#
# It needs torch 2.11 or later with CUDA, the package's own dependencies, and pytest. What the machine
# lacks is named. Words go on to scripts/gpu_suite.py.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python - <<'PYTHON'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("error: torch sees no CUDA device; this suite is for a machine with one")
print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
PYTHON
failed=0
python -m pytest -q -rs --durations=0 tests/gpu tests/models/test_attention_backends.py tests/acceleration || failed=1
words=("$@")
[[ " ${words[*]} " == *" output="* ]] || words+=(output=outputs/gpu_suite.json)
python scripts/gpu_suite.py "${words[@]}"
exit $failed
