/* The parameters of a decoder: found in the file under the names that it has for them, checked, and loaded. */
#include "model/model_internal.h"

#include "base/array.h"
#include "tensor/group_packed.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

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
    if (!row || layer >= c->n_layers || expert >= weights__n_pieces(c, row->parts[0]))
        return false;
    for (size_t i = 0; i < WEIGHT_ROW_PARTS; i++) {
        if (weights__has_part(c, row->parts[i], layer) && weight_find(names, file, row->parts[i], layer) == row)
            return true;
    }
    return false;
}

static bool in_extra_layer(const struct decoder_config *c, const struct weight_names *names, struct str name)
{
    int layer, expert;
    (void)weight_name_parse(names, name, &layer, &expert);
    return layer >= c->n_layers && layer < c->n_layers + c->n_extra_layers;
}

/* K and V of a layer that uses those of an earlier one: trained along, and in some files. */
static bool is_shared_kv(const struct decoder_config *c, const struct weight_names *names, struct str name)
{
    int layer, expert;
    const struct weight_row *row = weight_name_parse(names, name, &layer, &expert);
    return row && layer >= 0 && layer < c->n_layers && !decoder_layer_keeps(c, layer) && weights__is_kv(row->parts[0]);
}

bool weights__check_names(const struct decoder_config *c, const struct weight_names *names,
                          const struct model_file *file, struct error *err)
{
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        struct str name = t->name;
        if (has_place(c, names, file, name) || unused_tensor(names, name) || in_extra_layer(c, names, name) ||
            is_shared_kv(c, names, name) || weight_is_idle_bias(file, t))
            continue;
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' has no place in this %s model of %d layers.",
                         STR_ARG(str_slice(name, 0, 100)), c->arch, c->n_layers);
    }
    return true;
}

/* ---- loading ---- */

#define MAX_COPIES ((size_t)MODEL_MAX_LAYERS * PART_COUNT)

struct loader {
    struct backend *be;
    const struct decoder_config *config;
    const struct weight_names *names;
    const struct model_file *file;
    struct decoder_weights *weights;
    struct tensor_view *views;         /* [max_views] of the part being loaded */
    const struct tensor_view **places; /* [max_views] */
    void *copy;                        /* memory of the part's view, where it is one; NULL: none */
    struct error *err;
};

/* Of a tensor whose parts' rows come by heads: how many blocks follow one another; 0 of others. */
static uint64_t n_heads_of(const struct decoder_config *c, const struct weight_names *names,
                           const struct weight_row *row)
{
    switch (weight_row_layout(names, row)) {
    case LAYOUT_HEADS:
        return (uint64_t)c->n_heads;
    case LAYOUT_KEY_HEADS:
        return (uint64_t)c->delta.n_k_heads;
    default:
        break;
    }
    bool qkv = row->parts[2] == PART_V || row->parts[2] == PART_V_BIAS;
    return names->qkv_by_kv_head && qkv ? (uint64_t)c->n_kv_heads : 0;
}

/* What the rows of a part are divided by: into tensors by a number in the name, that is no expert's, or into blocks of
 * one that follow one another by heads. */
static uint64_t divisor_of(const struct decoder_config *c, const struct weight_names *names,
                           const struct weight_row *row, enum model_part part)
{
    if (weight_row_per_expert(row) && weights__n_blocks(c, part) == 0)
        return (uint64_t)weights__n_pieces(c, part);
    uint64_t n_heads = n_heads_of(c, names, row);
    return n_heads > 0 ? n_heads : 1;
}

struct part_place weights__place_of(const struct decoder_config *c, const struct weight_names *names,
                                    const struct weight_row *row, enum model_part part)
{
    uint64_t divisor = divisor_of(c, names, row, part);
    bool flat = n_heads_of(c, names, row) > 0;
    enum weight_layout layout = weight_row_layout(names, row);
    struct part_place p = {.rows = weights__part_rows(c, part) / divisor,
                           .cols = weights__part_cols(c, part),
                           .n_blocks = flat                         ? divisor
                                       : weight_row_per_expert(row) ? 0
                                                                    : weights__n_blocks(c, part),
                           .flat = flat || layout == LAYOUT_FIRST_TURNED,
                           .layout = flat ? LAYOUT_ROWS : layout,
                           .vector = weights__is_vector(part)};
    for (int i = 0; i < WEIGHT_ROW_PARTS && row->parts[i] != PART_NONE; i++, p.n_parts++) {
        bool turned = i == 0 && p.layout == LAYOUT_FIRST_TURNED;
        if (row->parts[i] == part) {
            p.first = p.block;
            p.index = i;
            p.turned = turned;
        }
        p.block += (turned ? weights__part_cols(c, row->parts[i]) : weights__part_rows(c, row->parts[i])) / divisor;
    }
    return p;
}

/* ---- shapes ---- */

struct shape {
    int n;
    uint64_t dim[3];
};

/* What the tensor has to be that holds the part. */
static struct shape shape_of(const struct part_place *p)
{
    uint64_t rows = p->block, cols = p->turned ? p->rows : p->cols;
    if (p->vector && p->flat)
        return (struct shape){1, {p->n_blocks * rows}};
    if (p->vector)
        return p->n_blocks ? (struct shape){2, {p->n_blocks, rows}} : (struct shape){1, {rows}};
    if (p->flat)
        return (struct shape){2, {p->n_blocks * rows, cols}};
    if (p->layout == LAYOUT_COLUMNS || p->layout == LAYOUT_ALTERNATING_COLUMNS) {
        rows = cols;
        cols = p->block;
    }
    return p->n_blocks ? (struct shape){3, {p->n_blocks, rows, cols}} : (struct shape){2, {rows, cols}};
}

static bool wrong_shape(const struct loader *l, const struct tensor_view *t, const struct shape *s)
{
    unsigned long long a = s->dim[0], b = s->dim[1], c = s->dim[2];
    char expected[96];
    snprintf(expected, sizeof(expected),
             s->n == 1   ? "a vector of %llu"
             : s->n == 2 ? "%llu by %llu"
                         : "%llu by %llu by %llu",
             a, b, c);
    return error_set(l->err, ERR_FORMAT,
                     "The tensor " STR_FMT " has to be %s; it has %d axes, the first ones of %llu, %llu and %llu.",
                     STR_ARG(t->name), expected, t->n_dims, (unsigned long long)t->shape[0],
                     (unsigned long long)t->shape[1], (unsigned long long)t->shape[2]);
}

/* Norms of Q and K with a row for each head are one vector. */
static struct tensor_view as_vector(const struct tensor_view *t, const struct part_place *p)
{
    struct tensor_view v = *t;
    if (p->vector && p->n_blocks == 0 && t->n_dims == 2 && t->shape[0] * t->shape[1] == p->block) {
        v.n_dims = 1;
        v.shape[0] = p->block;
        v.shape[1] = 1;
    }
    return v;
}

/* A row alone may be a vector as well as a matrix: some files write it either way. Folders have an axis of 1 in taps of
 * convolutions, of transformers the second, of mlx-lm the last. */
static struct tensor_view with_axes(const struct tensor_view *t, int n_dims)
{
    struct tensor_view out = *t;
    if (n_dims == 2 && t->n_dims == 1) {
        out.shape[1] = t->shape[0];
        out.shape[0] = 1;
        out.n_dims = 2;
    } else if (n_dims == 1 && t->n_dims == 2 && t->shape[0] == 1 && t->type != DTYPE_GROUPED) {
        out.shape[0] = t->shape[1];
        out.shape[1] = 1;
        out.n_dims = 1;
    } else if (n_dims == 2 && t->n_dims == 3 && (t->shape[1] == 1 || t->shape[2] == 1) && t->type != DTYPE_GROUPED) {
        out.shape[1] = t->shape[1] * t->shape[2];
        out.shape[2] = 1;
        out.n_dims = 2;
    }
    return out;
}

static bool check_shape(const struct loader *l, const struct tensor_view *t, const struct shape *s)
{
    bool same = t->n_dims == s->n;
    for (int i = 0; same && i < s->n; i++)
        same = t->shape[i] == s->dim[i];
    return same || wrong_shape(l, t, s);
}

/* ---- views ---- */

/* Vectors of a stack are one. */
static bool add_whole(struct loader *l, const struct tensor_view *t, const struct part_place *p, int *n)
{
    struct tensor_view *view = &l->views[(*n)++];
    *view = *t;
    if (!p->vector || t->n_dims == 1)
        return true;
    if (t->type == DTYPE_GROUPED || dtype_info(t->type)->quantized)
        return error_set(l->err, ERR_UNSUPPORTED, "The tensor " STR_FMT " of vectors is of the type %s.",
                         STR_ARG(t->name), dtype_info(t->type)->name);
    view->n_dims = 1;
    view->shape[0] = t->shape[0] * t->shape[1];
    view->shape[1] = 1;
    return true;
}

/* The part's views of one tensor, appended at *n. */
static bool add_views(struct loader *l, const struct tensor_view *tensor, enum model_part part,
                      const struct part_place *p, int *n)
{
    bool by_heads = l->config->qk_norm_heads && (part == PART_Q_NORM || part == PART_K_NORM);
    struct shape shape = shape_of(p);
    struct tensor_view t = with_axes(tensor, shape.n);
    t = by_heads ? as_vector(&t, p) : t;
    if (!check_shape(l, &t, &shape))
        return false;
    if (t.type == DTYPE_GROUPED && t.quant.packing && !packed_check_groups(&t.quant, t.name, l->err))
        return false;
    if (p->turned || (p->layout != LAYOUT_ROWS && p->layout != LAYOUT_FIRST_TURNED)) {
        if (p->vector && (t.type == DTYPE_GROUPED || dtype_info(t.type)->quantized))
            return error_set(l->err, ERR_UNSUPPORTED, "The tensor " STR_FMT " of vectors is of the type %s.",
                             STR_ARG(t.name), dtype_info(t.type)->name);
        return weights__copy_part(p, &t, &l->views[(*n)++], &l->copy, l->err);
    }
    if (p->n_parts == 1)
        return add_whole(l, &t, p, n);
    struct tensor_view matrix = p->vector ? t : tensor_as_matrix(&t);
    for (uint64_t b = 0; b < (p->n_blocks ? p->n_blocks : 1); b++)
        l->views[(*n)++] = tensor_rows(&matrix, b * p->block + p->first, p->rows);
    return true;
}

static bool gather(struct loader *l, const struct weight_row *row, enum model_part part, int layer, int *n)
{
    struct part_place place = weights__place_of(l->config, l->names, row, part);
    int n_tensors = weight_row_per_expert(row) ? weights__n_pieces(l->config, part) : 1;
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

/* ---- parts ---- */

/* Memory of a copied part stays where the backend uses it in place. */
static bool settle_copy(struct loader *l, bool in_place)
{
    struct decoder_weights *w = l->weights;
    bool ok = true;
    if (l->copy && in_place) {
        ok = array_reserve(&w->copies, &w->copies_cap, w->n_copies + 1, MAX_COPIES, "copied tensors", l->err);
        if (ok) {
            w->copies[w->n_copies++] = l->copy;
            l->copy = NULL;
        }
    }
    free(l->copy);
    l->copy = NULL;
    return ok;
}

/* Taps are one vector, position after position. */
static void join_rows(struct tensor_view *view)
{
    view->n_dims = 1;
    view->shape[0] *= view->shape[1];
    view->shape[1] = 1;
}

static bool create_part(struct loader *l, enum model_part part, int n, struct weight **out)
{
    const struct backend_ops *ops = l->be->ops;
    for (int i = 0; i < n; i++)
        l->places[i] = &l->views[i];
    *out = part == PART_LAYER_EMBD ? ops->table_create(l->be, l->places[0], l->err)
                                   : ops->weight_create(l->be, l->places, n, l->err);
    if (!*out)
        return error_wrap(l->err, "tensor " STR_FMT, STR_ARG(l->views[0].name));
    struct weight_info info = l->be->ops->weight_info(*out);
    l->weights->resident_size += info.resident_size;
    if (settle_copy(l, info.mapped))
        return true;
    l->be->ops->weight_free(l->be, *out);
    *out = NULL;
    return false;
}

static bool load_part(struct loader *l, enum model_part part, int layer, struct weight **out)
{
    int n;
    if (!weights__has_part(l->config, part, layer))
        return true;
    const struct weight_row *row = weight_find(l->names, l->file, part, layer);
    if (!row)
        row = weight_row(l->names, part, 0); /* to be missed by that name */
    if (!row)
        return error_set(l->err, ERR_FORMAT, "A %s model has no such tensor as the configuration asks for.",
                         l->config->arch);
    if (!gather(l, row, part, layer, &n))
        return false;
    if (weights__is_taps(part))
        join_rows(&l->views[0]);
    return create_part(l, part, n, out);
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

size_t weights__max_views(const struct decoder_config *c)
{
    const int counts[] = {c->n_experts, c->n_heads, c->delta.n_k_heads, MAX_STREAMS};
    int most = 1;
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        most = counts[i] > most ? counts[i] : most;
    return (size_t)most;
}

bool weights__load(struct decoder_weights *w, struct backend *be, const struct weight_names *names,
                   const struct model_file *file, const struct model_load_options *options, struct error *err)
{
    const struct decoder_config *c = options->config;
    size_t max_views = weights__max_views(c);
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
    free(l.copy);
    return ok;
}

/* Views of the file show the part, as matrices or vectors of their own or as a stack of experts. */
static bool in_place(const struct loader *l, const struct weight_row *row, enum model_part part)
{
    struct part_place p = weights__place_of(l->config, l->names, row, part);
    bool of_heads = part == PART_K_OF_LATENT || part == PART_V_OF_LATENT;
    bool stack = of_heads || (part > PART_EXPERT_DOWN && part <= PART_EXPERT_DOWN_BIAS);
    return !stack && !p.turned && p.layout == LAYOUT_ROWS;
}

/* A tensor as files have it, though the decoder takes it otherwise: of taps a row for each column that is convolved;
 * rates, or their logarithms. */
static bool view_whole(const struct loader *l, enum model_part part, int layer, struct part_views *out)
{
    char name[192];
    weight_name(l->names, out->row, layer, 0, name, sizeof(name));
    const struct tensor_view *t = model_file_tensor(l->file, name);
    struct part_place p = weights__place_of(l->config, l->names, out->row, part);
    struct shape shape = shape_of(&p);
    if (!t)
        return error_set(l->err, ERR_FORMAT, "The tensor %s is missing.", name);
    out->views[0] = with_axes(t, shape.n);
    out->n = 1;
    return check_shape(l, &out->views[0], &shape);
}

bool weights__part_views(const struct decoder_config *c, const struct weight_names *names,
                         const struct model_file *file, enum model_part part, int layer, struct part_views *out,
                         struct error *err)
{
    struct loader l = {.config = c, .names = names, .file = file, .views = out->views, .err = err};
    out->n = 0;
    out->row = NULL;
    if (!weights__has_part(c, part, layer))
        return true;
    out->row = weight_find(names, file, part, layer);
    if (!out->row)
        out->row = weight_row(names, part, 0); /* to be missed by that name */
    if (!out->row)
        return error_set(err, ERR_FORMAT, "A %s model has no such tensor as the configuration asks for.", c->arch);
    out->stacked = part >= PART_EXPERT_GATE && part <= PART_EXPERT_DOWN;
    if (weights__is_taps(part) || part == PART_DELTA_RATE)
        return view_whole(&l, part, layer, out);
    if (!in_place(&l, out->row, part))
        return error_set(err, ERR_UNSUPPORTED, "%s models are not written anew: they hold the tensor %s otherwise.",
                         c->arch, out->row->name);
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
    for (size_t i = 0; i < w->n_copies; i++)
        free(w->copies[i]);
    free(w->copies);
    *w = (struct decoder_weights){0};
}
