#!/bin/sh
# Makes (or refreshes) the Python environment of the tests at $1 from tests/requirements.txt. Quick when it is current.
set -eu
venv="$1"
requirements="$(dirname "$0")/../tests/requirements.txt"
if [ -f "$venv/.requirements" ] && cmp -s "$requirements" "$venv/.requirements"; then exit 0; fi
echo "making the tests' Python environment"
python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements"
cp "$requirements" "$venv/.requirements"
