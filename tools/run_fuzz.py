#!/usr/bin/env python3
"""Builds and runs libFuzzer targets (tests/fuzz/fuzz_<name>.c) over their committed corpus.

    run_fuzz.py --seconds 600 http_parser      one target
    run_fuzz.py --seconds 600 --all            every target, --jobs of them at a time

New inputs go to <build>/corpus/<name>, findings to <build>/findings/<name>. Exit status 1 when anything was found.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(build, name, seconds):
    corpus, found = build / "corpus" / name, build / "findings" / name
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    seeds = ROOT / "tests" / "fuzz" / "corpus" / name
    command = [str(build / f"fuzz_{name}"), str(corpus), *([str(seeds)] if seeds.exists() else []),
               f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=3000", f"-artifact_prefix={found}/",
               "-print_final_stats=1"]
    dictionary = ROOT / "tests" / "fuzz" / f"{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}
    result = subprocess.run(command, text=True, capture_output=True, errors="replace", env=env)
    log = build / f"fuzz_{name}.log"
    log.write_text(result.stdout + result.stderr)
    runs = re.search(r"number_of_executed_units:\s*(\d+)", result.stderr)
    return name, result.returncode, runs.group(1) if runs else "?", log


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--seconds", type=int, default=60)
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
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for name, status, runs, log in pool.map(lambda n: run(build, n, arguments.seconds), names):
            print(f"fuzz {name}: {runs} runs in {arguments.seconds} s, {'ok' if status == 0 else 'FINDING, see ' + str(log)}")
            failed += status != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
