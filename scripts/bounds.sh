#!/usr/bin/env bash
# Tests the bounds of setup.py at both ends, under each Python that is there.
#
#   bash scripts/bounds.sh           # Python 3.11 and 3.12
#   bash scripts/bounds.sh 3.12      # or those that are named
#   bash scripts/bounds.sh --lock    # writes requirements-dev.lock anew
#
# Makes an environment with the lowest versions that setup.py allows, and one
# with the newest that resolve, under .cache/bounds. A small part of the tests
# runs there, which uses each package once; warnings are errors. Ends with a
# line for each, and with 1 if one failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
uv=.venv/bin/uv

if [ "${1:-}" = --lock ]; then
  # For both Pythons and all platforms, with the hashes of all files.
  exec $uv pip compile setup.py --extra dev --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --quiet \
    --custom-compile-command 'bash scripts/bounds.sh --lock' \
    --output-file requirements-dev.lock
fi

tests=(
  tests/data/test_iam_builder.py     # tfds and array_record
  tests/data/test_images.py          # pillow
  tests/data/test_pen_font.py        # Hershey-Fonts
  tests/data/test_word_pieces.py     # sentencepiece
  tests/evaluation/test_bleu.py      # sacrebleu
  tests/nn/test_stack.py             # jax and flax
  tests/pictures/test_strokes.py     # matplotlib
  tests/sweeps/test_report.py        # optuna
  tests/test_configs.py              # ml_collections and absl
  tests/test_model_folder.py         # safetensors, optax, orbax: a whole run
  tests/training/test_checkpoint.py  # orbax
  tests/training/test_writers.py     # tensorboardX
)
export JAX_COMPILATION_CACHE_DIR="$PWD/.cache/jax"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
[ $# -gt 0 ] || set -- 3.11 3.12
summary=() failed=0
for version in "$@"; do
  for end in lowest-direct highest; do
    folder=.cache/bounds/$version-$end
    log=$folder.log
    mkdir -p .cache/bounds
    if ! $uv venv --quiet --clear --python "$version" "$folder" 2>"$log"; then
      summary+=("$version $end: no such Python here")
      continue
    fi
    # pytest and hypothesis have bounds of their own in the extra `dev`.
    dev=$(sed -n "s/^ *'\(\(pytest\|hypothesis\)>=[^']*\)',$/\1/p" setup.py)
    if $uv pip install --quiet --python "$folder" --resolution $end \
      -e . $dev 2>"$log" &&
      "$folder/bin/python" -m pytest -q "${tests[@]}" >"$log" 2>&1; then
      summary+=("$version $end: $(tail -n 1 "$log")")
    else
      failed=1
      summary+=("$version $end: FAILED: $(tail -n 1 "$log"); see $log")
    fi
  done
done
printf '%s\n' "${summary[@]}"
exit $failed
