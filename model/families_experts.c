/* Families that are mixtures of experts in folders of their own kind (Qwen3 and Mixtral are in families.c), and LFM2,
 * which has the names of its mixture. Their
 * converter to GGUF splits what alternates, and transposes what lies in columns. */
#include "model/family.h"

/* ---- names of their own ---- */

static const struct weight_row pre_norm_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
};

static const struct weight_row deepseek_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
    {"mlp.shared_experts.gate_proj.weight", {PART_SHARED_GATE}},
    {"mlp.shared_experts.up_proj.weight", {PART_SHARED_UP}},
    {"mlp.shared_experts.down_proj.weight", {PART_SHARED_DOWN}},
};

static const struct weight_row ernie_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
    {"mlp.moe_statics.e_score_correction_bias", {PART_CHOICE_BIAS}},
    {"mlp.shared_experts.gate_proj.weight", {PART_SHARED_GATE}},
    {"mlp.shared_experts.up_proj.weight", {PART_SHARED_UP}},
    {"mlp.shared_experts.down_proj.weight", {PART_SHARED_DOWN}},
};

static const struct weight_row gpt_oss_gguf_rows[] = {
    {"post_attention_norm.weight", {PART_MLP_NORM}},
};

static const struct weight_row gpt_oss_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
    {"mlp.router.weight", {PART_ROUTER}},
    {"mlp.router.bias", {PART_ROUTER_BIAS}},
    {"mlp.experts.gate_up_proj_blocks", {PART_EXPERT_GATE, PART_EXPERT_UP}}, /* MXFP4 */
    {"mlp.experts.down_proj_blocks", {PART_EXPERT_DOWN}},
    {"mlp.experts.gate_up_proj", {PART_EXPERT_GATE, PART_EXPERT_UP}}, /* expanded */
    {"mlp.experts.down_proj", {PART_EXPERT_DOWN}},
    {"mlp.experts.gate_up_proj_bias", {PART_EXPERT_GATE_BIAS, PART_EXPERT_UP_BIAS}},
    {"mlp.experts.down_proj_bias", {PART_EXPERT_DOWN_BIAS}},
    {"mlp.experts.gate_proj.weight", {PART_EXPERT_GATE}}, /* mlx-lm */
    {"mlp.experts.up_proj.weight", {PART_EXPERT_UP}},
    {"mlp.experts.down_proj.weight", {PART_EXPERT_DOWN}},
    {"mlp.experts.gate_proj.bias", {PART_EXPERT_GATE_BIAS}},
    {"mlp.experts.up_proj.bias", {PART_EXPERT_UP_BIAS}},
    {"mlp.experts.down_proj.bias", {PART_EXPERT_DOWN_BIAS}},
};

static const struct weight_row llama4_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
    {"feed_forward.gate_proj.weight", {PART_GATE}},
    {"feed_forward.up_proj.weight", {PART_UP}},
    {"feed_forward.down_proj.weight", {PART_DOWN}},
    {"feed_forward.router.weight", {PART_ROUTER}},
    {"feed_forward.experts.gate_up_proj", {PART_EXPERT_GATE, PART_EXPERT_UP}},
    {"feed_forward.experts.down_proj", {PART_EXPERT_DOWN}},
    {"feed_forward.experts.gate_proj.weight", {PART_EXPERT_GATE}}, /* mlx-lm */
    {"feed_forward.experts.up_proj.weight", {PART_EXPERT_UP}},
    {"feed_forward.experts.down_proj.weight", {PART_EXPERT_DOWN}},
    {"feed_forward.shared_expert.gate_proj.weight", {PART_SHARED_GATE}},
    {"feed_forward.shared_expert.up_proj.weight", {PART_SHARED_UP}},
    {"feed_forward.shared_expert.down_proj.weight", {PART_SHARED_DOWN}},
};

static const struct weight_row lfm2_gguf_rows[] = {
    {"token_embd_norm.weight", {PART_OUTPUT_NORM}}, /* against its name */
};

static const struct weight_row lfm2_rows[] = {
    {"embedding_norm.weight", {PART_OUTPUT_NORM}}, /* likewise */
    {"operator_norm.weight", {PART_ATTN_NORM}},
    {"conv.in_proj.weight", {PART_CONV_IN}},
    {"conv.conv.weight", {PART_CONV_TAPS}},
    {"conv.out_proj.weight", {PART_CONV_OUT}},
    {"self_attn.q_layernorm.weight", {PART_Q_NORM}},
    {"self_attn.k_layernorm.weight", {PART_K_NORM}},
    {"self_attn.out_proj.weight", {PART_ATTN_OUT}},
    {"ffn_norm.weight", {PART_MLP_NORM}},
    {"feed_forward.w1.weight", {PART_GATE}},
    {"feed_forward.w3.weight", {PART_UP}},
    {"feed_forward.w2.weight", {PART_DOWN}},
    {"feed_forward.gate_proj.weight", {PART_GATE}}, /* mlx-lm, of the mixture */
    {"feed_forward.up_proj.weight", {PART_UP}},
    {"feed_forward.down_proj.weight", {PART_DOWN}},
    {"feed_forward.gate.weight", {PART_ROUTER}},
    {"feed_forward.expert_bias", {PART_CHOICE_BIAS}},
    {"feed_forward.experts.*.w1.weight", {PART_EXPERT_GATE}},
    {"feed_forward.experts.*.w3.weight", {PART_EXPERT_UP}},
    {"feed_forward.experts.*.w2.weight", {PART_EXPERT_DOWN}},
    {"feed_forward.experts.gate_up_proj", {PART_EXPERT_GATE, PART_EXPERT_UP}}, /* transformers 5 */
    {"feed_forward.experts.down_proj", {PART_EXPERT_DOWN}},
    {"feed_forward.switch_mlp.gate_proj.weight", {PART_EXPERT_GATE}}, /* mlx-lm */
    {"feed_forward.switch_mlp.up_proj.weight", {PART_EXPERT_UP}},
    {"feed_forward.switch_mlp.down_proj.weight", {PART_EXPERT_DOWN}},
};

static const struct weight_row qwen3next_gguf_rows[] = {
    {"post_attention_norm.weight", {PART_MLP_NORM}},
    {"attn_q.weight", {PART_Q, PART_ATTN_GATE}},
    {"attn_qkv.weight", {PART_DELTA_Q, PART_DELTA_K, PART_DELTA_V}},
    {"attn_gate.weight", {PART_DELTA_GATE}},
    {"ssm_in.weight", {PART_DELTA_Q, PART_DELTA_K, PART_DELTA_V, PART_DELTA_GATE}}, /* the first conversions */
};

static const struct weight_row qwen3next_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
    {"self_attn.q_proj.weight", {PART_Q, PART_ATTN_GATE}},
    {"linear_attn.in_proj_qkvz.weight", {PART_DELTA_Q, PART_DELTA_K, PART_DELTA_V, PART_DELTA_GATE}},
    {"linear_attn.in_proj_ba.weight", {PART_DELTA_GATES}},
    {"linear_attn.conv1d.weight", {PART_DELTA_TAPS}},
    {"linear_attn.A_log", {PART_DELTA_RATE}},
    {"linear_attn.dt_bias", {PART_DELTA_BIAS}},
    {"linear_attn.norm.weight", {PART_DELTA_NORM}},
    {"linear_attn.out_proj.weight", {PART_DELTA_OUT}},
};

static const struct layout_row qwen3next_gguf_layouts[] = {
    {"attn_q.weight", LAYOUT_HEADS},
    {"ssm_in.weight", LAYOUT_KEY_HEADS},
    {NULL, LAYOUT_ROWS},
};

static const struct layout_row qwen3next_layouts[] = {
    {"self_attn.q_proj.weight", LAYOUT_HEADS},
    {"linear_attn.in_proj_qkvz.weight", LAYOUT_KEY_HEADS},
    {NULL, LAYOUT_ROWS},
};

static const struct layout_row gpt_oss_layouts[] = {
    {"mlp.experts.gate_up_proj_blocks", LAYOUT_ALTERNATING_ROWS},
    {"mlp.experts.gate_up_proj_bias", LAYOUT_ALTERNATING_ROWS},
    {"mlp.experts.gate_up_proj", LAYOUT_ALTERNATING_COLUMNS},
    {"mlp.experts.down_proj", LAYOUT_COLUMNS},
    {NULL, LAYOUT_ROWS},
};

static const struct layout_row llama4_layouts[] = {
    {"feed_forward.experts.gate_up_proj", LAYOUT_COLUMNS},
    {"feed_forward.experts.down_proj", LAYOUT_COLUMNS},
    {NULL, LAYOUT_ROWS},
};

/* ---- families ---- */

const struct decoder_family decoder_expert_families[] = {
    {
        .name = "qwen2moe",
        .gguf = "qwen2moe",
        .model_types = {"qwen2_moe"},
        .hf_class = "Qwen2Moe",
        .folder_rows = WEIGHT_ROWS(pre_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qkv_bias = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_PERIOD,
        .window_period = 2,
        .window_optional = true,
        .experts = true,
        .experts_norm_asked = true,
        .experts_raw = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "gpt-oss",
        .gguf = "gpt-oss",
        .model_types = {"gpt_oss"},
        .hf_class = "GptOss",
        .gguf_rows = WEIGHT_ROWS(gpt_oss_gguf_rows),
        .folder_rows = WEIGHT_ROWS(gpt_oss_rows),
        .folder_layouts = gpt_oss_layouts,
        .rope_kind = ROPE_NEOX,
        .rope_base = 150000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_CLAMPED_SWIGLU,
        .window = 128,
        .window_period = 2,
        .window_rule = WINDOW_PERIOD,
        .yarn_unrounded = true,
        .attn_sinks = true,
        .experts = true,
        .experts_score = MOE_SOFTMAX_CHOSEN,
        .folder = {.norm_eps = 1e-5, .k_dim = 64},
    },
    {
        /* V2, and in GGUF V3 and what is built like it: expert_gating_func tells them apart */
        .name = "deepseek2",
        .gguf = "deepseek2",
        .model_types = {"deepseek_v2"},
        .hf_class = "DeepseekV2",
        .folder_rows = WEIGHT_ROWS(deepseek_rows),
        .rope_kind = ROPE_NORM,
        .folder_rope_kind = true,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .latent = true,
        .experts = true,
        .experts_by_tensors = true,
        .experts_raw = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "deepseek3",
        .model_types = {"deepseek_v3"},
        .hf_class = "DeepseekV3",
        .folder_rows = WEIGHT_ROWS(deepseek_rows),
        .folder_rope_kind = true,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .latent = true,
        .experts = true,
        .experts_score = MOE_SIGMOID,
        .experts_by_tensors = true,
        .experts_norm_asked = true,
        .folder = {.norm_eps = 1e-6, .norm_experts = true},
    },
    {
        .name = "ernie4_5-moe",
        .gguf = "ernie4_5-moe",
        .model_types = {"ernie4_5_moe"},
        .hf_class = "Ernie4_5_Moe",
        .folder_rows = WEIGHT_ROWS(ernie_rows),
        .rope_kind = ROPE_NORM,
        .folder_rope_kind = true,
        .rope_base = 500000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .tied = true,
        .experts = true,
        .experts_by_tensors = true,
        .folder = {.norm_eps = 1e-5},
    },
    {
        /* the text model of Llama 4 */
        .name = "llama4",
        .gguf = "llama4",
        .model_types = {"llama4_text"},
        .hf_class = "Llama4",
        .folder_rows = WEIGHT_ROWS(llama4_rows),
        .folder_layouts = llama4_layouts,
        .rope_kind = ROPE_NORM,
        .folder_rope_kind = true,
        .rope_base = 500000,
        .nope_period = 4,
        .pre_norm = true,
        .qk_norm_plain = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window = 8192,
        .window_period = 4,
        .window_rule = WINDOW_ROPE,
        .window_chunked = true,
        .tempered = true,
        .experts = true,
        .experts_score = MOE_SIGMOID,
        .experts_by_tensors = true,
        .experts_raw = true,
        .experts_weigh_input = true,
        .folder = {.norm_eps = 1e-5, .k_dim = 128},
    },
    {
        .name = "qwen3next",
        .gguf = "qwen3next",
        .model_types = {"qwen3_next"},
        .hf_class = "Qwen3Next",
        .gguf_rows = WEIGHT_ROWS(qwen3next_gguf_rows),
        .folder_rows = WEIGHT_ROWS(qwen3next_rows),
        .gguf_layouts = qwen3next_gguf_layouts,
        .folder_layouts = qwen3next_layouts,
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .folder_norm_offset = 1,
        .attn_gated = true,
        .deltas = true,
        .experts = true,
        .experts_norm_asked = true,
        .folder = {.n_heads = 16,
                   .n_kv_heads = 2,
                   .k_dim = 256,
                   .n_context = 32768,
                   .norm_eps = 1e-6,
                   .norm_experts = true,
                   .rot_share = 0.25},
    },
    {
        .name = "lfm2",
        .gguf = "lfm2",
        .model_types = {"lfm2"},
        .hf_class = "Lfm2",
        .gguf_rows = WEIGHT_ROWS(lfm2_gguf_rows),
        .folder_rows = WEIGHT_ROWS(lfm2_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 1000000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .tied = true,
        .convs = true,
        .ff_adjusted = true,
        .folder = {.n_kv_heads = 8, .n_context = 128000, .norm_eps = 1e-5},
    },
    {
        .name = "lfm2moe",
        .gguf = "lfm2moe",
        .model_types = {"lfm2_moe"},
        .hf_class = "Lfm2Moe",
        .gguf_rows = WEIGHT_ROWS(lfm2_gguf_rows),
        .folder_rows = WEIGHT_ROWS(lfm2_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 1000000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .tied = true,
        .convs = true,
        .experts = true,
        .experts_score = MOE_SIGMOID,
        .experts_by_tensors = true,
        .experts_norm_asked = true,
        .folder = {.n_kv_heads = 8, .n_context = 128000, .norm_eps = 1e-5, .norm_experts = true},
    },
};

const size_t decoder_n_expert_families = ARRAY_LEN(decoder_expert_families);
