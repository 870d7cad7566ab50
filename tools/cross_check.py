#!/usr/bin/env python3
"""Compiles every source and test for the other platforms with zig's compiler; nothing is run.

    cross_check.py [--build build] [--zig PYTHON]

The libraries' headers are this machine's (they say the same on every platform; libuv's include its own parts for each
system). For macOS the product is linked too, without those libraries: what is missing besides their symbols has no
implementation there. So is the mlx backend, C++ shim included, against the headers and libmlx.dylib of MLX's macOS wheels,
which are brought at the version that tests/requirements.txt names. PYTHON has the package ziglang (`make cross-check`
brings it). Ends with a line `N passed, N failed`; exit status 1 when something fails.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = "base http hub mcp wire tensor text chat grammar backend model engine pipeline gateway lib api cli".split()
TESTS = "tests/support tests/tools tests/unit tests/fuzz".split()
TARGETS = {  # what CMakeLists.txt leaves out for each
    "aarch64-linux-gnu": r"_darwin\.c$|_(avx2|avx512|x86_64)\.c$",
    "aarch64-macos": r"_linux\.c$|_(avx2|avx512|x86_64)\.c$",
}
HEADERS = ["uv.h", "uv", "json-c", "openssl", "xxhash.h", "utf8proc.h", "pcre2.h", "curl", "sqlite3.h", "cmocka.h"]
ALLOWED = {  # what each library may leave unresolved: its own symbols
    "libuv": r"_uv_", "json-c": r"_json_", "OpenSSL": r"_(EVP|CRYPTO|OPENSSL|SSL|TLS|BIO|ERR|X509|ASN1)_", "xxHash": r"_XXH", "utf8proc": r"_utf8proc_",
    "libcurl": r"_curl_", "SQLite": r"_sqlite3_",
    "PCRE2": r"_pcre2_", "llguidance": r"_llg_",
}
# What the shared object of the mlx backend is made of, besides base, tensor and the cpu backend, which it has its own copies of.
MLX_OBJECT = re.search(r'set\(TANDEM_MLX_OBJECT "(.+)"\)', (ROOT / "CMakeLists.txt").read_text()).group(1).replace("\\\\", "\\")
OTHER_HOOKS = r"^(test_hooks|fault)_off\.c$"  # a build has one half of these: the one for tests here
FLAGS = ("-std=c11 -c -O0 -fno-sanitize=undefined -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith "
         "-Wwrite-strings -Wno-missing-field-initializers -Werror -fno-strict-aliasing -ffp-contract=off -D_POSIX_C_SOURCE=200809L -DTANDEM_TEST_HOOKS=1 "
         "-DTANDEM_VERSION=\"0\" -DTEST_DATA_DIR=\"\" -DTANDEM_UNROLL=\"unroll\"").split()
FILE_FLAGS = {  # as in CMakeLists.txt; zig's names for -march=armv8.2-a+dotprod+i8mm
    r"_neon\.c$": ["-mcpu=generic+v8_2a+dotprod"],
    r"_i8mm\.c$": ["-mcpu=generic+v8_2a+dotprod+i8mm"],
}


def zig_of(python):
    """The program itself: a Python that only starts it takes a part of what a file takes."""
    where = "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
    return subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()


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
    own = [flag for pattern, flags in FILE_FLAGS.items() if re.search(pattern, source.name) for flag in flags]
    command = [zig, "cc", "-target", target, *FLAGS, *own, *system, f"-I{ROOT}", f"-isystem{include}",
               f"-I{build / 'generated'}", str(source), "-o", str(object_of(target, source, build))]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0, done.stderr


def allowed(symbol):
    return any(re.match(pattern, symbol) for pattern in ALLOWED.values())


def unresolved(zig, compiler, target, arguments):
    """Symbols that a link lacks and that no library may have; the linker's words where it fails otherwise."""
    done = subprocess.run([zig, compiler, "-target", target, *map(str, arguments)], capture_output=True, text=True)
    missing = re.findall(r"undefined symbol: (\S+)", done.stderr)
    if done.returncode and not missing:
        return [done.stderr.strip()[:3000]]
    return [s for s in missing if not allowed(s)]


def missing_functions(zig, target, sources, build):
    objects = [object_of(target, source, build) for source in sources if not re.search(MLX_OBJECT, str(source))]
    return unresolved(zig, "cc", target, [*objects, "-o", build / "cross" / "linked"])


def macos_mlx(python, build):
    """The folder of MLX's macOS wheels, unpacked."""
    folder = build / "cross" / "macos"
    version = re.search(r"^mlx==(\S+)", (ROOT / "tests" / "requirements.txt").read_text(), re.MULTILINE).group(1)
    stamp = folder / f"mlx-{version}.complete"
    if not stamp.exists():
        subprocess.run([python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--platform", "macosx_14_0_arm64",
                        "--python-version", "3.11", "--only-binary=:all:", "--no-deps", "-d", str(folder),
                        f"mlx=={version}", f"mlx-metal=={version}"], check=True)
        for wheel in folder.glob(f"mlx*-{version}-*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
        stamp.touch()
    return folder / "mlx"


def mlx_object(python, zig, target, sources, build):
    """What the mlx backend lacks on macOS, or why it cannot be compiled there."""
    mlx = macos_mlx(python, build)
    flags = ["-std=c++20", "-c", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-D_DARWIN_C_SOURCE",
             f"-I{ROOT}", f"-isystem{mlx / 'include'}"]
    shim = {object_of(target, source, build): source for source in sorted((ROOT / "backend" / "mlx").glob("*.cpp"))}
    problems = [p for object, source in shim.items() for p in unresolved(zig, "c++", target, [*flags, source, "-o", object])]
    if problems:
        return problems
    own = [object_of(target, s, build) for s in sources
           if re.search(MLX_OBJECT, str(s)) or s.parent.name in ("base", "tensor", "cpu")
           or (s.parent.name == "backend" and s.name != "backend.c") or s.name.startswith(("mlx_plan", "mlx_repack"))]
    return unresolved(zig, "c++", target, ["-shared", *shim, *dict.fromkeys(own), mlx / "lib" / "libmlx.dylib", "-o", build / "cross" / "tandem_mlx.so"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--zig", default=sys.executable)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    include = build / "cross" / "include"
    link_headers(include)
    zig = zig_of(arguments.zig)
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for target, left_out in TARGETS.items():
            sources = [s for f in FOLDERS + TESTS for s in sorted((ROOT / f).rglob("*.c"))
                       if not re.search(left_out, s.name) and not re.search(OTHER_HOOKS, s.name)]
            results = pool.map(lambda s: compile_one(zig, target, s, include, build), sources)
            bad = [(s, text) for s, (ok, text) in zip(sources, results) if not ok]
            for source, text in bad:
                print(f"{source.relative_to(ROOT)}: {text.strip()[:3000]}")
            print(f"{target}: {len(sources) - len(bad)} of {len(sources)} files compile", flush=True)
            failed += len(bad)
            passed += len(sources) - len(bad)
            if "macos" in target and not bad:
                product = [s for s in sources if "tests" not in s.relative_to(ROOT).parts]
                missing = missing_functions(zig, target, product, build)
                print(f"{target}: {len(missing)} functions without an implementation", *missing)
                lacking = mlx_object(arguments.zig, zig, target, product, build)
                print(f"{target}: mlx backend against libmlx.dylib: {len(lacking)} problems", *lacking)
                failed += bool(missing) + bool(lacking)
                passed += (not missing) + (not lacking)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
