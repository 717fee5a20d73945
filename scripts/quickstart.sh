#!/usr/bin/env bash
# Trains a layer-norm HyperLSTM on the source code of the Python standard
# library, in a few minutes on a CPU. The same command goes on with a run that
# was stopped. Arguments are handed on: --config.seed=1 --workdir=runs/other
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

exec .venv/bin/python -m hyperjax.main \
  --config=configs/text.py --workdir=runs/quickstart "$@"
