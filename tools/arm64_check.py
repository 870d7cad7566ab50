#!/usr/bin/env python3
"""Runs the tests of the arm64 kernels on another processor: compiled for arm64 Linux, run by qemu-aarch64.

    arm64_check.py [--build build/arm64] [--jobs N] [--installed]

On Debian and its relatives only. Everything lives in the build folder: a configuration and package lists of apt for
arm64, the libraries unpacked (sysroot), a CMake toolchain file, the build. The machine's own packages change only by the
cross compiler and qemu, which tools/install_deps.sh installs; with --installed they must be there already. The environment
variable ARM64_SOURCES names an apt sources file with arm64 packages, where the machine's own have none.

Prints `arm64: N passed, N failed` at the end. Exit status 1 when a test fails, 77 (skipped) when something cannot be had.
"""
import argparse
import concurrent.futures
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

from emulation import SKIPPED, Missing, apt_settings, count_results, run

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMPILER, EMULATOR, LIBC = "aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu"
# Program, pattern of tests, processor. `max` has SDOT and SMMLA, a neoverse-n1 no SMMLA, a cortex-a53 neither. The slow
# ones first; what reference kernels compute is tested on the machine's own processor.
RUNS = [
    ("test_backend_cpu", "*_i8mm", "max"),
    ("test_backend_cpu", "*_neon", "max"),
    ("test_model_kernels", "i8mm_*", "max"),
    ("test_model_kernels", "neon_*", "max"),
    ("test_backend_kernels", None, "max"),
    ("test_backend_kernels", None, "neoverse-n1"),
    ("test_backend_kernels", None, "cortex-a53"),
    ("test_backend_grouped", None, "max"),
    ("test_backend_grouped", None, "neoverse-n1"),
    ("test_backend_adapters", "i8mm_*", "max"),
    ("test_backend_adapters", "neon_*", "neoverse-n1"),
    ("test_backend_limits", None, "max"),
    ("test_base_sys_cpu", None, "max"),
    ("test_backend_cpu", "test_kernel*", "max"),
    ("test_backend_cpu", "test_embedding_is_exact", "max"),
]


def have_tools():
    return shutil.which(COMPILER) and shutil.which(EMULATOR) and pathlib.Path(LIBC, "lib", "libc.so.6").exists()


def get_tools(installed_only):
    if platform.system() != "Linux" or not shutil.which("apt-get"):
        raise Missing("this needs Linux with apt-get")
    if platform.machine() == "aarch64":
        raise Missing("this machine is arm64: its unit tests run these kernels")
    if not have_tools() and not installed_only:
        run([ROOT / "tools" / "install_deps.sh", "arm64"], "installing the cross compiler and qemu")
    if not have_tools():
        raise Missing(f"{COMPILER} and {EMULATOR} are not here (make arm64-check installs them)")


# ---- the libraries ----

def wanted_libraries():
    text = (ROOT / "tools" / "install_deps.sh").read_text()
    packages = " ".join(re.findall(r'^(?:build|test)_apt="([^"]*)"', text, flags=re.M)).split()
    return [p for p in packages if re.match(r"lib.*-dev$", p) and p != "libc6-dev"]


def get_libraries(build):
    """Development packages and all that they need to run, in build/sysroot."""
    sysroot, packages = build / "sysroot", wanted_libraries()
    stamp = sysroot / ".packages"
    if stamp.exists() and stamp.read_text() == " ".join(packages):
        return sysroot
    sources = os.environ.get("ARM64_SOURCES")
    settings = apt_settings(build / "apt", "arm64", sources and pathlib.Path(sources).resolve())
    run(["apt-get", "-c", settings, "update", "-qq"], "reading the lists of arm64 packages")
    try:
        leave_out = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
        depends = run(["apt-cache", "-c", settings, "depends", "--recurse", *leave_out, *packages], "looking for arm64 packages")
    except Missing as error:
        raise Missing(f"the package sources of this machine have no arm64 packages: {error}") from error
    runtime = {p for p in re.findall(r"^ +Depends: ([^\s<]+)", depends, flags=re.M)
               if re.match(r"z?lib", p) and not re.match(r"libc6|libgcc|libstdc", p)}
    debs = build / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    shutil.rmtree(sysroot, ignore_errors=True)
    debs.mkdir(parents=True)
    run(["apt-get", "-c", settings, "download", "-qq", *packages, *sorted(runtime - set(packages))],
        "downloading arm64 packages", cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg-deb", "-x", deb, sysroot], f"unpacking {deb.name}")
    shutil.rmtree(debs)
    stamp.write_text(" ".join(packages))
    return sysroot


# ---- the build ----

def write_toolchain(build, sysroot):
    libraries = f"{sysroot}/usr/lib/aarch64-linux-gnu"
    include = f"-isystem {sysroot}/usr/include -isystem {sysroot}/usr/include/aarch64-linux-gnu"
    more = f"{sysroot}/lib/aarch64-linux-gnu"  # where Debian keeps what others of the libraries need: libz, libcom_err
    toolchain = build / "toolchain.cmake"
    toolchain.write_text(f"""set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER {COMPILER})
set(CMAKE_C_FLAGS_INIT "{include}")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-L{libraries} -Wl,-rpath-link,{libraries}:{more}")
set(CMAKE_CROSSCOMPILING_EMULATOR "{EMULATOR};-L;{LIBC};-E;LD_LIBRARY_PATH={libraries}:{more}:{LIBC}/lib")
""")
    return toolchain


def compile_tests(build, sysroot, jobs):
    toolchain = write_toolchain(build, sysroot)
    env = {**os.environ, "PKG_CONFIG_LIBDIR": f"{sysroot}/usr/lib/aarch64-linux-gnu/pkgconfig:{sysroot}/usr/share/pkgconfig",
           "PKG_CONFIG_SYSROOT_DIR": str(sysroot)}
    programs = sorted({program for program, _, _ in RUNS})
    for command in (["cmake", "--preset", "release", "-B", build, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DTANDEM_MLX=OFF"],
                    ["ninja", "-C", build, "-j", jobs, *programs]):
        done = subprocess.run([str(c) for c in command], cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:])
            print("arm64: 0 passed, 1 failed (the build)")
            sys.exit(1)


# ---- the tests ----

def run_test(build, sysroot, program, pattern, processor):
    libraries = f"{sysroot}/usr/lib/aarch64-linux-gnu:{LIBC}/lib"
    command = [EMULATOR, "-cpu", processor, "-L", LIBC, "-E", f"LD_LIBRARY_PATH={libraries}",
               "-E", "TANDEM_TEST_EMULATED=1", build / program]
    began = time.monotonic()
    done = subprocess.run([str(c) for c in ["timeout", "600", *command, *([pattern] if pattern else [])]], cwd=ROOT,
                          capture_output=True, text=True, errors="replace")
    text = done.stdout + done.stderr
    if "unable to find CPU model" in text:
        print(f"arm64 {processor}: left out, this qemu is too old for it", flush=True)
        return 0, 0
    passed, failed = count_results(text, done.returncode)
    name = f"{program} {pattern or ''}".strip()
    print(f"arm64 {processor}: {name}: {passed} passed, {failed} failed in {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(text[-4000:])
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "arm64")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 2))
    parser.add_argument("--installed", action="store_true", help="install nothing")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    build.mkdir(parents=True, exist_ok=True)
    try:
        get_tools(arguments.installed)
        sysroot = get_libraries(build)
    except Missing as missing:
        print(f"skip: arm64: {missing}")
        sys.exit(SKIPPED)
    compile_tests(build, sysroot, arguments.jobs)
    with concurrent.futures.ThreadPoolExecutor(int(arguments.jobs)) as pool:
        results = list(pool.map(lambda r: run_test(build, sysroot, *r), RUNS))
    passed, failed = sum(p for p, _ in results), sum(f for _, f in results)
    print(f"arm64: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
