#!/usr/bin/env bash
# Installs Debian's Chromium for the tests of HTML pages, where none is found.
# Without root or apt-get it does nothing, and those tests are skipped.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then exit 0; fi

echo "Installing Chromium for the tests ..." >&2
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install \
  --yes --no-install-recommends chromium; } >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "Chromium could not be installed; the test that opens a page will fail" >&2
fi
rm -f "$log"
