/* The families. Names are those that GGUF standardizes for all of them. Where a checkpoint differs from its GGUF file,
 * the converter has done it already: norm weights of Gemma have their 1 added, rows of Q and K of arch llama are
 * permuted so that RoPE rotates neighbours. */
#include "model/family.h"

#include "base/array.h"

#include <stdio.h>

static const char *const unused_tensors[] = {
    "rope_freqs.weight",          /* read apart from the weights, see decoder_config.rope_freq_factors */
    "blk.*.rope_freqs.weight",    /* older files repeat it in each layer */
    "blk.*.attn_rot_embd.weight", /* inverse frequencies of old conversions, equal to the computed ones */
    "blk.*.attn.rotary_emb.inv_freq",
    NULL,
};

static const struct weight_names gguf_names = {
    .layer_prefix = "blk.",
    .part =
        {
            [PART_EMBD] = "token_embd.weight",
            [PART_OUTPUT_NORM] = "output_norm.weight",
            [PART_OUTPUT] = "output.weight",
            [PART_ATTN_NORM] = "attn_norm.weight",
            [PART_Q] = "attn_q.weight",
            [PART_K] = "attn_k.weight",
            [PART_V] = "attn_v.weight",
            [PART_Q_BIAS] = "attn_q.bias",
            [PART_K_BIAS] = "attn_k.bias",
            [PART_V_BIAS] = "attn_v.bias",
            [PART_Q_NORM] = "attn_q_norm.weight",
            [PART_K_NORM] = "attn_k_norm.weight",
            [PART_ATTN_OUT] = "attn_output.weight",
            [PART_ATTN_OUT_BIAS] = "attn_output.bias",
            [PART_ATTN_POST_NORM] = "post_attention_norm.weight",
            [PART_MLP_NORM] = "ffn_norm.weight",
            [PART_GATE] = "ffn_gate.weight",
            [PART_UP] = "ffn_up.weight",
            [PART_UP_BIAS] = "ffn_up.bias",
            [PART_DOWN] = "ffn_down.weight",
            [PART_DOWN_BIAS] = "ffn_down.bias",
            [PART_MLP_POST_NORM] = "post_ffw_norm.weight",
        },
    .rope_freqs = "rope_freqs.weight",
    .unused = unused_tensors,
};

static const struct decoder_family families[] = {
    {
        /* Llama 1 to 3, SmolLM, Mistral, and what else is converted as Llama */
        .arch = "llama",
        .names = &gguf_names,
        .rope_kind = ROPE_NORM,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
    },
    {
        .arch = "qwen2",
        .names = &gguf_names,
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
    },
    {
        .arch = "qwen3",
        .names = &gguf_names,
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_SILU,
    },
    {
        .arch = "gemma2",
        .names = &gguf_names,
        .rope_kind = ROPE_NEOX,
        .rope_base = 10000,
        .pre_norm = true,
        .post_norm = true,
        .mlp_gated = true,
        .act = ACT_GELU_TANH,
        .embd_scale_sqrt = true,
        .window = 4096,
        .window_period = 2,
        .attn_softcap = 50,
        .final_softcap = 30,
        .attn_scale_embd_layers = 46, /* 27B: query_pre_attn_scalar is 144 */
    },
    {
        .arch = "gemma3",
        .names = &gguf_names,
        .rope_kind = ROPE_NEOX,
        .rope_base = 1000000,
        .rope_local_base = 10000,
        .pre_norm = true,
        .post_norm = true,
        .qk_norm = true,
        .mlp_gated = true,
        .act = ACT_GELU_TANH,
        .embd_scale_sqrt = true,
        .window_period = 6,
        .attn_scale_embd_layers = 62, /* 27B: query_pre_attn_scalar is 168 */
    },
};

size_t decoder_n_families(void)
{
    return ARRAY_LEN(families);
}

const char *decoder_family_name(size_t i)
{
    return families[i].arch;
}

const struct decoder_family *decoder_family_find(struct str arch)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (str_eq(arch, str_of(families[i].arch)))
            return &families[i];
    }
    return NULL;
}

const char *weight_name(const struct weight_names *names, enum model_part part, int layer, char *buf, size_t size)
{
    if (part < PART_FIRST_OF_LAYER)
        snprintf(buf, size, "%s", names->part[part]);
    else
        snprintf(buf, size, "%s%d.%s", names->layer_prefix, layer, names->part[part]);
    return buf;
}

static bool find_part(const struct weight_names *names, struct str name, int from, int to, enum model_part *part)
{
    for (int p = from; p < to; p++) {
        if (names->part[p] && str_eq(name, str_of(names->part[p]))) {
            *part = (enum model_part)p;
            return true;
        }
    }
    return false;
}

bool weight_name_parse(const struct weight_names *names, struct str name, enum model_part *part, int *layer)
{
    struct str rest, number;
    uint64_t n;
    *layer = -1;
    if (find_part(names, name, 0, PART_FIRST_OF_LAYER, part))
        return true;
    if (!str_starts(name, str_of(names->layer_prefix)))
        return false;
    rest = str_slice(name, strlen(names->layer_prefix), name.len);
    if (!str_split(&rest, '.', &number) || !str_to_u64(number, &n) || n >= MODEL_MAX_LAYERS)
        return false;
    if (number.len > 1 && number.ptr[0] == '0')
        return false; /* "blk.00." is not the name that is looked up */
    *layer = (int)n;
    return find_part(names, rest, PART_FIRST_OF_LAYER, PART_COUNT, part);
}
