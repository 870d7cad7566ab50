#!/usr/bin/env python3
"""Builds one configuration and runs its tests, then prints `N passed, N failed, N skipped`.

Suites: the C unit tests and the replayed fuzz corpora (ctest), the live comparisons with reference implementations
(tests/parity/check_*.py), the house rules (tools/check), the arm64 kernels under qemu (tools/arm64_check.py), the
AVX-512 kernels in Bochs (tools/avx512_check.py), compiling for other systems (tools/cross_check.py), the end-to-end
tests (pytest in tests/e2e), on the cpu backend and, where it was built, on mlx, what is installed, as its users have it
(tests/lib), and sessions of real clients (tests/clients). With --suite sanitizer the comparisons, the rules, the emulated
kernels, what is installed and the clients, which say nothing more under a sanitizer, are left out. What pytest printed, the slowest tests too, is kept in
<build>/test-logs. Where the environment has CI set, what emulation needs is installed; elsewhere those tests are
skipped without it.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

import npm_packages

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKIPPED = 77
ZIGLANG = "ziglang==0.13.0.post1"


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, name, passed, failed, skipped=0):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        if failed:
            self.failures.append(name)


def run(command, **options):
    return subprocess.run([str(c) for c in command], cwd=ROOT, text=True, errors="replace", **options)


def headline(text):
    print(f"== {text}", flush=True)


class Clock:
    """How long each suite took: all of them have to stay within 40 minutes on 2 cores."""
    def __init__(self):
        self.began, self.seconds = time.monotonic(), {}

    def timed(self, name, suite, *given):
        start = time.monotonic()
        suite(*given)
        self.seconds[name] = time.monotonic() - start

    def __str__(self):
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return f"took {(time.monotonic() - self.began) / 60:.1f} minutes: {parts}"


def build(arguments):
    headline(f"build ({arguments.preset})")
    # Always: a build folder made before the tests' packages were there has no tests.
    run(["cmake", "--preset", arguments.preset, "-B", arguments.build], check=True, stdout=subprocess.DEVNULL)
    done = run(["ninja", "-C", arguments.build, "-j", arguments.jobs], capture_output=True)
    if done.returncode:
        print(done.stdout[-8000:], done.stderr[-2000:])
        print("0 passed, 1 failed")
        sys.exit(1)


def unit_tests(arguments, tally):
    headline("unit tests and fuzz corpora")
    done = run(["ctest", "--test-dir", arguments.build, "--output-on-failure", "-j", arguments.jobs], capture_output=True)
    for line in done.stdout.split("\n"):
        if re.search(r"\*\*\*|Failed|Timeout|Skipped", line) and "Test #" in line:
            print(line)
    if done.returncode:
        print(done.stdout[-12000:])
    match = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", done.stdout)
    failed, total = (int(match.group(2)), int(match.group(3))) if match else (1, 1)
    skipped = len(re.findall(r"Skipped", done.stdout.split("tests passed")[0]))
    tally.add("unit", total - failed - skipped, failed, skipped)


def comparisons(arguments, tally):
    headline("comparisons with reference implementations")
    scripts = sorted((ROOT / "tests" / "parity").glob("check_*.py"))

    def compare(script):
        return script, run([arguments.python, script, "--build", arguments.build], capture_output=True)

    with concurrent.futures.ThreadPoolExecutor(int(arguments.jobs)) as pool:
        for script, done in pool.map(compare, scripts):
            last = (done.stdout.strip().split("\n") or [""])[-1]
            print(f"{script.name}: {last}", flush=True)
            if done.returncode not in (0, SKIPPED):
                print(done.stdout[-4000:], done.stderr[-4000:])
            tally.add(script.name, done.returncode == 0, done.returncode not in (0, SKIPPED), done.returncode == SKIPPED)


def house_rules(arguments, tally):
    headline("make check")
    done = run([arguments.python, ROOT / "tools" / "check" / "check.py", "--build", arguments.build], capture_output=True)
    print(done.stdout.strip()[-4000:], done.stderr[-2000:], flush=True)
    match = re.search(r"check: (\d+) rules passed, (\d+) failed", done.stdout)
    tally.add("make check", int(match.group(1)) if match else 0, int(match.group(2)) if match else 1)


def side_by_side(arguments, tally, suites):
    """Suites that leave cores idle: [(suite, its other arguments ...)]. Each prints in one piece, when it has ended."""
    with concurrent.futures.ThreadPoolExecutor(int(arguments.jobs)) as pool:
        for done in [pool.submit(suite, arguments, tally, *given) for suite, *given in suites]:
            done.result()


def emulated_kernels(arguments, tally, name, build):
    command = [sys.executable, ROOT / "tools" / f"{name}_check.py", "--build", build, "--jobs", arguments.jobs]
    done = run(command + ([] if os.environ.get("CI") else ["--installed"]), capture_output=True)
    headline(f"{name} kernels, emulated")
    print(done.stdout.strip()[-8000:], done.stderr[-2000:], flush=True)
    match = re.search(rf"^{name}: (\d+) passed, (\d+) failed", done.stdout, flags=re.M)
    passed, failed = (int(n) for n in match.groups()) if match else (0, int(done.returncode != SKIPPED))
    tally.add(f"{name} kernels", passed, failed, int(done.returncode == SKIPPED))


def cross_check(arguments, tally):
    venv = arguments.build / "cross" / "venv"
    if not (venv / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", venv], check=True)
    run([venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", ZIGLANG], check=True)
    done = run([sys.executable, ROOT / "tools" / "cross_check.py", "--build", arguments.build, "--zig", venv / "bin" / "python"],
               capture_output=True)
    headline("cross-check")
    print(done.stdout.strip()[-4000:], done.stderr[-2000:], flush=True)
    match = re.search(r"^(\d+) passed, (\d+) failed", done.stdout, flags=re.M)
    # files are many and small beside tests: each target counts once
    tally.add("cross-check", 0 if done.returncode else 2, int(done.returncode != 0 or not match))


def has_mlx(arguments):
    return (arguments.build / "tandem_mlx.so").exists()


def pytests(arguments, tally, name, folder, backend="cpu", options=()):
    env = {**os.environ, "TANDEM": str(arguments.build / "tandem"), "TANDEM_BUILD": str(arguments.build), "TANDEM_TEST_BACKEND": backend}
    command = [arguments.python, "-m", "pytest", "-q", *(["-x"] if arguments.fail_fast else []), folder,
               "-p", "no:cacheprovider", "--durations=40", *options]
    done = run(command, env=env, capture_output=True)
    log = arguments.build / "test-logs" / f"{re.sub('[^a-z]+', '-', name)}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(done.stdout + done.stderr)
    headline(name)
    print(done.stdout.strip()[-12000:] if done.returncode else done.stdout.strip().split("\n")[-1], flush=True)
    if done.returncode:
        print(done.stderr[-2000:])
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    tally.add(name, counts.get("passed", 0), failed or (1 if done.returncode not in (0,) else 0),
              counts.get("skipped", 0))


def end_to_end(arguments, tally, backend="cpu"):
    """Most of the time they wait, so files run side by side; but not those whose limits are of milliseconds."""
    pytests(arguments, tally, f"end to end, {backend}", "tests/e2e", backend,
            ["-m", "not alone", "-n", arguments.jobs, "--dist", "loadfile"])
    pytests(arguments, tally, f"end to end, {backend}, alone", "tests/e2e", backend, ["-m", "alone"])


def clients(arguments, tally):
    if not npm_packages.present():
        print(f"skipped of the clients: those of Node; {npm_packages.BRINGS_NPM}")
    pytests(arguments, tally, "clients", "tests/clients")


def library(arguments, tally):
    pytests(arguments, tally, "library", "tests/lib")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--preset", default="release")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 2))
    parser.add_argument("--venv", type=pathlib.Path)
    parser.add_argument("--suite", choices=["all", "sanitizer"], default="all")
    parser.add_argument("--fail-fast", action="store_true")
    arguments = parser.parse_args()
    arguments.build = arguments.build.resolve()
    # Not resolve(): that would follow the environment's python to the system's.
    arguments.python = (ROOT / arguments.venv / "bin" / "python").absolute() if arguments.venv else sys.executable
    os.environ.setdefault("TSAN_OPTIONS", f"suppressions={ROOT / 'tests' / 'tsan.supp'}")
    clock, tally = Clock(), Tally()
    clock.timed("build", build, arguments)
    clock.timed("unit", unit_tests, arguments, tally)
    if arguments.suite == "all":
        clock.timed("comparisons", comparisons, arguments, tally)
        clock.timed("rules", house_rules, arguments, tally)
        clock.timed("other processors and systems", side_by_side, arguments, tally,
                    [(cross_check,), (emulated_kernels, "arm64", arguments.build / "arm64"),
                     (emulated_kernels, "avx512", arguments.build)])
    clock.timed("end to end", end_to_end, arguments, tally)
    if arguments.suite == "all":
        clock.timed("library and clients", side_by_side, arguments, tally, [(library,), (clients,)])
    if has_mlx(arguments):
        clock.timed("end to end on mlx", end_to_end, arguments, tally, "mlx")
    elif os.environ.get("CI") == "true":
        print("failed: CI has to test the mlx backend, and it was not built")
        tally.add("end to end, mlx", 0, 1)
    print(clock)
    for name in tally.failures:
        print(f"failed: {name}")
    print(f"{tally.passed} passed, {tally.failed} failed" + (f", {tally.skipped} skipped" if tally.skipped else ""))
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
