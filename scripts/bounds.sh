#!/usr/bin/env bash
# Tests the bounds in setup.py at both ends, under each Python that is here:
#
#   bash scripts/bounds.sh             # Python 3.11 and 3.12
#   bash scripts/bounds.sh 3.12        # or those that are named
#
# Makes .cache/bounds/PYTHON-END for each: with the lowest versions that setup.py
# allows, and with the newest that resolve. A small part of the tests runs there
# (no lint), which touches each package once; warnings are errors. The log has
# the versions, pytest's last line and what failed.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

tests=(
  tests/data/test_builders.py      # tfds, array_record, requests
  tests/data/test_images.py        # pillow
  tests/data/test_word_pieces.py   # sentencepiece
  tests/data/test_pen_font.py      # Hershey-Fonts
  tests/nn/test_cells.py           # jax, flax
  tests/training/test_checkpoint.py  # orbax
  tests/training/test_optimizer.py # optax
  tests/training/test_writers.py   # tensorboardX
  tests/evaluation                 # sacrebleu
  tests/pictures                   # matplotlib
  tests/sweeps/test_space.py       # optuna
  tests/test_configs.py            # ml_collections, absl
  tests/test_model_folder.py       # safetensors
)
uv=.venv/bin/uv
failed=0
for version in "${@:-3.11}" ${1:-3.12}; do :; done
