"""The Python package: a wheel, installed in an environment of its own, over the installed library and program."""
import re
import shutil
import subprocess
import sys

import pytest

from conftest import BUILD, ROOT, run

PINNED = dict(line.split(";")[0].strip().split("==") for line in (ROOT / "tests" / "requirements.txt").read_text().split("\n")
              if "==" in line)


@pytest.fixture(scope="session")
def bare():
    """An environment with what the package needs. Kept in the build folder: what comes from the index is brought once."""
    venv = BUILD / "lib-venv"
    wanted = [f"{name}=={PINNED[name]}" for name in ("cffi", "pytest", "setuptools")]
    stamp = venv / "wanted"
    if not stamp.exists() or stamp.read_text() != " ".join(wanted):
        run(sys.executable, "-m", "venv", "--clear", venv)
        run(venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *wanted)
        stamp.write_text(" ".join(wanted))
    return venv / "bin" / "python"


@pytest.fixture(scope="session")
def wheel(bare, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT / "python", folder / "python")  # a build leaves files in the source
    run(bare, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "-w", folder,
        source)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def python(bare, wheel):
    run(bare, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--force-reinstall", wheel)
    return bare


def test_declarations_are_those_of_the_header():
    run(sys.executable, ROOT / "python" / "make_cdef.py", "--check")


def test_the_wheel_is_python_alone_and_typed(wheel):
    names = run(sys.executable, "-m", "zipfile", "-l", wheel)
    assert "tandem/py.typed" in names and "-none-any" in wheel.name
    assert ".so" not in names and "tests/" not in names


def test_the_package(python, environment, model, adapter, tmp_path):
    """Its own tests, from a folder outside the source tree."""
    done = subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", ROOT / "python" / "tests"], cwd=tmp_path,
                          env={**environment, "TANDEM_TEST_MODEL": str(model), "TANDEM_TEST_ADAPTER": str(adapter)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 15


def test_the_mlx_backend_is_found_beside_the_library(python, environment, prefix, model, tmp_path):
    """The process is Python: nothing lies beside its program."""
    if not (prefix / "lib" / "tandem" / "tandem_mlx.so").exists():
        pytest.skip("the mlx backend was not built")
    program = f"import tandem; m = tandem.Model({str(model)!r}, backend='mlx', kv_memory=1 << 24); print(m.info.backend)"
    assert "mlx" in run(python, "-c", program, env=environment, cwd=tmp_path).lower()
