/* Products with weights, and the embedding. A product is cut into tiles of weight rows and tokens, over all weights of
 * the op at once: one barrier, however many matrices there are. Columns are never split. */
#include "backend/cpu/cpu_internal.h"
#include "backend/cpu/cpu_pack.h"

#include <string.h>

bool cpu__takes_quantized(const struct weight_part *part)
{
    return part->pack.super_len > 0;
}

/* ---- input ---- */

struct quantize_args {
    const struct cpu_kernel_table *kernels;
    const struct tensor *x;
    struct act_group *out;
};

static void quantize_rows(void *arg, int first, int end, int thread)
{
    const struct quantize_args *a = arg;
    size_t n_cols = (size_t)a->x->n_cols;
    (void)thread;
    a->kernels->quantize(a->x->f32 + (size_t)first * n_cols, (end - first) * a->x->n_cols,
                         a->out + (size_t)first * (n_cols / 32));
}

bool cpu__quantize_input(struct cpu_backend *be, struct tensor *x)
{
    struct act_group *q8 = cpu__alloc(be, (size_t)x->n_rows * (size_t)(x->n_cols / 32) * sizeof(*q8));
    if (!q8)
        return false;
    struct quantize_args args = {be->kernels, x, q8};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols * 2, quantize_rows, &args);
    x->q8 = q8;
    return true;
}

bool cpu__prepare_input(struct cpu_backend *be, struct tensor *x, int n, struct weight *const *weights)
{
    bool wanted = false;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < weights[i]->n_parts; j++)
            wanted = wanted || (cpu__takes_quantized(&weights[i]->parts[j]) && !weights[i]->parts[j].columns);
    }
    return !wanted || x->q8 || cpu__quantize_input(be, x);
}

struct sort_args {
    const struct tensor *x;
    const uint32_t *columns;
    float *out;
};

static void sort_rows(void *arg, int first, int end, int thread)
{
    const struct sort_args *a = arg;
    size_t n_cols = (size_t)a->x->n_cols;
    (void)thread;
    for (size_t row = (size_t)first; row < (size_t)end; row++) {
        const float *from = a->x->f32 + row * n_cols;
        float *to = a->out + row * n_cols;
        for (size_t i = 0; i < n_cols; i++)
            to[i] = from[a->columns[i]];
    }
}

struct tensor *cpu__sort_columns(struct cpu_backend *be, const struct tensor *x, const uint32_t *columns)
{
    struct tensor *sorted = cpu__tensor(be, x->n_rows, x->n_cols);
    if (!sorted)
        return NULL;
    struct sort_args args = {x, columns, sorted->f32};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols * 2, sort_rows, &args);
    return sorted;
}

/* x, or its columns as the part has them, quantized: such parts are panels. NULL: memory failed. */
static const struct tensor *input_of(struct cpu_backend *be, const struct tensor *x, const struct weight_part *part)
{
    if (!part->columns)
        return x;
    struct tensor *sorted = cpu__sort_columns(be, x, part->columns);
    return sorted && cpu__quantize_input(be, sorted) ? sorted : NULL;
}

/* ---- tiles ---- */

/* Tokens of a tile: their activations stay in the second-level cache while weight rows pass by. */
#define TILE_TOKENS 64
/* Rows: a multiple of the rows that any kernel takes at once, and of 32, so that a tile of a gated MLP's hidden layer
 * is whole groups. Few enough to balance threads, enough to hide the claim of a tile. */
#define TILE_ROWS_STEP 32
#define TILE_ROWS_MAX  512
#define TILES_WANTED   6 /* of each thread */
/* Multiply-adds below which waking the pool costs more than it saves. */
#define SMALL_PRODUCT 65536

struct tile_shape cpu__tile_shape(const struct cpu_backend *be, size_t n_out, size_t n_in, int n_tokens)
{
    struct tile_shape shape = {.tokens = n_tokens < TILE_TOKENS ? n_tokens : TILE_TOKENS};
    size_t n_token_tiles = ((size_t)n_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
    size_t wanted = ((size_t)be->n_threads * TILES_WANTED + n_token_tiles - 1) / n_token_tiles;
    size_t rows = n_out / wanted + 1;
    rows = rows < TILE_ROWS_MAX ? rows : TILE_ROWS_MAX;
    if (n_out * n_in * (size_t)n_tokens < SMALL_PRODUCT && n_out < (1u << 16))
        rows = n_out;
    shape.rows = (int)((rows + TILE_ROWS_STEP - 1) / TILE_ROWS_STEP * TILE_ROWS_STEP);
    return shape;
}

/* ---- types that are decoded ---- */

bool cpu__is_decoded(enum dtype type)
{
    return type == DTYPE_GROUPED || type == DTYPE_F8_E4M3;
}

static void decode_row(const struct weight_part *part, size_t row, size_t n_in, float *dst)
{
    if (part->type == DTYPE_GROUPED)
        grouped_row_to_f32(&part->quant, part->data, row, n_in, dst);
    else
        dtype_to_f32(part->type, part->data + row * n_in, n_in, dst);
}

/* The same bits as if the whole weight were f32. */
static void decoded_tile(const struct cpu_backend *be, const struct weight_part *part, const struct linear_tile *tile)
{
    size_t n_in = (size_t)tile->n_in;
    struct linear_tile some = *tile;
    some.type = DTYPE_F32;
    some.weights = (const uint8_t *)tile->scratch;
    some.first_row = 0;
    some.scratch = tile->scratch + CPU_DECODED_ROWS * n_in;
    for (int row = 0; row < tile->n_rows; row += CPU_DECODED_ROWS) {
        some.n_rows = tile->n_rows - row < CPU_DECODED_ROWS ? tile->n_rows - row : CPU_DECODED_ROWS;
        some.out = tile->out + row;
        some.bias = tile->bias ? tile->bias + row : NULL;
        for (int i = 0; i < some.n_rows; i++)
            decode_row(part, (size_t)(tile->first_row + row + i), n_in, tile->scratch + (size_t)i * n_in);
        be->kernels->linear[DTYPE_F32](&some);
    }
}

void cpu__run_tile(const struct cpu_backend *be, const struct weight_part *part, const struct linear_tile *tile)
{
    if (tile->pack)
        be->kernels->packed[tile->pack->kind](tile);
    else if (cpu__is_decoded(part->type))
        decoded_tile(be, part, tile);
    else
        be->kernels->linear[tile->type](tile);
}

/* One part of one weight. */
struct product {
    const struct weight_part *part;
    const struct tensor *x;
    float *out; /* [n_rows of x, out_stride], column of the part's first row */
    size_t out_stride;
    const float *bias; /* of the part's first row, or NULL */
    int weight;        /* of the op's */
    int first_tile, n_row_tiles;
};

struct products {
    const struct cpu_backend *be;
    const struct tensor *x;
    struct tile_shape shape;
    struct product *items; /* [n], by first_tile */
    int n;
    struct adapt_shrinks adapt; /* whose tiles come first */
};

static void product_tile(const struct products *all, int index, int thread)
{
    const struct product *p = &all->items[0];
    while (p + 1 < all->items + all->n && p[1].first_tile <= index)
        p++;
    const struct tensor *x = p->x;
    int local = index - p->first_tile;
    int row = local % p->n_row_tiles * all->shape.rows, token = local / p->n_row_tiles * all->shape.tokens;
    int rows_left = (int)p->part->n_rows - row, tokens_left = x->n_rows - token;
    bool quantized = cpu__takes_quantized(p->part);
    struct linear_tile tile = {
        .type = p->part->type,
        .pack = quantized ? &p->part->pack : NULL,
        .weights = p->part->data,
        .n_in = x->n_cols,
        .first_row = row,
        .n_rows = rows_left < all->shape.rows ? rows_left : all->shape.rows,
        .q8 = quantized ? x->q8 + (size_t)token * (size_t)(x->n_cols / 32) : NULL,
        .x = quantized ? NULL : x->f32 + (size_t)token * (size_t)x->n_cols,
        .n_t = tokens_left < all->shape.tokens ? tokens_left : all->shape.tokens,
        .out = p->out + (size_t)token * p->out_stride + row,
        .out_stride = p->out_stride,
        .bias = p->bias ? p->bias + row : NULL,
        .scratch = cpu__thread_scratch(all->be, thread),
    };
    cpu__adapt_tile(&all->adapt, p->weight, p->part, token, &tile);
}

static void any_tile(void *arg, int index, int thread)
{
    struct products *all = arg;
    if (index < all->adapt.n_tiles)
        cpu__adapt_shrink(&all->adapt, index, thread);
    else
        product_tile(all, index, thread);
}

static size_t count_parts(int n, struct weight *const *weights, size_t *n_out)
{
    size_t parts = 0;
    for (int i = 0; i < n; i++) {
        parts += (size_t)weights[i]->n_parts;
        *n_out += weights[i]->n_out;
    }
    return parts;
}

/* Of the i-th weight, behind the tiles that there are. -1: memory failed. */
static int add_product(struct cpu_backend *be, struct products *all, int i, const struct weight *bias,
                       struct tensor *out, int first_tile)
{
    const struct weight *w = all->adapt.deltas[i].w;
    int n_token_tiles = (all->x->n_rows + all->shape.tokens - 1) / all->shape.tokens;
    for (int j = 0; j < w->n_parts; j++) {
        const struct weight_part *part = &w->parts[j];
        struct product *p = &all->items[all->n++];
        *p = (struct product){
            .part = part,
            .x = input_of(be, all->x, part),
            .out = out->f32 + part->first_row,
            .out_stride = w->n_out,
            .bias = bias ? bias->vector + part->first_row : NULL,
            .weight = i,
            .first_tile = first_tile,
            .n_row_tiles = ((int)part->n_rows + all->shape.rows - 1) / all->shape.rows,
        };
        if (!p->x)
            return -1;
        first_tile += p->n_row_tiles * n_token_tiles;
    }
    return first_tile;
}

static bool weights_fit(const struct tensor *x, int n, struct weight *const *weights, struct weight *const *biases)
{
    for (int i = 0; i < n; i++) {
        const struct weight *bias = biases ? biases[i] : NULL;
        if (!weights[i] || weights[i]->n_in != (size_t)x->n_cols)
            return false;
        if (bias && (!bias->vector || bias->n_in != weights[i]->n_out))
            return false;
    }
    return true;
}

void cpu__linear_into(struct cpu_backend *be, struct tensor *x, int n, struct weight *const *weights,
                      struct weight *const *biases, struct tensor **outs)
{
    size_t n_out = 0, n_parts = count_parts(n, weights, &n_out);
    size_t mark = be->memory.used;
    struct products all = {.be = be, .x = x, .items = cpu__alloc(be, n_parts * sizeof(struct product))};
    if (be->failed || x->n_rows == 0 || !cpu__scratch(be, cpu__tile_scratch((size_t)x->n_cols) * sizeof(float)) ||
        !cpu__adapt_plan(be, x, n, weights, &all.adapt))
        return;
    all.shape = cpu__tile_shape(be, n_out, (size_t)x->n_cols, x->n_rows);
    int n_tiles = all.adapt.n_tiles;
    for (int i = 0; i < n && n_tiles >= 0; i++)
        n_tiles = add_product(be, &all, i, biases ? biases[i] : NULL, outs[i], n_tiles);
    if (n_tiles > 0)
        pool_run(be->pool, any_tile, &all, n_tiles);
    be->memory.used = mark;
}

void cpu__linear(struct backend *base, struct tensor *x, int n, struct weight *const *weights,
                 struct weight *const *biases, struct tensor **outs)
{
    struct cpu_backend *be = cpu__of(base);
    for (int i = 0; i < n; i++)
        outs[i] = NULL;
    if (!x)
        return;
    if (!weights_fit(x, n, weights, biases)) {
        cpu__fail(be, ERR_INTERNAL, "A weight does not fit its input or its bias.");
        return;
    }
    if (!cpu__prepare_input(be, x, n, weights))
        return;
    for (int i = 0; i < n; i++)
        outs[i] = cpu__tensor(be, x->n_rows, (int)weights[i]->n_out);
    if (!be->failed)
        cpu__linear_into(be, x, n, weights, biases, outs);
    if (be->failed)
        memset(outs, 0, (size_t)n * sizeof(*outs));
}

/* ---- embedding ---- */

static const struct weight_part *part_of_row(const struct weight *w, size_t row)
{
    const struct weight_part *p = w->parts;
    while (row >= p->first_row + p->n_rows)
        p++;
    return p;
}

/* sorted: [n_in] scratch, for columns that are in another order */
static void unpack_row(const struct cpu_backend *be, const struct weight *w, size_t row, float *sorted, float *out)
{
    const struct weight_part *p = part_of_row(w, row);
    float *dst = p->columns ? sorted : out;
    size_t local = row - p->first_row, row_size = 0, rows = (size_t)be->kernels->pack_rows;
    if (p->pack.super_len > 0) {
        size_t panel_size = pack_panel_size(&p->pack, (int)rows, (int)w->n_in);
        pack_unpack_row(&p->pack, p->data + local / rows * panel_size, (int)rows, (int)(local % rows), (int)w->n_in,
                        dst);
        for (size_t i = 0; p->columns && i < w->n_in; i++)
            out[p->columns[i]] = sorted[i];
        return;
    }
    if (cpu__is_decoded(p->type))
        decode_row(p, local, w->n_in, dst);
    else if (dtype_size(p->type, w->n_in, &row_size))
        dtype_to_f32(p->type, p->data + local * row_size, w->n_in, dst);
}

struct embed_args {
    const struct cpu_backend *be;
    const struct weight *table;
    const int32_t *ids;
    float scale;
    struct tensor *out;
};

static void embed_rows(void *arg, int first, int end, int thread)
{
    const struct embed_args *a = arg;
    float *scratch = cpu__thread_scratch(a->be, thread);
    for (int t = first; t < end; t++) {
        float *row = a->out->f32 + (size_t)t * a->table->n_in;
        unpack_row(a->be, a->table, (size_t)a->ids[t], scratch, row);
        if (a->scale != 1)
            a->be->kernels->scale(row, a->scale, a->table->n_in);
    }
}

/* The batch's ids, those of the previous step filled in. NULL: the step has failed. first: ids from n_ids on are 0. */
static const int32_t *resolve_ids(struct cpu_backend *be, size_t n_ids, bool first)
{
    const struct batch *batch = be->batch;
    int32_t *ids = cpu__alloc(be, (size_t)batch->n_rows * sizeof(*ids));
    for (int t = 0; ids && t < batch->n_rows; t++) {
        int prev = batch->prev_row ? batch->prev_row[t] : -1;
        if (prev >= 0 && (!batch->prev_ids || !batch->prev_ids->ids || prev >= batch->prev_ids->n_rows))
            return cpu__fail(be, ERR_INTERNAL, "A row takes its token from a step that did not sample it.");
        ids[t] = prev >= 0 ? batch->prev_ids->ids[prev] : batch->ids[t];
        if (first && ids[t] >= 0 && (size_t)ids[t] >= n_ids)
            ids[t] = 0;
        if (ids[t] < 0 || (size_t)ids[t] >= n_ids)
            return cpu__fail(be, ERR_INTERNAL, "A token id is outside the embedding table.");
    }
    return ids;
}

struct tensor *cpu__embed(struct backend *base, struct weight *table, float scale)
{
    struct cpu_backend *be = cpu__of(base);
    struct tensor *out = cpu__tensor(be, be->batch->n_rows, (int)table->n_in);
    const int32_t *ids = out ? resolve_ids(be, table->n_out, false) : NULL;
    if (!ids || !cpu__scratch(be, table->n_in * sizeof(float)))
        return NULL;
    struct embed_args args = {be, table, ids, scale, out};
    cpu__for_rows(be, out->n_rows, table->n_in * 2, embed_rows, &args);
    be->memory.used = out->mark;
    return out;
}

struct embed_add_args {
    const struct cpu_backend *be;
    const struct weight *table;
    const int32_t *ids;
    float scale, factor;
    struct tensor *x;
};

static void embed_add_rows(void *arg, int first, int end, int thread)
{
    const struct embed_add_args *a = arg;
    const struct cpu_kernel_table *kernels = a->be->kernels;
    size_t n = a->table->n_in;
    float *row = cpu__thread_scratch(a->be, thread);
    for (int t = first; t < end; t++) {
        float *x = a->x->f32 + (size_t)t * n;
        unpack_row(a->be, a->table, (size_t)a->ids[t], row + n, row);
        kernels->scale(row, a->scale, n);
        kernels->add(x, row, n);
        kernels->scale(x, a->factor, n);
    }
}

struct tensor *cpu__embed_add(struct backend *base, struct weight *table, float scale, struct tensor *x, float factor)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    if (x->n_rows != be->batch->n_rows || table->n_in != (size_t)x->n_cols)
        return cpu__fail(be, ERR_INTERNAL, "Rows of a table are added to a tensor of another shape.");
    const int32_t *ids = resolve_ids(be, table->n_out, true);
    if (!ids || !cpu__scratch(be, 2 * table->n_in * sizeof(float)))
        return NULL;
    struct embed_add_args args = {be, table, ids, scale, factor, x};
    cpu__for_rows(be, x->n_rows, table->n_in * 4, embed_add_rows, &args);
    x->q8 = NULL;
    return x;
}
