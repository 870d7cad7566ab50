/* The parameters of a decoder: one table says which parts a configuration has and what shape each must be of. */
#include "model/model_internal.h"

#include <stddef.h>
#include <stdio.h>
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
    DIM_EXPERT_FF,
    DIM_EXPERTS,
    DIM_Q_NORM,
    DIM_K_NORM
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

static const struct part_row part_table[PART_COUNT] = {
    [PART_EMBD] = ALWAYS(DIM_VOCAB, DIM_EMBD),
    [PART_OUTPUT_NORM] = ALWAYS(DIM_NONE, DIM_EMBD),
    [PART_OUTPUT_NORM_BIAS] = WHEN(norm_bias, DIM_NONE, DIM_EMBD),
    [PART_OUTPUT] = UNLESS(tied_embeddings, DIM_VOCAB, DIM_EMBD),
    [PART_ATTN_NORM] = WHEN(pre_norm, DIM_NONE, DIM_EMBD),
    [PART_ATTN_NORM_BIAS] = WHEN(norm_bias, DIM_NONE, DIM_EMBD),
    [PART_Q] = ALWAYS(DIM_Q, DIM_EMBD),
    [PART_K] = ALWAYS(DIM_K, DIM_EMBD),
    [PART_V] = ALWAYS(DIM_V, DIM_EMBD),
    [PART_Q_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_Q),
    [PART_K_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_K),
    [PART_V_BIAS] = WHEN(qkv_bias, DIM_NONE, DIM_V),
    [PART_Q_NORM] = WHEN(qk_norm, DIM_NONE, DIM_Q_NORM),
    [PART_K_NORM] = WHEN(qk_norm, DIM_NONE, DIM_K_NORM),
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
};

/* layer: of parts in layers. */
static bool has_part(const struct decoder_config *c, enum model_part part, int layer)
{
    const struct part_row *row = &part_table[part];
    if (part == PART_NONE ||
        (row->layers != ANY_LAYER && (row->layers == EXPERT_LAYERS) != (c->layer_experts[layer] != 0)))
        return false;
    if (c->parallel && (part == PART_MLP_NORM || part == PART_MLP_NORM_BIAS))
        return false;
    return !row->conditional || *(const bool *)((const char *)c + row->flag) == row->when;
}

static bool is_stacked(enum model_part part)
{
    return part == PART_EXPERT_GATE || part == PART_EXPERT_UP || part == PART_EXPERT_DOWN;
}

/* Tensors of a part whose name has a number: of experts, or of heads. */
static int n_pieces(const struct decoder_config *c, enum model_part part)
{
    switch (part) {
    case PART_Q_NORM:
        return c->qk_norm_heads ? c->n_heads : 0;
    case PART_K_NORM:
        return c->qk_norm_heads ? c->n_kv_heads : 0;
    default:
        return c->n_experts;
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
        return (uint64_t)c->n_heads * (uint64_t)c->k_dim;
    case DIM_K:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->k_dim;
    case DIM_V:
        return (uint64_t)c->n_kv_heads * (uint64_t)c->v_dim;
    case DIM_HEADS_V:
        return (uint64_t)c->n_heads * (uint64_t)c->v_dim;
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

/* The tensor is where one of its parts is looked for: not a second one of the same, not of a layer without the part. */
static bool has_place(const struct decoder_config *c, const struct weight_names *names, const struct model_file *file,
                      struct str name)
{
    int layer, expert;
    const struct weight_row *row = weight_name_parse(names, name, &layer, &expert);
    if (!row || layer >= c->n_layers || expert >= n_pieces(c, row->parts[0]))
        return false;
    for (size_t i = 0; i < 3; i++) {
        if (has_part(c, row->parts[i], layer) && weight_find(names, file, row->parts[i], layer) == row)
            return true;
    }
    return false;
}

bool weights__check_names(const struct decoder_config *c, const struct weight_names *names,
                          const struct model_file *file, struct error *err)
{
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        struct str name = model_file_tensor_at(file, i)->name;
        if (has_place(c, names, file, name) || unused_tensor(names, name))
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
    struct tensor_view *views;         /* [max_views] of the part being loaded */
    const struct tensor_view **places; /* [max_views] */
    struct error *err;
};

static bool wrong_shape(const struct loader *l, const struct tensor_view *t, const char *expected)
{
    return error_set(l->err, ERR_FORMAT,
                     "The tensor " STR_FMT " has to be %s; it has %d axes, the first ones of %llu, %llu and %llu.",
                     STR_ARG(t->name), expected, t->n_dims, (unsigned long long)t->shape[0],
                     (unsigned long long)t->shape[1], (unsigned long long)t->shape[2]);
}

struct place {         /* of a part within the tensors of its row */
    uint64_t first, n; /* rows of each block */
    uint64_t block;    /* rows that a block has */
    uint64_t n_blocks; /* of a tensor */
    bool stacked;      /* blocks are a third axis; else they follow one another */
    bool whole;        /* the tensor is the part */
};

static bool check_shape(const struct loader *l, const struct tensor_view *t, const struct place *p, uint64_t cols,
                        bool vector)
{
    unsigned long long b = p->n_blocks, r = p->stacked ? p->block : p->block * p->n_blocks, k = cols;
    char expected[96];
    if (vector) {
        snprintf(expected, sizeof(expected), "a vector of %llu", r);
        return (t->n_dims == 1 && t->shape[0] == r) || wrong_shape(l, t, expected);
    }
    if (!p->stacked) {
        snprintf(expected, sizeof(expected), "%llu by %llu", r, k);
        return (t->n_dims == 2 && t->shape[0] == r && t->shape[1] == cols) || wrong_shape(l, t, expected);
    }
    snprintf(expected, sizeof(expected), "%llu by %llu by %llu", b, r, k);
    return (t->n_dims == 3 && t->shape[0] == b && t->shape[1] == r && t->shape[2] == cols) ||
           wrong_shape(l, t, expected);
}

/* Rows that a part takes of its tensor, or of each block of it. */
static uint64_t rows_of(const struct loader *l, enum model_part part)
{
    const struct part_row *row = &part_table[part];
    return dim_size(l->config, row->rows == DIM_NONE ? row->cols : row->rows);
}

static struct place place_of(const struct loader *l, const struct weight_row *row, enum model_part part)
{
    const struct decoder_config *c = l->config;
    bool qkv = row->parts[2] == PART_V || row->parts[2] == PART_V_BIAS;
    bool each = weight_row_per_expert(row), experts = is_stacked(part);
    struct place p = {.n_blocks = 1, .stacked = experts && !each, .whole = row->parts[1] == PART_NONE};
    uint64_t pieces = each && !experts ? (uint64_t)n_pieces(c, part) : 1; /* of a part, in tensors or blocks */
    if (qkv && l->names->qkv_by_kv_head)
        pieces = p.n_blocks = (uint64_t)c->n_kv_heads;
    else if (p.stacked)
        p.n_blocks = (uint64_t)c->n_experts;
    p.n = rows_of(l, part) / pieces;
    for (size_t i = 0; i < 3 && row->parts[i] != PART_NONE; i++) {
        if (row->parts[i] == part)
            p.first = p.block;
        p.block += rows_of(l, row->parts[i]) / pieces;
    }
    return p;
}

/* Norms of Q and K with a row for each head are one vector. */
static struct tensor_view as_vector(const struct loader *l, const struct tensor_view *t, enum model_part part)
{
    struct tensor_view v = *t;
    bool by_head = l->config->qk_norm_heads && (part == PART_Q_NORM || part == PART_K_NORM);
    if (by_head && t->n_dims == 2 && t->shape[1] == (uint64_t)l->config->k_dim) {
        v.n_dims = 1;
        v.shape[0] *= v.shape[1];
        v.shape[1] = 1;
    }
    return v;
}

/* The part's views of one tensor, appended at *n. */
static bool add_views(struct loader *l, const struct tensor_view *t, enum model_part part, const struct place *p,
                      int *n)
{
    const struct part_row *row = &part_table[part];
    bool vector = row->rows == DIM_NONE;
    struct tensor_view view = vector ? as_vector(l, t, part) : *t;
    if (!check_shape(l, &view, p, dim_size(l->config, row->cols), vector))
        return false;
    if (p->whole) {
        l->views[(*n)++] = view;
        return true;
    }
    struct tensor_view matrix = vector ? view : tensor_as_matrix(&view);
    for (uint64_t b = 0; b < p->n_blocks; b++)
        l->views[(*n)++] = tensor_rows(&matrix, b * p->block + p->first, p->n);
    return true;
}

static bool gather(struct loader *l, const struct weight_row *row, enum model_part part, int layer, int *n)
{
    struct place place = place_of(l, row, part);
    int n_tensors = weight_row_per_expert(row) ? n_pieces(l->config, part) : 1;
    *n = 0;
    for (int e = 0; e < n_tensors; e++) {
        char name[192];
        weight_name(l->names, row, layer, e, name, sizeof(name));
        const struct tensor_view *t = model_file_tensor(l->file, name);
        if (!t)
            return error_set(l->err, ERR_FORMAT, "The tensor %s is missing.", name);
        if (!add_views(l, t, part, &place, n))
            return false;
    }
    return true;
}

static bool load_part(struct loader *l, enum model_part part, int layer, struct weight **out)
{
    int n;
    if (!has_part(l->config, part, layer))
        return true;
    const struct weight_row *row = weight_find(l->names, l->file, part, layer);
    if (!row)
        row = weight_row(l->names, part, 0); /* to be missed by that name */
    if (!row)
        return error_set(l->err, ERR_FORMAT, "A %s model has no such tensor as the configuration asks for.",
                         l->config->arch);
    if (!gather(l, row, part, layer, &n))
        return false;
    for (int i = 0; i < n; i++)
        l->places[i] = &l->views[i];
    *out = l->be->ops->weight_create(l->be, l->places, n, l->err);
    if (!*out)
        return error_wrap(l->err, "tensor " STR_FMT, STR_ARG(l->views[0].name));
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

static bool load_all(struct loader *l, const struct model_load_options *options)
{
    int n_layers = options->config->n_layers;
    for (int p = PART_EMBD; p < PART_FIRST_OF_LAYER; p++) {
        if (!load_part(l, (enum model_part)p, -1, &l->weights->global[p]))
            return false;
    }
    for (int i = 0; i < n_layers; i++) {
        if (options->progress)
            options->progress(options->arg, (float)(i + 1) / (float)(n_layers + 1));
        if (!load_layer(l, i))
            return false;
    }
    if (options->progress)
        options->progress(options->arg, 1);
    return true;
}

bool weights__load(struct decoder_weights *w, struct backend *be, const struct weight_names *names,
                   const struct model_file *file, const struct model_load_options *options, struct error *err)
{
    const struct decoder_config *c = options->config;
    size_t max_views = (size_t)(c->n_experts > c->n_heads ? c->n_experts : c->n_heads);
    struct loader l = {.be = be, .config = c, .names = names, .file = file, .weights = w, .err = err};
    w->layers = calloc((size_t)c->n_layers, sizeof(*w->layers));
    l.views = calloc(max_views, sizeof(*l.views));
    l.places = calloc(max_views, sizeof(*l.places));
    bool ok = w->layers && l.views && l.places;
    if (!ok)
        error_set(err, ERR_NO_MEMORY, "There is no memory for the weights of %d layers.", c->n_layers);
    ok = ok && load_all(&l, options);
    free(l.views);
    free(l.places);
    return ok;
}

bool weights__part_views(const struct decoder_config *c, const struct weight_names *names,
                         const struct model_file *file, enum model_part part, int layer, struct part_views *out,
                         struct error *err)
{
    struct loader l = {.config = c, .names = names, .file = file, .views = out->views, .err = err};
    out->n = 0;
    out->row = NULL;
    if (!has_part(c, part, layer))
        return true;
    out->row = weight_find(names, file, part, layer);
    if (!out->row)
        out->row = weight_row(names, part, 0); /* to be missed by that name */
    if (!out->row)
        return error_set(err, ERR_FORMAT, "A %s model has no such tensor as the configuration asks for.", c->arch);
    out->stacked = is_stacked(part);
    return gather(&l, out->row, part, layer, &out->n);
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
