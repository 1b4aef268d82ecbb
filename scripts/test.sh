#!/usr/bin/env bash
# Lint, types and all tests. Words are passed on to pytest: bash scripts/test.sh tests/streaming
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install "[dev]"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
