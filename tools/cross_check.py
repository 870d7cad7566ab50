#!/usr/bin/env python3
"""Compiles every product source for the other platforms with zig's C compiler; nothing is linked or run.

    cross_check.py [--build build] [--zig PYTHON]

The libraries' headers are this machine's (they say the same on every platform; libuv's include its own parts for each
system). PYTHON has the package ziglang (`make cross-check` brings it). Exit status 1 when a file does not compile.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = "base http wire tensor text chat backend backend/cpu model engine pipeline gateway lib api cli".split()
TARGETS = {  # what CMakeLists.txt leaves out for each
    "aarch64-linux-gnu": r"_darwin\.c$|_(avx2|avx512|x86_64)\.c$",
    "aarch64-macos": r"_linux\.c$|_(avx2|avx512|x86_64)\.c$",
}
HEADERS = ["uv.h", "uv", "json-c", "openssl", "xxhash.h", "utf8proc.h"]
FLAGS = ("-std=c11 -c -O1 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith "
         "-Wwrite-strings -Werror -fno-strict-aliasing -ffp-contract=off -D_POSIX_C_SOURCE=200809L -DTANDEM_TEST_HOOKS=1 "
         "-DTANDEM_VERSION=\"0\"").split()


def link_headers(folder):
    """A folder with the libraries' headers alone: the rest of /usr/include belongs to this platform."""
    folder.mkdir(parents=True, exist_ok=True)
    arch = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True).stdout.strip()
    for name in HEADERS:
        sources = [p for p in (pathlib.Path("/usr/include") / name, pathlib.Path("/usr/include") / arch / name) if p.exists()]
        target = folder / name
        if sources and sources[0].is_dir():
            target.mkdir(exist_ok=True)
            for header in (h for source in sources for h in source.iterdir()):
                if not (target / header.name).exists():
                    (target / header.name).symlink_to(header)
        elif sources and not target.exists():
            target.symlink_to(sources[0])


def compile_one(zig, target, source, include, build):
    system = ["-D_DARWIN_C_SOURCE"] if "macos" in target else ["-D_DEFAULT_SOURCE"]
    command = [zig, "-m", "ziglang", "cc", "-target", target, *FLAGS, *system, f"-I{ROOT}", f"-isystem{include}",
               f"-I{build / 'generated'}", str(source), "-o", str(build / "cross" / f"{target}-{source.name}.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--zig", default=sys.executable)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    include = build / "cross" / "include"
    link_headers(include)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for target, left_out in TARGETS.items():
            sources = [s for f in FOLDERS for s in sorted((ROOT / f).glob("*.c"))
                       if not re.search(left_out, s.name) and s.name != "test_hooks_off.c"]
            results = pool.map(lambda s: compile_one(arguments.zig, target, s, include, build), sources)
            bad = [(s, text) for s, (ok, text) in zip(sources, results) if not ok]
            for source, text in bad:
                print(f"{source.relative_to(ROOT)}: {text.strip()[:3000]}")
            print(f"{target}: {len(sources) - len(bad)} of {len(sources)} files compile", flush=True)
            failed += len(bad)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
