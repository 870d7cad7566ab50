"""Real chat templates: those that llama.cpp's sources hold (vendor/llama.cpp/models/templates of llama-cpp-python's source
package, the version that bench/ compares with). Brought into the build folder on first use, never committed.

    for name, text in templates(build_folder):    # (model's name, Jinja text), in order of names
$TANDEM_TEMPLATES names a folder of *.jinja files to read instead. source_package.Absent is raised where they cannot be had."""
import os
import pathlib
import re

import source_package

# The one that bench/ compares with.
PACKAGE = re.search(r'^PACKAGE = "(.*)"$', (source_package.ROOT / "bench" / "peers" / "llama_cpp.py").read_text(), re.M).group(1)
INSIDE = "/vendor/llama.cpp/models/templates/"
AT_LEAST = 40  # fewer means that the package is another one


def templates(build):
    own = os.environ.get("TANDEM_TEMPLATES")
    folder = pathlib.Path(own or source_package.brought(PACKAGE, pathlib.Path(build) / "templates" / PACKAGE.split("==")[1], place_of, AT_LEAST))
    for path in sorted(folder.glob("*.jinja")):
        yield path.stem, path.read_bytes().decode()


def place_of(member):
    return pathlib.PurePosixPath(member).name if INSIDE in member and member.endswith(".jinja") else None
