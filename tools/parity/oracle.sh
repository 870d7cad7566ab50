#!/bin/sh
# make oracle: compares the committed reference vectors with what the reference implementations give now; with --write,
# writes them anew. Their packages go to build/oracle-venv, or $ORACLE_PYTHON names a Python that has them.
set -eu
cd "$(dirname "$0")/../.."
mode=--check
if [ "${1:-}" = --write ]; then
    mode=
elif [ $# -gt 0 ]; then
    echo "usage: tools/parity/oracle.sh [--write]" >&2
    exit 2
fi

if [ -z "${ORACLE_PYTHON:-}" ]; then
    venv=build/oracle-venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet -r tests/requirements.txt -r tools/parity/requirements.txt
    ORACLE_PYTHON=$venv/bin/python
fi

status=0
for script in dtype_vectors packed_vectors tokenizer_vectors model_vectors adapter_vectors; do
    echo "== $script"
    "$ORACLE_PYTHON" "tools/parity/$script.py" $mode || status=1
done
exit $status
