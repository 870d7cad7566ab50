"""The small random models of the parity tests: for each, a description for tests/support/random_model.h and
random_folder.h, and the same model as a configuration and a state dict of `transformers`.

The weights are large enough that the logits spread (standard deviation of at least 2) and attention is peaked, and the
epsilons and caps lie where they matter, so that a wrong field of the configuration shows. The configuration is a
config.json as the Hub has it: what `transformers` makes of it is the truth.
"""
import json

import numpy as np
import random_model

# part of a layer: (name in GGUF, name in a folder)
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
FUSED = [  # Phi-3
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_qkv.weight", "self_attn.qkv_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("ffn_up.weight", "mlp.gate_up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
]
NORM = [("ffn_norm.weight", "post_attention_layernorm.weight")]
GATE_UP = [("ffn_up.weight", "mlp.gate_up_proj.weight"), ("ffn_down.weight", "mlp.down_proj.weight")]  # GLM-4
POST_NORMS = [
    ("post_attention_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
    ("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
]
POST_NORMS_ALONE = [POST_NORMS[0], POST_NORMS[2]]
GLM4_NORMS = [
    ("post_attention_norm.weight", "post_self_attn_layernorm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("post_ffw_norm.weight", "post_mlp_layernorm.weight"),
]
SEED_OSS_NORM = [("post_attention_norm.weight", "post_attention_layernorm.weight")]
NORM_BIASES = [("attn_norm.bias", "input_layernorm.bias"), ("ffn_norm.bias", "post_attention_layernorm.bias")]
QK_NORM_EACH = [(f"attn_{p}_norm.weight", f"self_attn.{p}_layernorm.norms.*.weight") for p in "qk"]  # StableLM
QK_NORM = [("attn_q_norm.weight", "self_attn.q_norm.weight"), ("attn_k_norm.weight", "self_attn.k_norm.weight")]
QKV_BIAS = [(f"attn_{p}.bias", f"self_attn.{p}_proj.bias") for p in "qkv"]
OUT_BIAS = [("attn_output.bias", "self_attn.o_proj.bias")]
SINKS = [("attn_sinks.weight", "self_attn.sinks")]
# latent attention: Q from the input or from a latent; K and V of the latent in one tensor of GGUF, or in two
LATENT = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"),
    ("attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
]
LATENT_Q = [("attn_q.weight", "self_attn.q_proj.weight")]
LATENT_Q_LORA = [
    ("attn_q_a.weight", "self_attn.q_a_proj.weight"), ("attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight"),
    ("attn_q_b.weight", "self_attn.q_b_proj.weight"),
]
LATENT_KV = [("attn_kv_b.weight", "self_attn.kv_b_proj.weight")]
LATENT_KV_SPLIT = [(["attn_k_b.weight", "attn_v_b.weight"], "self_attn.kv_b_proj.weight")]
# beside the experts of a layer
SHARED = [(f"ffn_{p}_shexp.weight", f"mlp.shared_experts.{p}_proj.weight") for p in ("gate", "up", "down")]
SHARED_ONE = [(ours, theirs.replace("experts", "expert")) for ours, theirs in SHARED]
SHARED_GATED = SHARED_ONE + [("ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight")]
INTERNLM2 = [
    ("attn_norm.weight", "attention_norm.weight"),
    (["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attention.wqkv.weight"),
    (["attn_q.bias", "attn_k.bias", "attn_v.bias"], "attention.wqkv.bias"),
    ("attn_output.weight", "attention.wo.weight"), ("attn_output.bias", "attention.wo.bias"),
    ("ffn_norm.weight", "ffn_norm.weight"), ("ffn_gate.weight", "feed_forward.w1.weight"),
    ("ffn_up.weight", "feed_forward.w3.weight"), ("ffn_down.weight", "feed_forward.w2.weight"),
]
GEMMA3N = ATTENTION + POST_NORMS + QK_NORM + [
    ("altup_router.weight", "altup.modality_router.weight"), ("altup_router_norm.weight", "altup.router_norm.weight"),
    ("altup_predict_coef.weight", "altup.prediction_coefs.weight"),
    ("altup_correct_coef.weight", "altup.correction_coefs.weight"),
    ("altup_correct_scale.weight", "altup.correct_output_scale"),
    ("laurel_l.weight", "laurel.linear_left.weight"), ("laurel_r.weight", "laurel.linear_right.weight"),
    ("laurel_post_norm.weight", "laurel.post_laurel_norm.weight"),
    ("inp_gate.weight", "per_layer_input_gate.weight"), ("proj.weight", "per_layer_projection.weight"),
    ("post_norm.weight", "post_per_layer_input_norm.weight"),
]
SHARED_KV = ("attn_k.weight", "attn_v.weight", "attn_k_norm.weight")  # of layers that use those of an earlier one
# LFM2: layers attend or convolve
LFM2 = [
    ("attn_norm.weight", "operator_norm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"), ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"), ("attn_output.weight", "self_attn.out_proj.weight"),
    ("attn_q_norm.weight", "self_attn.q_layernorm.weight"), ("attn_k_norm.weight", "self_attn.k_layernorm.weight"),
    ("ffn_norm.weight", "ffn_norm.weight"),
]
LFM2_CONV = [LFM2[0]] + [(f"shortconv.{p}.weight", f"conv.{p}.weight") for p in ("in_proj", "conv", "out_proj")] + [LFM2[-1]]
LFM2_MLP = [(f"ffn_{p}.weight", f"feed_forward.{w}.weight") for p, w in (("gate", "w1"), ("up", "w3"), ("down", "w2"))]
# Qwen3-Next: layers attend, to gated heads, or follow the delta rule
QWEN3_NEXT = ATTENTION + QK_NORM + [("post_attention_norm.weight", "post_attention_layernorm.weight")]
DELTA = [
    ATTENTION[0], (["attn_qkv.weight", "attn_gate.weight"], "linear_attn.in_proj_qkvz.weight"),
    ("ssm_ba.weight", "linear_attn.in_proj_ba.weight"), ("ssm_conv1d.weight", "linear_attn.conv1d.weight"),
    ("ssm_a", "linear_attn.A_log"), ("ssm_dt.bias", "linear_attn.dt_bias"),
    ("ssm_norm.weight", "linear_attn.norm.weight"), ("ssm_out.weight", "linear_attn.out_proj.weight"), QWEN3_NEXT[-1],
]
# outside layers
NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
         "output_norm.bias": "model.norm.bias", "output.weight": "lm_head.weight"}
INTERNLM2_NAMES = dict(NAMES, **{"token_embd.weight": "model.tok_embeddings.weight", "output.weight": "output.weight"})
LFM2_NAMES = dict(NAMES, **{"token_embd_norm.weight": "model.embedding_norm.weight"})

GEMMA3N_NAMES = {"per_layer_token_embd.weight": "model.embed_tokens_per_layer.weight",
                 "per_layer_model_proj.weight": "model.per_layer_model_projection.weight",
                 "per_layer_proj_norm.weight": "model.per_layer_projection_norm.weight",
                 "altup_proj.weight": "model.altup_projections.*.weight",
                 "altup_unembd_proj.weight": "model.altup_unembed_projections.*.weight"}

# std and offset by the end of the GGUF name
SCALES = {
    "per_layer_token_embd.weight": (0.25, 0), "per_layer_model_proj.weight": (0.3, 0),
    "per_layer_proj_norm.weight": (0.2, 1), "altup_proj.weight": (0.2, 0), "altup_unembd_proj.weight": (0.2, 0),
    "altup_router.weight": (4, 0), "altup_router_norm.weight": (0.2, 1), "altup_predict_coef.weight": (0.3, 0),
    "altup_correct_coef.weight": (0.3, 0), "altup_correct_scale.weight": (0.2, 1), "laurel_l.weight": (0.25, 0),
    "laurel_r.weight": (0.3, 0), "laurel_post_norm.weight": (0.2, 1), "inp_gate.weight": (0.2, 0),
    "proj.weight": (0.3, 0), "post_norm.weight": (0.2, 1),
    "token_embd.weight": (0.5, 0), "output.weight": (0.35, 0), "output_norm.weight": (0.2, 1),
    "attn_norm.weight": (0.2, 1), "ffn_norm.weight": (0.2, 1),
    "attn_norm.bias": (0.3, 0), "ffn_norm.bias": (0.3, 0), "output_norm.bias": (0.3, 0),
    "post_attention_norm.weight": (0.2, 1), "post_ffw_norm.weight": (0.2, 1),
    "attn_q_norm.weight": (0.2, 1.5), "attn_k_norm.weight": (0.2, 1.5),
    "attn_q.weight": (0.25, 0), "attn_k.weight": (0.25, 0), "attn_v.weight": (0.2, 0), "attn_output.weight": (0.15, 0),
    "attn_qkv.weight": (0.25, 0),
    "token_embd_norm.weight": (0.2, 1), "shortconv.in_proj.weight": (0.2, 0), "shortconv.conv.weight": (0.6, 0),
    "shortconv.out_proj.weight": (0.15, 0),
    "attn_gate.weight": (0.25, 0), "ssm_ba.weight": (0.25, 0), "ssm_conv1d.weight": (0.6, 0), "ssm_a": (0.1, -0.25),
    "ssm_dt.bias": (0.7, 0), "ssm_norm.weight": (0.2, 1), "ssm_out.weight": (0.2, 0),
    "ffn_gate.weight": (0.2, 0), "ffn_up.weight": (0.15, 0), "ffn_down.weight": (0.15, 0),
    "ffn_gate_inp.weight": (0.3, 0), "ffn_gate_exps.weight": (0.2, 0), "ffn_up_exps.weight": (0.2, 0),
    "ffn_down_exps.weight": (0.2, 0),
    "attn_sinks.weight": (2, 0), "attn_q_a.weight": (0.25, 0), "attn_q_a_norm.weight": (0.2, 1),
    "attn_q_b.weight": (0.3, 0), "attn_kv_a_mqa.weight": (0.25, 0), "attn_kv_a_norm.weight": (0.2, 1),
    "attn_kv_b.weight": (0.3, 0), "attn_k_b.weight": (0.3, 0), "attn_v_b.weight": (0.3, 0),
    "ffn_gate_shexp.weight": (0.2, 0), "ffn_up_shexp.weight": (0.2, 0), "ffn_down_shexp.weight": (0.2, 0),
    "ffn_gate_inp_shexp.weight": (0.3, 0), "ffn_gate_inp.bias": (1, 0), "exp_probs_b.bias": (0.2, 0),
    "ffn_gate_exps.bias": (1, 0), "ffn_up_exps.bias": (1, 0), "ffn_down_exps.bias": (0.5, 0),
    "attn_q.bias": (0.7, 0), "attn_k.bias": (0.7, 0), "attn_v.bias": (0.5, 0), "attn_output.bias": (0.5, 0),
}


# the experts of one layer by layout: (name in a folder, names in GGUF); "*" stands for the expert's number
HF_EXPERTS = {
    "each": [("mlp.gate.weight", ["inp"]), ("mlp.experts.*.gate_proj.weight", ["gate"]),
             ("mlp.experts.*.up_proj.weight", ["up"]), ("mlp.experts.*.down_proj.weight", ["down"])],
    "fused": [("mlp.gate.weight", ["inp"]), ("mlp.experts.gate_up_proj", ["gate", "up"]),
              ("mlp.experts.down_proj", ["down"])],
    "switch": [("mlp.gate.weight", ["inp"]), ("mlp.switch_mlp.gate_proj.weight", ["gate"]),
               ("mlp.switch_mlp.up_proj.weight", ["up"]), ("mlp.switch_mlp.down_proj.weight", ["down"])],
}
MIXTRAL_EXPERTS = {
    "each": [("block_sparse_moe.gate.weight", ["inp"]), ("block_sparse_moe.experts.*.w1.weight", ["gate"]),
             ("block_sparse_moe.experts.*.w3.weight", ["up"]), ("block_sparse_moe.experts.*.w2.weight", ["down"])],
    "fused": HF_EXPERTS["fused"],
    "switch": [(n.replace("mlp.", "block_sparse_moe.", 1), parts) for n, parts in HF_EXPERTS["switch"]],
}
# names in a folder, names in GGUF, how they lie there (random_folder.h)
GPT_OSS_COMMON = [("mlp.router.weight", ["inp"]), ("mlp.router.bias", ["inp_b"])]
GPT_OSS_FUSED = GPT_OSS_COMMON + [
    ("mlp.experts.gate_up_proj", ["gate", "up"], "alternating columns"), ("mlp.experts.down_proj", ["down"], "columns"),
    ("mlp.experts.gate_up_proj_bias", ["gate_b", "up_b"], "alternating"), ("mlp.experts.down_proj_bias", ["down_b"])]
GPT_OSS_EXPERTS = {
    "each": GPT_OSS_FUSED, "fused": GPT_OSS_FUSED,
    "switch": GPT_OSS_COMMON + [
        ("mlp.experts.gate_proj.weight", ["gate"]), ("mlp.experts.up_proj.weight", ["up"]),
        ("mlp.experts.down_proj.weight", ["down"]), ("mlp.experts.gate_proj.bias", ["gate_b"]),
        ("mlp.experts.up_proj.bias", ["up_b"]), ("mlp.experts.down_proj.bias", ["down_b"])],
}
LLAMA4_FUSED = [("feed_forward.router.weight", ["inp"]), ("feed_forward.experts.gate_up_proj", ["gate", "up"], "columns"),
                ("feed_forward.experts.down_proj", ["down"], "columns")]
LLAMA4_EXPERTS = {
    "each": LLAMA4_FUSED, "fused": LLAMA4_FUSED,
    "switch": [("feed_forward.router.weight", ["inp"]), ("feed_forward.experts.gate_proj.weight", ["gate"]),
               ("feed_forward.experts.up_proj.weight", ["up"]), ("feed_forward.experts.down_proj.weight", ["down"])],
}
LFM2_ROUTER = ("feed_forward.gate.weight", ["inp"])
LFM2_EXPERTS = {
    "each": [LFM2_ROUTER, ("feed_forward.experts.*.w1.weight", ["gate"]), ("feed_forward.experts.*.w3.weight", ["up"]),
             ("feed_forward.experts.*.w2.weight", ["down"])],
    "fused": [LFM2_ROUTER, ("feed_forward.experts.gate_up_proj", ["gate", "up"]),
              ("feed_forward.experts.down_proj", ["down"])],
    "switch": [LFM2_ROUTER] + [(f"feed_forward.switch_mlp.{p}_proj.weight", [p]) for p in ("gate", "up", "down")],
}
EXPERT_NAMES = {"inp": "ffn_gate_inp.weight", "gate": "ffn_gate_exps.weight", "up": "ffn_up_exps.weight",
                "down": "ffn_down_exps.weight", "inp_b": "ffn_gate_inp.bias", "gate_b": "ffn_gate_exps.bias",
                "up_b": "ffn_up_exps.bias", "down_b": "ffn_down_exps.bias"}
# where a folder has a matrix of one row, GGUF a vector
ONE_ROW = ("mlp.shared_expert_gate.weight", "mlp.moe_statics.e_score_correction_bias")

# families by their model_type: general.architecture, class, families whose converter permutes Q and K
GGUF = {"mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "gemma3n_text": "gemma3n", "qwen3_moe": "qwen3moe", "olmo3": "olmo2",
        "cohere": "command-r", "glm": "chatglm", "internlm3": "llama", "qwen2_moe": "qwen2moe", "gpt_oss": "gpt-oss",
        "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "ernie4_5_moe": "ernie4_5-moe", "llama4_text": "llama4",
        "lfm2_moe": "lfm2moe", "qwen3_next": "qwen3next"}
CLASSES = {"llama": "Llama", "mistral": "Mistral", "mixtral": "Mixtral", "qwen2": "Qwen2", "qwen3": "Qwen3",
           "qwen3_moe": "Qwen3Moe", "gemma2": "Gemma2", "gemma3_text": "Gemma3", "gemma3n_text": "Gemma3n", "smollm3": "SmolLM3", "phi3": "Phi3",
           "granite": "Granite", "olmo2": "Olmo2", "olmo3": "Olmo3", "gemma": "Gemma",
           "cohere": "Cohere", "cohere2": "Cohere2", "glm": "Glm", "glm4": "Glm4", "exaone4": "Exaone4",
           "seed_oss": "SeedOss", "ernie4_5": "Ernie4_5", "stablelm": "StableLm", "internlm2": "InternLM2",
           "internlm3": "InternLM3", "minicpm": "MiniCPM", "qwen2_moe": "Qwen2Moe", "gpt_oss": "GptOss",
           "deepseek_v2": "DeepseekV2", "deepseek_v3": "DeepseekV3", "ernie4_5_moe": "Ernie4_5_Moe",
           "llama4_text": "Llama4", "lfm2": "Lfm2", "lfm2_moe": "Lfm2Moe", "qwen3_next": "Qwen3Next"}
PERMUTED = ("llama", "smollm3", "granite", "internlm2", "minicpm")
NORMS_BY_HEAD = ("command-r", "stablelm")  # Q's and K's have a row for each head
LAYER_NORMS = ("command-r", "cohere2", "stablelm")  # not RMS


class RandomModel:
    """n_*: shapes; layer: pairs of names; meta: further GGUF keys; config: further members of config.json, which also
    take the place of those that all have (None: left out); values: tensors of GGUF alone; experts: (number, layouts,
    dense layers); beside: pairs of names of layers with experts; convs: layers that convolve;
    deltas: (layers of the delta rule, key heads, value heads, dims of a key and of a value); shapes: of kinds whose shape is not the usual one;
    shared: of the last layers, which use K and V of earlier ones; outside: names of further tensors outside
    layers, in GGUF and in a folder; oracle: the same model under the names of another class, where transformers has none of its own."""

    def __init__(self, name, model_type, seed, layer, n_layers=4, n_embd=64, n_heads=4, n_kv=2, head=16, n_ff=96,
                 vocab=320, eps=0.02, context=512, base=10000.0, tied=False, scales=None, meta=None, config=None,
                 n_text=160, values=None, experts=(0, {}, ()), beside=(), shapes=None, convs=(), deltas=((), 0, 0, 0, 0),
                 prompts=(16, 64), shared=0, outside=None, oracle=None):
        self.name, self.model_type, self.seed, self.layer = name, model_type, seed, layer
        self.arch = GGUF.get(model_type, model_type)
        self.n_layers, self.n_embd, self.n_heads, self.n_kv, self.head = n_layers, n_embd, n_heads, n_kv, head
        self.n_ff, self.vocab, self.eps, self.context, self.base, self.tied = n_ff, vocab, eps, context, base, tied
        self.scales = dict(SCALES, **(scales or {}))
        self.meta, self.more, self.values = meta or {}, config or {}, values or {}
        self.n_text, self.prompts = n_text, prompts
        self.n_experts, self.layouts, self.dense = experts
        self.beside, self.shapes, self.convs, self.deltas = list(beside), shapes or {}, convs, deltas
        parts = {p for layout in self.layouts.values() for _, parts, *_ in layout for p in parts}
        self.expert_kinds = [kind for p, kind in EXPERT_NAMES.items() if p in parts]
        self.oracle = oracle or self
        self.shared, self.outside = shared, outside or {}
        self.names = dict({"internlm2": INTERNLM2_NAMES, "lfm2": LFM2_NAMES, "lfm2_moe": LFM2_NAMES}.get(model_type, NAMES), **self.outside)

    def shape(self, kind):
        q, kv = self.n_heads * self.head, self.n_kv * self.head
        e, f, x = self.n_embd, self.n_ff, self.n_experts
        fused = any(theirs == "mlp.gate_up_proj.weight" for _, theirs in self.layer)
        q_norm, k_norm = (self.head,), (self.head,)
        if self.arch == "olmo2":
            q_norm, k_norm = (q,), (kv,)
        elif self.arch in NORMS_BY_HEAD:
            q_norm, k_norm = (self.n_heads, self.head), (self.n_kv, self.head)
        return self.shapes.get(kind) or {
            "attn_sinks.weight": (self.n_heads,), "ffn_gate_inp.bias": (x,), "exp_probs_b.bias": (x,),
            "ffn_gate_exps.bias": (x, f), "ffn_up_exps.bias": (x, f), "ffn_down_exps.bias": (x, e),
            "token_embd.weight": (self.vocab, e), "output.weight": (self.vocab, e), "attn_q.weight": (q, e),
            "attn_k.weight": (kv, e), "attn_v.weight": (kv, e), "attn_qkv.weight": (q + 2 * kv, e),
            "attn_output.weight": (e, q), "ffn_gate.weight": (f, e), "ffn_up.weight": (2 * f if fused else f, e),
            "ffn_down.weight": (e, f), "attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,),
            "attn_q_norm.weight": q_norm, "attn_k_norm.weight": k_norm,
            "ffn_gate_inp.weight": (x, e), "ffn_gate_exps.weight": (x, f, e), "ffn_up_exps.weight": (x, f, e),
            "ffn_down_exps.weight": (x, e, f),
        }.get(kind, (e,))

    def has_experts(self, layer):
        return self.n_experts > 0 and layer not in self.dense

    def layer_pairs(self, i):
        own = any(ours == "ffn_down.weight" for ours, _ in self.layer)
        mlp = [(ours, theirs.replace("mlp.", "feed_forward.")) for ours, theirs in MLP] if self.arch == "llama4" else MLP
        mlp = LFM2_MLP if self.convs else mlp
        return (LFM2_CONV if i in self.convs else DELTA if i in self.deltas[0] else self.layer) + (self.beside if self.has_experts(i) else [] if own else mlp)

    def global_kinds(self):
        bias = ["output_norm.bias"] if NORM_BIASES[0] in self.layer else []
        norm = "token_embd_norm.weight" if self.convs else "output_norm.weight"
        head = [] if self.tied else ["output.weight"]
        return ["token_embd.weight", norm] + bias + list(self.outside) + head

    def gguf_tensors(self):
        """(name, kind) of all tensors."""
        for name in self.global_kinds():
            yield name, name
        for i in range(self.n_layers):
            kinds = [kind for ours, _ in self.layer_pairs(i) for kind in kinds_of(ours)]
            for kind in kinds + (self.expert_kinds if self.has_experts(i) else []):
                yield f"blk.{i}.{kind}", kind

    def folder_tensor(self, name, kinds, prefix="", layout=None):
        """As tests/support/random_folder.h describes it."""
        tensor = {"name": name, "parts": [prefix + k for k in kinds]}
        if kinds == DELTA[1][0]:
            _, n_keys, n_values, k_dim, v_dim = self.deltas
            ends = [0, n_keys * k_dim, 2 * n_keys * k_dim, 2 * n_keys * k_dim + n_values * v_dim]
            tensor["parts"][:1] = [f"{prefix}{kinds[0]}[{first}:{end}]" for first, end in zip(ends, ends[1:])]
            tensor["by_kv_head"] = n_keys
        if kinds == ["ssm_a"]:
            tensor["log"] = True
        if layout or len(kinds) > 1 and kinds[0].startswith("attn_k_b"):
            tensor["layout"] = layout or "turned"
        if name.endswith(ONE_ROW):
            tensor["one_row"] = True
        if name.endswith(("conv.conv.weight", "conv1d.weight")):
            tensor["unit_axis"] = True
        if len(kinds) == 3:
            tensor["by_kv_head"], tensor["unpermute"] = self.n_kv, [self.n_heads, self.n_kv, 0]
        elif self.arch in PERMUTED and kinds[0].startswith(("attn_q.", "attn_k.")):
            tensor["unpermute"] = self.n_heads if kinds[0].startswith("attn_q.") else self.n_kv
        if self.arch in ("gemma", "gemma2", "gemma3", "qwen3next") and kinds[0].endswith("norm.weight") and \
                kinds[0] != "ssm_norm.weight":
            tensor["minus"] = 1
        return tensor

    def folder_tensors(self):
        """All but those of experts."""
        tensors = []
        for kind in self.global_kinds():
            tensor = self.folder_tensor(self.names[kind], [kind])
            tensors += self.pieces(tensor, self.shape(kind)[0]) if "*" in tensor["name"] else [tensor]
        for i in range(self.n_layers):
            for ours, theirs in self.layer_pairs(i):
                tensor = self.folder_tensor(f"model.layers.{i}.{theirs}", kinds_of(ours), f"blk.{i}.")
                tensors += self.pieces(tensor, self.shape(ours)[0]) if "*" in theirs else [tensor]
        return tensors

    @staticmethod
    def pieces(tensor, n):
        return [dict(tensor, name=tensor["name"].replace("*", str(x)), expert=x) for x in range(n)]

    def expert_tensors(self, layout):
        tensors = []
        for i in filter(self.has_experts, range(self.n_layers)):
            for name, parts, *how in self.layouts[layout]:
                tensor = self.folder_tensor(f"model.layers.{i}.{name}", [EXPERT_NAMES[p] for p in parts], f"blk.{i}.", *how)
                tensors += self.pieces(tensor, self.n_experts) if "*" in name else [tensor]
        return tensors

    def config(self):
        """config.json; floats that GGUF keeps in f32 are those here too."""
        f32 = lambda v: float(np.float32(v))
        config = {
            "architectures": [CLASSES[self.model_type] + "ForCausalLM"], "model_type": self.model_type,
            "vocab_size": self.vocab, "hidden_size": self.n_embd, "intermediate_size": self.n_ff,
            "num_hidden_layers": self.n_layers, "num_attention_heads": self.n_heads, "num_key_value_heads": self.n_kv,
            "head_dim": self.head, "rms_norm_eps": f32(self.eps), "max_position_embeddings": self.context,
            "rope_theta": self.base, "tie_word_embeddings": self.tied, "bos_token_id": 256, "eos_token_id": 256,
            "pad_token_id": None, "torch_dtype": "float32"}
        if self.arch in LAYER_NORMS:
            config["layer_norm_eps"] = config.pop("rms_norm_eps")
        if self.convs:
            config["norm_eps"] = config.pop("rms_norm_eps")
            config["layer_types"] = ["conv" if i in self.convs else "full_attention" for i in range(self.n_layers)]
        config.update(self.more)
        return {k: v for k, v in config.items() if v is not None or k in ("pad_token_id", "q_lora_rank")}

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
            f"{a}.attention.layer_norm{'' if a in LAYER_NORMS else '_rms'}_epsilon": ["f32", self.eps],
            f"{a}.rope.freq_base": ["f32", self.base],
        }
        if self.convs:
            heads = [0 if i in self.convs else self.n_kv for i in range(self.n_layers)]
            meta[f"{a}.attention.head_count_kv"] = ["i32[]", heads]
        meta.update({f"{a}.{k}": v for k, v in self.meta.items()})
        tensors = []
        for name, kind in self.gguf_tensors():
            std, offset = self.scales[kind]
            tensors.append({"name": name, "shape": list(self.shape(kind)), "std": std, "offset": offset})
        tensors += [{"name": name, "shape": [len(v)], "values": v} for name, v in self.values.items()]
        folder = {"config": self.config(), "tensors": self.folder_tensors()}
        folder.update({layout: self.expert_tensors(layout) for layout in self.layouts})
        folder.update({"mlx": True} if self.deltas[0] else {})
        return {"seed": self.seed, "vocab_size": self.vocab, "metadata": meta, "tensors": tensors, "folder": folder}

    def description_text(self):
        """JSON, a line for each tensor and key."""
        def lines(v, depth):
            if depth == 0 or not isinstance(v, (dict, list)) or not v:
                return json.dumps(v)
            items = [json.dumps(k) + ": " + lines(x, depth - 1) for k, x in v.items()] if isinstance(v, dict) else \
                    [lines(x, depth - 1) for x in v]
            ends = "{}" if isinstance(v, dict) else "[]"
            return ends[0] + "\n" + ",\n".join(items) + "\n" + ends[1]

        d = self.description()
        parts = [json.dumps(k) + ": " + lines(v, 2 if k == "folder" else 1) for k, v in d.items()]
        return "{\n" + ",\n".join(parts) + "\n}\n"

    def weights(self, tensor):
        """The values of a folder's tensor."""
        kinds = dict(self.gguf_tensors())
        parts = []
        for part in tensor["parts"]:
            name, _, rows = part.partition("[")
            std, offset = self.scales[kinds[name]]
            values = random_model.weights(self.seed, name, self.shape(kinds[name]), std, offset)
            parts.append(values[slice(*map(int, rows[:-1].split(":")))] if rows else values)
        if "log" in tensor:
            return np.log(-parts[0])
        if len(parts) == 4:
            by_head = [p.reshape(tensor["by_kv_head"], -1, p.shape[-1]) for p in parts]
            return np.concatenate(by_head, axis=1).reshape(-1, parts[0].shape[-1])
        w = laid_out(parts, tensor["layout"]) if "layout" in tensor else \
            np.concatenate(parts, axis=-2) if len(parts) > 1 else parts[0]
        w = w.reshape(1, -1) if "one_row" in tensor else w[:, None, :] if "unit_axis" in tensor else w
        w = w[tensor["expert"]] if "expert" in tensor else w
        if "unpermute" in tensor:
            w = unpermute(w, tensor["unpermute"])
        return w - np.float32(tensor["minus"]) if "minus" in tensor else w  # exact; transformers adds it again

    def state_dict(self):
        """float32 arrays under the names of transformers."""
        tensors = self.folder_tensors() + (self.expert_tensors("fused") if self.n_experts else [])
        rename = lambda name: name.replace("mlp.moe_statics", "mlp.gate.moe_statics")  # as transformers 5 does
        first = self.n_layers - self.shared  # of the layers that share K and V, which transformers has none for
        unused = {f"blk.{i}.{kind}" for i in range(first, self.n_layers) for kind in SHARED_KV}
        return {rename(t["name"]): self.weights(t) for t in tensors if t["parts"][0] not in unused}

    def ids(self, name, n):
        u = random_model.values(self.seed, name, 0, n, std=1 / 1.7320508075688772, offset=1)
        return (np.clip(u.astype(np.float64) / 2, 0, 1 - 1e-9) * self.vocab).astype(np.int64)

    def hf_config(self):
        import transformers

        config = self.config()
        return transformers.AutoConfig.for_model(config.pop("model_type"), **config)


def laid_out(parts, layout):
    """Blocks of several parts as one tensor of a folder, see enum layout of tests/support/random_folder.c."""
    if layout == "turned":  # the first part's columns are rows; blocks lie one behind the other
        w = np.concatenate([parts[0].swapaxes(1, 2), parts[1]], axis=1)
        return w.reshape(-1, w.shape[-1])
    axis = 1
    if layout.startswith("alternating"):
        w = np.stack(parts, axis=axis + 1)  # [block, row, part, ...]
        w = w.reshape(w.shape[0], -1, *w.shape[3:])
    else:
        w = np.concatenate(parts, axis=axis)
    return w.swapaxes(1, 2) if layout.endswith("columns") else w
def kinds_of(ours):
    return ours if isinstance(ours, list) else [ours]


def unpermute(w, n_heads):
    """Undoes the converter's permutation of the rows of Q and K (weights and biases) of arch llama: neighbours become
    halves."""
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


# the MLP outweighs the rest, so that two kinds of GELU, 5e-4 apart at most, can be told apart
GEMMA_SCALES = {"token_embd.weight": (0.35, 0), "ffn_gate.weight": (0.3, 0), "post_ffw_norm.weight": (0.3, 3)}

# no norm after the MLP: its output is larger
GEMMA1_SCALES = {"token_embd.weight": (0.35, 0), "ffn_gate.weight": (0.3, 0), "ffn_down.weight": (0.6, 0)}

LONG, SHORT = [1.1 + 0.35 * i for i in range(12)], [1.0 + 0.05 * i for i in range(12)]
PHI3 = dict(n_embd=64, n_heads=2, n_kv=1, head=32)
PHI3_CONFIG = {"head_dim": None, "sliding_window": 48, "partial_rotary_factor": 0.75,
               "rope_scaling": {"type": "longrope", "long_factor": LONG, "short_factor": SHORT}}
PHI3_VALUES = {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT}


def phi3_meta(original, context):
    factor = float(np.sqrt(1 + np.log(context / original) / np.log(original)))
    return {"rope.dimension_count": ["u32", 24], "attention.sliding_window": ["u32", 48],
            "rope.scaling.original_context_length": ["u32", original], "rope.scaling.attn_factor": ["f32", factor]}


def experts_meta(n, used, n_ff, **more):
    return {"expert_count": ["u32", n], "expert_used_count": ["u32", used],
            "expert_feed_forward_length": ["u32", n_ff], **more}


def latent_shapes(heads, nope, rope, v, latent, q_latent=0):
    """Of latent attention, E being 64."""
    return {"attn_q.weight": (heads * (nope + rope), 64), "attn_q_a.weight": (q_latent, 64),
            "attn_q_a_norm.weight": (q_latent,), "attn_q_b.weight": (heads * (nope + rope), q_latent),
            "attn_kv_a_mqa.weight": (latent + rope, 64), "attn_kv_a_norm.weight": (latent,),
            "attn_kv_b.weight": (heads * (nope + v), latent), "attn_k_b.weight": (heads, latent, nope),
            "attn_v_b.weight": (heads, v, latent), "attn_output.weight": (64, heads * v)}


def conv_shapes(n_taps):
    """E being 64."""
    return {"shortconv.in_proj.weight": (192, 64), "shortconv.conv.weight": (64, n_taps),
            "shortconv.out_proj.weight": (64, 64)}


def delta_shapes(n_keys, n_values, k_dim, v_dim, n_taps):
    """E being 64."""
    columns, values = 2 * n_keys * k_dim + n_values * v_dim, n_values * v_dim
    return {"attn_qkv.weight": (columns, 64), "attn_gate.weight": (values, 64), "ssm_ba.weight": (2 * n_values, 64),
            "ssm_conv1d.weight": (columns, n_taps), "ssm_a": (n_values,), "ssm_dt.bias": (n_values,),
            "ssm_norm.weight": (v_dim,), "ssm_out.weight": (64, values)}


MODELS = [
    RandomModel("llama-plain", "llama", 11, ATTENTION + OUT_BIAS + QKV_BIAS + NORM, head=16,
                config={"attention_bias": True}),
    RandomModel("llama-linear", "llama", 12, ATTENTION + NORM, context=256,
                meta={"rope.scaling.type": ["str", "linear"], "rope.scaling.factor": ["f32", 4.0]},
                config={"rope_scaling": {"type": "linear", "factor": 4.0}}),
    RandomModel("llama-llama3", "llama", 13, ATTENTION + NORM, head=32, context=512, base=500000.0,
                config={"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    RandomModel("llama-yarn", "llama", 14, ATTENTION + NORM, head=32, context=256,
                meta={"rope.scaling.type": ["str", "yarn"], "rope.scaling.factor": ["f32", 4.0],
                      "rope.scaling.original_context_length": ["u32", 64]},
                config={"rope_theta": None,
                        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                                            "original_max_position_embeddings": 64}}),
    RandomModel("mistral", "mistral", 15, ATTENTION + NORM, meta={"attention.sliding_window": ["u32", 24]},
                config={"sliding_window": 24, "head_dim": None}),
    RandomModel("qwen2-tied", "qwen2", 21, ATTENTION + QKV_BIAS + NORM, tied=True, base=1000000.0,
                config={"sliding_window": 24, "use_sliding_window": False}),
    RandomModel("qwen2-yarn", "qwen2", 22, ATTENTION + QKV_BIAS + NORM, head=32, context=256, base=1000000.0,
                meta={"rope.scaling.type": ["str", "yarn"], "rope.scaling.factor": ["f32", 4.0],
                      "rope.scaling.original_context_length": ["u32", 64],
                      "rope.scaling.yarn_attn_factor": ["f32", 1.25],
                      "rope.scaling.yarn_beta_fast": ["f32", 8.0], "rope.scaling.yarn_beta_slow": ["f32", 2.0]},
                config={"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                         "attention_factor": 1.25, "beta_fast": 8.0, "beta_slow": 2.0}}),
    RandomModel("qwen2-window", "qwen2", 23, ATTENTION + QKV_BIAS + NORM, n_layers=5,
                meta={"attention.sliding_window": ["u32", 24],
                      "attention.sliding_window_pattern": ["bool[]", [False, False, True, True, True]]},
                config={"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 2}),
    RandomModel("qwen3", "qwen3", 31, ATTENTION + QK_NORM + NORM, head=32, base=1000000.0),
    RandomModel("qwen3moe", "qwen3_moe", 32, ATTENTION + QK_NORM + NORM, head=32, base=1000000.0, n_ff=64,
                experts=(8, HF_EXPERTS, ()), meta=experts_meta(8, 3, 64),
                config={"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 64,
                        "intermediate_size": 160, "norm_topk_prob": True, "mlp_only_layers": [],
                        "decoder_sparse_step": 1}),
    RandomModel("qwen3moe-dense", "qwen3_moe", 33, ATTENTION + QK_NORM + NORM, n_layers=5, head=32, n_ff=64,
                experts=(6, HF_EXPERTS, (0, 2, 3, 4)), scales={"ffn_down_exps.weight": (1.0, 0)},
                meta=experts_meta(6, 2, 64, expert_weights_norm=["bool", False]),
                config={"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
                        "norm_topk_prob": False, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    RandomModel("mixtral", "mixtral", 34, ATTENTION + NORM, base=1000000.0, n_ff=64, experts=(4, MIXTRAL_EXPERTS, ()),
                meta={"expert_count": ["u32", 4], "expert_used_count": ["u32", 2]},
                config={"num_local_experts": 4, "num_experts_per_tok": 2}),
    RandomModel("gemma2", "gemma2", 41, ATTENTION + POST_NORMS, n_layers=6, tied=True, scales=GEMMA_SCALES, eps=0.05,
                meta={"attention.sliding_window": ["u32", 24], "attn_logit_softcapping": ["f32", 5.0],
                      "final_logit_softcapping": ["f32", 8.0]},
                config={"sliding_window": 24, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0,
                        "final_logit_softcapping": 8.0, "hidden_activation": "gelu_pytorch_tanh",
                        "tie_word_embeddings": None}),
    RandomModel("gemma3", "gemma3_text", 51, ATTENTION + QK_NORM + POST_NORMS, n_layers=7, tied=True,
                scales=GEMMA_SCALES, eps=0.05, base=1000000.0, n_text=200,
                meta={"attention.sliding_window": ["u32", 24], "rope.scaling.type": ["str", "linear"],
                      "rope.scaling.factor": ["f32", 8.0]},
                config={"sliding_window": 24, "query_pre_attn_scalar": 16, "tie_word_embeddings": None,
                        "rope_local_base_freq": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    RandomModel("smollm3", "smollm3", 61, ATTENTION + NORM, n_layers=5, tied=True, base=5000000.0,
                config={"head_dim": None, "no_rope_layers": [1, 1, 1, 0, 1], "use_sliding_window": False,
                        "sliding_window": None}),
    RandomModel("phi3-long", "phi3", 71, FUSED + NORM, context=256, **PHI3, meta=phi3_meta(64, 256), values=PHI3_VALUES,
                config={**PHI3_CONFIG, "original_max_position_embeddings": 64}, prompts=(72, 80)),
    RandomModel("phi3-short", "phi3", 72, FUSED + NORM, context=1024, **PHI3, meta=phi3_meta(256, 1024),
                values=PHI3_VALUES, config={**PHI3_CONFIG, "original_max_position_embeddings": 256}),
    RandomModel("granite", "granite", 81, ATTENTION + NORM, scales={"token_embd.weight": (0.1, 0)},
                meta={"attention.scale": ["f32", 0.15625], "embedding_scale": ["f32", 6.0],
                      "residual_scale": ["f32", 0.625], "logit_scale": ["f32", 1.25]},
                config={"head_dim": None, "attention_multiplier": 0.15625, "embedding_multiplier": 6.0,
                        "residual_multiplier": 0.625, "logits_scaling": 1.25}),
    RandomModel("olmo2", "olmo2", 91, ATTENTION[1:] + QK_NORM + POST_NORMS_ALONE, base=500000.0,
                config={"head_dim": None}),
    RandomModel("olmo3", "olmo3", 92, ATTENTION[1:] + QK_NORM + POST_NORMS_ALONE, n_layers=5, head=32, context=256,
                base=500000.0,
                meta={"attention.sliding_window": ["u32", 24], "rope.scaling.type": ["str", "yarn"],
                      "rope.scaling.factor": ["f32", 4.0], "rope.scaling.original_context_length": ["u32", 64]},
                config={"sliding_window": 24,
                        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}),
    RandomModel("qwen2moe", "qwen2_moe", 101, ATTENTION + QKV_BIAS + NORM, n_layers=4, base=1000000.0, n_ff=64,
                experts=(6, HF_EXPERTS, (1,)), beside=SHARED_GATED,
                shapes={"ffn_gate_shexp.weight": (80, 64), "ffn_up_shexp.weight": (80, 64),
                        "ffn_down_shexp.weight": (64, 80), "ffn_gate_inp_shexp.weight": (64,)},
                meta=experts_meta(6, 2, 64, expert_shared_feed_forward_length=["u32", 80]),
                config={"head_dim": None, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
                        "shared_expert_intermediate_size": 80, "norm_topk_prob": False, "decoder_sparse_step": 1,
                        "mlp_only_layers": [1], "use_sliding_window": False, "sliding_window": 24}),
    RandomModel("gpt-oss", "gpt_oss", 102, ATTENTION + QKV_BIAS + OUT_BIAS + SINKS + [("post_attention_norm.weight",
                "post_attention_layernorm.weight")], n_layers=4, head=32, context=256, base=150000.0, n_ff=64,
                experts=(6, GPT_OSS_EXPERTS, ()),
                scales={"ffn_gate_exps.weight": (0.6, 0), "ffn_up_exps.weight": (0.6, 0)},
                meta=experts_meta(6, 3, 64, **{"attention.sliding_window": ["u32", 24],
                                               "rope.scaling.type": ["str", "yarn"],
                                               "rope.scaling.factor": ["f32", 4.0],
                                               "rope.scaling.original_context_length": ["u32", 64]}),
                config={"num_local_experts": 6, "num_experts_per_tok": 3, "sliding_window": 24, "attention_bias": True,
                        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                         "truncate": False, "original_max_position_embeddings": 64}}),
    RandomModel("deepseek2", "deepseek_v2", 103, LATENT + LATENT_Q + LATENT_KV + NORM, n_kv=4, n_ff=64,
                experts=(8, HF_EXPERTS, (0,)), beside=SHARED,
                shapes={**latent_shapes(4, 16, 8, 24, 32), "ffn_gate_shexp.weight": (128, 64),
                        "ffn_up_shexp.weight": (128, 64), "ffn_down_shexp.weight": (64, 128)},
                meta=experts_meta(8, 3, 64, **{
                    "attention.key_length": ["u32", 24], "attention.value_length": ["u32", 24],
                    "attention.kv_lora_rank": ["u32", 32], "rope.dimension_count": ["u32", 8],
                    "leading_dense_block_count": ["u32", 1], "expert_shared_count": ["u32", 2],
                    "expert_group_count": ["u32", 4], "expert_group_used_count": ["u32", 2],
                    "expert_weights_scale": ["f32", 3.0]}),
                config={"head_dim": None, "q_lora_rank": None, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
                        "qk_rope_head_dim": 8, "v_head_dim": 24, "n_routed_experts": 8, "num_experts_per_tok": 3,
                        "moe_intermediate_size": 64, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 4,
                        "topk_group": 2, "topk_method": "group_limited_greedy", "routed_scaling_factor": 3.0,
                        "norm_topk_prob": False}),
    RandomModel("deepseek3", "deepseek_v3", 104, LATENT + LATENT_Q_LORA + LATENT_KV_SPLIT + NORM, n_kv=4, n_ff=64,
                context=256, base=1000.0, experts=(8, HF_EXPERTS, (0,)),
                beside=SHARED + [("exp_probs_b.bias", "mlp.gate.e_score_correction_bias")],
                shapes={**latent_shapes(4, 16, 16, 24, 32, 40), "ffn_gate_shexp.weight": (64, 64),
                        "ffn_up_shexp.weight": (64, 64), "ffn_down_shexp.weight": (64, 64)},
                meta=experts_meta(8, 3, 64, **{
                    "attention.head_count_kv": ["u32", 1],
                    "attention.key_length": ["u32", 48], "attention.value_length": ["u32", 32],
                    "attention.key_length_mla": ["u32", 32], "attention.value_length_mla": ["u32", 24],
                    "attention.kv_lora_rank": ["u32", 32], "attention.q_lora_rank": ["u32", 40],
                    "rope.dimension_count": ["u32", 16], "leading_dense_block_count": ["u32", 1],
                    "expert_shared_count": ["u32", 1], "expert_gating_func": ["u32", 2],
                    "expert_group_count": ["u32", 4], "expert_group_used_count": ["u32", 2],
                    "expert_weights_scale": ["f32", 2.5], "expert_weights_norm": ["bool", True],
                    "rope.scaling.type": ["str", "yarn"], "rope.scaling.factor": ["f32", 4.0],
                    "rope.scaling.original_context_length": ["u32", 64],
                    "rope.scaling.yarn_log_multiplier": ["f32", 0.1]}),
                config={"head_dim": None, "q_lora_rank": 40, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
                        "qk_rope_head_dim": 16, "v_head_dim": 24, "n_routed_experts": 8, "num_experts_per_tok": 3,
                        "moe_intermediate_size": 64, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 4,
                        "topk_group": 2, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
                        "routed_scaling_factor": 2.5, "norm_topk_prob": True, "num_nextn_predict_layers": 1,
                        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                                         "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}}),
    RandomModel("ernie-moe", "ernie4_5_moe", 105, ATTENTION + NORM, base=500000.0, n_ff=64, tied=True,
                experts=(6, HF_EXPERTS, (0,)),
                beside=SHARED + [("exp_probs_b.bias", "mlp.moe_statics.e_score_correction_bias")],
                shapes={"ffn_gate_shexp.weight": (128, 64), "ffn_up_shexp.weight": (128, 64),
                        "ffn_down_shexp.weight": (64, 128)},
                meta=experts_meta(6, 2, 64, **{"leading_dense_block_count": ["u32", 1],
                                               "interleave_moe_layer_step": ["u32", 1],
                                               "expert_shared_count": ["u32", 2],
                                               "expert_shared_feed_forward_length": ["u32", 128]}),
                config={"moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 64, "moe_num_shared_experts": 2,
                        "moe_layer_start_index": 1, "moe_layer_end_index": 3, "moe_layer_interval": 1,
                        "use_bias": False, "head_dim": None}),
    RandomModel("llama4", "llama4_text", 106, ATTENTION + NORM, n_layers=5, base=500000.0, n_ff=64,
                experts=(4, LLAMA4_EXPERTS, (0, 2, 4)),
                beside=[(ours, theirs.replace("mlp.", "feed_forward.")) for ours, theirs in SHARED_ONE],
                shapes={"ffn_gate_shexp.weight": (64, 64), "ffn_up_shexp.weight": (64, 64),
                        "ffn_down_shexp.weight": (64, 64), "ffn_gate.weight": (96, 64), "ffn_up.weight": (96, 64),
                        "ffn_down.weight": (64, 96)},
                meta=experts_meta(4, 1, 64, **{"feed_forward_length": ["u32", 96],
                                               "interleave_moe_layer_step": ["u32", 2],
                                               "attention.sliding_window": ["u32", 24],
                                               "attention.temperature_scale": ["f32", 0.5],
                                               "attention.temperature_length": ["u32", 16]}),
                config={"intermediate_size_mlp": 96, "num_local_experts": 4, "num_experts_per_tok": 1,
                        "interleave_moe_layer_step": 2, "attention_chunk_size": 24, "no_rope_layers": [],
                        "attn_temperature_tuning": True, "floor_scale": 16, "attn_scale": 0.5, "use_qk_norm": True}),
    RandomModel("gemma", "gemma", 101, ATTENTION + NORM, tied=True, scales=GEMMA1_SCALES, eps=0.05,
                config={"hidden_act": "gelu", "tie_word_embeddings": None}),
    RandomModel("gemma3n", "gemma3n_text", 107, GEMMA3N, n_layers=6, tied=True, base=1000000.0, shared=2,
                outside=GEMMA3N_NAMES,
                shapes={"per_layer_token_embd.weight": (300, 96), "per_layer_model_proj.weight": (96, 64),
                        "per_layer_proj_norm.weight": (16,), "altup_proj.weight": (3, 64, 64),
                        "altup_unembd_proj.weight": (3, 64, 64), "altup_router.weight": (4, 64),
                        "altup_predict_coef.weight": (16, 4), "altup_correct_coef.weight": (4, 4),
                        "laurel_l.weight": (8, 64), "laurel_r.weight": (64, 8), "inp_gate.weight": (16, 64),
                        "proj.weight": (64, 16)},
                scales={"token_embd.weight": (0.35, 0), "ffn_gate.weight": (0.3, 0), "post_ffw_norm.weight": (0.3, 3),
                        "attn_q_norm.weight": (0.2, 1), "attn_k_norm.weight": (0.2, 1)},
                meta={"attention.sliding_window": ["u32", 24], "final_logit_softcapping": ["f32", 12.0],
                      "attention.sliding_window_pattern": ["bool[]", [True, False, True, False, True, False]],
                      "attention.shared_kv_layers": ["u32", 2], "altup.num_inputs": ["u32", 4],
                      "altup.active_idx": ["u32", 0], "embedding_length_per_layer_input": ["u32", 16],
                      "activation_sparsity_scale": ["f32[]", [1.2815515995025635, -1e30, 0.2533471286296844, -1e30,
                                                              -1e30, -1e30]]},
                config={"sliding_window": 24, "final_logit_softcapping": 12.0,
                        "layer_types": ["sliding_attention", "full_attention"] * 3, "num_kv_shared_layers": 2,
                        "activation_sparsity_pattern": [0.9, 0.0, 0.6, 0.0, 0.0, 0.0], "altup_num_inputs": 4,
                        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 300, "laurel_rank": 8}),
    RandomModel("cohere", "cohere", 102, ATTENTION + QKV_BIAS + OUT_BIAS, tied=True,
                meta={"logit_scale": ["f32", 0.75], "rope.scaling.type": ["str", "none"]},
                config={"logit_scale": 0.75, "attention_bias": True, "head_dim": None}),
    RandomModel("cohere-qk-norm", "cohere", 103, ATTENTION + QK_NORM, tied=True, head=32,
                meta={"logit_scale": ["f32", 0.75], "rope.scaling.type": ["str", "none"]},
                config={"logit_scale": 0.75, "use_qk_norm": True, "tie_word_embeddings": None}),
    RandomModel("cohere2", "cohere2", 104, ATTENTION, n_layers=6, tied=True,
                meta={"logit_scale": ["f32", 0.75], "attention.sliding_window": ["u32", 24],
                      "rope.dimension_count": ["u32", 16], "rope.scaling.type": ["str", "none"]},
                config={"logit_scale": 0.75, "sliding_window": 24, "sliding_window_pattern": 4, "head_dim": None}),
    RandomModel("glm", "glm", 105, ATTENTION + QKV_BIAS + NORM + GATE_UP, meta={"rope.dimension_count": ["u32", 8]}),
    RandomModel("glm4", "glm4", 106, ATTENTION + GLM4_NORMS + GATE_UP, meta={"rope.dimension_count": ["u32", 12]},
                config={"attention_bias": False, "partial_rotary_factor": 0.75}),
    RandomModel("exaone4", "exaone4", 107, ATTENTION[1:] + QK_NORM + POST_NORMS_ALONE, n_layers=6,
                meta={"attention.sliding_window": ["u32", 24],
                      "attention.sliding_window_pattern": ["bool[]", [True, True, True, False, True, True]]},
                config={"sliding_window": 24, "sliding_window_pattern": 4,
                        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                         "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    RandomModel("seed_oss", "seed_oss", 108, ATTENTION + QKV_BIAS + SEED_OSS_NORM, head=32,
                scales={"post_attention_norm.weight": (0.2, 1)},
                config={"attention_bias": True, "attention_out_bias": False}),
    RandomModel("ernie4_5", "ernie4_5", 109, ATTENTION + NORM, head=32, base=500000.0, tied=True,
                config={"use_bias": False, "tie_word_embeddings": None}),
    RandomModel("stablelm", "stablelm", 110, ATTENTION + QKV_BIAS + NORM + NORM_BIASES, head=16, n_heads=4,
                meta={"rope.dimension_count": ["u32", 4]}, config={"use_qkv_bias": True, "head_dim": None}),
    RandomModel("stablelm-parallel", "stablelm", 111, ATTENTION + NORM_BIASES[:1] + QK_NORM_EACH,
                meta={"rope.dimension_count": ["u32", 8], "use_parallel_residual": ["bool", True]},
                config={"use_parallel_residual": True, "qk_layernorm": True, "partial_rotary_factor": 0.5,
                        "head_dim": None}),
    RandomModel("internlm2", "internlm2", 112, INTERNLM2, base=1000000.0,
                config={"bias": True, "head_dim": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
                oracle=RandomModel("internlm2", "llama", 112, ATTENTION + OUT_BIAS + QKV_BIAS + NORM, base=1000000.0,
                                   config={"attention_bias": True})),
    RandomModel("internlm3", "internlm3", 113, ATTENTION + NORM, base=50000000.0,
                config={"qkv_bias": False, "bias": False, "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}}),
    RandomModel("minicpm", "minicpm", 114, ATTENTION + NORM, scales={"token_embd.weight": (0.1, 0)},
                meta={"embedding_scale": ["f32", 6.0], "residual_scale": ["f32", 0.7], "logit_scale": ["f32", 1.25]},
                config={"head_dim": None, "scale_emb": 6, "scale_depth": 1.4, "dim_model_base": 51.2},
                oracle=RandomModel("minicpm", "granite", 114, ATTENTION + NORM, scales={"token_embd.weight": (0.1, 0)},
                                   config={"attention_multiplier": 0.25, "embedding_multiplier": 6.0,
                                           "residual_multiplier": 0.7, "logits_scaling": 1.25})),
    RandomModel("lfm2", "lfm2", 115, LFM2, n_layers=6, convs=(0, 1, 3, 5), base=1000000.0, tied=True,
                shapes=conv_shapes(3), meta={"shortconv.l_cache": ["u32", 3]},
                config={"head_dim": None, "intermediate_size": None, "block_ff_dim": 130, "block_multiple_of": 32,
                        "block_ffn_dim_multiplier": 1.1, "block_auto_adjust_ff_dim": True, "conv_L_cache": 3,
                        "conv_bias": False, "tie_embedding": True, "tie_word_embeddings": None}),
    RandomModel("lfm2moe", "lfm2_moe", 116, LFM2, n_layers=5, convs=(2, 4), n_ff=64, tied=True,
                experts=(8, LFM2_EXPERTS, (0,)), beside=[("exp_probs_b.bias", "feed_forward.expert_bias")],
                shapes={**conv_shapes(4), "ffn_gate.weight": (96, 64), "ffn_up.weight": (96, 64),
                        "ffn_down.weight": (64, 96)},
                meta=experts_meta(8, 3, 64, **{"feed_forward_length": ["u32", 96], "shortconv.l_cache": ["u32", 4],
                                               "leading_dense_block_count": ["u32", 1],
                                               "expert_gating_func": ["u32", 2]}),
                config={"head_dim": None, "intermediate_size": 96, "moe_intermediate_size": 64, "num_experts": 8,
                        "num_experts_per_tok": 3, "num_dense_layers": 1, "norm_topk_prob": True,
                        "use_expert_bias": True, "routed_scaling_factor": 1.0, "conv_L_cache": 4, "conv_bias": False}),
    RandomModel("qwen3next", "qwen3_next", 117, QWEN3_NEXT, n_layers=5, n_ff=64, deltas=((0, 1, 3, 4), 2, 4, 24, 20),
                experts=(8, HF_EXPERTS, (1,)), beside=SHARED_GATED, base=1000000.0,
                shapes={**delta_shapes(2, 4, 24, 20, 4), "attn_q.weight": (128, 64), "ffn_gate.weight": (96, 64),
                        "ffn_up.weight": (96, 64), "ffn_down.weight": (64, 96),
                        "ffn_gate_shexp.weight": (48, 64), "ffn_up_shexp.weight": (48, 64),
                        "ffn_down_shexp.weight": (64, 48)},
                meta=experts_meta(8, 3, 64, **{"feed_forward_length": ["u32", 96], "full_attention_interval": ["u32", 3],
                                               "expert_shared_feed_forward_length": ["u32", 48],
                                               "rope.dimension_count": ["u32", 4], "ssm.conv_kernel": ["u32", 4],
                                               "ssm.state_size": ["u32", 24], "ssm.group_count": ["u32", 2],
                                               "ssm.time_step_rank": ["u32", 4], "ssm.inner_size": ["u32", 80]}),
                config={"intermediate_size": 96, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 48,
                        "num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": True, "decoder_sparse_step": 1,
                        "mlp_only_layers": [1], "full_attention_interval": 3, "linear_conv_kernel_dim": 4,
                        "linear_key_head_dim": 24, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                        "linear_value_head_dim": 20, "partial_rotary_factor": 0.25, "attention_bias": False}),
]
