#!/usr/bin/env python3
"""Writes the seeds of fuzz_tensor_gguf to tests/fuzz/corpus/tensor_gguf: small valid files and near misses."""
import pathlib
import struct

# type id -> (elements, bytes) of a block
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
         11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 20: (32, 18), 23: (256, 136),
         24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 30: (1, 2), 39: (32, 17)}
PACK = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}


def string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def key(name, kind, value):
    if kind == 8:
        body = string(value)
    elif isinstance(kind, tuple):
        item = kind[1]
        packed = b"".join(string(v) if item == 8 else struct.pack(PACK[item], v) for v in value)
        body, kind = struct.pack("<IQ", item, len(value)) + packed, 9
    else:
        body = struct.pack(PACK[kind], value)
    return string(name) + struct.pack("<I", kind) + body


def gguf(keys, tensors, version=3, alignment=32):
    """tensors: (name, dims innermost first, type id)"""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(key(*k) for k in keys)
    data = b""
    for name, dims, kind in tensors:
        n, (block_len, block_size) = 1, TYPES[kind]
        for d in dims:
            n *= d
        head += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += bytes((7 * i + kind) % 251 for i in range(n // block_len * block_size))
        data += b"\0" * (-len(data) % alignment)
    return head + b"\0" * (-len(head) % alignment) + data


def main():
    scalars = [(f"k{kind}", kind, 1) for kind in PACK]
    arrays = [(f"a{kind}", (9, kind), [0, 1, 1]) for kind in PACK]
    strings = [("general.architecture", 8, "llama"), ("tokens", (9, 8), ["<s>", "", "a"]), ("none", (9, 8), [])]
    every = [(f"t{kind}", (block_len,), kind) for kind, (block_len, _) in TYPES.items()]
    seeds = {
        "empty": gguf([], []),
        "version2": gguf(strings, [("t", (4, 2), 0)], version=2),
        "scalars": gguf(scalars, []),
        "arrays": gguf(arrays + strings, []),
        "types": gguf(strings, every),
        "shapes": gguf([], [("a", (2, 3, 1, 2), 0), ("b", (32, 2), 8), ("c", (1,), 30)]),
        "aligned": gguf([("general.alignment", 4, 64)], [("a", (3,), 0), ("b", (3,), 0)], alignment=64),
        "split": gguf([("split.no", 2, 0), ("split.count", 2, 2), ("split.tensors.count", 5, 1)], [("a", (3,), 0)]),
        "llama": gguf(strings + [("llama.block_count", 4, 2), ("llama.rope.freq_base", 6, 1e4)], [("a", (8,), 0)]),
        "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "cut": gguf(scalars, [("a", (8,), 0)])[:-20],
    }
    folder = pathlib.Path(__file__).resolve().parent / "corpus/tensor_gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / f"{name}.gguf").write_bytes(data)


if __name__ == "__main__":
    main()
