/* The families. Where a checkpoint differs from its GGUF file, the converter has done it: norm weights of Gemma have
 * their 1 added, rows of Q and K of arch llama and its kin are permuted so that RoPE rotates neighbours. Mistral and
 * Mixtral are arch llama there. */
#include "model/family.h"

#include "base/array.h"

#define ROWS(array)             \
    {                           \
        array, ARRAY_LEN(array) \
    }

/* ---- names of their own ---- */

static const struct weight_row pre_norm_rows[] = {
    {"post_attention_layernorm.weight", {PART_MLP_NORM}},
};

static const struct weight_row sandwich_rows[] = {
    {"post_attention_layernorm.weight", {PART_ATTN_POST_NORM}},
    {"pre_feedforward_layernorm.weight", {PART_MLP_NORM}},
    {"post_feedforward_layernorm.weight", {PART_MLP_POST_NORM}},
};

static const struct weight_row post_norm_rows[] = {
    {"post_attention_layernorm.weight", {PART_ATTN_POST_NORM}},
    {"post_feedforward_layernorm.weight", {PART_MLP_POST_NORM}},
};

static const struct weight_row phi3_gguf_rows[] = {
    {"ffn_up.weight", {PART_GATE, PART_UP}},
};

/* ---- families ---- */

static const struct decoder_family families[] = {
    {
        /* Llama 1 to 3, SmolLM, and what else is converted as Llama */
        .name = "llama",
        .gguf = "llama",
        .model_types = {"llama"},
        .hf_class = "Llama",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NORM,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .experts = true, /* Mixtral in GGUF */
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "mistral",
        .model_types = {"mistral"},
        .hf_class = "Mistral",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_ALL,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "mixtral",
        .model_types = {"mixtral"},
        .hf_class = "Mixtral",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_base = 1000000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_ALL,
        .experts = true,
        .folder = {.norm_eps = 1e-5},
    },
    {
        .name = "qwen2",
        .gguf = "qwen2",
        .model_types = {"qwen2"},
        .hf_class = "Qwen2",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qkv_bias = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_FROM,
        .window_optional = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "qwen3",
        .gguf = "qwen3",
        .model_types = {"qwen3"},
        .hf_class = "Qwen3",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_FROM,
        .window_optional = true,
        .folder = {.norm_eps = 1e-6, .k_dim = 128},
    },
    {
        .name = "qwen3moe",
        .gguf = "qwen3moe",
        .model_types = {"qwen3_moe"},
        .hf_class = "Qwen3Moe",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_ALL,
        .window_optional = true,
        .experts = true,
        .experts_norm_asked = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "gemma2",
        .gguf = "gemma2",
        .model_types = {"gemma2"},
        .hf_class = "Gemma2",
        .folder_rows = ROWS(sandwich_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .post_norm = true,
        .mlp_gated = true,
        .act = ACT_GELU_TANH,
        .embd_scale_sqrt = true,
        .tied = true,
        .window = 4096,
        .window_period = 2,
        .window_rule = WINDOW_PERIOD,
        .attn_softcap = 50,
        .final_softcap = 30,
        .attn_scale_embd_layers = 46, /* 27B: query_pre_attn_scalar is 144 */
        .folder_norm_offset = 1,
        .folder = {.n_heads = 8, .n_kv_heads = 4, .k_dim = 256, .n_context = 8192, .norm_eps = 1e-6, .q_scalar = 256},
    },
    {
        .name = "gemma3",
        .gguf = "gemma3",
        .model_types = {"gemma3_text", "gemma3"},
        .hf_class = "Gemma3",
        .folder_rows = ROWS(sandwich_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 1000000,
        .rope_local_base = 10000,
        .pre_norm = true,
        .post_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_GELU_TANH,
        .embd_scale_sqrt = true,
        .tied = true,
        .window_period = 6,
        .window_rule = WINDOW_PERIOD,
        .attn_scale_embd_layers = 62, /* 27B: query_pre_attn_scalar is 168 */
        .folder_norm_offset = 1,
        .folder = {.n_heads = 8, .n_kv_heads = 4, .k_dim = 256, .n_context = 131072, .norm_eps = 1e-6, .q_scalar = 256},
    },
    {
        .name = "smollm3",
        .gguf = "smollm3",
        .model_types = {"smollm3"},
        .hf_class = "SmolLM3",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NORM,
        .rope_base = 10000,
        .nope_period = 4,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .tied = true,
        .window_rule = WINDOW_NOPE,
        .window_optional = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        /* Phi-3 and Phi-4 */
        .name = "phi3",
        .gguf = "phi3",
        .model_types = {"phi3"},
        .hf_class = "Phi3",
        .gguf_rows = ROWS(phi3_gguf_rows),
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_rule = WINDOW_ALL,
        .folder = {.norm_eps = 1e-5},
    },
    {
        .name = "granite",
        .gguf = "granite",
        .model_types = {"granite"},
        .hf_class = "Granite",
        .folder_rows = ROWS(pre_norm_rows),
        .rope_kind = ROPE_NORM,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .multipliers = true,
        .folder = {.norm_eps = 1e-6},
    },
    {
        .name = "olmo2",
        .gguf = "olmo2",
        .model_types = {"olmo2"},
        .hf_class = "Olmo2",
        .folder_rows = ROWS(post_norm_rows),
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .rope_local_base = 500000, /* OLMo 3 in GGUF: only there are windows, which leave YaRN to the other layers */
        .post_norm = true,
        .qk_norm = true,
        .qk_norm_row = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window_period = 4,
        .folder = {.norm_eps = 1e-5},
    },
    {
        .name = "olmo3",
        .model_types = {"olmo3"},
        .hf_class = "Olmo3",
        .folder_rows = ROWS(post_norm_rows),
        .rope_base = 500000,
        .rope_local_base = 500000,
        .post_norm = true,
        .qk_norm = true,
        .qk_norm_row = true,
        .mlp_gated = true,
        .act = ACT_SILU,
        .window = 4096,
        .window_period = 4,
        .window_rule = WINDOW_PERIOD,
        .folder = {.norm_eps = 1e-5},
    },
};

size_t decoder_n_families(void)
{
    return ARRAY_LEN(families);
}

const char *decoder_family_name(size_t i)
{
    return families[i].name;
}

const struct decoder_family *decoder_family_at(size_t i)
{
    return &families[i];
}

static bool named(const char *name, struct str s)
{
    return name && str_eq(s, str_of(name));
}

const struct decoder_family *decoder_family_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (named(families[i].name, name))
            return &families[i];
    }
    return NULL;
}

const struct decoder_family *decoder_family_gguf(struct str arch)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (named(families[i].gguf, arch))
            return &families[i];
    }
    return NULL;
}

const struct decoder_family *decoder_family_type(struct str type)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (named(families[i].model_types[0], type) || named(families[i].model_types[1], type))
            return &families[i];
    }
    return NULL;
}

const struct decoder_family *decoder_family_class(struct str hf_class)
{
    const struct str suffix = STR("ForCausalLM");
    if (!str_ends(hf_class, suffix))
        return NULL;
    hf_class.len -= suffix.len;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (named(families[i].hf_class, hf_class))
            return &families[i];
    }
    return NULL;
}
