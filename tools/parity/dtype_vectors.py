#!/usr/bin/env python3
"""Writes tests/data/dtype/*.vec: blocks of each tensor type with the values the gguf package gives them.

    dtype_vectors.py [--out FOLDER] [--check]

One file per type. Lines: "d BLOCKS F32" for dequantization, "q F32 BLOCKS" for quantization where the gguf package has
it; bytes in hex, little-endian. Scales are set to ordinary and extreme values, infinity and NaN; a NaN among the values
stands for any NaN. With --check nothing is written and the exit status says whether the files are up to date.
"""
import argparse
import importlib.metadata
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

# type -> byte offsets of its f16 scales in a block
F16_SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0],
}
PLAIN = [T.F16, T.BF16, T.MXFP4, T.Q8_K]
QUANTIZED_BY_GGUF = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.MXFP4]

# ordinary, negative, largest, smallest normal, smallest subnormal, minus zero, infinity, NaN
HALVES = [0x2E66, 0xAE66, 0x7BFF, 0x0400, 0x0001, 0x8000, 0x7C00, 0x7E01]


def dequantize_q8_k(blocks):
    """The gguf package has no Q8_K: f32 d, int8 qs[256], int16 bsums[16]."""
    d = blocks[:, :4].copy().view(np.float32)
    return d * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)


def reference(qtype, blocks):
    with np.errstate(all="ignore"):
        return dequantize_q8_k(blocks) if qtype == T.Q8_K else dequantize(blocks, qtype)


def scaled_blocks(qtype, rng):
    size = GGML_QUANT_SIZES[qtype][1]
    blocks = rng.integers(0, 256, size=(len(HALVES), size), dtype=np.uint8)
    for block, half in zip(blocks, HALVES):
        for i, offset in enumerate(F16_SCALES[qtype]):
            # the second scale (offset of the block) keeps to an ordinary value in every other block
            value = half if i == 0 or half & 1 else 0x3155
            block[offset:offset + 2] = np.frombuffer(np.uint16(value).tobytes(), dtype=np.uint8)
    return blocks


def plain_blocks(qtype, rng):
    size = GGML_QUANT_SIZES[qtype][1]
    if qtype == T.MXFP4:
        blocks = rng.integers(0, 256, size=(8, size), dtype=np.uint8)
        blocks[:, 0] = [0, 1, 2, 3, 127, 128, 254, 255]
        return blocks
    if qtype == T.Q8_K:
        blocks = rng.integers(0, 256, size=(4, size), dtype=np.uint8)
        scales = np.array([0.0123, -3.4e38, 1e-45, np.inf], dtype=np.float32)
        blocks[:, :4] = scales.view(np.uint8).reshape(4, 4)
        return blocks
    halves = rng.integers(0, 65536, size=(8, 32), dtype=np.uint16)
    halves[0, :16] = HALVES + [0x0000, 0x03FF, 0x83FF, 0xFC00, 0x7FFF, 0x3C00, 0x7F80, 0xFF80]
    return halves.view(np.uint8)


def samples(qtype, rng):
    """Values to quantize: normal at several magnitudes, constant, zero, one-sided, ties to even."""
    n = 64 if qtype in (T.F16, T.BF16) else GGML_QUANT_SIZES[qtype][0]
    rows = [rng.standard_normal(n) * s for s in (1.0, 1e-3, 300.0)]
    rows += [np.zeros(n), np.full(n, -0.75), np.abs(rng.standard_normal(n)), np.arange(n) - n / 2 + 0.5]
    rows = np.array(rows, dtype=np.float32)
    if qtype in (T.F16, T.BF16):
        with np.errstate(over="ignore"):
            rows[1] *= np.float32(1e-4)  # subnormal halves
            rows[2] *= np.float32(400.0)  # some beyond the largest half
        rows[3, :4] = [np.inf, -np.inf, 65519.996, 65520.0]
        rows[3, 4:8] = np.array([0x3F808000, 0x3F818000, 0x38801000, 0x33000000], dtype=np.uint32).view(np.float32)
    return rows


def lines_of(qtype, version):
    rng = np.random.default_rng(1000 + int(qtype))
    blocks = scaled_blocks(qtype, rng) if qtype in F16_SCALES else plain_blocks(qtype, rng)
    yield f"# {qtype.name}: tools/parity/dtype_vectors.py with gguf {version}"
    for block, values in zip(blocks, reference(qtype, blocks)):
        yield f"d {block.tobytes().hex()} {values.astype('<f4').tobytes().hex()}"
    if qtype in QUANTIZED_BY_GGUF:
        for row in samples(qtype, rng):
            with np.errstate(all="ignore"):
                packed = quantize(row.reshape(1, -1), qtype)
            yield f"q {row.tobytes().hex()} {packed.tobytes().hex()}"


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/data/dtype")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    version = importlib.metadata.version("gguf")
    stale = []
    for qtype in [*F16_SCALES, *PLAIN]:
        text = "\n".join(lines_of(qtype, version)) + "\n"
        path = args.out / f"{qtype.name}.vec"
        if args.check:
            old = path.read_text() if path.exists() else ""
            if old.splitlines()[1:] != text.splitlines()[1:]:
                stale.append(path.name)
        else:
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        sys.exit("out of date: " + ", ".join(stale))


if __name__ == "__main__":
    main()
