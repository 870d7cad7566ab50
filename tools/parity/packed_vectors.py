#!/usr/bin/env python3
"""Writes tests/data/packed.vec: matrices as AutoAWQ, AutoGPTQ and compressed-tensors pack them, and the values that their own
code makes of them, with scales in float32 so that nothing is rounded.

    packed_vectors.py [--out FILE] [--check]

Lines, bytes in hex, "-" for nothing:

    METHOD FORMAT BITS GROUP_SIZE N K SCALE_TYPE CODES SCALES ZEROS G_IDX VALUES

METHOD and FORMAT are those of config.json (quant_method, and version, checkpoint_format or format); GROUP_SIZE -1 is a whole
row; SCALE_TYPE f16 or bf16; VALUES f32 [N, K].

    awq                  AutoAWQ's awq/utils/packing_utils.py: dequantize_gemm
    gptq                 AutoGPTQ's nn_modules/qlinear/qlinear_cuda.py: forward of the identity; of gptq_v2 with zeros that are
                         one less, which is all that the two formats differ in
    compressed-tensors   compressors/quantized_compressors/pack_quantized.py: unpack_from_int32; quantization/lifecycle/forward.py:
                         dequantize

The packages' files are brought by pip and loaded alone: what they need besides torch is of no use here.
"""
import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import types
import zipfile

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "cache" / "packed"
SOURCES = {  # package: the file that is loaded
    "autoawq==0.2.9": "awq/utils/packing_utils.py",
    "auto-gptq==0.7.1": "auto_gptq/nn_modules/qlinear/qlinear_cuda.py",
    "compressed-tensors==0.12.2": None,  # all of it, on the path
}
CASES = [  # method, format, bits, group size, n, k, scale type, columns out of order, zeros
    ("awq", "gemm", 4, 32, 16, 64, "f16", False, True),
    ("awq", "gemm", 4, 64, 8, 128, "bf16", False, True),
    ("awq", "gemm", 4, -1, 8, 96, "f16", False, True),
    ("gptq", "gptq", 4, 32, 16, 64, "f16", False, True),
    ("gptq", "gptq", 4, 32, 8, 96, "f16", True, True),
    ("gptq", "gptq_v2", 4, 64, 8, 128, "bf16", False, True),
    ("gptq", "gptq", 8, 32, 8, 64, "f16", True, True),
    ("gptq", "gptq_v2", 8, -1, 4, 64, "f16", False, True),
    ("compressed-tensors", "pack-quantized", 4, 32, 8, 64, "bf16", False, False),
    ("compressed-tensors", "pack-quantized", 4, 32, 8, 96, "f16", True, True),
    ("compressed-tensors", "pack-quantized", 8, -1, 4, 64, "f16", False, False),
]


def brought(package):
    """The folder of a package's files, brought on first use."""
    folder = CACHE / package
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--python-version",
                       "3.11", "--only-binary=:all:"] if package.startswith("auto-gptq") else [
                       sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*command, "-d", place, package], check=True)
            (archive,) = pathlib.Path(place).glob("*.*")
            made = pathlib.Path(place) / "made"
            if archive.suffix == ".whl":
                zipfile.ZipFile(archive).extractall(made)
            else:
                tarfile.open(archive).extractall(made, filter="data")
            made.rename(folder)
    return folder


def load(package):
    (path,) = brought(package).rglob(SOURCES[package])
    spec = importlib.util.spec_from_file_location(package.split("==")[0].replace("-", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(rng, *shape):
    return torch.randint(-(2**31), 2**31, shape, generator=rng, dtype=torch.int64).to(torch.int32)


def groups_of(rng, k, size, shuffled):
    g_idx = torch.arange(k) // size
    return (g_idx[torch.randperm(k, generator=rng)] if shuffled else g_idx).to(torch.int32)


def awq(rng, bits, size, n, k, scales_of, _shuffled, _format, _zeros):
    codes, zeros, scales = words(rng, k, n // 8), words(rng, k // size, n // 8), scales_of(k // size, n)
    values = load("autoawq==0.2.9").dequantize_gemm(codes, zeros, scales.float(), bits, size)
    return codes, scales, zeros, None, values.T


def gptq(rng, bits, size, n, k, scales_of, shuffled, kind, _zeros):
    codes, zeros, scales = words(rng, k * bits // 32, n), words(rng, k // size, n * bits // 32), scales_of(k // size, n)
    g_idx = groups_of(rng, k, size, shuffled)
    module = load("auto-gptq==0.7.1")
    layer = module.QuantLinear.__new__(module.QuantLinear)
    torch.nn.Module.__init__(layer)
    shifts = torch.tensor(list(range(0, 32, bits)), dtype=torch.int32).unsqueeze(0)
    layer.__dict__.update(bits=bits, infeatures=k, outfeatures=n, wf=shifts, kernel_switch_threshold=0, autogptq_cuda_available=False,
                          qweight=codes, qzeros=zeros, scales=scales.float(), g_idx=g_idx, bias=None)
    values = layer(torch.eye(k))
    if kind == "gptq_v2":  # no one is added
        values = values + scales.float()[g_idx.long()]
    return codes, scales, zeros, g_idx, values.T


def compressed(rng, bits, size, n, k, scales_of, shuffled, _format, with_zeros):
    sys.path[:0] = [str(brought("compressed-tensors==0.12.2")), str(brought("loguru==0.7.3"))]
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    codes, scales = words(rng, n, k * bits // 32), scales_of(n, k // size)
    zeros = words(rng, n * bits // 32, k // size) if with_zeros else None
    g_idx = groups_of(rng, k, size, True) if shuffled else None
    q = unpack_from_int32(codes, bits, torch.Size((n, k)))
    z = unpack_from_int32(zeros, bits, torch.Size((n, k // size)), packed_dim=0) if with_zeros else None
    # in 16-bit integers q - z does not wrap
    values = dequantize(q.to(torch.int16), scales.float(), None if z is None else z.to(torch.int16), g_idx=g_idx)
    return codes, scales, zeros, g_idx, values


def hexed(tensor):
    return "-" if tensor is None else tensor.contiguous().view(torch.uint8).numpy().tobytes().hex()


def lines():
    yield "# tools/parity/packed_vectors.py; " + ", ".join(p.replace("==", " ") for p in SOURCES)
    makers = {"awq": awq, "gptq": gptq, "compressed-tensors": compressed}
    for i, (method, kind, bits, size, n, k, scale_type, shuffled, with_zeros) in enumerate(CASES):
        rng = torch.Generator().manual_seed(i + 1)
        dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[scale_type]

        def scales_of(*shape, rng=rng, dtype=dtype):
            return (torch.rand(shape, generator=rng) * 0.02 + 1e-3).to(dtype)

        group = k if size < 0 else size
        codes, scales, zeros, g_idx, values = makers[method](rng, bits, group, n, k, scales_of, shuffled, kind, with_zeros)
        assert values.shape == (n, k) and values.dtype == torch.float32
        yield " ".join(map(str, [method, kind, bits, size, n, k, scale_type, *map(hexed, (codes, scales, zeros, g_idx, values))]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "tests" / "data" / "packed.vec"))
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    sys.modules.setdefault("autogptq_cuda_256", types.ModuleType("autogptq_cuda_256"))  # else a warning that it is not here
    sys.modules.setdefault("autogptq_cuda_64", types.ModuleType("autogptq_cuda_64"))
    text = "".join(line + "\n" for line in lines())
    path = pathlib.Path(args.out)
    if args.check:
        fresh = path.exists() and path.read_text() == text
        print(f"{path}: {'up to date' if fresh else 'stale'}")
        return not fresh
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
