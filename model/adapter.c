/* Adapters bound to a model's weights. A tensor that is several parts of the decoder is a low-rank change of each: a is
 * shared, b goes with its rows. */
#include "model/adapter_internal.h"
#include "model/model_internal.h"

#include "base/array.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts that ops multiply by as a whole matrix. */
static const bool adaptable[PART_COUNT] = {
    [PART_OUTPUT] = true,      [PART_Q] = true,         [PART_K] = true,           [PART_V] = true,
    [PART_Q_LATENT] = true,    [PART_KV_LATENT] = true, [PART_Q_OF_LATENT] = true, [PART_ATTN_OUT] = true,
    [PART_GATE] = true,        [PART_UP] = true,        [PART_DOWN] = true,        [PART_ROUTER] = true,
    [PART_SHARED_GATE] = true, [PART_SHARED_UP] = true, [PART_SHARED_DOWN] = true, [PART_SHARED_ROUTER] = true,
    [PART_DELTA_Q] = true,     [PART_DELTA_K] = true,   [PART_DELTA_V] = true,     [PART_DELTA_GATES] = true,
    [PART_DELTA_GATE] = true,  [PART_DELTA_OUT] = true, [PART_ATTN_GATE] = true,
};

struct binder {
    struct model *m;
    const struct adapter_file *file;
    struct weight_names names; /* as the adapter's container has them */
    bool swaps;                /* rows of Q and K are in another order than the model's */
    bool to_pairs;             /* and the model's are pairs */
    int number;
    uint8_t *bound; /* [n_layers + 1, PART_COUNT]: it has a part of the adapter; the last is outside layers */
    struct error *err;
};

/* ---- the adapter's container and the model's ---- */

static bool choose_names(struct binder *b)
{
    const struct model *m = b->m;
    const struct decoder_family *family = m->family, *gguf = m->family;
    struct str arch = b->file->arch;
    if (b->file->facts.gguf) {
        family = gguf = decoder_family_gguf(arch);
        bool same = family && (family == m->family || !m->family->gguf || str_eq(arch, str_of(m->family->gguf)));
        if (!same)
            return error_set(b->err, ERR_FORMAT, "The adapter is of the architecture '" STR_FMT "', the model is %s.",
                             STR_ARG(str_slice(arch, 0, utf8_cut(arch, 40))), m->config.arch);
    }
    b->names = weight_names_for(family, !b->file->facts.gguf);
    bool other = b->file->facts.gguf == m->from_folder;
    b->swaps = other && gguf->rope_kind == ROPE_NORM && !gguf->folder_rope_kind;
    b->to_pairs = !m->from_folder;
    return true;
}

/* The row that a pair's name means; NULL: none. */
static const struct weight_row *parse_name(struct binder *b, struct str name, int *layer, int *expert)
{
    char full[300];
    if (b->file->facts.gguf)
        return weight_name_parse(&b->names, name, layer, expert);
    snprintf(full, sizeof(full), STR_FMT ".weight", STR_ARG(name));
    const struct weight_row *row = NULL;
    for (size_t i = 0; !row && weight_names_within(&b->names, i); i++)
        row = weight_name_parse(&b->names, str_of(full), layer, expert);
    return row;
}

/* ---- b of a part ---- */

/* Memory of b where it is not a view of the file. */
struct part_b {
    struct tensor_view view;
    void *copied, *swapped;
};

static void part_b_release(struct part_b *b)
{
    free(b->copied);
    free(b->swapped);
}

/* Rows of each head from halves [2, d / 2] to pairs [d / 2, 2], or back. */
static bool swap_rows(const struct binder *binder, int n_heads, struct part_b *b)
{
    size_t n_rows = (size_t)b->view.shape[0], row_size = b->view.size / n_rows;
    size_t head_dim = n_rows / (size_t)n_heads, half = head_dim / 2;
    const uint8_t *src = b->view.data;
    uint8_t *dst = malloc(b->view.size);
    if (!dst)
        return error_set(binder->err, ERR_NO_MEMORY, "There is no memory for an adapter's rows of Q or K.");
    for (size_t h = 0; h < (size_t)n_heads; h++) {
        for (size_t i = 0; i < head_dim; i++) {
            size_t pair = h * head_dim + i % half * 2 + i / half, in_halves = h * head_dim + i;
            size_t to = binder->to_pairs ? pair : in_halves, from = binder->to_pairs ? in_halves : pair;
            memcpy(dst + to * row_size, src + from * row_size, row_size);
        }
    }
    b->swapped = dst;
    b->view.data = dst;
    return true;
}

static bool rows_of_part(const struct binder *b, const struct adapter_pair *pair, const struct weight_row *row,
                         enum model_part part, struct part_b *out)
{
    const struct decoder_config *c = &b->m->config;
    struct part_place place = weights__place_of(c, &b->names, row, part);
    uint64_t n_rows = place.block * (place.n_blocks ? place.n_blocks : 1), n_in = place.cols;
    if (pair->a->shape[1] != n_in || pair->b->shape[0] != n_rows)
        return error_set(b->err, ERR_FORMAT,
                         "The adapter's part '" STR_FMT "' changes a matrix of %llu by %llu; the model's is %llu by "
                         "%llu.",
                         STR_ARG(str_slice(pair->name, 0, utf8_cut(pair->name, 100))),
                         (unsigned long long)pair->b->shape[0], (unsigned long long)pair->a->shape[1],
                         (unsigned long long)n_rows, (unsigned long long)n_in);
    place.cols = pair->b->shape[1];
    out->view = *pair->b;
    if (place.n_blocks == 0 && place.layout == LAYOUT_ROWS) {
        out->view = tensor_rows(pair->b, place.first, place.rows);
    } else {
        if (!weights__copy_part(&place, pair->b, &out->view, &out->copied, b->err))
            return false;
        out->view = tensor_as_matrix(&out->view);
    }
    int n_heads = part == PART_Q ? c->n_heads : part == PART_K ? c->n_kv_heads : 0;
    return !b->swaps || n_heads == 0 || swap_rows(b, n_heads, out);
}

/* ---- binding ---- */

static struct weight *weight_of(const struct model *m, enum model_part part, int layer)
{
    return layer >= 0 ? m->weights.layers[layer][part] : m->weights.global[part];
}

static bool bind_part(struct binder *b, const struct adapter_pair *pair, const struct weight_row *row,
                      enum model_part part, int layer)
{
    const struct model *m = b->m;
    bool tied = part == PART_OUTPUT && m->config.tied_embeddings;
    struct weight *w = weight_of(m, tied ? PART_EMBD : part, layer);
    uint8_t *bound = &b->bound[(size_t)(layer >= 0 ? layer : m->config.n_layers) * PART_COUNT + part];
    struct part_b rows = {0};
    if (*bound || !w)
        return error_set(b->err, ERR_FORMAT, "The adapter's part '" STR_FMT "' %s.",
                         STR_ARG(str_slice(pair->name, 0, utf8_cut(pair->name, 100))),
                         w ? "is there twice, under several names" : "has no place in this model");
    *bound = 1;
    bool ok = rows_of_part(b, pair, row, part, &rows);
    if (ok) {
        struct adapter_part adapter = {.a = pair->a, .b = &rows.view, .scale = pair->scale};
        ok = m->be->ops->weight_adapt(m->be, w, b->number, &adapter, b->err);
    }
    part_b_release(&rows);
    return ok;
}

static bool bind_pair(struct binder *b, const struct adapter_pair *pair)
{
    const struct decoder_config *c = &b->m->config;
    struct str shown = str_slice(pair->name, 0, utf8_cut(pair->name, 100));
    int layer, expert, n = 0;
    const struct weight_row *row = parse_name(b, pair->name, &layer, &expert);
    if (!row || layer >= c->n_layers)
        return error_set(b->err, ERR_FORMAT,
                         "The adapter's part '" STR_FMT "' has no place in this %s model of %d "
                         "layers.",
                         STR_ARG(shown), c->arch, c->n_layers);
    for (; n < WEIGHT_ROW_PARTS && row->parts[n] != PART_NONE; n++) {
        if (!adaptable[row->parts[n]] || expert >= 0)
            return error_set(b->err, ERR_UNSUPPORTED,
                             "The adapter's part '" STR_FMT "' is of a kind that takes no adapter here: embeddings, "
                             "experts, and K and V of latents do not.",
                             STR_ARG(shown));
    }
    for (int i = 0; i < n; i++) {
        if (!bind_part(b, pair, row, row->parts[i], layer))
            return false;
    }
    return true;
}

static bool bind_all(struct binder *b)
{
    const struct decoder_config *c = &b->m->config;
    if (!choose_names(b))
        return false;
    if (b->swaps && (c->latent || c->rot_dim != c->k_dim))
        return error_set(b->err, ERR_UNSUPPORTED,
                         "Adapters of the other container are not supported where RoPE rotates %d of %d dimensions.",
                         c->rot_dim, c->k_dim);
    for (size_t i = 0; i < b->file->facts.n_parts; i++) {
        if (!bind_pair(b, &b->file->pairs[i]))
            return false;
    }
    return true;
}

bool model_adapter_load(struct model *m, const struct adapter_file *f, int number, struct error *err)
{
    struct binder b = {.m = m, .file = f, .number = number, .err = err};
    if (number < 1 || number > BACKEND_MAX_ADAPTERS)
        return error_set(err, ERR_INTERNAL, "There is no adapter number %d: they are 1 to %d.", number,
                         BACKEND_MAX_ADAPTERS);
    model_adapter_drop(m, number);
    b.bound = calloc((size_t)m->config.n_layers + 1, PART_COUNT);
    if (!b.bound)
        return error_set(err, ERR_NO_MEMORY, "There is no memory to bind an adapter.");
    bool ok = bind_all(&b);
    if (!ok)
        model_adapter_drop(m, number);
    free(b.bound);
    return ok;
}

static void drop_part(struct model *m, struct weight *w, int number)
{
    struct error ignored = {0};
    if (w)
        (void)m->be->ops->weight_adapt(m->be, w, number, NULL, &ignored); /* dropping cannot fail */
}

void model_adapter_drop(struct model *m, int number)
{
    for (int p = 0; p < PART_FIRST_OF_LAYER; p++)
        drop_part(m, m->weights.global[p], number);
    for (int i = 0; i < m->config.n_layers; i++) {
        for (int p = PART_FIRST_OF_LAYER; p < PART_COUNT; p++)
            drop_part(m, m->weights.layers[i][p], number);
    }
}
