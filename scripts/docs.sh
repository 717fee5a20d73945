#!/usr/bin/env bash
# Builds the pages into build/docs/index.html; a warning is an error. Needs no
# network beyond that of the set-up.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export JAX_PLATFORMS=cpu
exec .venv/bin/python -m sphinx -q -W --keep-going docs build/docs "$@"
