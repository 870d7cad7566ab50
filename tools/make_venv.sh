#!/bin/sh
# Makes (or refreshes) a Python environment of the tests at $1, from $2 (tests/requirements.txt). Quick when it is current.
set -eu
venv="$1"
requirements="${2:-$(dirname "$0")/../tests/requirements.txt}"
if [ -f "$venv/.requirements" ] && cmp -s "$requirements" "$venv/.requirements"; then exit 0; fi
echo "making the tests' Python environment"
python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements"
cp "$requirements" "$venv/.requirements"
