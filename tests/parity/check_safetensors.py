#!/usr/bin/env python3
"""Model folders against the packages that define them, live: files of safetensors and of MLX (every type, any
alignment) byte for byte, files that lie refused as the reference implementation refuses them, files that Tandem writes
read by it, and every way in which MLX quantizes a matrix, dequantized bit for bit.

    check_safetensors.py [--build build]

Exit status 77 where MLX has no wheel.
"""
import argparse
import hashlib
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
import safetensors.numpy

try:
    import mlx.core as mx
except ImportError:
    mx = None

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
         "U16": 2, "U8": 1, "BOOL": 1}
PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8",
         "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?"}
# What only Tandem refuses: things that no model has, and JSON that readers differ about.
STRICTER = ["not supported", "duplicate key", "too long or not printable", "empty"]


class Probe:
    def __init__(self, build, folder):
        self.program = str(pathlib.Path(build) / "model_probe")
        self.folder = folder
        self.weights = folder / "model.safetensors"
        self.copy = folder / "copy.out"

    def run(self, config=None, copy=False):
        (self.folder / "config.json").write_text(json.dumps(config or {}))
        done = subprocess.run([self.program, self.folder, *([self.copy] if copy else [])], capture_output=True, text=True,
                              check=False)
        if done.returncode < 0:
            raise RuntimeError(f"model_probe ended with signal {-done.returncode}")
        return done

    def tensors(self, config=None, copy=False):
        """name -> [type, shape, digest of the bytes, digest of the values]"""
        done = self.run(config, copy)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return {line.split()[1]: line.split()[2:] for line in done.stdout.splitlines() if line.startswith("tensor ")}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def serialize(tensors, pad=0):
    """tensors: name -> (type, shape, bytes); the header gets `pad` blanks more."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def f8_values(data):
    bits = np.frombuffer(data, "u1").astype(np.int32)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    magnitude = np.where(exponent > 0, np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(1.0 * mantissa, -9))
    return np.where(bits & 128, -magnitude, magnitude).astype("<f4")


def values(dtype, data):
    if dtype == "F8_E4M3":
        return f8_values(data)
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, PLAIN[dtype]).astype("<f4")


def random_bytes(rng, dtype, n):
    """Without NaNs, whose bits no two programs agree about."""
    if dtype == "BOOL":
        return rng.integers(0, 2, n, "u1").tobytes()
    if dtype == "F8_E4M3":
        return (rng.integers(0, 127, n, "u1") | rng.integers(0, 2, n, "u1") << 7).tobytes()
    if dtype == "BF16":
        return (rng.standard_normal(n).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype[0] == "F":
        return rng.standard_normal(n).astype(PLAIN[dtype]).tobytes()
    return rng.bytes(n * SIZES[dtype])


def expected(content):
    """As the reference implementation reads it; a shape of no axes is a vector of one."""
    return {name: [t["dtype"], ",".join(map(str, t["shape"])) or "1", sha(bytes(t["data"])),
                   sha(values(t["dtype"], bytes(t["data"])).tobytes())]
            for name, t in safetensors.deserialize(content)}


def compare(what, want, got):
    wrong = [f"{what}, {name}: expected {want.get(name)}, got {got.get(name)}" for name in sorted(want | got)
             if want.get(name) != got.get(name)]
    for line in wrong[:3]:
        print(line)
    return len(wrong)


def check_types(probe):
    rng = np.random.default_rng(1)
    n_wrong = 0
    for pad in range(8):
        shapes = [[], [5], [3, 4], [2, 3, 4], [2, 1, 3, 2]]
        tensors = {f"{dtype}.{len(shape)}": (dtype, shape, random_bytes(rng, dtype, int(np.prod(shape))))
                   for dtype in SIZES for shape in shapes}
        content = serialize(tensors, pad)
        probe.weights.write_bytes(content)
        want = expected(content)
        n_wrong += compare(f"{pad} blanks", want, probe.tensors(copy=True))
        n_wrong += compare(f"{pad} blanks, written again", want, expected(probe.copy.read_bytes()))
    arrays = {f"a{i}": np.arange(6).astype(t).reshape(2, 3) for i, t in enumerate(PLAIN.values())}
    safetensors.numpy.save_file(arrays, probe.weights, {"format": "pt"})
    n_wrong += compare("of safetensors", expected(probe.weights.read_bytes()), probe.tensors())
    print(f"types: {len(SIZES)} types at 8 alignments, read and written, {n_wrong} differences")
    return n_wrong


def reference_reads(content):
    try:
        safetensors.deserialize(content)
        return True
    except (safetensors.SafetensorError, UnicodeDecodeError):
        return False


def mutations(rng):
    content = serialize({"a": ("F32", [2, 3], bytes(24)), "b": ("U8", [5], bytes(5)), "c": ("F16", [], bytes(2))})
    for _ in range(400):
        out = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 3])):
            at = rng.randrange(8 + content[0])
            out[at] = rng.choice([rng.randrange(256), *b'0123456789"[]{},: -eabcFU'])
        yield bytes(out)
    for _ in range(50):
        yield content[:rng.randrange(len(content))]
    yield content + b"\0"


def check_refusals(probe):
    rng = random.Random(1)
    n = n_refused = n_wrong = 0
    for content in mutations(rng):
        n += 1
        probe.weights.write_bytes(content)
        done, theirs = probe.run(), reference_reads(content)
        n_refused += not theirs
        ours = done.returncode == 0
        if ours != theirs and not (theirs and any(reason in done.stderr for reason in STRICTER)):
            n_wrong += 1
            print(f"the reference {'reads' if theirs else 'refuses'} {content!r}: {done.stderr}")
    print(f"refusals: {n} files, {n_refused} of which the reference refuses, {n_wrong} differences")
    return n_wrong


def ways_of_grouping():
    for bits in (2, 3, 4, 5, 6, 8):
        for group_size in (32, 64, 128):
            for dtype in ("float32", "float16", "bfloat16"):
                yield "affine", bits, group_size, dtype
    yield from (("mxfp4", 4, 32, "float32"), ("mxfp8", 8, 32, "float32"), ("nvfp4", 4, 16, "float32"))


def rows_of(parts, mode, bits, group_size):
    """The values in f32, whatever the type of the scales."""
    if mode != "affine":
        return mx.dequantize(parts[0], parts[1], group_size=group_size, bits=bits, mode=mode, dtype=mx.float32)
    return mx.dequantize(parts[0], *(p.astype(mx.float32) for p in parts[1:]), group_size=group_size, bits=bits)


def check_groups(probe):
    mx.random.seed(1)
    tensors, want, config = {}, {}, {"group_size": 64, "bits": 4}
    for mode, bits, group_size, dtype in ways_of_grouping():
        for shape in ((5, 256), (2, 3, 128)):
            module = f"{mode}.{bits}.{group_size}.{dtype}.{len(shape)}"
            w = (mx.random.normal(shape) * mx.exp(mx.random.normal((*shape[:-1], 1)))).astype(getattr(mx, dtype))
            parts = mx.quantize(w, group_size, bits, mode=mode)
            tensors |= {f"{module}.{part}": x for part, x in zip(("weight", "scales", "biases"), parts)}
            config[module] = {"group_size": group_size, "bits": bits, "mode": mode}
            scale = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype] if mode == "affine" else "U8"
            want[f"{module}.weight"] = [f"{mode}:{bits}:{group_size}:{scale}", ",".join(map(str, shape)),
                                        sha(np.array(parts[0]).tobytes()),
                                        sha(np.array(rows_of(parts, mode, bits, group_size)).tobytes())]
    mx.save_safetensors(str(probe.weights), tensors, metadata={"format": "mlx"})
    n_wrong = compare("grouped", want, probe.tensors({"quantization": config}))
    print(f"groups: {len(want)} matrices dequantized as by mlx {mx.__version__}, {n_wrong} differences")
    return n_wrong


def check_defaults(probe):
    """One statement for all modules, as mlx_lm convert writes it: each way on its own."""
    n = n_wrong = 0
    for mode, bits, group_size, dtype in ways_of_grouping():
        w = mx.random.normal((3, 384)).astype(getattr(mx, dtype))
        parts = mx.quantize(w, group_size, bits, mode=mode)
        mx.save_safetensors(str(probe.weights), dict(zip(("m.weight", "m.scales", "m.biases"), parts)))
        stated = {"group_size": group_size, "bits": bits, "mode": mode}
        got = probe.tensors({"quantization": stated, "quantization_config": stated})
        values_digest = sha(np.array(rows_of(parts, mode, bits, group_size)).tobytes())
        n += 1
        n_wrong += got["m.weight"][0].rsplit(":", 1)[0] != f"{mode}:{bits}:{group_size}"
        n_wrong += got["m.weight"][3] != values_digest
    print(f"defaults: {n} folders, {n_wrong} differences")
    return n_wrong


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(root / "build"), help="folder of model_probe")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        probe = Probe(args.build, pathlib.Path(folder))
        n_wrong = check_types(probe) + check_refusals(probe)
        if mx:
            n_wrong += check_groups(probe) + check_defaults(probe)
    if n_wrong:
        sys.exit(1)
    if not mx:
        print("skip: mlx is not here; what needs no mlx agrees")
        sys.exit(77)
    print("safetensors and mlx: 0 differences")


if __name__ == "__main__":
    main()
