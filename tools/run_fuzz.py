#!/usr/bin/env python3
"""Builds and runs libFuzzer targets (tests/fuzz/fuzz_<name>.c) over their committed corpus.

    run_fuzz.py --seconds 600 http_parser      one target
    run_fuzz.py --seconds 600 --all            every target, --jobs of them at a time
    run_fuzz.py --total 1800 --all             until each has had so many seconds of a core, over all runs in this build
                                               folder: may be interrupted and goes on where it was

New inputs go to <build>/corpus/<name>, findings to <build>/findings/<name>, what each target has had to
<build>/had.json. Exit status 1 when anything was found.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Had:
    """Seconds of a core and runs that each target has had in a build folder."""
    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.targets = json.loads(path.read_text()) if path.exists() else {}

    def seconds(self, name):
        return self.targets.get(name, {}).get("seconds", 0)

    def add(self, name, seconds, runs):
        with self.lock:
            had = self.targets.setdefault(name, {"seconds": 0, "runs": 0})
            had["seconds"] += seconds
            had["runs"] += runs
            self.path.write_text(json.dumps(self.targets, indent=1, sort_keys=True) + "\n")


def command_of(build, name, seconds):
    corpus, found = build / "corpus" / name, build / "findings" / name
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    seeds = ROOT / "tests" / "fuzz" / "corpus" / name
    dictionary = ROOT / "tests" / "fuzz" / f"{name}.dict"
    return [str(build / f"fuzz_{name}"), str(corpus), *([str(seeds)] if seeds.exists() else []),
            *([f"-dict={dictionary}"] if dictionary.exists() else []), f"-max_total_time={seconds}", "-timeout=10",
            "-rss_limit_mb=3000", f"-artifact_prefix={found}/", "-print_final_stats=1"]


def run(build, name, seconds, had):
    """Runs a target for so many seconds of the clock; False when it found something."""
    log = build / f"fuzz_{name}.log"
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command_of(build, name, seconds), stdout=out, stderr=out, env=env)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    runs = re.search(r"number_of_executed_units:\s*(\d+)", log.read_text(errors="replace"))
    runs, cpu = int(runs.group(1)) if runs else 0, usage.ru_utime + usage.ru_stime
    had.add(name, cpu, runs)
    print(f"fuzz {name}: {runs} runs in {cpu:.0f} s, {'ok' if process.returncode == 0 else 'FINDING, see ' + str(log)}",
          flush=True)
    return process.returncode == 0


def run_until(build, name, total, slice_seconds, had):
    while had.seconds(name) < total:
        if not run(build, name, slice_seconds, had):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="of one run")
    parser.add_argument("--total", type=int, help="run each until it has had so many seconds")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    targets = sorted(p.stem[len("fuzz_"):] for p in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    names = targets if arguments.all else arguments.names
    for name in names:
        if name not in targets:
            sys.exit(f"run_fuzz: no target '{name}'; there are: {', '.join(targets)}")
    build = arguments.build.resolve()
    if not (build / "build.ninja").exists():
        subprocess.run(["cmake", "--preset", "fuzz", "-B", str(build)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(build), "-j", str(arguments.jobs), *(f"fuzz_{n}" for n in names)], check=True,
                   stdout=subprocess.DEVNULL)
    had = Had(build / "had.json")

    def work(name):
        return run_until(build, name, arguments.total, arguments.seconds, had) if arguments.total else \
            run(build, name, arguments.seconds, had)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        clean = list(pool.map(work, names))
    sys.exit(0 if all(clean) else 1)


if __name__ == "__main__":
    main()
