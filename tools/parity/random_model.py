#!/usr/bin/env python3
"""Weights of random test models, the same function as in tests/support/random_model.h.

    from random_model import weights
    w = weights(7, "blk.0.attn_q.weight", (64, 64), std=0.2, offset=0.0)  # float32

Run as a program, it writes tests/data/random_model.vec: "SEED NAME STD OFFSET FIRST F32..." with the values in hex.
"""
import hashlib
import pathlib

import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def philox4x32_10(counter, key):
    """counter: four uint64 arrays that hold 32-bit words; key: two ints. Salmon et al., SC 2011."""
    x = [np.asarray(c, dtype=np.uint64) for c in counter]
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0 = x[0] * np.uint64(0xD2511F53)
        p1 = x[2] * np.uint64(0xCD9E8D57)
        hi0, lo0, hi1, lo1 = p0 >> np.uint64(32), p0 & MASK, p1 >> np.uint64(32), p1 & MASK
        x = [hi1 ^ x[1] ^ np.uint64(k0), lo1, hi0 ^ x[3] ^ np.uint64(k1), lo0]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


def values(seed, name, first, n, std=1.0, offset=0.0):
    """Elements [first, first + n) of a tensor, float32."""
    key = np.frombuffer(hashlib.sha256(f"seed:{seed}:{name}".encode()).digest()[:8], dtype="<u4")
    i = np.uint64(first) + np.arange(n, dtype=np.uint64)
    zero = np.zeros(n, dtype=np.uint64)
    word = philox4x32_10([i & MASK, i >> np.uint64(32), zero, zero], key)[0]
    u = (word >> np.uint64(8)).astype(np.float64) * 2.0**-24
    return (offset + (std * 1.7320508075688772) * (2.0 * u - 1.0)).astype(np.float32)


def weights(seed, name, shape, std=1.0, offset=0.0):
    """The whole tensor, outermost dimension first."""
    return values(seed, name, 0, int(np.prod(shape)), std, offset).reshape(shape)


def main():
    cases = [
        (0, "a", 1.0, 0.0, 0), (7, "blk.0.attn_q.weight", 0.125, 0.0, 0), (7, "blk.1.attn_q.weight", 0.125, 0.0, 0),
        (7, "output_norm.weight", 0.1, 1.0, 1000), (2**63 - 1, "token_embd.weight", 3.5, -0.25, 2**32 - 4),
    ]
    lines = ["# SEED NAME STD OFFSET FIRST F32: tools/parity/random_model.py"]
    for seed, name, std, offset, first in cases:
        hexed = values(seed, name, first, 8, std, offset).astype("<f4").tobytes().hex()
        lines.append(f"{seed} {name} {std} {offset} {first} {hexed}")
    root = pathlib.Path(__file__).resolve().parents[2]
    (root / "tests/data/random_model.vec").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
