#!/usr/bin/env python3
"""Turns a GGUF file of arch llama or qwen2 into a Hugging Face folder: config.json, tokenizer.json, safetensors in f32.

    gguf_to_folder.py MODEL.gguf FOLDER

Weights are dequantized, the rows of Q and K that GGUF permutes for arch llama are put back, and the tokenizer is written
from the metadata (byte-level BPE with the pre-tokenizers smollm, qwen2 and default). For tests and benchmarks: the same
model as a folder, without the Hub. Does nothing when FOLDER is complete and newer than the model.
"""
import json
import pathlib
import shutil
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

LAYER = {
    "attn_norm.weight": "input_layernorm.weight", "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight", "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias", "attn_k.bias": "self_attn.k_proj.bias", "attn_v.bias": "self_attn.v_proj.bias",
    "attn_output.weight": "self_attn.o_proj.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight", "ffn_up.weight": "mlp.up_proj.weight", "ffn_down.weight": "mlp.down_proj.weight",
}
GLOBAL = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
          "output.weight": "lm_head.weight"}
QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS = {
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
    "qwen2": [{"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False},
              dict(BYTE_LEVEL, use_regex=False)],
    "default": [BYTE_LEVEL],
}
CONTROL, USER_DEFINED = 3, 4


class Model:
    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.arch = self.get("general.architecture")

    def get(self, key, fallback=None):
        field = self.reader.fields.get(key)
        return field.contents() if field else fallback

    def of_arch(self, key, fallback=None):
        return self.get(f"{self.arch}.{key}", fallback)


def unpermute(w, n_heads):
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def name_of(name):
    if name in GLOBAL:
        return GLOBAL[name]
    _, layer, part = name.split(".", 2)
    return f"model.layers.{layer}.{LAYER[part]}"


def weights(model):
    out = {}
    for tensor in model.reader.tensors:
        w = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        w = w.reshape([int(n) for n in reversed(tensor.shape)])
        if model.arch == "llama" and ".attn_q." in tensor.name:
            w = unpermute(w, model.of_arch("attention.head_count"))
        if model.arch == "llama" and ".attn_k." in tensor.name:
            w = unpermute(w, model.of_arch("attention.head_count_kv"))
        if tensor.name != "rope_freqs.weight":
            out[name_of(tensor.name)] = np.ascontiguousarray(w)
    return out


def config(model, tied, n_vocab):
    kind = {"llama": ("llama", "LlamaForCausalLM"), "qwen2": ("qwen2", "Qwen2ForCausalLM")}[model.arch]
    return {
        "model_type": kind[0], "architectures": [kind[1]], "torch_dtype": "float32", "vocab_size": n_vocab,
        "hidden_size": model.of_arch("embedding_length"), "num_hidden_layers": model.of_arch("block_count"),
        "intermediate_size": model.of_arch("feed_forward_length"), "num_attention_heads": model.of_arch("attention.head_count"),
        "num_key_value_heads": model.of_arch("attention.head_count_kv"), "rms_norm_eps": model.of_arch("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": model.of_arch("context_length"), "rope_theta": model.of_arch("rope.freq_base", 10000.0),
        "hidden_act": "silu", "tie_word_embeddings": tied, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": model.get("tokenizer.ggml.bos_token_id"), "eos_token_id": model.get("tokenizer.ggml.eos_token_id"),
    }


def tokenizer(model):
    tokens, kinds = model.get("tokenizer.ggml.tokens"), model.get("tokenizer.ggml.token_type")
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": k == CONTROL} for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (CONTROL, USER_DEFINED)]
    pre = PRE_TOKENIZERS[model.get("tokenizer.ggml.pre", "default")]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "NFC"} if model.arch == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre}, "post_processor": None, "decoder": BYTE_LEVEL,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": model.get("tokenizer.ggml.merges")},
    }


def tokenizer_config(model):
    tokens = model.get("tokenizer.ggml.tokens")

    def token(which):
        i = model.get(f"tokenizer.ggml.{which}_token_id")
        return None if i is None else tokens[i]

    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": token("bos"), "eos_token": token("eos"),
            "pad_token": token("padding"), "unk_token": token("unknown"), "add_bos_token": bool(model.get("tokenizer.ggml.add_bos_token", False)),
            "clean_up_tokenization_spaces": False, "chat_template": model.get("tokenizer.chat_template")}


def write(path, folder):
    model = Model(path)
    tensors = weights(model)
    embd = tensors["model.embed_tokens.weight"]
    # An output head that equals the embedding but for its quantization is kept: the values are the file's.
    documents = {
        "config.json": config(model, "lm_head.weight" not in tensors, embd.shape[0]), "tokenizer.json": tokenizer(model),
        "tokenizer_config.json": tokenizer_config(model), "generation_config.json": {"eos_token_id": model.get("tokenizer.ggml.eos_token_id")},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, ensure_ascii=False, indent=1))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    path, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    done = folder / "model.safetensors"
    if done.exists() and done.stat().st_mtime >= path.stat().st_mtime:
        return
    making = folder.with_name(folder.name + ".part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    write(path, making)
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)


if __name__ == "__main__":
    main()
