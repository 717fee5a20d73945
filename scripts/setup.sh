# Sourced by the other scripts: makes .venv with all that the project needs.
# The first time it takes a minute or two; when .venv stands, no time at all.
# PYTHON=/path/to/python3.12 chooses the Python.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
  echo "error: $*" >&2
  exit 1
}

# The first Python that is new enough and can make environments.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 python}; do
    if "$candidate" -c 'import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

stamp=.venv/hyperjax-installed
if ! cmp -s setup.py "$stamp"; then
  if [ ! -x .venv/bin/pip ]; then
    python=$(find_python)
    [ -n "$python" ] || fail "no Python >= 3.11 with venv was found" \
      "(python3 is $(python3 --version 2>&1 || echo missing)); install one," \
      "or name it: PYTHON=/path/to/python3.12 bash $0"
    echo "Making .venv with $("$python" --version) ..." >&2
    "$python" -m venv .venv || fail "$python could not make .venv"
  fi
  echo "Installing hyperjax and its packages into .venv ..." >&2
  # uv takes a tenth of pip's time; pip where it can't, as behind an index that
  # only pip's settings name.
  if ! { .venv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9' &&
    .venv/bin/uv pip install --quiet --python .venv -e '.[dev]'; } \
    2>.venv/install.log && ! .venv/bin/pip install --quiet \
    --disable-pip-version-check --retries 2 -e '.[dev]' 2>>.venv/install.log; then
    tail -n 5 .venv/install.log >&2
    fail "the packages could not be installed: is there a network? The whole" \
      "log is .venv/install.log; run the same command again"
  fi
  cp setup.py "$stamp"
fi
