#!/usr/bin/env python3
"""Vectors of low-rank adapters, from `peft` in float32 on the random models of random_specs.py:
tests/data/parity/adapter-MODEL.vec, whose lines are those of model_vectors.py, and adapter-MODEL.json beside them:

    {"seed": 7, "dtype": "F16",
     "config": {...},                           adapter_config.json as peft writes it, less what is null or empty
     "parts": [{"module": "model.layers.0.self_attn.q_proj", "gguf": "blk.0.attn_q.weight", "rank": 8,
                "n_out": 64, "n_in": 64, "permute": 4, "std": 0.2, "scale": 1.5}]}

The tensors "base_model.model." + module + ".lora_A.weight" [rank, n_in] and ".lora_B.weight" [n_out, rank] are those of
random_model.h for the seed, names and std, rounded to dtype; in GGUF, rows of B are permuted in so many heads, as
convert_lora_to_gguf.py does where it permutes those of the weight. scale is what peft multiplies the change by.

usage: adapter_vectors.py [--check] [MODEL...]       as model_vectors.py
"""
import argparse
import importlib.metadata
import json
import sys
import tempfile

import numpy as np
import peft
import safetensors.torch
import torch

import random_model
from model_vectors import OUT, decisive_prompts, finish, load_random, vector_lines
from random_specs import MODELS

GGUF_NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "qkv_proj": "attn_qkv", "o_proj": "attn_output",
              "gate_proj": "ffn_gate", "up_proj": "ffn_up", "gate_up_proj": "ffn_up", "down_proj": "ffn_down",
              "in_proj_qkvz": "ssm_in", "in_proj_ba": "ssm_ba", "out_proj": "ssm_out"}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KEPT = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "use_rslora", "bias",
        "rank_pattern", "alpha_pattern", "use_dora", "fan_in_fan_out", "init_lora_weights", "inference_mode",
        "lora_dropout", "modules_to_save")

# model, seed, dtype, std, LoraConfig
CASES = [
    ("llama-linear", 501, "F16", 0.2, dict(r=8, lora_alpha=12, target_modules=ALL + ["lm_head"],
                                           rank_pattern={"k_proj": 4, "^model.layers.2.self_attn.q_proj": 16},
                                           alpha_pattern={"layers.1.mlp.down_proj": -3})),
    ("qwen3", 502, "F32", 0.2, dict(r=6, lora_alpha=2, target_modules=["q_proj", "v_proj", "gate_proj"], use_rslora=True)),
    ("phi3-long", 503, "F16", 0.15, dict(r=8, lora_alpha=8, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    ("qwen2-tied", 504, "BF16", 0.2, dict(r=5, lora_alpha=5, target_modules=["k_proj", "lm_head"], fan_in_fan_out=False)),
    ("qwen3next", 505, "F16", 0.15, dict(r=6, lora_alpha=6, target_modules=["q_proj", "o_proj", "in_proj_qkvz", "in_proj_ba", "out_proj"])),
]
TORCH = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}


def parts_of(model, spec, std):
    """One for each module that peft changed."""
    for name, module in model.named_modules():
        if not isinstance(module, peft.tuners.lora.LoraLayer):
            continue
        kind = name.split(".")[-1]
        layer = name.split(".")[2] if "layers" in name else None
        gguf = "output.weight" if kind == "lm_head" else f"blk.{layer}.{GGUF_NAMES[kind]}.weight"
        permute = {"q_proj": spec.n_heads, "k_proj": spec.n_kv}.get(kind, 0) if spec.arch == "llama" else 0
        yield {"module": name, "gguf": gguf, "rank": module.r["default"], "n_out": module.out_features,
               "n_in": module.in_features, "permute": permute, "std": std, "scale": module.scaling["default"]}


def tensors_of(parts, seed, dtype):
    for p in parts:
        for half, shape in (("A", (p["rank"], p["n_in"])), ("B", (p["n_out"], p["rank"]))):
            name = f"base_model.model.{p['module']}.lora_{half}.weight"
            yield name, torch.from_numpy(random_model.weights(seed, name, shape, p["std"], 0.0)).to(TORCH[dtype])


def description_text(description):
    parts = ",\n".join(json.dumps(p) for p in description["parts"])
    head = ",\n".join(json.dumps(k) + ": " + json.dumps(v) for k, v in description.items() if k != "parts")
    return "{\n" + head + ",\n\"parts\": [\n" + parts + "\n]\n}\n"


def vectors(model_name, seed, dtype, std, options):
    """(description, lines): the adapter is saved and read back by peft, so that its files are what peft makes of it."""
    spec = next(s for s in MODELS if s.name == model_name)
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options)
    model = load_random(spec.oracle)
    wrapped = peft.get_peft_model(model, config)
    parts = list(parts_of(model, spec, std))
    tensors = dict(tensors_of(parts, seed, dtype))
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder)
        names = set(safetensors.torch.load_file(folder + "/adapter_model.safetensors"))
        names -= {"base_model.model.lm_head.base_layer.weight"}  # the base model's own, which peft saves besides
        assert names == set(tensors), names ^ set(tensors)
        saved = json.load(open(folder + "/adapter_config.json"))
        safetensors.torch.save_file(tensors, folder + "/adapter_model.safetensors", {"format": "pt"})
        model = load_random(spec.oracle)
        peft.PeftModel.from_pretrained(model, folder).eval()
    saved["target_modules"] = sorted(saved["target_modules"])
    description = {"seed": seed, "dtype": dtype, "config": {k: saved[k] for k in KEPT if k in saved}, "parts": parts}
    lines = ["model " + spec.name] + vector_lines(model, "adapter-" + spec.name, spec.ids("text", spec.n_text),
                                                  decisive_prompts(model, spec), 64)
    return description_text(description), lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    check, stale = arguments.check, []
    torch.set_num_threads(2)
    versions = ["%s %s" % (p, importlib.metadata.version(p)) for p in ("torch", "transformers", "peft")]
    header = "# tools/parity/adapter_vectors.py; " + ", ".join(versions) + "; float32\n"
    for case in filter(lambda c: not arguments.names or c[0] in arguments.names, CASES):
        text, lines = vectors(*case)
        finish(OUT / f"adapter-{case[0]}.json", text, check, stale)
        finish(OUT / f"adapter-{case[0]}.vec", header + "\n".join(lines) + "\n", check, stale)
    if stale:
        print("stale: " + " ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
