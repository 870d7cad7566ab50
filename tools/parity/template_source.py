"""Real chat templates: those that llama.cpp's sources hold (vendor/llama.cpp/models/templates of llama-cpp-python's source
package, the version that bench/ compares with). Brought into the build folder on first use, never committed.

    for name, text in templates(build_folder):    # (model's name, Jinja text), in order of names
$TANDEM_TEMPLATES names a folder of *.jinja files to read instead. Absent is raised where they cannot be had."""
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The one that bench/ compares with.
PACKAGE = re.search(r'^PACKAGE = "(.*)"$', (ROOT / "bench" / "peers" / "llama_cpp.py").read_text(), re.M).group(1)
INSIDE = "/vendor/llama.cpp/models/templates/"
AT_LEAST = 40  # fewer means that the package is another one


class Absent(Exception):
    pass


def templates(build):
    folder = pathlib.Path(os.environ.get("TANDEM_TEMPLATES") or brought(pathlib.Path(build)))
    for path in sorted(folder.glob("*.jinja")):
        yield path.stem, path.read_bytes().decode()


def brought(build):
    """The folder of the templates; made whole or not at all."""
    name, version = PACKAGE.split("==")
    folder = build / "templates" / version
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        archive = downloaded(pathlib.Path(place), name, version)
        made = pathlib.Path(place) / "made"
        made.mkdir()
        if unpack(archive, made) < AT_LEAST:
            raise Absent(f"{PACKAGE} holds fewer than {AT_LEAST} chat templates")
        made.rename(folder)
    return folder


def downloaded(place, name, version):
    file = f"{name.replace('-', '_')}-{version}.tar.gz"
    here = ROOT / "bench" / "out" / "sources" / file  # `make bench` may have brought it
    if here.exists():
        return here
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", name,
               "-d", place, PACKAGE]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode or not (place / file).exists():
        raise Absent(f"{PACKAGE} cannot be brought: {(done.stderr.strip().splitlines() or ['no file came'])[-1]}")
    return place / file


def unpack(archive, folder):
    n = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and INSIDE in member.name and member.name.endswith(".jinja"):
                (folder / pathlib.PurePosixPath(member.name).name).write_bytes(tar.extractfile(member).read())
                n += 1
    return n
