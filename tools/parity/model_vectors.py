#!/usr/bin/env python3
"""Vectors of the decoder models, from `transformers` in float32 on the same weights: tests/data/parity/*.vec, and the
descriptions of the random models, *.json beside them. Lines of a vector file:

    model NAME                     random model: NAME.json describes it; real model: its file's name
    rope_scaling SPEC              the same model by --rope-scaling in place of rope_freqs
    rope_freqs F32...              the tensor rope_freqs.weight, as the converter computes it
    std F                          standard deviation of the logits at the stored positions
    text I32...                    token ids
    at POS LSE I32... F32...       log-sum-exp of the logits there, the 64 largest: ids and values
    greedy N PROMPT... OUTPUT...   ids; the first N tokens of the output are comparable: at the next one the two best
                                   logits are closer than 1e-4 std, where the order of summation decides

Numbers after the names of lines are little-endian bytes in hex, except POS, N and F.

usage: model_vectors.py [--check] [--threads N] [NAME...]
With --check nothing is written: existing files are compared with new values (ids equal, values within 1e-4 std), and
the exit status says whether the files are up to date.
Real models come from $TANDEM_MODELS or the cache folder; missing ones are skipped.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import sys

import numpy as np
import torch
import transformers

from random_specs import MODELS, unpermute

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "data" / "parity"
N_AT, N_TOP = 32, 64
CLOSE = 1e-4  # of the standard deviation; also the tolerance of --check

REAL = {"smollm2": "smollm2-135m-instruct-q4_1.gguf", "qwen2.5-coder": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"}
N_TEXT, N_GREEDY = 2000, 200
CHAT = "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    CHAT % "What is the capital of France, and what is it known for?",
    CHAT % "Write a Python function that returns the n-th Fibonacci number.",
    CHAT % "Explain in simple words why the sky is blue.",
    CHAT % "List five animals that live in the sea, one per line.",
    CHAT % "Translate to German: The weather is nice today and we are going to the beach.",
    CHAT % "Write a short story about a robot who learns to paint.",
    "The history of the Roman Empire begins with",
    "def quicksort(items):\n    \"\"\"Sorts a list.\"\"\"\n",
    "{\"name\": \"Alice\", \"age\": 31, \"hobbies\": [",
    "Once upon a time, in a small village by the sea, there lived",
]


def hexed(values, dtype):
    return np.ascontiguousarray(values, dtype=dtype).tobytes().hex()


def load_random(spec):
    config = spec.hf_config()
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    state = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in spec.state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if spec.tied else set()), (missing, unexpected)
    model.tie_weights()
    return model.eval()


def rope_freqs(spec):
    """The tensor that converters write for Llama 3's scaling: what the inverse frequencies are divided by."""
    plain = 1.0 / (spec.base ** (torch.arange(0, spec.head, 2, dtype=torch.float32) / spec.head))
    inv, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](spec.hf_config(), "cpu")
    return (plain / inv).numpy()


LAYER_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OTHER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
               "output.weight": "lm_head.weight"}


def hf_name(name):
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def load_real(path):
    """The dequantized weights in the class of transformers."""
    import gguf

    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    get = lambda key, default=None: reader.fields[f"{arch}.{key}"].contents() if f"{arch}.{key}" in reader.fields else default
    heads, kv = get("attention.head_count"), get("attention.head_count_kv")
    state = {}
    for t in reader.tensors:
        w = gguf.quants.dequantize(t.data, t.tensor_type)
        if arch == "llama" and t.name.endswith(("attn_q.weight", "attn_k.weight")):
            w = unpermute(w, heads if t.name.endswith("attn_q.weight") else kv)
        state[hf_name(t.name)] = torch.from_numpy(np.array(w, dtype=np.float32))
    tied = "lm_head.weight" not in state
    config_class = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[arch]
    config = config_class(
        vocab_size=state["model.embed_tokens.weight"].shape[0], hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"), num_hidden_layers=get("block_count"), num_attention_heads=heads,
        num_key_value_heads=kv, rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=get("context_length"), tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")}, attn_implementation="eager")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.to_empty(device="cpu")
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if tied else set()), (missing, unexpected)
    model.tie_weights()
    rotary = model.model.rotary_emb  # its buffers are in no checkpoint
    inv, _ = type(rotary).compute_default_rope_parameters(config)
    rotary.inv_freq, rotary.original_inv_freq = inv, inv.clone()
    return model.eval()


@torch.no_grad()
def logits_at(model, ids, positions):
    hidden = model.model(torch.tensor([ids]), use_cache=False).last_hidden_state[0, positions]
    logits = model.lm_head(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    logits = logits / getattr(model.config, "logits_scaling", 1)  # Granite
    logits = logits * getattr(model.config, "logit_scale", 1)  # Cohere
    return (torch.tanh(logits / cap) * cap if cap else logits).double().numpy()


@torch.no_grad()
def greedy(model, prompt, n):
    """(ids, gaps): the tokens and by how much each beat the second best."""
    ids, gaps, past = [], [], None
    step = torch.tensor([list(map(int, prompt))])
    for _ in range(n):
        out = model(step, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        top = torch.topk(out.logits[0, -1], 2)
        ids.append(int(top.indices[0]))
        gaps.append(float(top.values[0] - top.values[1]))
        step = torch.tensor([[ids[-1]]])
    return ids, gaps


def vector_lines(model, name, text, prompts, n_greedy, decode=None):
    positions = np.unique(np.linspace(0, len(text) - 1, N_AT).round().astype(int))
    logits = logits_at(model, [int(i) for i in text], positions)
    std = float(logits.std())
    lines = ["std %.6g" % std, "text " + hexed(text, "<i4")]
    for pos, row in zip(positions, logits):
        top = np.argsort(-row, kind="stable")[:N_TOP]
        lse = row.max() + np.log(np.exp(row - row.max()).sum())
        lines.append("at %d %s %s %s" % (pos, hexed([lse], "<f4"), hexed(top, "<i4"), hexed(row[top], "<f4")))
    comparable = []
    for prompt in prompts:
        ids, gaps = greedy(model, prompt, n_greedy)
        close = [i for i, g in enumerate(gaps) if g < CLOSE * std]
        comparable.append(close[0] if close else n_greedy)
        lines.append("greedy %d %s %s" % (comparable[-1], hexed(prompt, "<i4"), hexed(ids, "<i4")))
        if decode:
            print("  %3d/%d %r" % (comparable[-1], n_greedy, decode(ids)[:100]), flush=True)
    print("%s: std %.3f, comparable greedy tokens %s of %d" % (name, std, comparable, n_greedy), flush=True)
    return lines


def decisive_prompts(model, spec):
    """One shorter and one longer than the windows, whose greedy text has no close call: random logits have many."""
    for length in spec.prompts:
        for i in range(100):
            prompt = spec.ids("prompt %d of %d" % (i, length), length)
            if min(greedy(model, prompt, 64)[1]) > 0.02:
                yield prompt
                break


def random_vectors(spec):
    model = load_random(spec.oracle)
    lines = ["model " + spec.name]
    if spec.more.get("rope_scaling", {}).get("rope_type") == "llama3":
        lines += ["rope_scaling llama3:8", "rope_freqs " + hexed(rope_freqs(spec), "<f4")]
    return lines + vector_lines(model, spec.name, spec.ids("text", spec.n_text), decisive_prompts(model, spec), 64)


def real_vectors(name, path):
    import tokenizer_oracle

    oracle = tokenizer_oracle.ByteLevelOracle(*tokenizer_oracle.read_gguf_vocab(str(path)))
    text = oracle.encode([(pathlib.Path(__file__).parent / "text.txt").read_text()], False)[0]
    assert len(text) >= N_TEXT, len(text)
    prompts = oracle.encode(PROMPTS, True)
    lines = ["model " + path.name]
    return lines + vector_lines(load_real(path), name, text[:N_TEXT], prompts, N_GREEDY, oracle.decode)


def same_logits(a, b, tolerance):
    """Two `at` lines: equal position, log-sum-exp and values; the last ids may differ where the 64th is a close call."""
    a, b = a.split(" "), b.split(" ")
    decode = lambda f: dict(zip(np.frombuffer(bytes.fromhex(f[3]), "<i4"), np.frombuffer(bytes.fromhex(f[4]), "<f4")))
    values_a, values_b = decode(a), decode(b)
    common = values_a.keys() & values_b.keys()
    lse = [np.frombuffer(bytes.fromhex(f[2]), "<f4")[0] for f in (a, b)]
    close = all(abs(values_a[i] - values_b[i]) <= tolerance for i in common)
    return a[1] == b[1] and len(common) >= N_TOP - 2 and close and abs(lse[0] - lse[1]) <= tolerance


def same_line(a, b, std):
    kind = a.split(" ")[0]
    if kind == "at" and b.startswith("at "):
        return same_logits(a, b, CLOSE * std)
    if kind == "std" and b.startswith("std "):
        return abs(float(a[4:]) - float(b[4:])) <= CLOSE * std
    if kind == "greedy" and b.startswith("greedy "):
        (n, prompt_a, out_a), (m, prompt_b, out_b) = a.split(" ")[1:], b.split(" ")[1:]
        keep = 8 * min(int(n), int(m))
        return prompt_a == prompt_b and out_a[:keep] == out_b[:keep]
    return a == b


def differs(old, new, std):
    old, new = [[line for line in t.split("\n") if not line.startswith("#")] for t in (old, new)]
    return len(old) != len(new) or not all(same_line(a, b, std) for a, b in zip(old, new))


def finish(path, text, check, stale):
    if not check:
        path.write_text(text)
        return
    std = next((float(l[4:]) for l in text.split("\n") if l.startswith("std ")), 1.0)
    if not path.exists() or differs(path.read_text(), text, std):
        stale.append(path.name)


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tandem" / "models"
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(os.environ.get("TANDEM_MODELS") or cache))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = ["%s %s" % (p, importlib.metadata.version(p)) for p in ("torch", "transformers", "gguf")]
    header = "# tools/parity/model_vectors.py; " + ", ".join(versions) + "; float32\n"
    wanted = lambda name: not arguments.names or name in arguments.names
    stale = []
    for spec in filter(lambda s: wanted(s.name), MODELS):
        finish(OUT / (spec.name + ".json"), spec.description_text(), arguments.check, stale)
        finish(OUT / (spec.name + ".vec"), header + "\n".join(random_vectors(spec)) + "\n", arguments.check, stale)
    for name, file in REAL.items():
        path = arguments.models / file
        if not wanted(name):
            continue
        if not path.exists():
            print("skip: no %s" % path)
            continue
        finish(OUT / (name + ".vec"), header + "\n".join(real_vectors(name, path)) + "\n", arguments.check, stale)
    if stale:
        print("stale: " + " ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
