/* The parameters of a decoder: one table says which parts a configuration has and what shape each must be of. */
#include "model/model_internal.h"

#include <stddef.h>
#include <stdlib.h>

enum dim {
    DIM_NONE /* a vector's missing second axis */,
    DIM_EMBD,
    DIM_VOCAB,
    DIM_Q,
    DIM_K,
    DIM_V,
    DIM_HEADS_V,
    DIM_FF,
    DIM_HEAD
};

struct part_row {
    enum dim rows, cols; /* vectors have cols only */
    bool conditional;    /* the part is there when the flag equals `when` */
    size_t flag;         /* offset of a bool in struct decoder_config */
    bool when;
};

#define ALWAYS(rows, cols)          \
    {                               \
        rows, cols, false, 0, false \
    }
#define WHEN(field, rows, cols)                                        \
    {                                                                  \
        rows, cols, true, offsetof(struct decoder_config, field), true \
    }
#define UNLESS(field, rows, cols)                                       \
    {                                                                   \
        rows, cols, true, offsetof(struct decoder_config, field), false \
    }

static const struct part_row part_table[PART_COUNT] = {
    [PART_EMBD] = ALWAYS(DIM_VOCAB, DIM_EMBD),
    [PART_OUTPUT_NORM] = ALWAYS(DIM_NONE, DIM_EMBD),
    [PART_OUTPUT] = UNLESS(tied_embeddings, DIM_VOCAB, DIM_EMBD),
    [PART_ATTN_NORM] = WHEN(pre_norm, DIM_NONE, DIM_EMBD),
    [PART_Q] = ALWAYS(DIM_Q, DIM_EMBD),
    [PART_K] = ALWAYS(DIM_K, DIM_EMBD),
    [PART_V] = ALWAYS(DIM_V, DIM_EMBD),
    [PART_Q_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_Q),
    [PART_K_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_K),
    [PART_V_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_V),
    [PART_Q_NORM] = WHEN(qk_norm, DIM_NONE, DIM_HEAD),
    [PART_K_NORM] = WHEN(qk_norm, DIM_NONE, DIM_HEAD),
    [PART_ATTN_OUT] = ALWAYS(DIM_EMBD, DIM_HEADS_V),
    [PART_ATTN_OUT_BIAS] = WHEN(out_bias, DIM_NONE, DIM_EMBD),
    [PART_ATTN_POST_NORM] = WHEN(post_norm, DIM_NONE, DIM_EMBD),
    [PART_MLP_NORM] = WHEN(pre_norm, DIM_NONE, DIM_EMBD),
    [PART_GATE] = WHEN(mlp_gated, DIM_FF, DIM_EMBD),
    [PART_UP] = ALWAYS(DIM_FF, DIM_EMBD),
    [PART_UP_BIAS] = WHEN(mlp_bias, DIM_NONE, DIM_FF),
    [PART_DOWN] = ALWAYS(DIM_EMBD, DIM_FF),
    [PART_DOWN_BIAS] = WHEN(mlp_bias, DIM_NONE, DIM_EMBD),
    [PART_MLP_POST_NORM] = WHEN(post_norm, DIM_NONE, DIM_EMBD),
};

static bool has_part(const struct decoder_config *c, enum model_part part)
{
    const struct part_row *row = &part_table[part];
    return !row->conditional || *(const bool *)((const char *)c + row->flag) == row->when;
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
        return (uint64_t)c->n_heads * (uint64_t)c->k_dim;
    case DIM_K:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->k_dim;
    case DIM_V:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->v_dim;
    case DIM_HEADS_V:
        return (uint64_t)c->n_heads * (uint64_t)c->v_dim;
    case DIM_FF:
        return (uint64_t)c->n_ff;
    case DIM_HEAD:
        return (uint64_t)c->k_dim;
    }
    return 1;
}

/* ---- names ---- */

static bool unused_tensor(const struct weight_names *names, struct str name)
{
    for (const char *const *p = names->unused; *p; p++) {
        if (str_match(str_of(*p), name))
            return true;
    }
    return false;
}

bool weights__check_names(const struct decoder_config *c, const struct weight_names *names,
                          const struct model_file *file, struct error *err)
{
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        struct str name = model_file_tensor_at(file, i)->name;
        enum model_part part;
        int layer;
        bool known = weight_name_parse(names, name, &part, &layer);
        if (known && layer < c->n_layers && has_part(c, part))
            continue;
        if (unused_tensor(names, name))
            continue;
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' has no place in this %s model of %d layers.",
                         STR_ARG(str_slice(name, 0, 100)), c->arch, c->n_layers);
    }
    return true;
}

/* ---- loading ---- */

struct loader {
    struct backend *be;
    const struct decoder_config *config;
    const struct weight_names *names;
    const struct model_file *file;
    struct decoder_weights *weights;
    struct error *err;
};

static bool check_shape(const struct loader *l, const struct tensor_view *t, enum model_part part)
{
    const struct part_row *row = &part_table[part];
    uint64_t rows = dim_size(l->config, row->rows), cols = dim_size(l->config, row->cols);
    int n_dims = row->rows == DIM_NONE ? 1 : 2;
    bool ok = n_dims == 1 ? t->shape[0] == cols : t->shape[0] == rows && t->shape[1] == cols;
    if (ok && t->n_dims == n_dims)
        return true;
    if (n_dims == 1)
        return error_set(l->err, ERR_FORMAT,
                         "The tensor " STR_FMT " has to be a vector of %llu; it has %d axes, the first of %llu.",
                         STR_ARG(t->name), (unsigned long long)cols, t->n_dims, (unsigned long long)t->shape[0]);
    return error_set(l->err, ERR_FORMAT,
                     "The tensor " STR_FMT " has to be %llu by %llu; it has %d axes, the first two of %llu and %llu.",
                     STR_ARG(t->name), (unsigned long long)rows, (unsigned long long)cols, t->n_dims,
                     (unsigned long long)t->shape[0], (unsigned long long)t->shape[1]);
}

static bool load_part(struct loader *l, enum model_part part, int layer, struct weight **out)
{
    char name[128];
    if (!has_part(l->config, part))
        return true;
    weight_name(l->names, part, layer, name, sizeof(name));
    const struct tensor_view *t = model_file_tensor(l->file, name);
    if (!t)
        return error_set(l->err, ERR_FORMAT, "The tensor %s is missing.", name);
    if (!check_shape(l, t, part))
        return false;
    *out = l->be->ops->weight_create(l->be, &t, 1, l->err);
    if (!*out)
        return error_wrap(l->err, "tensor %s", name);
    l->weights->resident_size += l->be->ops->weight_info(*out).resident_size;
    return true;
}

static bool load_layer(struct loader *l, int layer)
{
    for (int p = PART_FIRST_OF_LAYER; p < PART_COUNT; p++) {
        if (!load_part(l, (enum model_part)p, layer, &l->weights->layers[layer][p]))
            return false;
    }
    return true;
}

bool weights__load(struct decoder_weights *w, struct backend *be, const struct weight_names *names,
                   const struct model_file *file, const struct model_load_options *options, struct error *err)
{
    int n_layers = options->config->n_layers;
    struct loader l = {be, options->config, names, file, w, err};
    w->layers = calloc((size_t)n_layers, sizeof(*w->layers));
    if (!w->layers)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the weights of %d layers.", n_layers);
    for (int p = 0; p < PART_FIRST_OF_LAYER; p++) {
        if (!load_part(&l, (enum model_part)p, -1, &w->global[p]))
            return false;
    }
    for (int i = 0; i < n_layers; i++) {
        if (options->progress)
            options->progress(options->arg, (float)(i + 1) / (float)(n_layers + 1));
        if (!load_layer(&l, i))
            return false;
    }
    if (options->progress)
        options->progress(options->arg, 1);
    return true;
}

static void free_weight(struct backend *be, struct weight *w)
{
    if (w)
        be->ops->weight_free(be, w);
}

void weights__release(struct decoder_weights *w, struct backend *be, int n_layers)
{
    for (int p = 0; p < PART_FIRST_OF_LAYER; p++)
        free_weight(be, w->global[p]);
    for (int i = 0; w->layers && i < n_layers; i++) {
        for (int p = 0; p < PART_COUNT; p++)
            free_weight(be, w->layers[i][p]);
    }
    free(w->layers);
    *w = (struct decoder_weights){0};
}
