/* MLPs. The hidden layer of a gated one is made tile by tile: gate, up, activation, product and quantization for a few
 * rows and tokens at once, so that it is written once, in the form that the second product takes. */
#include "backend/cpu/cpu_internal.h"

#include <string.h>

/* ---- gated, fused ---- */

struct gated_args {
    const struct cpu_backend *be;
    const struct tensor *x;
    const struct gated_mlp *mlp;
    struct tensor *h; /* f32, q8, or both */
    struct tile_shape shape;
    int n_row_tiles;
    struct adapt_shrinks adapt; /* of gate and up */
};

struct gated_place { /* of a tile */
    int row, n_rows, token, n_t;
};

/* i: 0 gate, 1 up */
static void gated_product(const struct gated_args *a, int i, const struct gated_place *at, float *out, float *scratch)
{
    const struct weight_part *part = &(i == 0 ? a->mlp->gate : a->mlp->up)->parts[0];
    const struct weight *bias = i == 0 ? a->mlp->gate_bias : a->mlp->up_bias;
    size_t token = (size_t)at->token;
    const struct tensor *x = a->x;
    bool quantized = cpu__takes_quantized(part);
    struct linear_tile tile = {
        .type = part->type,
        .pack = quantized ? &part->pack : NULL,
        .weights = part->data,
        .n_in = x->n_cols,
        .first_row = at->row,
        .n_rows = at->n_rows,
        .q8 = quantized ? x->q8 + token * (size_t)(x->n_cols / 32) : NULL,
        .x = quantized ? NULL : x->f32 + token * (size_t)x->n_cols,
        .n_t = at->n_t,
        .out = out,
        .out_stride = (size_t)a->shape.rows,
        .bias = bias ? bias->vector + at->row : NULL,
        .scratch = scratch,
    };
    cpu__adapt_tile(&a->adapt, i, part, at->token, &tile);
}

static void gated_tile(const struct gated_args *a, int index, int thread)
{
    const struct cpu_kernel_table *kernels = a->be->kernels;
    int row = index % a->n_row_tiles * a->shape.rows, token = index / a->n_row_tiles * a->shape.tokens;
    const struct gated_mlp *mlp = a->mlp;
    int rows_left = (int)mlp->gate->n_out - row, tokens_left = a->x->n_rows - token;
    int n_rows = rows_left < a->shape.rows ? rows_left : a->shape.rows;
    int n_t = tokens_left < a->shape.tokens ? tokens_left : a->shape.tokens;
    size_t stride = (size_t)a->shape.rows, n_hidden = mlp->gate->n_out;
    struct gated_place place = {row, n_rows, token, n_t};
    float *gate = cpu__thread_scratch(a->be, thread), *up = gate + stride * (size_t)a->shape.tokens;
    float *scratch = up + stride * (size_t)a->shape.tokens;
    gated_product(a, 0, &place, gate, scratch);
    gated_product(a, 1, &place, up, scratch);
    for (int t = 0; t < n_t; t++, gate += stride, up += stride) {
        size_t at = (size_t)(token + t) * n_hidden + (size_t)row;
        kernels->activate_mul(gate, up, mlp->act, (size_t)n_rows);
        if (a->h->q8)
            kernels->quantize(gate, n_rows, a->h->q8 + at / 32);
        if (a->h->f32)
            memcpy(a->h->f32 + at, gate, (size_t)n_rows * sizeof(float));
    }
}

static void any_tile(void *arg, int index, int thread)
{
    struct gated_args *a = arg;
    if (index < a->adapt.n_tiles)
        cpu__adapt_shrink(&a->adapt, index, thread);
    else
        gated_tile(a, index - a->adapt.n_tiles, thread);
}

static void run_gated(struct cpu_backend *be, struct gated_args *a)
{
    const struct weight *first = a->mlp->gate;
    a->shape = cpu__tile_shape(be, first->n_out, first->n_in, a->x->n_rows);
    size_t floats = 2 * (size_t)a->shape.rows * (size_t)a->shape.tokens + cpu__tile_scratch((size_t)a->x->n_cols);
    struct weight *const weights[2] = {a->mlp->gate, a->mlp->up};
    if (!cpu__scratch(be, floats * sizeof(float)) || !cpu__adapt_plan(be, a->x, 2, weights, &a->adapt))
        return;
    a->n_row_tiles = ((int)first->n_out + a->shape.rows - 1) / a->shape.rows;
    int n_token_tiles = (a->x->n_rows + a->shape.tokens - 1) / a->shape.tokens;
    pool_run(be->pool, any_tile, a, a->adapt.n_tiles + a->n_row_tiles * n_token_tiles);
}

/* ---- the general way ---- */

struct hidden_args {
    const struct cpu_kernel_table *kernels;
    struct tensor *h;
    const struct tensor *up; /* NULL: not gated */
    enum activation act;
};

static void hidden_rows(void *arg, int first, int end, int thread)
{
    const struct hidden_args *a = arg;
    size_t at = (size_t)first * (size_t)a->h->n_cols, n = (size_t)(end - first) * (size_t)a->h->n_cols;
    (void)thread;
    if (a->up)
        a->kernels->activate_mul(a->h->f32 + at, a->up->f32 + at, a->act, n);
    else
        a->kernels->activate(a->h->f32 + at, a->act, n);
}

#define ACTIVATION_WORK 8 /* simple operations that one costs, about */

/* up may be NULL; h becomes the hidden layer */
static void activate(struct cpu_backend *be, struct tensor *h, const struct tensor *up, enum activation act)
{
    struct hidden_args args = {be->kernels, h, up, act};
    cpu__for_rows(be, h->n_rows, (size_t)h->n_cols * ACTIVATION_WORK, hidden_rows, &args);
}

static bool fits(const struct tensor *x, const struct weight *first, const struct weight *second)
{
    return first && second && first->n_in == (size_t)x->n_cols && second->n_in == first->n_out;
}

/* The hidden layer as the second product takes it, made tile by tile. NULL: failed. */
static struct tensor *hidden_fused(struct cpu_backend *be, struct tensor *x, const struct gated_mlp *mlp)
{
    struct tensor *h = cpu__alloc(be, sizeof(*h));
    if (!h)
        return NULL;
    *h = (struct tensor){.n_rows = x->n_rows, .n_cols = (int)mlp->gate->n_out};
    size_t n = (size_t)x->n_rows * mlp->gate->n_out;
    bool quantized = cpu__takes_quantized(&mlp->down->parts[0]);
    if (quantized)
        h->q8 = cpu__alloc(be, n / 32 * sizeof(*h->q8));
    if (!quantized || cpu__adapts(be, x->n_rows, mlp->down))
        h->f32 = cpu__alloc(be, n * sizeof(float));
    struct gated_args args = {.be = be, .x = x, .mlp = mlp, .h = h};
    if (!be->failed)
        run_gated(be, &args);
    return be->failed ? NULL : h;
}

static struct tensor *hidden_general(struct cpu_backend *be, struct tensor *x, const struct gated_mlp *mlp)
{
    struct weight *const first[2] = {mlp->gate, mlp->up}, *const biases[2] = {mlp->gate_bias, mlp->up_bias};
    struct tensor *hu[2] = {cpu__tensor(be, x->n_rows, (int)first[0]->n_out),
                            cpu__tensor(be, x->n_rows, (int)first[1]->n_out)};
    if (be->failed)
        return NULL;
    cpu__linear_into(be, x, 2, first, biases, hu);
    activate(be, hu[0], hu[1], mlp->act);
    return be->failed ? NULL : hu[0];
}

/* One part, that takes its input as it is. */
static bool is_simple(const struct weight *w)
{
    return w->n_parts == 1 && !w->parts[0].columns;
}

struct tensor *cpu__gated(struct cpu_backend *be, struct tensor *x, const struct gated_mlp *mlp)
{
    struct weight *first[2] = {mlp->gate, mlp->up}, *down = mlp->down, *down_bias = mlp->down_bias;
    if (!fits(x, mlp->gate, down) || !fits(x, mlp->up, down))
        return cpu__fail(be, ERR_INTERNAL, "The weights of an MLP do not fit each other.");
    struct tensor *out = cpu__prepare_input(be, x, 2, first) ? cpu__tensor(be, x->n_rows, (int)down->n_out) : NULL;
    if (!out)
        return NULL;
    bool simple = is_simple(first[0]) && is_simple(first[1]) && is_simple(down);
    struct tensor *h = simple ? hidden_fused(be, x, mlp) : hidden_general(be, x, mlp);
    if (!h || !cpu__prepare_input(be, h, 1, &down))
        return NULL;
    cpu__linear_into(be, h, 1, &down, &down_bias, &out);
    be->memory.used = out->mark;
    return be->failed ? NULL : out;
}

struct tensor *cpu__mlp_gated(struct backend *base, struct tensor *x, struct weight *gate, struct weight *up,
                              struct weight *down, enum activation act)
{
    struct gated_mlp mlp = {.gate = gate, .up = up, .down = down, .act = act};
    return x ? cpu__gated(cpu__of(base), x, &mlp) : NULL;
}

struct tensor *cpu__mlp(struct backend *base, struct tensor *x, struct weight *up, struct weight *up_bias,
                        struct weight *down, struct weight *down_bias, enum activation act)
{
    struct cpu_backend *be = cpu__of(base);
    struct tensor *h, *out;
    if (!x)
        return NULL;
    if (!fits(x, up, down))
        return cpu__fail(be, ERR_INTERNAL, "The weights of an MLP do not fit each other.");
    cpu__linear(base, x, 1, &up, &up_bias, &h);
    if (!h)
        return NULL;
    activate(be, h, NULL, act);
    cpu__linear(base, h, 1, &down, &down_bias, &out);
    return out;
}
