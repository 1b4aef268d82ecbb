#!/usr/bin/env bash
# Streams the bundled example to outputs/quickstart/video.mp4, with a report beside it.
# Words are passed on to scripts/sample.py: bash scripts/quickstart.sh seed=1 image=me.jpg
set -euo pipefail
here=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
root=$PWD
install ""
mkdir -p outputs/quickstart
cd "$here" # the user's files are named from there, ours from the repository
"$root/.venv/bin/python" "$root/scripts/sample.py" \
    image="$root/flowact/assets/actor.png" audio="$root/flowact/assets/speech.flac" \
    prompts="$root/flowact/assets/prompts.json" output="$root/outputs/quickstart/video.mp4" \
    report="$root/outputs/quickstart/report.json" "$@"
