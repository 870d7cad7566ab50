#!/usr/bin/env python3
"""How far Tandem's logits are from those of `transformers`: the table of docs/models/README.md, from what the parity tests print.

usage: figures.py [--build FOLDER] [--write]
Runs test_model_parity (reference kernels, f32) and test_model_mlx (MLX on the CPU, f32). Without --write the table goes to
standard output."""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "models" / "README.md"
BEGIN, END = "<!-- figures: tools/parity/figures.py --write -->\n", "<!-- end of figures -->\n"
LINE = re.compile(r"^(\S+), (\S+): max deviation (\S+) std")
COLUMNS = [("test_model_parity", "GGUF"), ("test_model_parity", "folder"), ("test_model_mlx", "GGUF"), ("test_model_mlx", "folder")]


def measure(build):
    """{model: {(test, container): the largest deviation}}"""
    found = {}
    for test in ("test_model_parity", "test_model_mlx"):
        done = subprocess.run([build / test], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{test} failed ({done.returncode}): {(done.stdout + done.stderr)[-400:]}")
        for line in (done.stdout + done.stderr).split("\n"):
            if match := LINE.match(line):
                name, what, value = match.groups()
                key = (test, "GGUF" if what == "GGUF" else "folder")
                row = found.setdefault(name, {})
                row[key] = max(row.get(key, 0.0), float(value))
    return found


def table(found):
    lines = ["| random model | cpu, GGUF | cpu, folder | mlx, GGUF | mlx, folder |", "| --- | --- | --- | --- | --- |"]
    for name, row in found.items():
        if all(c in row for c in COLUMNS):
            lines.append("| %s | %s |" % (name, " | ".join("%.1e" % row[c] for c in COLUMNS)))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    text = table(measure(args.build.resolve()))
    if not args.write:
        sys.stdout.write(text)
        return
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
