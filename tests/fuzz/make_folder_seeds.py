#!/usr/bin/env python3
"""Writes the seeds of fuzz_tensor_safetensors and fuzz_tensor_model_folder to tests/fuzz/corpus: small valid files and
near misses."""
import json
import pathlib
import struct

SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
         "U16": 2, "U8": 1, "BOOL": 1}


def safetensors(tensors, metadata=None, multiple=1):
    """tensors: (name, dtype, shape); the size of the file becomes `multiple` modulo 8 (which config it meets)"""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape in tensors:
        n = SIZES[dtype]
        for axis in shape:
            n *= axis
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    while (8 + len(text) + at) % 8 != multiple % 8:
        text += b" "
    return struct.pack("<Q", len(text)) + text + bytes((7 * i + 3) % 251 for i in range(at))


def grouped(name, rows, codes, scales, dtype):
    parts = [(f"{name}.weight", "U32", [*rows, codes]), (f"{name}.scales", dtype, [*rows, scales])]
    return parts + ([(f"{name}.biases", dtype, [*rows, scales])] if dtype != "U8" else [])


def packed(rows, bits, k, n, groups, by_words):
    """by_words: AWQ's codes"""
    codes = [k, n * bits // 32] if by_words else [k * bits // 32, n]
    return [("m.qweight", "I32", codes), ("m.qzeros", "I32", [groups, n * bits // 32]), ("m.scales", rows, [groups, n])]


def tensor_seeds():
    every = [(f"t.{name}", name, [2, 1]) for name in SIZES]
    yield "empty", safetensors([])
    yield "every_type", safetensors(every, {"format": "pt"})
    yield "shapes", safetensors([("s", "F32", []), ("v", "F16", [3]), ("d", "U8", [1, 2, 3, 2])], multiple=0)
    yield "affine4", safetensors(grouped("m", [2], 16, 2, "F16"), {"format": "mlx"}, 1)
    yield "affine3", safetensors(grouped("a", [3], 12, 4, "BF16"), None, 2)
    yield "affine8", safetensors(grouped("a", [1], 32, 1, "F32"), None, 3)
    yield "mxfp4", safetensors(grouped("m", [2, 2], 16, 4, "U8"), None, 2)
    yield "nvfp4", safetensors(grouped("m", [2], 16, 8, "U8"), None, 1)
    yield "mxfp8", safetensors(grouped("b", [2], 32, 4, "U8"), None, 0)
    yield "awq", safetensors(packed("F16", 4, 64, 16, 2, True), None, 4)
    yield "gptq", safetensors(packed("F16", 4, 64, 8, 2, False) + [("m.g_idx", "I32", [64])], None, 5)
    yield "gptq_8_bits", safetensors(packed("BF16", 8, 32, 8, 1, False) + [("m.bias", "F16", [8])], None, 6)
    yield "compressed", safetensors([("m.weight_packed", "I32", [8, 8]), ("m.weight_scale", "BF16", [8, 2]), (
        "m.weight_zero_point", "I32", [1, 2]), ("m.weight_g_idx", "I32", [64]), ("m.weight_shape", "I64", [2])], None, 7)
    yield "cut", safetensors(every)[:-3]
    yield "metadata", safetensors([], {"note": "é\n\"", "": ""})


def folder_seeds():
    config = {"model_type": "llama", "hidden_size": 64, "eps": 1e-5, "rope_scaling": {"factor": [1, 1.5]}, "x": [[1], {"y": None}]}
    sizes = {"group_size": 64, "bits": 4}
    template = {"chat_template": [{"name": "default", "template": "{{ x }}"}, {"name": "rag", "template": "r"}]}
    parts = ["m.weight", "m.scales", "m.biases", "e.weight", "e.scales", "a.qweight", "a.qzeros", "a.scales", "w.weight_packed",
             "w.weight_scale", "w.weight_zero_point"]
    index = {"metadata": {"total_size": 860}, "weight_map": {part: "a.safetensors" for part in parts}}
    yield "plain", [config, {"eos_token_id": [1, 2]}, {"bos_token": "<s>"}]
    yield "quantized", [{"quantization": {**sizes, "m": {"group_size": 64, "bits": 4, "mode": "affine"}, "e": True}}]
    yield "override", [{"quantization_config": {**sizes, "e": {"group_size": 32, "bits": 4, "mode": "mxfp4"}, "m": False}}]
    groups = {"group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}}}
    yield "awq", [{"quantization_config": {"quant_method": "awq", "group_size": 32, "version": "GEMM", "zero_point": True}}]
    yield "gptq", [{"quantization_config": {"quant_method": "gptq", "group_size": 32, "bits": 4, "dynamic": {"-:lm_head": {}}}}]
    yield "compressed", [{"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                                                  "config_groups": groups}}]
    yield "templates", [{"quantization": sizes}, "", template]
    yield "template_json", [{"quantization": sizes}, "", template, {"chat_template": "from json"}]
    yield "template_files", [{"quantization": sizes}, {}, template, "", "", "{{ jinja }}", "{{ more }}", "{}"]
    yield "index", [{"quantization": sizes}, "", "", "", index]
    yield "wrong_index", [{"quantization": sizes}, "", "", "", {"weight_map": {"m.weight": "b.safetensors"}}]


def main():
    corpus = pathlib.Path(__file__).resolve().parent / "corpus"
    for folder, seeds in (("tensor_safetensors", tensor_seeds()), ("tensor_model_folder", (
            (name, b"\xff".join(p.encode() if isinstance(p, str) else json.dumps(p).encode() for p in parts))
            for name, parts in folder_seeds()))):
        (corpus / folder).mkdir(parents=True, exist_ok=True)
        for name, data in seeds:
            (corpus / folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
