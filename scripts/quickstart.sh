#!/usr/bin/env bash
# Streams the bundled example to outputs/quickstart/video.mp4, with a report beside it.
# Words are passed on to scripts/sample.py: bash scripts/quickstart.sh seed=1 image=me.jpg
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
install ""
mkdir -p outputs/quickstart
.venv/bin/python scripts/sample.py image=flowact/assets/person.png audio=flowact/assets/speech.flac \
    prompts=flowact/assets/prompts.json output=outputs/quickstart/video.mp4 \
    report=outputs/quickstart/report.json "$@"
