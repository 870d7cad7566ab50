#!/usr/bin/env python3
"""Runs the tests of the AVX-512 kernels on another processor: whole machines that Bochs emulates (tools/bochs/machine.py).

    avx512_check.py [--build build] [--jobs N] [--installed]
    avx512_check.py [--build build] [--processor NAME] [--limit SECONDS] [--add PATH]... --run PROGRAM [ARGUMENT...]

The second form runs any program of this machine there, with the files or folders that it reads (--add): its output and exit
status. `bochs --help cpu` lists processors. NAME=VALUE before the program goes to its environment. The limit is one of this
machine's processor time.

On Debian and its relatives, x86-64, only. tools/install_deps.sh installs Bochs; with --installed it must be there already.
The Linux kernel that runs there is a package unpacked in the build folder.

Prints `avx512: N passed, N failed` at the end. Exit status 1 when a test fails, 77 (skipped) when something cannot be had.
"""
import argparse
import concurrent.futures
import os
import pathlib
import platform
import shutil
import subprocess
import sys

from bochs.machine import get_kernel, have_bochs, is_setting, run_commands
from emulation import SKIPPED, Missing, count_results, run

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIME_LIMIT = 900  # seconds of this machine's processor; a machine takes about 60
# Machines: processor, the kernels that it has to choose, programs and patterns of tests. The last has AVX-512 without VNNI.
MACHINES = [
    ("corei7_icelake_u", "avx512", [("test_backend_cpu", None)]),
    ("corei7_icelake_u", "avx512", [
        ("test_backend_kernels", None),
        ("test_backend_grouped", None),
        ("test_backend_adapters", "avx512_*"),
        ("test_model_kernels", None),
        ("test_base_sys_cpu", None),
    ]),
    ("corei7_skylake_x", "avx2", [("test_backend_cpu", "test_kernel_*")]),
]


def get_tools(installed_only):
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not shutil.which("apt-get"):
        raise Missing("this needs Linux on x86-64 with apt-get")
    if not have_bochs() and not installed_only:
        run([ROOT / "tools" / "install_deps.sh", "avx512"], "installing Bochs")
    if not have_bochs():
        raise Missing("Bochs is not here (make avx512-check installs it)")


def has_avx512():
    return " avx512_vnni" in pathlib.Path("/proc/cpuinfo").read_text()


def compile_tests(build, jobs):
    programs = sorted({program for _, _, tests in MACHINES for program, _ in tests})
    commands = [] if (build / "build.ninja").exists() else [["cmake", "--preset", "release", "-B", build]]
    for command in [*commands, ["ninja", "-C", build, "-j", jobs, *programs]]:
        done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:])
            print("avx512: 0 passed, 1 failed (the build)")
            sys.exit(1)


def run_machine(build, kernel, number, machine):
    processor, kernels, tests = machine
    commands = [[f"TANDEM_TEST_KERNELS={kernels}", str(build / program), *([pattern] if pattern else [])]
                for program, pattern in tests]
    results = run_commands(build / "avx512" / f"machine{number}", kernel, processor, commands, TIME_LIMIT, ROOT,
                           [ROOT / "tests" / "data"])
    total_passed = total_failed = 0
    for (program, pattern), result in zip(tests, results):
        passed, failed = count_results(result.text, result.status)
        name = f"{program} {pattern or ''}".strip()
        print(f"avx512 {processor}: {name}: {passed} passed, {failed} failed in {result.seconds:.0f} s", flush=True)
        if failed:
            print(result.text[-4000:])
        total_passed, total_failed = total_passed + passed, total_failed + failed
    return total_passed, total_failed + len(tests) - len(results)


def check(arguments, build, kernel):
    if has_avx512():
        raise Missing("this machine has AVX-512: its unit tests run these kernels")
    compile_tests(build, arguments.jobs)
    with concurrent.futures.ThreadPoolExecutor(int(arguments.jobs)) as pool:
        results = list(pool.map(lambda m: run_machine(build, kernel, *m), enumerate(MACHINES)))
    passed, failed = sum(p for p, _ in results), sum(f for _, f in results)
    print(f"avx512: {passed} passed, {failed} failed")
    return 1 if failed else 0


def run_program(arguments, build, kernel):
    words = list(arguments.run)
    place = next((i for i, word in enumerate(words) if not is_setting(word)), None)
    program = shutil.which(words[place]) if place is not None else None
    if not program:
        sys.exit("avx512_check: --run needs a program that this machine has")
    words[place] = str(pathlib.Path(program).resolve())
    folder = build / "avx512" / f"run-{os.getpid()}"
    try:
        result = run_commands(folder, kernel, arguments.processor, [words], arguments.limit, ROOT,
                              [path.resolve() for path in arguments.add])[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(result.text, end="")
    if result.status is None:
        print(f"avx512_check: it did not end (limit: {arguments.limit} s of processor time)")
        return 1
    return result.status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 2))
    parser.add_argument("--installed", action="store_true", help="install nothing")
    parser.add_argument("--processor", default="corei7_icelake_u")
    parser.add_argument("--limit", type=int, default=TIME_LIMIT)
    parser.add_argument("--add", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--run", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    (build / "avx512").mkdir(parents=True, exist_ok=True)
    try:
        get_tools(arguments.installed)
        kernel = get_kernel(build / "avx512")
        sys.exit((run_program if arguments.run else check)(arguments, build, kernel))
    except Missing as missing:
        print(f"skip: avx512: {missing}")
        sys.exit(SKIPPED)


if __name__ == "__main__":
    main()
