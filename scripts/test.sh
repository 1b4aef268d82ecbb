#!/usr/bin/env bash
# Lint, types and all tests. Words are passed on to pytest: bash scripts/test.sh tests/streaming
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install "[dev]"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# A process a core, of one thread each: threads that wait for one another on busy cores are what makes
# a suite slow. Files stay together, since much of what tests need is made once a file.
export OMP_NUM_THREADS=1
(($#)) || set -- tests/test_train_demo.py tests/test_curriculum.py tests # the longest first
.venv/bin/python -m pytest -n logical --dist loadfile "$@"
