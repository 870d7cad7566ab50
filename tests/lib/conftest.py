"""What is installed, as its users have it: below a prefix of its own, away from the source tree.

$TANDEM_BUILD is the build folder; the prefix is made from it once a session.
"""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "e2e"))
BUILD = pathlib.Path(os.environ.get("TANDEM_BUILD", ROOT / "build")).absolute()


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{words}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def prefix():
    folder = BUILD / "test-prefix"
    shutil.rmtree(folder, ignore_errors=True)
    run("cmake", "--install", BUILD, "--prefix", folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # hundreds of megabytes with symbols for debuggers


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    run(BUILD / "make_random_model", ROOT / "tests" / "data" / "parity" / "llama-plain.json", path)
    return path


@pytest.fixture(scope="session")
def adapter(tmp_path_factory):
    """Of that model."""
    from lora_adapters import TINY_SHAPE, write_peft
    return write_peft(tmp_path_factory.mktemp("adapters") / "one", TINY_SHAPE, 1, strength=0.5)


@pytest.fixture(scope="session")
def environment(prefix):
    """Of somebody who has the prefix, and nothing that leads into the source tree."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("TANDEM", "PYTHON", "CMAKE"))}
    return {**mine, "PATH": f"{prefix / 'bin'}:{mine['PATH']}", "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
            "CMAKE_PREFIX_PATH": str(prefix)}
