/* Families of decoder models: one row each, that says how metadata and tensor names map onto struct decoder_config.
 * Adding a family is adding a row to families.c (and, where its tensors are named otherwise, a struct weight_names).
 * Constant data; any thread. */
#ifndef TANDEM_MODEL_FAMILY_H
#define TANDEM_MODEL_FAMILY_H

#include "model/model.h"

/* The parameters of a decoder. Which of them a model has follows from its configuration (weights.c). */
enum model_part {
    PART_EMBD,
    PART_OUTPUT_NORM,
    PART_OUTPUT,
    PART_FIRST_OF_LAYER,
    PART_ATTN_NORM = PART_FIRST_OF_LAYER,
    PART_Q,
    PART_K,
    PART_V,
    PART_Q_BIAS,
    PART_K_BIAS,
    PART_V_BIAS,
    PART_Q_NORM,
    PART_K_NORM,
    PART_ATTN_OUT,
    PART_ATTN_OUT_BIAS,
    PART_ATTN_POST_NORM,
    PART_MLP_NORM,
    PART_GATE,
    PART_UP,
    PART_UP_BIAS,
    PART_DOWN,
    PART_DOWN_BIAS,
    PART_MLP_POST_NORM,
    PART_COUNT
};

/* How a container names the parts: layer parts are layer_prefix, the layer's number, a dot and the part's name. */
struct weight_names {
    const char *layer_prefix;
    const char *part[PART_COUNT];
    const char *rope_freqs;    /* divisors of the RoPE angles; optional */
    const char *const *unused; /* patterns of tensors that may be there and are not needed; NULL at the end */
};

struct decoder_family {
    const char *arch; /* general.architecture, and the prefix of its keys */
    const struct weight_names *names;
    enum rope_kind rope_kind;
    double rope_base;       /* when the file has none */
    double rope_local_base; /* of windowed layers when the file has none; 0: they rotate like the others */
    bool pre_norm, post_norm, qk_norm;
    bool mlp_gated;
    enum activation act;
    bool embd_scale_sqrt;              /* the embedding is multiplied by sqrt(n_embd) */
    int window, window_period;         /* when the file has none: the last layer of each period sees all, the others the
                                          window; period 0: every layer has the window */
    float attn_softcap, final_softcap; /* when the file has none */
    int attn_scale_embd_layers;        /* the size with this many layers scales q.k by 1 / sqrt(n_embd / n_heads), the
                                          others by 1 / sqrt(k_dim); GGUF has no key for it */
};

const struct decoder_family *decoder_family_find(struct str arch); /* NULL when unknown */

/* Name of a part, cut to fit the buffer; layer is ignored for parts outside layers. Returns buf. */
const char *weight_name(const struct weight_names *names, enum model_part part, int layer, char *buf, size_t size);

/* The part and layer (-1 outside layers) that a tensor's name means; false when it names none. */
bool weight_name_parse(const struct weight_names *names, struct str name, enum model_part *part, int *layer);

#endif
