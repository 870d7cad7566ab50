"""The small random models of the parity tests: for each, a description for tests/support/random_model.h and the same
model as a configuration and a state dict of `transformers`.

The weights are large enough that the logits spread (standard deviation of at least 2) and attention is peaked, and the
epsilons and caps lie where they matter, so that a wrong field of the configuration shows.
"""
import numpy as np
import random_model

# part of a layer: (name in GGUF, name in transformers)
ATTENTION = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
]
MLP = [
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
]
NORM = [("ffn_norm.weight", "post_attention_layernorm.weight")]
POST_NORMS = [
    ("post_attention_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
    ("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
]
QK_NORM = [("attn_q_norm.weight", "self_attn.q_norm.weight"), ("attn_k_norm.weight", "self_attn.k_norm.weight")]
QKV_BIAS = [(f"attn_{p}.bias", f"self_attn.{p}_proj.bias") for p in "qkv"]
OUT_BIAS = [("attn_output.bias", "self_attn.o_proj.bias")]

# std and offset by the end of the GGUF name
SCALES = {
    "token_embd.weight": (0.5, 0), "output.weight": (0.35, 0), "output_norm.weight": (0.2, 1),
    "attn_norm.weight": (0.2, 1), "ffn_norm.weight": (0.2, 1),
    "post_attention_norm.weight": (0.2, 1), "post_ffw_norm.weight": (0.2, 1),
    "attn_q_norm.weight": (0.2, 1.5), "attn_k_norm.weight": (0.2, 1.5),
    "attn_q.weight": (0.25, 0), "attn_k.weight": (0.25, 0), "attn_v.weight": (0.2, 0), "attn_output.weight": (0.15, 0),
    "ffn_gate.weight": (0.2, 0), "ffn_up.weight": (0.15, 0), "ffn_down.weight": (0.15, 0),
    "attn_q.bias": (0.7, 0), "attn_k.bias": (0.7, 0), "attn_v.bias": (0.5, 0), "attn_output.bias": (0.5, 0),
}


class RandomModel:
    """n_*: shapes; layer: pairs of names; scaling: GGUF keys and the parameters of transformers for RoPE."""

    def __init__(self, name, arch, seed, layer, n_layers=4, n_embd=64, n_heads=4, n_kv=2, head=16, n_ff=96, vocab=320,
                 eps=0.02, context=512, base=10000.0, tied=False, scales=None, meta=None, rope=None, spec=None, n_text=160,
                 extra=None):
        self.name, self.arch, self.seed, self.layer = name, arch, seed, layer
        self.n_layers, self.n_embd, self.n_heads, self.n_kv, self.head = n_layers, n_embd, n_heads, n_kv, head
        self.n_ff, self.vocab, self.eps, self.context, self.base, self.tied = n_ff, vocab, eps, context, base, tied
        self.scales = dict(SCALES, **(scales or {}))
        self.meta, self.rope, self.spec = meta or {}, rope or {"rope_type": "default"}, spec
        self.n_text, self.extra = n_text, extra or {}

    def shape(self, name):
        q, kv = self.n_heads * self.head, self.n_kv * self.head
        e, f = self.n_embd, self.n_ff
        return {
            "token_embd.weight": (self.vocab, e), "output.weight": (self.vocab, e), "attn_q.weight": (q, e),
            "attn_k.weight": (kv, e), "attn_v.weight": (kv, e), "attn_output.weight": (e, q), "ffn_gate.weight": (f, e),
            "ffn_up.weight": (f, e), "ffn_down.weight": (e, f), "attn_q.bias": (q,), "attn_k.bias": (kv,),
            "attn_v.bias": (kv,), "attn_q_norm.weight": (self.head,), "attn_k_norm.weight": (self.head,),
        }.get(name, (e,))

    def names(self):
        """(name in GGUF, kind, name in transformers) of all tensors."""
        yield "token_embd.weight", "token_embd.weight", "model.embed_tokens.weight"
        yield "output_norm.weight", "output_norm.weight", "model.norm.weight"
        if not self.tied:
            yield "output.weight", "output.weight", "lm_head.weight"
        for i in range(self.n_layers):
            for ours, theirs in self.layer:
                yield f"blk.{i}.{ours}", ours, f"model.layers.{i}.{theirs}"

    def description(self):
        a = self.arch
        meta = {
            "general.architecture": ["str", a],
            f"{a}.block_count": ["u32", self.n_layers],
            f"{a}.context_length": ["u32", self.context],
            f"{a}.embedding_length": ["u32", self.n_embd],
            f"{a}.feed_forward_length": ["u32", self.n_ff],
            f"{a}.attention.head_count": ["u32", self.n_heads],
            f"{a}.attention.head_count_kv": ["u32", self.n_kv],
            f"{a}.attention.key_length": ["u32", self.head],
            f"{a}.attention.value_length": ["u32", self.head],
            f"{a}.attention.layer_norm_rms_epsilon": ["f32", self.eps],
            f"{a}.rope.freq_base": ["f32", self.base],
        }
        meta.update({f"{a}.{k}": v for k, v in self.meta.items()})
        tensors = []
        for name, kind, _ in self.names():
            std, offset = self.scales[kind]
            tensors.append({"name": name, "shape": list(self.shape(kind)), "std": std, "offset": offset})
        return {"seed": self.seed, "vocab_size": self.vocab, "metadata": meta, "tensors": tensors}

    def state_dict(self):
        """float32 arrays under the names of transformers."""
        state = {}
        for name, kind, theirs in self.names():
            std, offset = self.scales[kind]
            w = random_model.weights(self.seed, name, self.shape(kind), std, offset)
            if self.arch == "llama" and kind.startswith(("attn_q.", "attn_k.")):
                w = unpermute(w, self.n_heads if kind.startswith("attn_q.") else self.n_kv)
            if self.arch.startswith("gemma") and kind.endswith("norm.weight"):
                w = w - np.float32(1)  # exact; transformers adds it again
            state[theirs] = w
        return state

    def ids(self, name, n):
        u = random_model.values(self.seed, name, 0, n, std=1 / 1.7320508075688772, offset=1)
        return (np.clip(u.astype(np.float64) / 2, 0, 1 - 1e-9) * self.vocab).astype(np.int64)

    def hf_config(self):
        import transformers as t

        classes = {"llama": t.LlamaConfig, "qwen2": t.Qwen2Config, "qwen3": t.Qwen3Config, "gemma2": t.Gemma2Config,
                   "gemma3": t.Gemma3TextConfig}
        rope = self.rope if "full_attention" in self.rope else dict(self.rope, rope_theta=self.base)
        return classes[self.arch](
            vocab_size=self.vocab, hidden_size=self.n_embd, intermediate_size=self.n_ff,
            num_hidden_layers=self.n_layers, num_attention_heads=self.n_heads, num_key_value_heads=self.n_kv,
            head_dim=self.head, rms_norm_eps=float(np.float32(self.eps)), max_position_embeddings=self.context,
            tie_word_embeddings=self.tied, rope_parameters=rope, pad_token_id=None, bos_token_id=None, eos_token_id=None,
            attn_implementation="eager", **self.extra)


def unpermute(w, n_heads):
    """Undoes the converter's permutation of the rows of Q and K (weights and biases) of arch llama: neighbours become
    halves."""
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


# the MLP outweighs the rest, so that two kinds of GELU, 5e-4 apart at most, can be told apart
GEMMA_SCALES = {"token_embd.weight": (0.35, 0), "ffn_gate.weight": (0.3, 0), "post_ffw_norm.weight": (0.3, 3)}

MODELS = [
    RandomModel("llama-plain", "llama", 11, ATTENTION + OUT_BIAS + QKV_BIAS + NORM + MLP, head=16,
                extra=dict(attention_bias=True)),
    RandomModel("llama-linear", "llama", 12, ATTENTION + NORM + MLP, context=256,
                meta={"rope.scaling.type": ["str", "linear"], "rope.scaling.factor": ["f32", 4.0]},
                rope={"rope_type": "linear", "factor": 4.0}),
    RandomModel("llama-llama3", "llama", 13, ATTENTION + NORM + MLP, head=32, context=512, base=500000.0,
                rope={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 64}),
    RandomModel("llama-yarn", "llama", 14, ATTENTION + NORM + MLP, head=32, context=256,
                meta={"rope.scaling.type": ["str", "yarn"], "rope.scaling.factor": ["f32", 4.0],
                      "rope.scaling.original_context_length": ["u32", 64]},
                rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    RandomModel("qwen2-tied", "qwen2", 21, ATTENTION + QKV_BIAS + NORM + MLP, tied=True, base=1000000.0),
    RandomModel("qwen2-yarn", "qwen2", 22, ATTENTION + QKV_BIAS + NORM + MLP, head=32, context=256, base=1000000.0,
                meta={"rope.scaling.type": ["str", "yarn"], "rope.scaling.factor": ["f32", 4.0],
                      "rope.scaling.original_context_length": ["u32", 64],
                      "rope.scaling.yarn_attn_factor": ["f32", 1.25],
                      "rope.scaling.yarn_beta_fast": ["f32", 8.0], "rope.scaling.yarn_beta_slow": ["f32", 2.0]},
                rope={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                      "attention_factor": 1.25, "beta_fast": 8.0, "beta_slow": 2.0}),
    RandomModel("qwen3", "qwen3", 31, ATTENTION + QK_NORM + NORM + MLP, head=32, base=1000000.0),
    RandomModel("gemma2", "gemma2", 41, ATTENTION + POST_NORMS + MLP, n_layers=6, tied=True, scales=GEMMA_SCALES, eps=0.05,
                meta={"attention.sliding_window": ["u32", 24], "attn_logit_softcapping": ["f32", 5.0],
                      "final_logit_softcapping": ["f32", 8.0]},
                extra=dict(sliding_window=24, query_pre_attn_scalar=16, attn_logit_softcapping=5.0,
                           final_logit_softcapping=8.0)),
    RandomModel("gemma3", "gemma3", 51, ATTENTION + QK_NORM + POST_NORMS + MLP, n_layers=7, tied=True,
                scales=GEMMA_SCALES, eps=0.05, base=1000000.0, n_text=200,
                meta={"attention.sliding_window": ["u32", 24], "rope.scaling.type": ["str", "linear"],
                      "rope.scaling.factor": ["f32", 8.0]},
                rope={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                      "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}},
                extra=dict(sliding_window=24, query_pre_attn_scalar=16)),
]
