#!/bin/bash
# One machine's part of scripts/train.sbatch, which gives the words of `accelerate launch`.
set -euo pipefail

accelerate launch --machine_rank "$SLURM_NODEID" "$@" &
launcher=$!
# The launcher would give its processes 30 s to end, less than a large checkpoint may take: they are
# told by hand, save, and end by themselves.
trap 'pkill -TERM -P "$launcher" || true' TERM
while kill -0 "$launcher" 2> /dev/null; do
    wait "$launcher" || true
done
wait "$launcher"
