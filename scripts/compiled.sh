#!/usr/bin/env bash
# Tests by the compilers for NVIDIA GPUs and TPUs, without any such device.
#
#   bash scripts/compiled.sh          # jax 0.10.2 and 0.11.2
#   bash scripts/compiled.sh 0.11.2   # or those that are named
#
# Makes an environment for each version under .cache/compiled (7 GB). Ends with a
# line for each, and with 1 if one failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
uv=$PWD/.venv/bin/uv
unset XLA_FLAGS JAX_PLATFORMS

[ $# -gt 0 ] || set -- 0.10.2 0.11.2
summary=() failed=0
for version in "$@"; do
  folder=$PWD/.cache/compiled/$version log=$PWD/.cache/compiled/$version.log
  mkdir -p .cache/compiled
  dev=$(sed -n "s/^ *'\(\(pytest\|hypothesis\)>=[^']*\)',$/\1/p" setup.py)
  if { [ -x "$folder/bin/python" ] ||
    $uv venv --quiet --python .venv/bin/python "$folder"; } 2>"$log" &&
    $uv pip install --quiet --python "$folder" "jax==$version" \
      -e '.[compile-gpu,compile-tpu]' $dev 2>"$log" &&
    "$folder/bin/python" -m pytest -q -m compiled tests/compiling >"$log" 2>&1
  then
    summary+=("jax $version: $(tail -n 1 "$log")")
  else
    failed=1
    summary+=("jax $version: FAILED: $(tail -n 1 "$log"); see $log")
  fi
done
printf '%s\n' "${summary[@]}"
exit $failed
