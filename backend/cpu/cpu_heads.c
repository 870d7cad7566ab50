/* Rows as vectors by heads: cut, joined, multiplied by a matrix for each head. A product is cut into tiles of one
 * head's rows and some tokens, over all heads at once; the input lies head by head meanwhile, so that a tile's tokens
 * are one behind the other as kernels want them. */
#include "backend/cpu/cpu_internal.h"

#include <string.h>

/* ---- moving columns ---- */

struct move {
    const float *src;
    float *dst;
    size_t src_stride, dst_stride; /* from a head to the next */
    size_t n;                      /* columns of each */
};

static void move_heads(const struct move *m, size_t n_heads)
{
    for (size_t h = 0; h < n_heads; h++)
        memcpy(m->dst + h * m->dst_stride, m->src + h * m->src_stride, m->n * sizeof(float));
}

struct tensor *cpu__cut(struct backend *base, struct tensor *x, int n_heads, int first, int n)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    int head = x->n_cols / n_heads;
    if (x->n_cols % n_heads != 0 || first < 0 || n < 1 || first + n > head)
        return cpu__fail(be, ERR_INTERNAL, "Columns are cut that a row's heads do not have.");
    struct tensor *y = cpu__tensor(be, x->n_rows, n_heads * n);
    if (!y)
        return NULL;
    /* all heads of all rows are alike */
    struct move m = {x->f32 + first, y->f32, (size_t)head, (size_t)n, (size_t)n};
    move_heads(&m, (size_t)x->n_rows * (size_t)n_heads);
    return y;
}

struct tensor *cpu__join(struct backend *base, struct tensor *a, struct tensor *b, int n_heads)
{
    struct cpu_backend *be = cpu__of(base);
    if (!a || !b)
        return NULL;
    if (a->n_rows != b->n_rows || a->n_cols % n_heads != 0 || b->n_cols % n_heads != 0)
        return cpu__fail(be, ERR_INTERNAL, "Tensors are joined that have other rows or heads.");
    struct tensor *y = cpu__tensor(be, a->n_rows, a->n_cols + b->n_cols);
    if (!y)
        return NULL;
    size_t n_a = (size_t)(a->n_cols / n_heads), n_b = (size_t)(b->n_cols / n_heads);
    size_t n = (size_t)a->n_rows * (size_t)n_heads;
    move_heads(&(struct move){a->f32, y->f32, n_a, n_a + n_b, n_a}, n);
    move_heads(&(struct move){b->f32, y->f32 + n_a, n_b, n_a + n_b, n_b}, n);
    return y;
}

/* ---- a matrix for each head ---- */

struct heads_args {
    const struct cpu_backend *be;
    const struct weight *w;
    const struct tensor *x; /* [n_heads * n_rows, n_in] */
    struct tensor *out;     /* [n_rows, n_heads * n_out] */
    struct tile_shape shape;
    int n_rows, n_row_tiles, n_token_tiles;
};

static void heads_tile(void *arg, int index, int thread)
{
    const struct heads_args *a = arg;
    int per_head = a->n_row_tiles * a->n_token_tiles, head = index / per_head, local = index % per_head;
    int row = local % a->n_row_tiles * a->shape.rows, token = local / a->n_row_tiles * a->shape.tokens;
    const struct weight_part *part = &a->w->parts[head];
    int rows_left = (int)part->n_rows - row, tokens_left = a->n_rows - token;
    size_t first = (size_t)head * (size_t)a->n_rows + (size_t)token, n_in = a->w->n_in;
    bool quantized = cpu__takes_quantized(part);
    struct linear_tile tile = {
        .type = part->type,
        .pack = quantized ? &part->pack : NULL,
        .weights = part->data,
        .n_in = (int)n_in,
        .first_row = row,
        .n_rows = rows_left < a->shape.rows ? rows_left : a->shape.rows,
        .q8 = quantized ? a->x->q8 + first * (n_in / 32) : NULL,
        .x = quantized ? NULL : a->x->f32 + first * n_in,
        .n_t = tokens_left < a->shape.tokens ? tokens_left : a->shape.tokens,
        .out = a->out->f32 + (size_t)token * a->w->n_out + part->first_row + (size_t)row,
        .out_stride = a->w->n_out,
        .scratch = cpu__thread_scratch(a->be, thread),
    };
    cpu__run_tile(a->be, part, &tile);
}

/* [n_rows, n_heads, n] as [n_heads, n_rows, n] */
static struct tensor *by_head(struct cpu_backend *be, const struct tensor *x, int n_heads)
{
    size_t n = (size_t)(x->n_cols / n_heads), n_rows = (size_t)x->n_rows;
    struct tensor *y = cpu__tensor(be, x->n_rows * n_heads, (int)n);
    for (size_t t = 0; y && t < n_rows; t++)
        move_heads(&(struct move){x->f32 + t * (size_t)x->n_cols, y->f32 + t * n, n, n_rows * n, n}, (size_t)n_heads);
    return y;
}

/* Each head's rows with their columns as its part has them. */
static bool sort_heads(struct cpu_backend *be, struct tensor *rows, const struct weight *w, int n_heads)
{
    int n_rows = rows->n_rows / n_heads;
    size_t head_size = (size_t)n_rows * w->n_in, mark = be->memory.used;
    for (int h = 0; h < n_heads && w->parts[h].columns; h++) {
        struct tensor head = {.n_rows = n_rows, .n_cols = rows->n_cols, .f32 = rows->f32 + (size_t)h * head_size};
        const struct tensor *sorted = cpu__sort_columns(be, &head, w->parts[h].columns);
        if (!sorted)
            return false;
        memcpy(head.f32, sorted->f32, head_size * sizeof(float));
        be->memory.used = mark;
    }
    return true;
}

/* The rows of all heads as their parts take them. */
static bool prepare_heads(struct cpu_backend *be, struct tensor *rows, struct weight *w, int n_heads)
{
    if (!w->parts[0].columns)
        return cpu__prepare_input(be, rows, 1, &w);
    return sort_heads(be, rows, w, n_heads) && cpu__quantize_input(be, rows);
}

static bool heads_fit(const struct tensor *x, const struct weight *w, int n_heads)
{
    bool fits = w && w->n_parts == n_heads && x->n_cols % n_heads == 0 && w->n_in == (size_t)(x->n_cols / n_heads);
    for (int h = 1; fits && h < n_heads; h++)
        fits = w->parts[h].n_rows == w->parts[0].n_rows && !w->parts[h].columns == !w->parts[0].columns;
    return fits;
}

struct tensor *cpu__linear_heads(struct backend *base, struct tensor *x, struct weight *w, int n_heads)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    if (!heads_fit(x, w, n_heads))
        return cpu__fail(be, ERR_INTERNAL, "The weights of heads are not one part for each of them.");
    struct tensor *out = cpu__tensor(be, x->n_rows, (int)w->n_out);
    struct tensor *rows = out ? by_head(be, x, n_heads) : NULL;
    if (!rows || !prepare_heads(be, rows, w, n_heads) || !cpu__scratch(be, cpu__tile_scratch(w->n_in) * sizeof(float)))
        return NULL;
    struct heads_args args = {.be = be, .w = w, .x = rows, .out = out, .n_rows = x->n_rows};
    args.shape = cpu__tile_shape(be, w->parts[0].n_rows, w->n_in, x->n_rows * n_heads);
    args.shape.tokens = args.shape.tokens < x->n_rows ? args.shape.tokens : x->n_rows;
    args.n_row_tiles = ((int)w->parts[0].n_rows + args.shape.rows - 1) / args.shape.rows;
    args.n_token_tiles = (x->n_rows + args.shape.tokens - 1) / args.shape.tokens;
    pool_run(be->pool, heads_tile, &args, n_heads * args.n_row_tiles * args.n_token_tiles);
    be->memory.used = out->mark;
    return out;
}
