/* A target tensor is a list of segments, runs of rows of source tensors, so that stacks of experts, fused projections
 * and permuted heads are one case. */
#include "model/export_internal.h"

#include "base/array.h"
#include "base/limits.h"
#include "model/model_internal.h"
#include "tensor/group_packed.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT_ARENA MIB(512) /* views of experts, and vectors */

/* ---- what goes where ---- */

/* In so many rows of a part. */
static int permuted_heads(const struct exporter *x, enum model_part p, uint64_t rows)
{
    if (!x->permutes)
        return 0;
    bool q_or_k = p == PART_Q || p == PART_Q_BIAS || p == PART_K || p == PART_K_BIAS;
    return q_or_k ? (int)(rows / (uint64_t)x->config.k_dim) : 0;
}

static bool same_parts(const struct weight_row *a, const struct weight_row *b)
{
    return memcmp(a->parts, b->parts, sizeof(a->parts)) == 0;
}

static bool is_stack_name(const struct weight_row *row)
{
    return strstr(row->name, "switch_mlp") != NULL;
}

/* Names of experts in folders begin differently by family, as their routers' do. */
static bool same_block(const struct exporter *x, const struct weight_row *row)
{
    bool mixtral = strncmp(row->name, "block_sparse_moe.", 17) == 0;
    return mixtral == (strcmp(x->family->name, "mixtral") == 0);
}

/* A name under which the same container keeps what came under it: not that of one expert of a stack, and in a folder
 * one that MLX reads groups of. */
static bool is_kept(const struct exporter *x, const struct part_views *from)
{
    const struct weight_row *row = from->row;
    bool folder = x->o->container == EXPORT_FOLDER;
    if (!x->same || !from->stacked)
        return x->same;
    return !weight_row_per_expert(row) &&
           (!folder || (row->parts[1] == PART_NONE && str_ends(str_of(row->name), STR(".weight"))));
}

static bool is_delta_input(enum model_part part)
{
    return (part >= PART_DELTA_Q && part <= PART_DELTA_V) || part == PART_DELTA_GATE;
}

/* The target's row for what the source keeps in one tensor: as MLX stacks experts in a folder, as llama.cpp does in
 * GGUF; else of the same parts. NULL: no row has them together. */
static const struct weight_row *target_row(const struct exporter *x, const struct part_views *from,
                                           enum model_part part, bool alone)
{
    const struct weight_row *row;
    bool folder = x->o->container == EXPORT_FOLDER;
    if (is_kept(x, from))
        return from->row;
    if (is_delta_input(part)) /* the containers have other parts together: their first names say which */
        return weight_row(&x->target_names, part, 0);
    for (size_t i = 0; (row = weight_row(&x->target_names, part, i)) != NULL; i++) {
        if (folder && from->stacked && (!is_stack_name(row) || !same_block(x, row)))
            continue;
        if (folder && part == PART_ROUTER && !same_block(x, row))
            continue;
        if (!folder && from->stacked && weight_row_per_expert(row))
            continue;
        if (alone || from->stacked ? row->parts[1] == PART_NONE : same_parts(row, from->row))
            return row;
    }
    return NULL;
}

/* piece: the number in its name, where that has one. */
static struct target *new_target(struct exporter *x, const struct weight_row *row, enum model_part part, int layer,
                                 int piece, int n_segments)
{
    struct target *t = arena_alloc(x->arena, sizeof(*t));
    struct segment *segments = arena_alloc_array(x->arena, (size_t)n_segments, sizeof(*segments));
    if (!t || !segments) {
        arena_full(x->arena, "tensors of a model", x->err);
        return NULL;
    }
    *t = (struct target){.part = part, .layer = layer, .segments = segments, .n_segments = n_segments, .x = x};
    weight_name(&x->target_names, row, layer, piece, t->name, sizeof(t->name));
    *x->last = t;
    x->last = &t->next;
    return t;
}

/* A row alone is a vector in GGUF: the gate of a shared expert. So are, in folders, taps whose last axis is 1. */
static struct tensor_view as_written(const struct exporter *x, const struct tensor_view *view, enum model_part part)
{
    struct tensor_view v = *view;
    bool taps = part == PART_DELTA_TAPS && x->o->container == EXPORT_FOLDER && !plan_is_quantized(v.type);
    if (taps) {
        v.n_dims = 1;
        v.shape[0] *= v.shape[1];
        v.shape[1] = 1;
    }
    if (x->o->container == EXPORT_GGUF && v.n_dims == 2 && v.shape[0] == 1 && v.type != DTYPE_GROUPED) {
        v.n_dims = 1;
        v.shape[0] = v.shape[1];
        v.shape[1] = 1;
    }
    return v;
}

static void put_segment(const struct exporter *x, struct target *t, int at, const struct tensor_view *view,
                        enum model_part part)
{
    struct tensor_view v = as_written(x, view, part);
    bool vector = v.n_dims == 1;
    struct tensor_view m = vector ? v : tensor_as_matrix(&v);
    t->segments[at] = (struct segment){m, m.shape[0], permuted_heads(x, part, m.shape[0])};
    t->n_rows += vector ? 0 : m.shape[0];
    t->k = vector ? t->k + m.shape[0] : m.shape[1];
}

static bool check_fit(const struct target *t, struct error *err)
{
    for (int i = 0; i < t->n_segments; i++) {
        const struct segment *s = &t->segments[i];
        if ((s->view.n_dims == 1) != (t->n_rows == 0) || (t->n_rows > 0 && s->view.shape[1] != t->k))
            return error_set(err, ERR_FORMAT, "The parts of the tensor %s have different shapes.", t->name);
        if (s->heads && (s->n % ((uint64_t)s->heads * 2) != 0))
            return error_set(err, ERR_UNSUPPORTED, "The rows of the tensor %s cannot be permuted by heads.", t->name);
    }
    if (t->n_rows > 0 && !importance_suits(t->x->o->importance, t->part, t->layer, (size_t)t->k))
        return error_set(err, ERR_INVALID,
                         "The importance is of another model: its number of columns of %s is not %llu.", t->name,
                         (unsigned long long)t->k);
    return true;
}

/* Blocks of one part, experts or streams, are a third axis of matrices, a second one of vectors. */
static void set_shape(const struct exporter *x, struct target *t)
{
    uint64_t n_blocks = weights__n_blocks(&x->config, t->part);
    bool by_head = x->config.qk_norm_heads && (t->part == PART_Q_NORM || t->part == PART_K_NORM);
    if (t->n_rows == 0 && t->part == PART_DELTA_TAPS) { /* a folder's, as mlx-lm has them */
        t->n_dims = 3;
        t->shape[0] = t->k / (uint64_t)x->config.delta.n_taps;
        t->shape[1] = (uint64_t)x->config.delta.n_taps;
        t->shape[2] = 1;
    } else if (t->n_rows == 0 && by_head) { /* GGUF: a row for each head */
        t->n_dims = 2;
        t->shape[0] = t->k / (uint64_t)x->config.k_dim;
        t->shape[1] = (uint64_t)x->config.k_dim;
    } else if (t->n_rows == 0 && n_blocks > 0) {
        t->n_dims = 2;
        t->shape[0] = n_blocks;
        t->shape[1] = t->k / n_blocks;
    } else if (t->n_rows == 0) {
        t->n_dims = 1;
        t->shape[0] = t->k;
    } else if (n_blocks > 0) {
        t->n_dims = 3;
        t->shape[0] = n_blocks;
        t->shape[1] = t->n_rows / n_blocks;
        t->shape[2] = t->k;
    } else if (t->part == PART_CONV_TAPS && x->o->container == EXPORT_FOLDER) { /* as transformers has them */
        t->n_dims = 3;
        t->shape[0] = t->n_rows;
        t->shape[1] = 1;
        t->shape[2] = t->k;
    } else {
        t->n_dims = 2;
        t->shape[0] = t->n_rows;
        t->shape[1] = t->k;
    }
}

/* What another program has packed stays in its codes as MLX has them; NULL: there is no such tensor. */
static const struct group_quant *kept_groups(const struct exporter *x, const struct target *t)
{
    const struct group_quant *first = &t->segments[0].view.quant;
    bool kept = x->o->precision.kind == PRECISION_KEEP && x->o->container == EXPORT_FOLDER;
    for (int i = 0; kept && i < t->n_segments; i++) {
        const struct tensor_view *v = &t->segments[i].view;
        kept = v->type == DTYPE_GROUPED && v->quant.packing && packed_in_order(&v->quant) &&
               v->quant.bits == first->bits && v->quant.group_size == first->group_size;
    }
    return kept ? first : NULL;
}

static void choose(struct exporter *x, struct target *t)
{
    struct plan_tensor p = {.part = t->part,
                            .layer = t->layer,
                            .n_layers = x->config.n_layers,
                            .tied = x->config.tied_embeddings,
                            .vector = t->n_rows == 0,
                            .k = t->k,
                            .source = t->segments[0].view.type};
    t->choice = x->o->container == EXPORT_GGUF ? quantize_plan_gguf(&x->o->precision, &p)
                                               : quantize_plan_folder(&x->o->precision, &p, x->floats);
    const struct group_quant *kept = kept_groups(x, t);
    t->kept = kept != NULL;
    if (kept)
        t->choice =
            (struct plan_choice){.type = DTYPE_GROUPED, .bits = kept->bits, .group_size = packed_mlx_group(kept)};
    if (t->part != PART_EMBD) /* as a table its columns matter alike, and a tied one is a table too */
        t->importance = importance_of(x->o->importance, t->part, t->layer, (size_t)t->k);
    x->max_k = t->k > x->max_k ? (size_t)t->k : x->max_k;
    x->rows_total += t->n_rows * t->k;
}

static int n_parts_of(const struct weight_row *row)
{
    int n = 1;
    while (n < WEIGHT_ROW_PARTS && row->parts[n] != PART_NONE)
        n++;
    return n;
}

/* llama.cpp wants per-layer inputs of all tokens. Those that a folder has none for take the first one's. */
static uint64_t missing_rows(const struct exporter *x, enum model_part part)
{
    const struct decoder_config *c = &x->config;
    bool padded = part == PART_LAYER_EMBD && !x->same && x->o->container == EXPORT_GGUF;
    return padded && c->n_vocab > c->n_layer_vocab ? (uint64_t)(c->n_vocab - c->n_layer_vocab) : 0;
}

/* Into how many blocks the target's parts are cut whose rows come by heads; 0: they are not. */
static int n_head_blocks(const struct exporter *x, const struct weight_row *row)
{
    struct part_place p = weights__place_of(&x->parts, &x->target_names, row, row->parts[0]);
    return p.flat && p.layout == LAYOUT_ROWS ? (int)p.n_blocks : 0;
}

/* A part's views become as many as the target has blocks, where it is one. */
static void cut_view(struct tensor_view *views, int *n, int n_blocks)
{
    struct tensor_view whole = views[0];
    if (*n != 1 || n_blocks <= 1 || whole.n_dims != 2 || whole.shape[0] % (uint64_t)n_blocks != 0)
        return;
    uint64_t rows = whole.shape[0] / (uint64_t)n_blocks;
    for (int b = 0; b < n_blocks; b++)
        views[b] = tensor_rows(&whole, (uint64_t)b * rows, rows);
    *n = n_blocks;
}

/* Several parts in one tensor follow one another in each of its blocks: in all of it, by expert, or by head. */
static bool add_whole(struct exporter *x, const struct weight_row *row, const struct part_views *from, int layer)
{
    int n_parts = n_parts_of(row), by_head = n_head_blocks(x, row), n_blocks = from->n > by_head ? from->n : by_head;
    bool one_by_one = !from->stacked && by_head == 0; /* whatever blocks the source has */
    uint64_t missing = missing_rows(x, row->parts[0]);
    struct target *t = new_target(x, row, row->parts[0], layer, 0, n_blocks * n_parts + (missing > 0));
    if (!t)
        return false;
    for (int i = 0; i < n_parts; i++) {
        struct part_views views = {.views = x->views};
        if (!weights__part_views(&x->parts, &x->names, x->file, row->parts[i], layer, &views, x->err))
            return false;
        cut_view(x->views, &views.n, by_head);
        if (views.n != n_blocks)
            return error_set(x->err, ERR_FORMAT, "The parts of the tensor %s have different shapes.", t->name);
        for (int b = 0; b < n_blocks; b++)
            put_segment(x, t, one_by_one ? i * n_blocks + b : b * n_parts + i, &x->views[b], row->parts[i]);
    }
    if (missing > 0) {
        t->segments[t->n_segments - 1] =
            (struct segment){.view = tensor_rows(&t->segments[0].view, 0, 1), .n = missing};
        t->n_rows += missing;
    }
    if (!check_fit(t, x->err))
        return false;
    set_shape(x, t);
    choose(x, t);
    return true;
}

/* Vectors with a tensor for each head, matrices with one for each stream. */
static bool add_pieces(struct exporter *x, const struct weight_row *row, const struct part_views *from, int layer)
{
    int n = weights__n_pieces(&x->config, row->parts[0]);
    for (int i = 0; i < n; i++) {
        struct target *t = new_target(x, row, row->parts[0], layer, i, 1);
        if (!t)
            return false;
        struct tensor_view piece = from->n == n ? x->views[i] : tensor_rows(&x->views[0], (uint64_t)i, 1);
        put_segment(x, t, 0, &piece, row->parts[0]);
        if (!check_fit(t, x->err))
            return false;
        t->n_dims = t->n_rows == 0 ? 1 : 2;
        t->shape[0] = t->n_rows == 0 ? t->k : t->n_rows;
        t->shape[1] = t->n_rows == 0 ? 0 : t->k;
        choose(x, t);
    }
    return true;
}

/* The target with a part in it, unless an earlier part brought it. */
static bool add_part(struct exporter *x, enum model_part part, int layer)
{
    struct part_views from = {.views = x->views};
    if (!weights__part_views(&x->parts, &x->names, x->file, part, layer, &from, x->err))
        return false;
    if (from.n == 0)
        return true;
    if (part == PART_CHOICE_BIAS &&
        x->o->container == EXPORT_FOLDER) /* a matrix of one row in some, a vector in others */
        return error_set(x->err, ERR_UNSUPPORTED,
                         "%s models whose experts are chosen with biases are not written as folders.", x->family->name);
    bool apart = !x->same && x->names.qkv_by_kv_head; /* the other container has Q, K and V each by itself */
    const struct weight_row *row = target_row(x, &from, part, apart);
    row = row ? row : target_row(x, &from, part, true);
    if (!row)
        return error_set(x->err, ERR_UNSUPPORTED, "A %s model has no name for a tensor like " STR_FMT ".",
                         x->family->name, STR_ARG(x->views[0].name));
    if (row->parts[0] != part)
        return true;
    if (weight_row_per_expert(row) && !from.stacked)
        return add_pieces(x, row, &from, layer);
    return add_whole(x, row, &from, layer);
}

static bool add_all(struct exporter *x)
{
    for (int p = PART_EMBD; p < PART_FIRST_OF_LAYER; p++) {
        if (!add_part(x, (enum model_part)p, -1))
            return false;
    }
    for (int i = 0; i < x->config.n_layers; i++) {
        for (int p = PART_FIRST_OF_LAYER; p < PART_COUNT; p++) {
            if (!add_part(x, (enum model_part)p, i))
                return false;
        }
    }
    return true;
}

/* ---- the whole ---- */

static bool begin(struct exporter *x)
{
    for (struct target *t = x->first; t; t = t->next) {
        if (t->n_rows == 0 && !export__make_vector(x, t))
            return false;
    }
    x->scratch = malloc((size_t)pool_threads(x->o->pool) * (x->max_k + 1) * sizeof(float));
    return x->scratch || error_set(x->err, ERR_NO_MEMORY, "There is no memory for rows of %zu elements.", x->max_k);
}

static const struct {
    const char *folder, *gguf; /* families */
    bool experts, window;      /* what a GGUF file of the latter has that is the former's */
} variants[] = {
    {"mixtral", "llama", true, false},
    {"mistral", "llama", false, true},
    {"internlm3", "llama", false, false},
    {"olmo3", "olmo2", false, true},
};

const struct decoder_family *export__family(const struct model_file *file, const struct decoder_config *c,
                                            enum export_container container)
{
    bool folder = model_file_is_folder(file), to_folder = container == EXPORT_FOLDER;
    for (size_t i = 0; i < ARRAY_LEN(variants) && folder != to_folder; i++) {
        bool special = (variants[i].experts && c->n_experts > 0) || (variants[i].window && c->window > 0);
        if (!to_folder && strcmp(c->arch, variants[i].folder) == 0)
            return decoder_family_find(str_of(variants[i].gguf));
        if (to_folder && special && strcmp(c->arch, variants[i].gguf) == 0)
            return decoder_family_find(str_of(variants[i].folder));
    }
    return decoder_family_find(str_of(c->arch));
}

/* Of the first queries that there are; what is quantized becomes F16, and F32 too where most is quantized. */
static enum dtype floats_of(const struct exporter *x)
{
    const struct precision *p = &x->o->precision;
    const struct tensor_view *t = NULL;
    if (p->kind == PRECISION_TYPE && !plan_is_quantized(p->type))
        return p->type;
    for (int i = 0; !t && i < x->config.n_layers; i++)
        t = weight_tensor(&x->names, x->file, PART_Q, i);
    enum dtype type = t ? t->type : DTYPE_F16;
    if (type == DTYPE_BF16 || (type == DTYPE_F32 && p->kind == PRECISION_KEEP))
        return type;
    if (type == DTYPE_GROUPED && t->quant.scale_type != DTYPE_U8)
        return t->quant.scale_type;
    return DTYPE_F16;
}

static bool read_source(struct exporter *x)
{
    struct config_reader r;
    if (!decoder_config_read(x->file, &x->config, x->err) || !config_reader_init(&r, x->file, x->err))
        return false;
    x->source_family = r.family;
    x->names = r.names;
    x->same = r.folder == (x->o->container == EXPORT_FOLDER);
    x->parts = x->config;
    if (weight_find(&x->names, x->file, PART_K, x->config.n_layers - 1)) /* llama.cpp wants what nobody uses */
        x->parts.n_kv_shared = 0;
    return true;
}

/* What norms of the source lack, or those of a folder are to lack. Those of the delta rule lack nothing in a folder:
 * as MLX wants them. */
static float norm_shift_of(const struct exporter *x)
{
    if (x->to_halves && x->family->deltas)
        return x->config.norm_weight_offset;
    if (x->same)
        return 0;
    return x->to_halves ? -x->family->folder_norm_offset : x->config.norm_weight_offset;
}

static bool prepare(struct exporter *x)
{
    const struct decoder_config *c = &x->config;
    if (!read_source(x))
        return false;
    x->family = export__family(x->file, c, x->o->container);
    if (!x->family || (x->o->container == EXPORT_GGUF ? !x->family->gguf : !x->family->hf_class))
        return error_set(x->err, ERR_UNSUPPORTED, "The family %s has no form in that container.", c->arch);
    if (!x->same && c->rope_freq_factors)
        return error_set(x->err, ERR_UNSUPPORTED,
                         "The scaling of RoPE is in " ROPE_FREQS_TENSOR
                         " only, from which its parameters cannot be had back.");
    x->target_names = x->same ? x->names : weight_names_for(x->family, x->o->container == EXPORT_FOLDER);
    x->to_halves = x->o->container == EXPORT_FOLDER;
    const struct decoder_family *gguf = x->to_halves ? x->source_family : x->family;
    bool differs = !x->same && gguf->rope_kind != ROPE_NEOX && !gguf->folder_rope_kind;
    x->permutes = differs && c->rot_dim == c->k_dim;
    if (!x->same && x->to_halves && ((c->qk_norm && c->qk_norm_heads) || x->family->folder_qkv_by_kv_head))
        return error_set(x->err, ERR_UNSUPPORTED, "Folders of %s have tensors by head, which are not written.",
                         x->family->name);
    if (differs && !x->permutes)
        return error_set(x->err, ERR_UNSUPPORTED, "Heads of which RoPE rotates %d of %d dimensions are not permuted.",
                         c->rot_dim, c->k_dim);
    x->norm_shift = norm_shift_of(x);
    x->floats = floats_of(x);
    x->last = &x->first;
    x->arena = arena_create(EXPORT_ARENA);
    x->views = x->arena ? arena_alloc_array(x->arena, weights__max_views(c), sizeof(*x->views)) : NULL;
    return (x->views || error_set(x->err, ERR_NO_MEMORY, "There is no memory for a model's tensors.")) && add_all(x);
}

static void release(struct exporter *x)
{
    arena_free(x->arena);
    free(x->scratch);
    free(x->scales);
    free(x->biases);
}

bool export_write(const struct model_file *file, const char *path, const struct export_options *o, struct error *err)
{
    struct exporter x = {.file = file, .o = o, .err = err};
    bool ok = prepare(&x) && begin(&x) &&
              (o->container == EXPORT_GGUF ? export__write_gguf(&x, path) : export__write_folder(&x, path));
    release(&x);
    return ok;
}

bool export_size(const struct model_file *file, enum export_container container, struct precision precision,
                 uint64_t *size, struct error *err)
{
    struct export_options o = {.container = container, .precision = precision};
    struct exporter x = {.file = file, .o = &o, .err = err};
    bool ok = prepare(&x);
    *size = 0;
    for (const struct target *t = x.first; ok && t; t = t->next) {
        uint64_t rows = t->n_rows ? t->n_rows : 1;
        *size += rows * (export__row_size(t) + (t->choice.type == DTYPE_GROUPED ? 2 * export__scales_row(t) : 0));
    }
    release(&x);
    return ok;
}

bool export_is_quantized(const struct model_file *file)
{
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        if (t->n_dims > 1 && plan_is_quantized(t->type))
            return true;
    }
    return false;
}

bool export_repacks(const struct model_file *file, enum export_container container)
{
    for (size_t i = 0; container == EXPORT_FOLDER && i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        if (t->type == DTYPE_GROUPED && t->quant.packing)
            return true;
    }
    return false;
}
