#!/usr/bin/env python3
"""What adapters cost: steps with three of them beside rows without, and steps without, in turns, in one process
(tests/tools/adapter_speed.c says which). The bar is 80% of the speed without.

    adapters.py [--model smollm2-135m-instruct-q4_1.gguf] [--rank 16] [--rounds 9]

Prints a line for each kind of step, and exits with 1 where less than 80% is left.
"""
import argparse
import csv
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODELS = pathlib.Path.home() / ".cache" / "tandem" / "models"
LEAST = 0.8


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1.gguf", help="a path, or a name in the cache folder")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    a = parser.parse_args()
    model = a.model if pathlib.Path(a.model).exists() else MODELS / a.model
    command = [ROOT / "build" / "adapter_speed", model, str(a.rank), str(a.rounds)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(out.splitlines()))
    for r in rows:
        print("%-8s %2s sequences: %8.2f ms without, %8.2f ms with, %5.1f%% of the speed"
              % (r["what"], r["sequences"], float(r["ms_without"]), float(r["ms_with"]), 100 * float(r["speed_left"])))
    return 1 if min(float(r["speed_left"]) for r in rows) < LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
