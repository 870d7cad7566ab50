"""Malformed and hostile requests by the thousand, plain and over TLS; `make abuse` sends more, and times."""
import subprocess
import sys

import pytest

from harness import PATIENCE, ROOT

pytestmark = pytest.mark.cpu_only("it is about the gateway")


def test_nothing_breaks_it(tiny_path):
    done = subprocess.run([sys.executable, ROOT / "tests" / "http" / "abuse.py", "--requests", "1000", "--model", tiny_path],
                          capture_output=True, text=True, timeout=240 * PATIENCE)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
