"""Folders as AutoAWQ, AutoGPTQ and compressed-tensors write them, made with numpy of a folder in floats: each projection
rounded to the nearest of its group. The layouts: awq/utils/packing_utils.py, auto_gptq/nn_modules/qlinear/qlinear_cuda.py,
compressed_tensors/compressors/quantized_compressors/pack_quantized.py."""
import json
import pathlib
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def coarse(scales):
    """Seven bits of each number: times a zero of four they are still f16."""
    return ((scales.view(np.uint16) + 8) & 0xFFF0).view(np.float16)


def quantize(w, bits, size, g_idx, rounded=lambda scales: scales):
    """[n, k] to codes [n, k], zeros and f16 scales [n, groups]."""
    most, n_groups = 2**bits - 1, w.shape[1] // size
    codes = np.zeros(w.shape, np.uint32)
    zeros, scales = np.zeros((w.shape[0], n_groups), np.uint32), np.zeros((w.shape[0], n_groups), np.float16)
    for g in range(n_groups):
        part = w[:, g_idx == g]
        low, high = np.minimum(part.min(axis=1), 0), np.maximum(part.max(axis=1), 0)
        scales[:, g] = rounded(((high - low) / most + 1e-6).astype(np.float16))
        scale = scales[:, g : g + 1].astype(np.float32)
        zeros[:, g] = np.clip(np.rint(-low / scale[:, 0]), 1, most)
        codes[:, g_idx == g] = np.clip(np.rint(part / scale) + zeros[:, g : g + 1], 0, most)
    return codes, zeros, scales


def words(values, bits):
    """Neighbours of the last axis, the first in the lowest bits."""
    parts = values.reshape(*values.shape[:-1], -1, 32 // bits).astype(np.uint32)
    return np.ascontiguousarray(np.bitwise_or.reduce(parts << (np.arange(32 // bits, dtype=np.uint32) * bits), axis=-1)).view(np.int32)


def awq_words(values):
    return words(values.reshape(*values.shape[:-1], -1, 8)[..., AWQ_ORDER].reshape(values.shape), 4)


def pack(method, module, codes, zeros, scales, g_idx, bits):
    if method == "awq":
        return {f"{module}.qweight": awq_words(codes.T), f"{module}.qzeros": awq_words(zeros.T),
                f"{module}.scales": np.ascontiguousarray(scales.T)}
    if method == "gptq":
        return {f"{module}.qweight": np.ascontiguousarray(words(codes, bits).T), f"{module}.qzeros": words(zeros.T - 1, bits),
                f"{module}.scales": np.ascontiguousarray(scales.T), f"{module}.g_idx": g_idx.astype(np.int32)}
    return {f"{module}.weight_packed": words(codes, bits), f"{module}.weight_scale": scales,
            f"{module}.weight_zero_point": np.ascontiguousarray(words(zeros.T, bits).T),
            f"{module}.weight_shape": np.array(codes.shape, np.int64)}


def scheme(method, bits, size, desc_act):
    if method == "awq":
        return {"quant_method": "awq", "bits": bits, "group_size": size, "version": "gemm", "zero_point": True,
                "modules_to_not_convert": None}
    if method == "gptq":
        return {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": desc_act, "sym": False}
    weights = {"num_bits": bits, "type": "int", "symmetric": False, "strategy": "group", "group_size": size}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


def packed_folder(source, out, method, bits=4, size=32, desc_act=False, rounded=lambda scales: scales):
    """Makes out, and out-dense with the same values in f32."""
    dense = pathlib.Path(f"{out}-dense")
    for folder in (out, dense):
        shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    packed, values = {}, {}
    rng = np.random.default_rng(5)
    for name, w in tensors.items():
        w = w.astype(np.float32)
        packed[name] = values[name] = w
        if "_proj" not in name or not name.endswith(".weight"):
            continue
        g_idx = np.arange(w.shape[1]) // size
        g_idx = rng.permutation(g_idx) if desc_act else g_idx
        codes, zeros, scales = quantize(w, bits, size, g_idx, rounded)
        values[name] = ((codes.astype(np.float32) - zeros[:, g_idx]) * scales[:, g_idx].astype(np.float32)).astype(np.float32)
        del packed[name]
        packed.update(pack(method, name.removesuffix(".weight"), codes, zeros, scales, g_idx, bits))
    save_file(packed, out / "model.safetensors", metadata={"format": "pt"})
    save_file(values, dense / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "quantization_config": scheme(method, bits, size, desc_act)}))
    return out, dense
