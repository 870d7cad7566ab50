#!/usr/bin/env python3
"""Tandem's quantizer beside llama.cpp's and MLX's at equal size: squared error of weights, plain and weighted.

    bench/quantizers.py                     a table on standard output; --csv FILE too
    bench/quantizers.py --weights FOLDER    a folder with model.safetensors (F32) besides the synthetic matrices
    bench/quantizers.py --ggml LIBRARY      libggml-base of a build of llama.cpp; else it is built into bench/out

The error is sum(importance * (x - dequantized)^2) / sum(importance * x^2). "plain": importance is 1 and nobody is told any;
"weighted": it differs by column, and Tandem and llama.cpp are told. llama.cpp is ggml_quantize_chunk of the sources in
llama-cpp-python's package, MLX is mlx.core.quantize. Needs the tests' environment, and build/quantize_probe."""
import argparse
import csv
import ctypes
import pathlib
import subprocess
import sys
import tempfile

import gguf
import mlx.core as mx
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import llama_cpp

ROOT = pathlib.Path(__file__).resolve().parent.parent
TYPES = ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1"]
GROUPS = [(8, 64), (6, 64), (4, 64), (8, 32), (6, 32), (4, 32)]
SCALES = {"F16": mx.float16, "BF16": mx.bfloat16}
COLUMNS = ["matrix", "type", "error", "peer", "tandem", "theirs", "ratio"]


def ggml(path, out):
    if not path:
        folder = out / "ggml"
        if not list(folder.glob("bin/libggml-base.*")):
            subprocess.run(["cmake", "-G", "Ninja", "-S", llama_cpp.sources(out), "-B", folder, *llama_cpp.COMMON,
                            *llama_cpp.VARIANTS["native"]], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["ninja", "-C", folder, "ggml-base"], check=True, stdout=subprocess.DEVNULL)
        path = next(folder.glob("bin/libggml-base.*"))
    lib = ctypes.CDLL(str(path))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_int64, ctypes.c_void_p]
    return lib


def by_llama_cpp(lib, kind, x, importance):
    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    out = np.zeros((x.shape[0], x.shape[1] // block * size), dtype=np.uint8)
    given = importance.ctypes.data if importance is not None else None
    lib.ggml_quantize_chunk(int(number), x.ctypes.data, out.ctypes.data, 0, x.shape[0], x.shape[1], given)
    return gguf.dequantize(out, number)


def by_mlx(bits, size, scale_type, x):
    codes, scales, biases = mx.quantize(mx.array(x).astype(SCALES[scale_type]), group_size=size, bits=bits)
    back = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=size, bits=bits)
    return np.array(back)


def by_tandem(build, kind, x, importance):
    with tempfile.NamedTemporaryFile() as file:
        command = [build / "quantize_probe", kind, str(x.shape[1])]
        if importance is not None:
            importance.tofile(file.name)
            command.append(file.name)
        out = subprocess.run(command, input=x.tobytes(), capture_output=True, check=True).stdout
    return np.frombuffer(out, dtype=np.float32).reshape(x.shape)


def error(x, y, importance):
    w = 1 if importance is None else importance.astype(np.float64)
    d = x.astype(np.float64) - y
    return float((w * d * d).sum() / (w * x.astype(np.float64) ** 2).sum())


def synthetic():
    """Heavy tails: Student's t, outliers by column as trained weights have them; importance as activations have it."""
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((256, 1024)).astype(np.float32)
    heavy = rng.standard_t(4, (256, 1024)).astype(np.float32) * 0.02
    columns = (rng.standard_t(5, (256, 1024)) * np.exp(0.5 * rng.standard_normal(1024))).astype(np.float32) * 0.02
    return {"normal": normal, "t, 4 degrees": heavy, "t, 5 degrees, columns": columns}


def real(folder):
    tensors = mx.load(str(pathlib.Path(folder) / "model.safetensors"))
    big = {n: np.array(t.astype(mx.float32)) for n, t in tensors.items() if t.ndim == 2 and t.shape[1] % 32 == 0 and t.size >= 1 << 16}
    for wanted in ("query.weight", "attention.output.dense.weight", "intermediate.dense.weight", "layer.2.output.dense.weight"):
        rows = [t for n, t in sorted(big.items()) if n.endswith(wanted)]
        if rows:
            yield wanted.removesuffix(".weight"), np.ascontiguousarray(np.concatenate(rows)[:4096])


def compare(a, lib):
    matrices = {**synthetic(), **(dict(real(a.weights)) if a.weights else {})}
    rng = np.random.default_rng(11)
    for name, x in matrices.items():
        importance = np.exp(1.2 * rng.standard_normal(x.shape[1])).astype(np.float32)
        for which, w in (("plain", None), ("weighted", importance)):
            for kind in TYPES:
                if x.shape[1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]:
                    continue
                yield name, kind, which, "llama.cpp", error(x, by_tandem(a.build, kind, x, w), w), error(x, by_llama_cpp(lib, kind, x, w), w)
            for bits, size in GROUPS:
                for scale_type in SCALES:
                    rounded = np.array(mx.array(x).astype(SCALES[scale_type]).astype(mx.float32))
                    kind = f"affine:{bits}:{size}:{scale_type}"
                    yield (name, kind, which, "MLX", error(rounded, by_tandem(a.build, kind, rounded, w), w),
                           error(rounded, by_mlx(bits, size, scale_type, rounded), w))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="folder with model.safetensors")
    parser.add_argument("--ggml", help="libggml-base.so")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "out")
    parser.add_argument("--csv", help="write the table there too")
    a = parser.parse_args()
    rows = []
    print("| matrix | type | error | peer | Tandem | theirs | ratio |\n|---|---|---|---|---:|---:|---:|")
    for name, kind, which, peer, ours, theirs in compare(a, ggml(a.ggml, a.out)):
        rows.append([name, kind, which, peer, f"{ours:.3e}", f"{theirs:.3e}", f"{ours / theirs:.3f}"])
        print("| " + " | ".join(rows[-1]) + " |", flush=True)
    if a.csv:
        with open(a.csv, "w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    worse = [r for r in rows if float(r[-1]) > 1]
    print(f"\n{len(rows)} comparisons, {len(worse)} of them with a larger error than the peer's")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
