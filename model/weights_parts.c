/* Which parts a configuration has, and of what shape each is: one table. */
#include "model/model_internal.h"

#include <stddef.h>

enum dim {
    DIM_NONE /* a vector's missing second axis */,
    DIM_EMBD,
    DIM_VOCAB,
    DIM_Q,
    DIM_K,
    DIM_V,
    DIM_HEADS_V,
    DIM_FF,
    DIM_EXPERT_FF,
    DIM_EXPERTS,
    DIM_Q_NORM,
    DIM_K_NORM,
    DIM_HEADS,
    DIM_Q_LATENT,
    DIM_LATENT,
    DIM_LATENT_K, /* and the part of K that rotates */
    DIM_NOPE,
    DIM_HEAD_V,
    DIM_SHARED_FF,
    DIM_STREAMS,
    DIM_LAUREL,
    DIM_LAYER_INPUT,
    DIM_LAYER_INPUTS, /* of all layers */
    DIM_LAYER_VOCAB,
    DIM_CONV_IN,
    DIM_CONV_TAPS,
    DIM_ONE
};

enum mlp_kind { ANY_LAYER, DENSE_LAYERS, EXPERT_LAYERS };

struct part_row {
    enum dim rows, cols; /* vectors have cols only; of one expert */
    enum mlp_kind layers;
    bool conditional; /* the part is there when the flag equals `when` */
    size_t flag;      /* offset of a bool in struct decoder_config */
    bool when;
};

#define ALWAYS(rows, cols)                     \
    {                                          \
        rows, cols, ANY_LAYER, false, 0, false \
    }
#define WHEN(field, rows, cols)                                                   \
    {                                                                             \
        rows, cols, ANY_LAYER, true, offsetof(struct decoder_config, field), true \
    }
#define UNLESS(field, rows, cols)                                                  \
    {                                                                              \
        rows, cols, ANY_LAYER, true, offsetof(struct decoder_config, field), false \
    }
#define DENSE(rows, cols)                         \
    {                                             \
        rows, cols, DENSE_LAYERS, false, 0, false \
    }
#define DENSE_WHEN(field, rows, cols)                                                \
    {                                                                                \
        rows, cols, DENSE_LAYERS, true, offsetof(struct decoder_config, field), true \
    }
#define EXPERTS(rows, cols)                        \
    {                                              \
        rows, cols, EXPERT_LAYERS, false, 0, false \
    }
#define EXPERTS_WHEN(field, rows, cols)                                               \
    {                                                                                 \
        rows, cols, EXPERT_LAYERS, true, offsetof(struct decoder_config, field), true \
    }

static const struct part_row part_table[PART_COUNT] = {
    [PART_EMBD] = ALWAYS(DIM_VOCAB, DIM_EMBD),
    [PART_OUTPUT_NORM] = ALWAYS(DIM_NONE, DIM_EMBD),
    [PART_OUTPUT_NORM_BIAS] = WHEN(norm_bias, DIM_NONE, DIM_EMBD),
    [PART_OUTPUT] = UNLESS(tied_embeddings, DIM_VOCAB, DIM_EMBD),
    [PART_LAYER_EMBD] = WHEN(layer_inputs, DIM_LAYER_VOCAB, DIM_LAYER_INPUTS),
    [PART_LAYER_PROJ] = WHEN(layer_inputs, DIM_LAYER_INPUTS, DIM_EMBD),
    [PART_LAYER_PROJ_NORM] = WHEN(layer_inputs, DIM_NONE, DIM_LAYER_INPUT),
    [PART_STREAMS_IN] = ALWAYS(DIM_EMBD, DIM_EMBD),
    [PART_STREAMS_OUT] = ALWAYS(DIM_EMBD, DIM_EMBD),
    [PART_STREAM_ROUTER] = ALWAYS(DIM_STREAMS, DIM_EMBD),
    [PART_STREAM_ROUTER_NORM] = ALWAYS(DIM_NONE, DIM_EMBD),
    [PART_STREAM_PREDICT] = ALWAYS(DIM_NONE, DIM_STREAMS),
    [PART_STREAM_CORRECT] = ALWAYS(DIM_NONE, DIM_STREAMS),
    [PART_STREAM_SCALE] = WHEN(stream_scaled, DIM_NONE, DIM_EMBD),
    [PART_LAUREL_LEFT] = WHEN(laurel, DIM_LAUREL, DIM_EMBD),
    [PART_LAUREL_RIGHT] = WHEN(laurel, DIM_EMBD, DIM_LAUREL),
    [PART_LAUREL_NORM] = WHEN(laurel, DIM_NONE, DIM_EMBD),
    [PART_INPUT_GATE] = WHEN(layer_inputs, DIM_LAYER_INPUT, DIM_EMBD),
    [PART_INPUT_PROJ] = WHEN(layer_inputs, DIM_EMBD, DIM_LAYER_INPUT),
    [PART_INPUT_NORM] = WHEN(layer_inputs, DIM_NONE, DIM_EMBD),
    [PART_ATTN_NORM] = WHEN(pre_norm, DIM_NONE, DIM_EMBD),
    [PART_ATTN_NORM_BIAS] = WHEN(norm_bias, DIM_NONE, DIM_EMBD),
    [PART_CONV_IN] = ALWAYS(DIM_CONV_IN, DIM_EMBD),
    [PART_CONV_TAPS] = ALWAYS(DIM_CONV_TAPS, DIM_EMBD),
    [PART_CONV_OUT] = ALWAYS(DIM_EMBD, DIM_EMBD),
    [PART_Q] = UNLESS(q_latent, DIM_Q, DIM_EMBD),
    [PART_K] = UNLESS(latent, DIM_K, DIM_EMBD),
    [PART_V] = UNLESS(latent, DIM_V, DIM_EMBD),
    [PART_Q_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_Q),
    [PART_K_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_K),
    [PART_V_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_V),
    [PART_Q_NORM] = WHEN(qk_norm, DIM_NONE, DIM_Q_NORM),
    [PART_K_NORM] = WHEN(qk_norm, DIM_NONE, DIM_K_NORM),
    [PART_SINKS] = WHEN(attn_sinks, DIM_NONE, DIM_HEADS),
    [PART_Q_LATENT] = WHEN(q_latent, DIM_Q_LATENT, DIM_EMBD),
    [PART_Q_LATENT_NORM] = WHEN(q_latent, DIM_NONE, DIM_Q_LATENT),
    [PART_Q_OF_LATENT] = WHEN(q_latent, DIM_Q, DIM_Q_LATENT),
    [PART_KV_LATENT] = WHEN(latent, DIM_LATENT_K, DIM_EMBD),
    [PART_KV_LATENT_NORM] = WHEN(latent, DIM_NONE, DIM_LATENT),
    [PART_K_OF_LATENT] = WHEN(latent, DIM_LATENT, DIM_NOPE),
    [PART_V_OF_LATENT] = WHEN(latent, DIM_HEAD_V, DIM_LATENT),
    [PART_ATTN_OUT] = ALWAYS(DIM_EMBD, DIM_HEADS_V),
    [PART_ATTN_OUT_BIAS] = WHEN(out_bias, DIM_NONE, DIM_EMBD),
    [PART_ATTN_POST_NORM] = WHEN(post_norm, DIM_NONE, DIM_EMBD),
    [PART_MLP_NORM] = WHEN(pre_norm, DIM_NONE, DIM_EMBD),
    [PART_MLP_NORM_BIAS] = WHEN(norm_bias, DIM_NONE, DIM_EMBD),
    [PART_GATE] = DENSE_WHEN(mlp_gated, DIM_FF, DIM_EMBD),
    [PART_UP] = DENSE(DIM_FF, DIM_EMBD),
    [PART_UP_BIAS] = DENSE_WHEN(mlp_bias, DIM_NONE, DIM_FF),
    [PART_DOWN] = DENSE(DIM_EMBD, DIM_FF),
    [PART_DOWN_BIAS] = DENSE_WHEN(mlp_bias, DIM_NONE, DIM_EMBD),
    [PART_MLP_POST_NORM] = WHEN(post_norm, DIM_NONE, DIM_EMBD),
    [PART_ROUTER] = EXPERTS(DIM_EXPERTS, DIM_EMBD),
    [PART_EXPERT_GATE] = EXPERTS(DIM_EXPERT_FF, DIM_EMBD),
    [PART_EXPERT_UP] = EXPERTS(DIM_EXPERT_FF, DIM_EMBD),
    [PART_EXPERT_DOWN] = EXPERTS(DIM_EMBD, DIM_EXPERT_FF),
    [PART_ROUTER_BIAS] = EXPERTS_WHEN(expert_router_bias, DIM_NONE, DIM_EXPERTS),
    [PART_CHOICE_BIAS] = EXPERTS_WHEN(expert_choice_bias, DIM_NONE, DIM_EXPERTS),
    [PART_EXPERT_GATE_BIAS] = EXPERTS_WHEN(expert_bias, DIM_NONE, DIM_EXPERT_FF),
    [PART_EXPERT_UP_BIAS] = EXPERTS_WHEN(expert_bias, DIM_NONE, DIM_EXPERT_FF),
    [PART_EXPERT_DOWN_BIAS] = EXPERTS_WHEN(expert_bias, DIM_NONE, DIM_EMBD),
    [PART_SHARED_GATE] = EXPERTS_WHEN(shared_expert, DIM_SHARED_FF, DIM_EMBD),
    [PART_SHARED_UP] = EXPERTS_WHEN(shared_expert, DIM_SHARED_FF, DIM_EMBD),
    [PART_SHARED_DOWN] = EXPERTS_WHEN(shared_expert, DIM_EMBD, DIM_SHARED_FF),
    [PART_SHARED_ROUTER] = EXPERTS_WHEN(shared_gated, DIM_ONE, DIM_EMBD),
};

static bool is_of_streams(enum model_part part)
{
    return part == PART_STREAMS_IN || part == PART_STREAMS_OUT || part == PART_STREAM_ROUTER ||
           part == PART_STREAM_ROUTER_NORM || part == PART_STREAM_PREDICT || part == PART_STREAM_CORRECT;
}

bool weights__is_kv(enum model_part part)
{
    return part == PART_K || part == PART_V || part == PART_K_BIAS || part == PART_V_BIAS || part == PART_K_NORM;
}

static bool is_conv(enum model_part part)
{
    return part == PART_CONV_IN || part == PART_CONV_TAPS || part == PART_CONV_OUT;
}

/* The part is of layers that do otherwise: of those that convolve, or of those that attend. */
static bool of_other_layers(const struct decoder_config *c, enum model_part part, int layer)
{
    bool attends = part >= PART_Q && part <= PART_ATTN_OUT_BIAS;
    return (is_conv(part) || attends) && is_conv(part) != (c->layer_conv[layer] != 0);
}

bool weights__has_part(const struct decoder_config *c, enum model_part part, int layer)
{
    const struct part_row *row = &part_table[part];
    if (of_other_layers(c, part, layer))
        return false;
    if (part == PART_NONE ||
        (row->layers != ANY_LAYER && (row->layers == EXPERT_LAYERS) != (c->layer_experts[layer] != 0)))
        return false;
    if (c->parallel && (part == PART_MLP_NORM || part == PART_MLP_NORM_BIAS))
        return false;
    if ((is_of_streams(part) && c->n_streams == 0) || (weights__is_kv(part) && !decoder_layer_keeps(c, layer)))
        return false;
    return !row->conditional || *(const bool *)((const char *)c + row->flag) == row->when;
}

uint64_t weights__n_blocks(const struct decoder_config *c, enum model_part part)
{
    if (part == PART_K_OF_LATENT || part == PART_V_OF_LATENT)
        return (uint64_t)c->n_heads;
    if (part == PART_STREAMS_IN || part == PART_STREAMS_OUT)
        return (uint64_t)c->n_streams - 1;
    if (part == PART_STREAM_PREDICT || part == PART_STREAM_CORRECT)
        return (uint64_t)(part == PART_STREAM_PREDICT ? c->n_streams * c->n_streams : c->n_streams);
    return part >= PART_EXPERT_GATE && part <= PART_EXPERT_DOWN_BIAS ? (uint64_t)c->n_experts : 0;
}

int weights__n_pieces(const struct decoder_config *c, enum model_part part)
{
    switch (part) {
    case PART_Q_NORM:
        return c->qk_norm_heads ? c->n_heads : 0;
    case PART_K_NORM:
        return c->qk_norm_heads ? c->n_kv_heads : 0;
    case PART_STREAMS_IN:
    case PART_STREAMS_OUT:
        return c->n_streams - 1;
    default:
        return c->n_experts;
    }
}

/* Of models with streams; 1 of others. */
static uint64_t stream_size(const struct decoder_config *c, enum dim dim)
{
    switch (dim) {
    case DIM_STREAMS:
        return (uint64_t)c->n_streams;
    case DIM_LAUREL:
        return (uint64_t)c->laurel_rank;
    case DIM_LAYER_INPUT:
        return (uint64_t)c->n_layer_input;
    case DIM_LAYER_INPUTS:
        return (uint64_t)c->n_layer_input * (uint64_t)c->n_layers;
    case DIM_LAYER_VOCAB:
        return (uint64_t)c->n_layer_vocab;
    default:
        return 1;
    }
}

/* Of latent attention; of others as above. */
static uint64_t latent_size(const struct decoder_config *c, enum dim dim)
{
    switch (dim) {
    case DIM_Q_LATENT:
        return (uint64_t)c->n_q_latent;
    case DIM_LATENT:
        return (uint64_t)c->n_latent;
    case DIM_LATENT_K:
        return (uint64_t)c->n_latent + (uint64_t)c->rot_dim;
    case DIM_NOPE:
        return (uint64_t)c->nope_dim;
    case DIM_HEAD_V:
        return (uint64_t)c->head_v_dim;
    default:
        return stream_size(c, dim);
    }
}

static uint64_t dim_size(const struct decoder_config *c, enum dim dim)
{
    switch (dim) {
    case DIM_NONE:
        break;
    case DIM_EMBD:
        return (uint64_t)c->n_embd;
    case DIM_VOCAB:
        return (uint64_t)c->n_vocab;
    case DIM_Q:
        return (uint64_t)c->n_heads * (uint64_t)(c->latent ? c->nope_dim + c->rot_dim : c->k_dim);
    case DIM_K:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->k_dim;
    case DIM_V:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->v_dim;
    case DIM_HEADS_V:
        return (uint64_t)c->n_heads * (uint64_t)(c->latent ? c->head_v_dim : c->v_dim);
    case DIM_FF:
        return (uint64_t)c->n_ff;
    case DIM_EXPERT_FF:
        return (uint64_t)c->n_ff_expert;
    case DIM_EXPERTS:
        return (uint64_t)c->n_experts;
    case DIM_Q_NORM:
        return (uint64_t)c->k_dim * (c->qk_norm_row || c->qk_norm_heads ? (uint64_t)c->n_heads : 1);
    case DIM_K_NORM:
        return (uint64_t)c->k_dim * (c->qk_norm_row || c->qk_norm_heads ? (uint64_t)c->n_kv_heads : 1);
    case DIM_HEADS:
        return (uint64_t)c->n_heads;
    case DIM_SHARED_FF:
        return (uint64_t)c->n_ff_shared;
    case DIM_CONV_IN:
        return 3 * (uint64_t)c->n_embd;
    case DIM_CONV_TAPS:
        return (uint64_t)c->n_conv_taps;
    default:
        return latent_size(c, dim);
    }
    return 1;
}

uint64_t weights__part_rows(const struct decoder_config *c, enum model_part part)
{
    const struct part_row *row = &part_table[part];
    return dim_size(c, row->rows == DIM_NONE ? row->cols : row->rows);
}

uint64_t weights__part_cols(const struct decoder_config *c, enum model_part part)
{
    const struct part_row *row = &part_table[part];
    return row->rows == DIM_NONE ? 1 : dim_size(c, row->cols);
}

bool weights__is_vector(enum model_part part)
{
    return part_table[part].rows == DIM_NONE;
}
