#!/usr/bin/env python3
"""Compiles every source and test for the other platforms with zig's C compiler; nothing is run.

    cross_check.py [--build build] [--zig PYTHON]

The libraries' headers are this machine's (they say the same on every platform; libuv's include its own parts for each
system). For macOS the product is linked too, without those libraries: what is missing besides them has no implementation
there. PYTHON has the package ziglang (`make cross-check` brings it). Exit status 1 when something fails.
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
TESTS = "tests/support tests/tools tests/unit tests/fuzz".split()
TARGETS = {  # what CMakeLists.txt leaves out for each
    "aarch64-linux-gnu": r"_darwin\.c$|_(avx2|avx512|x86_64)\.c$",
    "aarch64-macos": r"_linux\.c$|_(avx2|avx512|x86_64)\.c$",
}
HEADERS = ["uv.h", "uv", "json-c", "openssl", "xxhash.h", "utf8proc.h", "cmocka.h"]
THEIRS = r"_(uv_|json_|EVP_|CRYPTO_|XXH|utf8proc_)"  # symbols of those libraries
FLAGS = ("-std=c11 -c -O1 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith "
         "-Wwrite-strings -Werror -fno-strict-aliasing -ffp-contract=off -D_POSIX_C_SOURCE=200809L -DTANDEM_TEST_HOOKS=1 "
         "-DTANDEM_VERSION=\"0\" -DTEST_DATA_DIR=\"\"").split()


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


def object_of(target, source, build):
    return build / "cross" / f"{target}-{'-'.join(source.relative_to(ROOT).parts)}.o"


def compile_one(zig, target, source, include, build):
    system = ["-D_DARWIN_C_SOURCE"] if "macos" in target else ["-D_DEFAULT_SOURCE"]
    command = [zig, "-m", "ziglang", "cc", "-target", target, *FLAGS, *system, f"-I{ROOT}", f"-isystem{include}",
               f"-I{build / 'generated'}", str(source), "-o", str(object_of(target, source, build))]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def missing_functions(zig, target, sources, build):
    objects = [str(object_of(target, source, build)) for source in sources]
    done = subprocess.run([zig, "-m", "ziglang", "cc", "-target", target, *objects, "-o", str(build / "cross" / "linked")],
                          capture_output=True, text=True)
    missing = re.findall(r"undefined symbol: (\S+)", done.stderr)
    return [s for s in missing if not re.match(THEIRS, s)] if missing else [done.stderr.strip()[:3000]]


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
            sources = [s for f in FOLDERS + TESTS for s in sorted((ROOT / f).glob("*.c"))
                       if not re.search(left_out, s.name) and s.name != "test_hooks_off.c"]
            results = pool.map(lambda s: compile_one(arguments.zig, target, s, include, build), sources)
            bad = [(s, text) for s, (ok, text) in zip(sources, results) if not ok]
            for source, text in bad:
                print(f"{source.relative_to(ROOT)}: {text.strip()[:3000]}")
            print(f"{target}: {len(sources) - len(bad)} of {len(sources)} files compile", flush=True)
            failed += len(bad)
            if "macos" in target and not bad:
                product = [s for s in sources if "tests" not in s.relative_to(ROOT).parts]
                missing = missing_functions(arguments.zig, target, product, build)
                print(f"{target}: {len(missing)} functions without an implementation", *missing)
                failed += len(missing)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
