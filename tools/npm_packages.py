"""Packages of the npm registry that tests need, installed once per build folder: the one way that all tests take.

    folder, why = install(build / "cache" / "clients", manifest)

manifest is what package.json says: its dependencies are exact versions. The answer is the node_modules folder and None,
or None and why there is none; with CI set, an installation that fails is an error. Scripts of packages are not run: what
is needed has to lie in the packages themselves. There is no lock file: npm leaves out of it the packages for other
systems that opencode-ai names, and then refuses it.
"""
import json
import os
import pathlib
import shutil
import subprocess

BRINGS_NPM = "there is no npm (apt-get install nodejs npm, or brew install node, brings it)"


def present():
    return bool(shutil.which("npm") and shutil.which("node"))


def install(folder, manifest):
    if not present():
        return None, BRINGS_NPM
    folder = pathlib.Path(folder)
    stamp = folder / "installed.json"
    wanted = json.dumps(manifest)
    if not stamp.exists() or stamp.read_text() != wanted:
        stamp.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(wanted)
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent", "--ignore-scripts"],
                              cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout[-1000:], done.stderr[-1000:])
            assert not os.environ.get("CI"), f"npm could not install {', '.join(manifest['dependencies'])}"
            return None, "npm could not install them"
        stamp.write_text(wanted)
    return folder / "node_modules", None
