#!/bin/bash
# `accelerate launch` with the same words, for what has to save before it ends: a SIGTERM reaches the
# processes, and they are waited for. One machine's part of a SLURM job is told which one it is.
set -euo pipefail

accelerate launch ${SLURM_NODEID:+--machine_rank "$SLURM_NODEID"} "$@" &
launcher=$!
# The launcher would give its processes 30 s to end, less than a large checkpoint may take, or tell
# them nothing: they are told by hand, save, and end by themselves.
trap 'pkill -TERM -P "$launcher" || true' TERM
while kill -0 "$launcher" 2> /dev/null; do
    wait "$launcher" || true
done
wait "$launcher"
