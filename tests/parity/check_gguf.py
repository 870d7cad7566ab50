#!/usr/bin/env python3
"""The GGUF reader against the gguf package, live: metadata, shapes, bytes and dequantized values of whole models.

    check_gguf.py [--build build] [MODEL.gguf ...]

Without models: the two default ones in $TANDEM_MODELS, else the cache folder; exit status 77 when there is none.
"""
import argparse
import hashlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType as V
from gguf.quants import dequantize

DEFAULTS = ["smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
INTS = {V.UINT8, V.INT8, V.UINT16, V.INT16, V.UINT32, V.INT32, V.UINT64, V.INT64}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def kind(t):
    return "int" if t in INTS else "bool" if t == V.BOOL else "str" if t == V.STRING else "float"


def array_bytes(field, item):
    parts = [field.parts[i] for i in field.data]
    if item == "str":
        return b"".join(len(p).to_bytes(8, "little") + p.tobytes() for p in parts)
    if not parts:
        return b""
    return np.concatenate(parts).astype({"int": "<i8", "float": "<f8", "bool": "u1"}[item]).tobytes()


def meta_line(name, field):
    first = field.types[0]
    if first == V.ARRAY:
        # the package does not tell the item type of an empty array
        item = kind(field.types[1]) if len(field.types) > 1 else "any"
        return f"meta {name} array {item} {len(field.data)} {sha(array_bytes(field, item))}"
    value = field.parts[field.data[0]]
    if first == V.STRING:
        return f"meta {name} str {len(value)} {sha(value.tobytes())}"
    if kind(first) == "float":
        return f"meta {name} float {float(value[0]):.17g}"
    return f"meta {name} {kind(first)} {int(value[0])}"


def tensor_line(t):
    shape = ",".join(str(int(n)) for n in reversed(t.shape))
    digest = hashlib.sha256()
    rows = t.data.reshape(-1, t.data.shape[-1])
    for at in range(0, len(rows), 4096):
        digest.update(np.ascontiguousarray(dequantize(rows[at:at + 4096], t.tensor_type)).tobytes())
    return f"tensor {t.name} {t.tensor_type.name} {shape} {sha(t.data.tobytes())} {digest.hexdigest()}"


def expected_lines(path):
    reader = GGUFReader(path)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            yield meta_line(name, field)
    for tensor in reader.tensors:
        yield tensor_line(tensor)


def check(probe, path):
    out = subprocess.run([probe, path], check=True, capture_output=True, text=True).stdout.splitlines()
    header, expected = out[0], list(expected_lines(path))
    got = [re.sub(r" array \w+ 0 ", " array any 0 ", line) for line in out[1:]]
    wrong = [(e, g) for e, g in zip(expected, got) if e != g]
    for e, g in wrong[:5]:
        print(f"expected {e}\n     got {g}")
    n_tensors = sum(line.startswith("tensor ") for line in got)
    types = sorted({line.split()[2] for line in got if line.startswith("tensor ")})
    print(f"{pathlib.Path(path).name}: {len(got) - n_tensors} keys, {n_tensors} tensors ({' '.join(types)}), "
          f"opened in {header.split()[-1]} ms, {len(wrong)} differences")
    return not wrong and len(expected) == len(got)


def default_models():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(os.environ.get("TANDEM_MODELS") or os.path.join(cache, "tandem", "models"))
    return [str(folder / name) for name in DEFAULTS if (folder / name).exists()]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(root / "build"), help="folder of model_probe")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    models = args.models or default_models()
    if not models:
        print("skip: no model is there (set TANDEM_MODELS to their folder)")
        sys.exit(77)
    results = [check(str(pathlib.Path(args.build) / 'model_probe'), path) for path in models]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
