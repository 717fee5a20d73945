#!/usr/bin/env bash
# Lints and tests. Arguments go to pytest; `--slow` first runs the slow tests,
# and those alone, and `--quick` those of small parts. Tests of real data look
# under $HYPERJAX_DATA_DIR.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
bash scripts/chromium.sh

.venv/bin/ruff check .
.venv/bin/ruff format --check .

# A file's tests stay together, for they share what they have trained. Slow
# tests start processes of their own, and kill them by the clock.
workers=(--numprocesses=auto --maxprocesses=4 --dist=loadfile
  --no-loadscope-reorder)
if [ "${1:-}" = --slow ]; then
  shift
  set -- -m slow "$@"
  workers=()
  export XLA_FLAGS="${XLA_FLAGS-}"  # these with XLA's optimizations
fi
unset PYTHONDONTWRITEBYTECODE  # else each process that tests start compiles all
export JAX_COMPILATION_CACHE_DIR="$PWD/.cache/jax"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
exec .venv/bin/python -m pytest "${workers[@]}" "$@"
