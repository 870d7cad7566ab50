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
    DIM_DELTA_KEYS, /* of all key heads */
    DIM_DELTA_VALUES,
    DIM_DELTA_COLS, /* keys twice, and values */
    DIM_DELTA_TAPS,
    DIM_DELTA_HEADS, /* of values */
    DIM_DELTA_GATES, /* two of each */
    DIM_DELTA_V,
    DIM_ONE
};

/* Which layers have a part; those outside layers are ANYWHERE, or IN_STREAMS. */
enum place {
    ANYWHERE,
    IN_DENSE,
    IN_EXPERTS,
    IN_ATTENDING,
    IN_KEEPING, /* layers that attend, to K and V of their own */
    IN_CONVOLVING,
    IN_DELTA,
    IN_STREAMS /* of a model with streams */
};

struct part_row {
    enum dim rows, cols; /* vectors have cols only; of one expert */
    enum place place;
    bool conditional; /* the part is there when the flag equals `when` */
    size_t flag;      /* offset of a bool in struct decoder_config */
    bool when;
};

#define ALWAYS(place, rows, cols)          \
    {                                      \
        rows, cols, place, false, 0, false \
    }
#define WHEN(field, place, rows, cols)                                        \
    {                                                                         \
        rows, cols, place, true, offsetof(struct decoder_config, field), true \
    }
#define UNLESS(field, place, rows, cols)                                       \
    {                                                                          \
        rows, cols, place, true, offsetof(struct decoder_config, field), false \
    }

static const struct part_row part_table[PART_COUNT] = {
    [PART_EMBD] = ALWAYS(ANYWHERE, DIM_VOCAB, DIM_EMBD),
    [PART_OUTPUT_NORM] = ALWAYS(ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_OUTPUT_NORM_BIAS] = WHEN(norm_bias, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_OUTPUT] = UNLESS(tied_embeddings, ANYWHERE, DIM_VOCAB, DIM_EMBD),
    [PART_LAYER_EMBD] = WHEN(layer_inputs, ANYWHERE, DIM_LAYER_VOCAB, DIM_LAYER_INPUTS),
    [PART_LAYER_PROJ] = WHEN(layer_inputs, ANYWHERE, DIM_LAYER_INPUTS, DIM_EMBD),
    [PART_LAYER_PROJ_NORM] = WHEN(layer_inputs, ANYWHERE, DIM_NONE, DIM_LAYER_INPUT),
    [PART_STREAMS_IN] = ALWAYS(IN_STREAMS, DIM_EMBD, DIM_EMBD),
    [PART_STREAMS_OUT] = ALWAYS(IN_STREAMS, DIM_EMBD, DIM_EMBD),
    [PART_STREAM_ROUTER] = ALWAYS(IN_STREAMS, DIM_STREAMS, DIM_EMBD),
    [PART_STREAM_ROUTER_NORM] = ALWAYS(IN_STREAMS, DIM_NONE, DIM_EMBD),
    [PART_STREAM_PREDICT] = ALWAYS(IN_STREAMS, DIM_NONE, DIM_STREAMS),
    [PART_STREAM_CORRECT] = ALWAYS(IN_STREAMS, DIM_NONE, DIM_STREAMS),
    [PART_STREAM_SCALE] = WHEN(stream_scaled, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_LAUREL_LEFT] = WHEN(laurel, ANYWHERE, DIM_LAUREL, DIM_EMBD),
    [PART_LAUREL_RIGHT] = WHEN(laurel, ANYWHERE, DIM_EMBD, DIM_LAUREL),
    [PART_LAUREL_NORM] = WHEN(laurel, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_INPUT_GATE] = WHEN(layer_inputs, ANYWHERE, DIM_LAYER_INPUT, DIM_EMBD),
    [PART_INPUT_PROJ] = WHEN(layer_inputs, ANYWHERE, DIM_EMBD, DIM_LAYER_INPUT),
    [PART_INPUT_NORM] = WHEN(layer_inputs, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_ATTN_NORM] = WHEN(pre_norm, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_ATTN_NORM_BIAS] = WHEN(norm_bias, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_CONV_IN] = ALWAYS(IN_CONVOLVING, DIM_CONV_IN, DIM_EMBD),
    [PART_CONV_TAPS] = ALWAYS(IN_CONVOLVING, DIM_CONV_TAPS, DIM_EMBD),
    [PART_CONV_OUT] = ALWAYS(IN_CONVOLVING, DIM_EMBD, DIM_EMBD),
    [PART_DELTA_Q] = ALWAYS(IN_DELTA, DIM_DELTA_KEYS, DIM_EMBD),
    [PART_DELTA_K] = ALWAYS(IN_DELTA, DIM_DELTA_KEYS, DIM_EMBD),
    [PART_DELTA_V] = ALWAYS(IN_DELTA, DIM_DELTA_VALUES, DIM_EMBD),
    [PART_DELTA_GATES] = ALWAYS(IN_DELTA, DIM_DELTA_GATES, DIM_EMBD),
    [PART_DELTA_TAPS] = ALWAYS(IN_DELTA, DIM_DELTA_TAPS, DIM_DELTA_COLS),
    [PART_DELTA_RATE] = ALWAYS(IN_DELTA, DIM_NONE, DIM_DELTA_HEADS),
    [PART_DELTA_BIAS] = ALWAYS(IN_DELTA, DIM_NONE, DIM_DELTA_HEADS),
    [PART_DELTA_NORM] = ALWAYS(IN_DELTA, DIM_NONE, DIM_DELTA_V),
    [PART_DELTA_GATE] = ALWAYS(IN_DELTA, DIM_DELTA_VALUES, DIM_EMBD),
    [PART_DELTA_OUT] = ALWAYS(IN_DELTA, DIM_EMBD, DIM_DELTA_VALUES),
    [PART_Q] = UNLESS(q_latent, IN_ATTENDING, DIM_Q, DIM_EMBD),
    [PART_K] = UNLESS(latent, IN_KEEPING, DIM_K, DIM_EMBD),
    [PART_V] = UNLESS(latent, IN_KEEPING, DIM_V, DIM_EMBD),
    [PART_Q_BIAS] = WHEN(qkv_bias, IN_ATTENDING, DIM_NONE, DIM_Q),
    [PART_K_BIAS] = WHEN(qkv_bias, IN_KEEPING, DIM_NONE, DIM_K),
    [PART_V_BIAS] = WHEN(qkv_bias, IN_KEEPING, DIM_NONE, DIM_V),
    [PART_Q_NORM] = WHEN(qk_norm, IN_ATTENDING, DIM_NONE, DIM_Q_NORM),
    [PART_K_NORM] = WHEN(qk_norm, IN_KEEPING, DIM_NONE, DIM_K_NORM),
    [PART_SINKS] = WHEN(attn_sinks, IN_ATTENDING, DIM_NONE, DIM_HEADS),
    [PART_Q_LATENT] = WHEN(q_latent, IN_ATTENDING, DIM_Q_LATENT, DIM_EMBD),
    [PART_Q_LATENT_NORM] = WHEN(q_latent, IN_ATTENDING, DIM_NONE, DIM_Q_LATENT),
    [PART_Q_OF_LATENT] = WHEN(q_latent, IN_ATTENDING, DIM_Q, DIM_Q_LATENT),
    [PART_KV_LATENT] = WHEN(latent, IN_ATTENDING, DIM_LATENT_K, DIM_EMBD),
    [PART_KV_LATENT_NORM] = WHEN(latent, IN_ATTENDING, DIM_NONE, DIM_LATENT),
    [PART_K_OF_LATENT] = WHEN(latent, IN_ATTENDING, DIM_LATENT, DIM_NOPE),
    [PART_V_OF_LATENT] = WHEN(latent, IN_ATTENDING, DIM_HEAD_V, DIM_LATENT),
    [PART_ATTN_OUT] = ALWAYS(IN_ATTENDING, DIM_EMBD, DIM_HEADS_V),
    [PART_ATTN_GATE] = WHEN(attn_gated, IN_ATTENDING, DIM_HEADS_V, DIM_EMBD),
    [PART_ATTN_OUT_BIAS] = WHEN(out_bias, IN_ATTENDING, DIM_NONE, DIM_EMBD),
    [PART_ATTN_POST_NORM] = WHEN(post_norm, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_MLP_NORM] = WHEN(pre_norm, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_MLP_NORM_BIAS] = WHEN(norm_bias, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_GATE] = WHEN(mlp_gated, IN_DENSE, DIM_FF, DIM_EMBD),
    [PART_UP] = ALWAYS(IN_DENSE, DIM_FF, DIM_EMBD),
    [PART_UP_BIAS] = WHEN(mlp_bias, IN_DENSE, DIM_NONE, DIM_FF),
    [PART_DOWN] = ALWAYS(IN_DENSE, DIM_EMBD, DIM_FF),
    [PART_DOWN_BIAS] = WHEN(mlp_bias, IN_DENSE, DIM_NONE, DIM_EMBD),
    [PART_MLP_POST_NORM] = WHEN(post_norm, ANYWHERE, DIM_NONE, DIM_EMBD),
    [PART_ROUTER] = ALWAYS(IN_EXPERTS, DIM_EXPERTS, DIM_EMBD),
    [PART_EXPERT_GATE] = ALWAYS(IN_EXPERTS, DIM_EXPERT_FF, DIM_EMBD),
    [PART_EXPERT_UP] = ALWAYS(IN_EXPERTS, DIM_EXPERT_FF, DIM_EMBD),
    [PART_EXPERT_DOWN] = ALWAYS(IN_EXPERTS, DIM_EMBD, DIM_EXPERT_FF),
    [PART_ROUTER_BIAS] = WHEN(expert_router_bias, IN_EXPERTS, DIM_NONE, DIM_EXPERTS),
    [PART_CHOICE_BIAS] = WHEN(expert_choice_bias, IN_EXPERTS, DIM_NONE, DIM_EXPERTS),
    [PART_EXPERT_GATE_BIAS] = WHEN(expert_bias, IN_EXPERTS, DIM_NONE, DIM_EXPERT_FF),
    [PART_EXPERT_UP_BIAS] = WHEN(expert_bias, IN_EXPERTS, DIM_NONE, DIM_EXPERT_FF),
    [PART_EXPERT_DOWN_BIAS] = WHEN(expert_bias, IN_EXPERTS, DIM_NONE, DIM_EMBD),
    [PART_SHARED_GATE] = WHEN(shared_expert, IN_EXPERTS, DIM_SHARED_FF, DIM_EMBD),
    [PART_SHARED_UP] = WHEN(shared_expert, IN_EXPERTS, DIM_SHARED_FF, DIM_EMBD),
    [PART_SHARED_DOWN] = WHEN(shared_expert, IN_EXPERTS, DIM_EMBD, DIM_SHARED_FF),
    [PART_SHARED_ROUTER] = WHEN(shared_gated, IN_EXPERTS, DIM_ONE, DIM_EMBD),
};

bool weights__is_kv(enum model_part part)
{
    return part_table[part].place == IN_KEEPING;
}

static bool attends(const struct decoder_config *c, int layer)
{
    return !c->layer_conv[layer] && !c->layer_delta[layer];
}

static bool is_place_of(const struct decoder_config *c, enum place place, int layer)
{
    switch (place) {
    case ANYWHERE:
        break;
    case IN_DENSE:
        return !c->layer_experts[layer];
    case IN_EXPERTS:
        return c->layer_experts[layer];
    case IN_ATTENDING:
        return attends(c, layer);
    case IN_KEEPING:
        return attends(c, layer) && decoder_layer_keeps(c, layer);
    case IN_DELTA:
        return c->layer_delta[layer];
    case IN_CONVOLVING:
        return c->layer_conv[layer];
    case IN_STREAMS:
        return c->n_streams > 0;
    }
    return true;
}

bool weights__has_part(const struct decoder_config *c, enum model_part part, int layer)
{
    const struct part_row *row = &part_table[part];
    if (part == PART_NONE || !is_place_of(c, row->place, layer))
        return false;
    if (c->parallel && (part == PART_MLP_NORM || part == PART_MLP_NORM_BIAS))
        return false;
    return !row->conditional || *(const bool *)((const char *)c + row->flag) == row->when;
}

uint64_t weights__n_blocks(const struct decoder_config *c, enum model_part part)
{
    switch (part) {
    case PART_K_OF_LATENT:
    case PART_V_OF_LATENT:
        return (uint64_t)c->n_heads;
    case PART_STREAMS_IN:
    case PART_STREAMS_OUT:
        return (uint64_t)c->n_streams - 1;
    case PART_STREAM_PREDICT:
        return (uint64_t)(c->n_streams * c->n_streams);
    case PART_STREAM_CORRECT:
        return (uint64_t)c->n_streams;
    default:
        return part >= PART_EXPERT_GATE && part <= PART_EXPERT_DOWN_BIAS ? (uint64_t)c->n_experts : 0;
    }
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

/* Of layers of the delta rule; 1 of others. */
static uint64_t delta_size(const struct delta_params *p, enum dim dim)
{
    uint64_t keys = (uint64_t)p->n_k_heads * (uint64_t)p->k_dim, values = (uint64_t)p->n_v_heads * (uint64_t)p->v_dim;
    switch (dim) {
    case DIM_DELTA_KEYS:
        return keys;
    case DIM_DELTA_VALUES:
        return values;
    case DIM_DELTA_COLS:
        return 2 * keys + values;
    case DIM_DELTA_TAPS:
        return (uint64_t)p->n_taps;
    case DIM_DELTA_HEADS:
        return (uint64_t)p->n_v_heads;
    case DIM_DELTA_GATES:
        return 2 * (uint64_t)p->n_v_heads;
    case DIM_DELTA_V:
        return (uint64_t)p->v_dim;
    default:
        return 1;
    }
}

/* Of models with streams; of others as above. */
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
        return delta_size(&c->delta, dim);
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

bool weights__is_taps(enum model_part part)
{
    return part == PART_CONV_TAPS || part == PART_DELTA_TAPS;
}
