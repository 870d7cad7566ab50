"""Adapters of random values for the models of these tests, as PEFT writes them and as llama.cpp's converter does."""
import json

import gguf
import numpy
from safetensors.numpy import save_file

# name: (in, out, number of layers) of each projection
SMOLLM_SHAPE = {"layers": 30, "hidden": 576, "kv": 192, "ff": 1536}
TINY_SHAPE = {"layers": 2, "hidden": 64, "kv": 32, "ff": 96}


def projections(shape):
    hidden, kv, ff = shape["hidden"], shape["kv"], shape["ff"]
    return {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden, kv), "self_attn.v_proj": (hidden, kv),
            "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (hidden, ff), "mlp.up_proj": (hidden, ff),
            "mlp.down_proj": (ff, hidden)}


GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down"}


def parts(shape, seed, rank, targets, strength):
    """(layer, projection, A, B) of every one; neither is zero."""
    rng = numpy.random.default_rng(seed)
    for layer in range(shape["layers"]):
        for name, (n_in, n_out) in projections(shape).items():
            if name.split(".")[1] in targets:
                a = rng.standard_normal((rank, n_in)).astype(numpy.float32) / numpy.sqrt(n_in)
                b = rng.standard_normal((n_out, rank)).astype(numpy.float32) * strength
                yield layer, name, a.astype(numpy.float32), b.astype(numpy.float32)


ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_peft(folder, shape, seed, rank=8, alpha=16, targets=ALL, strength=0.05, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer, name, a, b in parts(shape, seed, rank, targets, strength):
        at = f"base_model.model.model.layers.{layer}.{name}"
        tensors[f"{at}.lora_A.weight"], tensors[f"{at}.lora_B.weight"] = a, b
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "bias": "none",
        "target_modules": list(targets), **config}))
    return folder


def write_gguf(path, shape, seed, rank=4, alpha=8, targets=("q_proj", "down_proj"), strength=0.05):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(alpha))
    for layer, name, a, b in parts(shape, seed, rank, targets, strength):
        writer.add_tensor(f"blk.{layer}.{GGUF_NAMES[name]}.weight.lora_a", a)
        writer.add_tensor(f"blk.{layer}.{GGUF_NAMES[name]}.weight.lora_b", b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
