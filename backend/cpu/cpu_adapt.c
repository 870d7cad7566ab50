/* Adapters. What a row gets besides, scale b (a x), is made in two products: u = scale a x for all of the op's weights
 * by the first tiles of the op's run; each tile of the op's product, behind them, adds b u to the rows that have it,
 * while they are in the cache. Rows of one adapter are taken together, wherever they stand, so that its values are read
 * once for them. There is no barrier between the two: when a product is computed, u has long been there as a rule.
 *
 * With few rows the time goes by reading a and b, in pieces too short for the processor to foresee. So a tile asks for
 * its piece of b before the product that comes first, and for rows of a while it reads those before: into the
 * second-level cache, which can wait for more lines than the first; never for many at once, since those beyond what it
 * can wait for are dropped or hold up what follows.
 *
 * Bits: u is a product with f16 weights, each element of b u one chain of rank terms; both depend on the row alone. */
#include "backend/adapt.h"
#include "backend/cpu/cpu_internal.h"

#include "base/array.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHRINK_TOKENS 64
#define SHRINK_ROWS   16 /* of a: a multiple of every table's row_step */
#define CACHE_LINE    64
#define FETCH_TOKENS  16   /* of a tile for which is fetched: with more the time goes by computing */
#define FETCH_MAX     2048 /* values of f16 asked for at once */
#define FETCH_ROWS    4    /* of a, ahead of those that are read: float kernels take as many at a time */

/* ---- parts of weights ---- */

/* The power of two that the matrix is divided by, so that f16 holds its largest value with all bits. row: [cols]. */
static bool find_exponent(const struct tensor_view *v, float *row, int *exponent, struct error *err)
{
    float max = 0;
    for (uint64_t r = 0; r < v->shape[0]; r++) {
        tensor_row_to_f32(v, r, row);
        for (uint64_t i = 0; i < v->shape[1]; i++) {
            if (!isfinite(row[i]))
                return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' of an adapter holds what is no number.",
                                 STR_ARG(str_slice(v->name, 0, 100)));
            max = fabsf(row[i]) > max ? fabsf(row[i]) : max;
        }
    }
    (void)frexpf(max, exponent); /* 0 of 0 */
    return true;
}

static void store_a(const struct tensor_view *v, int exponent, float *row, uint16_t *dst)
{
    size_t n = (size_t)v->shape[1];
    for (uint64_t r = 0; r < v->shape[0]; r++, dst += n) {
        tensor_row_to_f32(v, r, row);
        for (size_t i = 0; i < n; i++)
            dst[i] = f32_to_f16(ldexpf(row[i], -exponent));
    }
}

static void store_b(const struct weight *w, const struct tensor_view *v, int exponent, float *row, uint16_t *dst)
{
    size_t rank = (size_t)v->shape[1];
    for (const struct weight_part *part = w->parts; part < w->parts + w->n_parts; part++) {
        for (size_t n = 0; n < part->n_rows; n++) {
            size_t panel = part->first_panel + n / ADAPT_PANEL;
            uint16_t *column = dst + panel * rank * ADAPT_PANEL + n % ADAPT_PANEL;
            tensor_row_to_f32(v, part->first_row + n, row);
            for (size_t r = 0; r < rank; r++)
                column[r * ADAPT_PANEL] = f32_to_f16(ldexpf(row[r], -exponent));
        }
    }
}

static size_t n_panels(const struct weight *w)
{
    const struct weight_part *last = &w->parts[w->n_parts - 1];
    return last->first_panel + (last->n_rows + ADAPT_PANEL - 1) / ADAPT_PANEL;
}

/* a and b of *out in one allocation, zeroed. */
static bool allocate(const struct weight *w, size_t rank, struct weight_adapter *out, struct error *err)
{
    size_t n_a, n_b, n_columns = n_panels(w) * ADAPT_PANEL;
    bool fits = size_mul(rank * sizeof(uint16_t), w->n_in, &n_a) && size_mul(rank * sizeof(uint16_t), n_columns, &n_b);
    n_a = (n_a + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    uint8_t *memory = fits && n_a < SIZE_MAX / 2 && n_b < SIZE_MAX / 2 ? aligned_alloc(CPU_ALIGN, n_a + n_b) : NULL;
    if (!memory)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for an adapter's part of a weight of %zu by %zu.",
                         w->n_out, w->n_in);
    memset(memory, 0, n_a + n_b);
    *out = (struct weight_adapter){.rank = (int)rank, .a = (void *)memory, .b = (void *)(memory + n_a)};
    return true;
}

static bool make_part(const struct weight *w, const struct adapter_part *part, struct weight_adapter *out,
                      struct error *err)
{
    size_t rank = (size_t)part->a->shape[0];
    int exponent_a, exponent_b;
    float *row = malloc((w->n_in > rank ? w->n_in : rank) * sizeof(*row));
    if (!row)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a row of an adapter.");
    bool ok = find_exponent(part->a, row, &exponent_a, err) && find_exponent(part->b, row, &exponent_b, err) &&
              allocate(w, rank, out, err);
    if (ok) {
        store_a(part->a, exponent_a, row, out->a);
        store_b(w, part->b, exponent_b, row, out->b);
        out->factor = ldexpf(part->scale, exponent_a + exponent_b);
    }
    free(row);
    return ok;
}

bool cpu__weight_adapt(struct backend *base, struct weight *w, int adapter, const struct adapter_part *part,
                       struct error *err)
{
    struct weight_adapter made = {0};
    (void)base;
    if (!adapt_check_part(&w->info, w->stacked, adapter, part, err))
        return false;
    if (!part && !w->adapters)
        return true;
    if (part && !make_part(w, part, &made, err))
        return false;
    if (part && !isfinite(made.factor)) {
        free(made.a);
        return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' of an adapter, scaled, is beyond all numbers.",
                         STR_ARG(str_slice(part->b->name, 0, 100)));
    }
    if (!w->adapters)
        w->adapters = calloc(BACKEND_MAX_ADAPTERS, sizeof(*w->adapters));
    if (!w->adapters) {
        free(made.a);
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the adapters of a weight.");
    }
    free(w->adapters[adapter - 1].a);
    w->adapters[adapter - 1] = made;
    return true;
}

void cpu__weight_drop_adapters(struct weight *w)
{
    for (int i = 0; w->adapters && i < BACKEND_MAX_ADAPTERS; i++)
        free(w->adapters[i].a);
    free(w->adapters);
    w->adapters = NULL;
}

/* ---- rows ---- */

/* adapters: of each row. */
static bool group_rows(struct cpu_backend *be, const int32_t *adapters, int n_rows, struct adapter_rows *out)
{
    int count[BACKEND_MAX_ADAPTERS + 1] = {0}, n_groups = 0;
    for (int i = 0; i < n_rows; i++)
        n_groups += count[adapters[i]]++ == 0 && adapters[i] > 0;
    out->n = n_rows - count[0];
    if (out->n == 0)
        return true;
    out->order = cpu__alloc(be, (size_t)out->n * sizeof(*out->order));
    out->groups = cpu__alloc(be, (size_t)n_groups * sizeof(*out->groups));
    for (int k = 1, at = 0; !be->failed && k <= BACKEND_MAX_ADAPTERS; k++) {
        if (count[k] > 0)
            out->groups[out->n_groups++] = (struct adapter_group){k, at, count[k]};
        for (int i = 0; count[k] > 0 && i < n_rows; i++) {
            if (adapters[i] == k)
                out->order[at++] = i;
        }
    }
    return !be->failed;
}

bool cpu__adapt_begin(struct cpu_backend *be)
{
    const struct batch *batch = be->batch;
    be->adapted = be->adapted_out = (struct adapter_rows){0};
    if (!adapt_wanted(batch))
        return true;
    int32_t *adapters = cpu__alloc(be, (size_t)batch->n_rows * sizeof(*adapters));
    int32_t *outs = cpu__alloc(be, (size_t)batch->n_out * sizeof(*outs));
    if (be->failed)
        return false;
    adapt_rows(batch, adapters, outs);
    return group_rows(be, adapters, batch->n_rows, &be->adapted) &&
           group_rows(be, outs, batch->n_out, &be->adapted_out);
}

/* Of a value with so many rows: the batch's, or those of its out_rows, which are the same where there are as many. */
static const struct adapter_rows *rows_of(const struct cpu_backend *be, int n_rows)
{
    return n_rows == be->batch->n_rows ? &be->adapted : &be->adapted_out;
}

static const struct weight_adapter *part_of(const struct weight *w, const struct adapter_group *group)
{
    const struct weight_adapter *part = w->adapters ? &w->adapters[group->adapter - 1] : NULL;
    return part && part->rank > 0 ? part : NULL;
}

static size_t max_rank(const struct adapter_rows *rows, const struct weight *w)
{
    size_t max = 0;
    for (int i = 0; w->adapters && i < rows->n_groups; i++) {
        const struct weight_adapter *part = part_of(w, &rows->groups[i]);
        max = part && (size_t)part->rank > max ? (size_t)part->rank : max;
    }
    return max;
}

bool cpu__adapts(const struct cpu_backend *be, int n_rows, const struct weight *w)
{
    return w->adapters && max_rank(rows_of(be, n_rows), w) > 0;
}

/* ---- u ---- */

/* One group of one weight. */
struct shrink {
    const struct weight_adapter *part;
    const float *x; /* [n, n_in] */
    float *u;       /* [n, rank] */
    int n, first_tile, n_rank_tiles;
};

/* Functions that only fetch are always part of their callers: compilers drop calls of what has no other effect. */
#define FETCHING static inline __attribute__((always_inline))

/* FETCH_MAX of them at most; how many. */
FETCHING size_t fetch(const uint16_t *p, size_t n)
{
    n = n < FETCH_MAX ? n : FETCH_MAX;
    for (size_t at = 0; at < n; at += CACHE_LINE / sizeof(*p))
        __builtin_prefetch(p + at, 0, 2);
    return n;
}

void cpu__adapt_shrink(struct adapt_shrinks *all, int index, int thread)
{
    const struct shrink *s = &all->items[0];
    while (s + 1 < all->items + all->n && s[1].first_tile <= index)
        s++;
    int local = index - s->first_tile, rank = s->part->rank;
    int row = local % s->n_rank_tiles * SHRINK_ROWS, token = local / s->n_rank_tiles * SHRINK_TOKENS;
    int n_rows = rank - row < SHRINK_ROWS ? rank - row : SHRINK_ROWS;
    int n_t = s->n - token < SHRINK_TOKENS ? s->n - token : SHRINK_TOKENS;
    size_t n_in = (size_t)all->n_in;
    const uint16_t *a = s->part->a + (size_t)row * n_in;
    float *u = s->u + (size_t)token * (size_t)rank + row;
    struct linear_tile tile = {
        .type = DTYPE_F16,
        .weights = (const uint8_t *)a,
        .n_in = all->n_in,
        .n_rows = n_rows,
        .x = s->x + (size_t)token * n_in,
        .n_t = n_t,
        .out = u,
        .out_stride = (size_t)rank,
        .scratch = cpu__thread_scratch(all->be, thread),
    };
    if (n_t <= FETCH_TOKENS) {
        fetch(a, (size_t)n_rows * n_in);
        tile.fetch = (const uint8_t *)(a + FETCH_ROWS * n_in); /* behind a's last row b begins */
    }
    all->be->kernels->linear[DTYPE_F16](&tile);
    for (int t = 0; t < n_t; t++, u += rank)
        all->be->kernels->scale(u, s->part->factor, (size_t)n_rows);
    atomic_fetch_sub_explicit(&all->n_left, 1, memory_order_release);
}

/* The rows of each group of x one behind the other, as they lie or in a copy. xs: [n_groups] NULL: memory failed. */
static const float **gather(struct cpu_backend *be, const struct tensor *x, const struct adapter_rows *rows)
{
    size_t n_cols = (size_t)x->n_cols;
    const float **xs = cpu__alloc(be, (size_t)rows->n_groups * sizeof(*xs));
    for (int i = 0; xs && i < rows->n_groups; i++) {
        const struct adapter_group *g = &rows->groups[i];
        const int *order = rows->order + g->first;
        xs[i] = x->f32 + (size_t)order[0] * n_cols;
        if (order[g->n - 1] - order[0] == g->n - 1)
            continue;
        float *copy = cpu__alloc(be, (size_t)g->n * n_cols * sizeof(*copy));
        if (!copy)
            return NULL;
        for (int r = 0; r < g->n; r++)
            memcpy(copy + (size_t)r * n_cols, x->f32 + (size_t)order[r] * n_cols, n_cols * sizeof(*copy));
        xs[i] = copy;
    }
    return xs;
}

static void add_shrinks(struct adapt_shrinks *all, const float *const *xs, const struct adapt_delta *delta)
{
    for (int i = 0; i < delta->rows->n_groups; i++) {
        const struct adapter_group *group = &delta->rows->groups[i];
        const struct weight_adapter *part = part_of(delta->w, group);
        if (!part)
            continue;
        struct shrink *s = &all->items[all->n++];
        *s = (struct shrink){.part = part,
                             .x = xs[i],
                             .u = delta->u + (size_t)group->first * delta->max_rank,
                             .n = group->n,
                             .first_tile = all->n_tiles,
                             .n_rank_tiles = (part->rank + SHRINK_ROWS - 1) / SHRINK_ROWS};
        all->n_tiles += s->n_rank_tiles * ((group->n + SHRINK_TOKENS - 1) / SHRINK_TOKENS);
    }
}

/* Memory of the deltas; the number of groups over all of them. */
static size_t prepare_deltas(struct cpu_backend *be, const struct adapter_rows *rows, int n,
                             struct weight *const *weights, struct adapt_delta *deltas)
{
    size_t n_groups = 0;
    for (int i = 0; i < n; i++) {
        size_t rank = max_rank(rows, weights[i]);
        deltas[i] = (struct adapt_delta){.w = weights[i]};
        if (rank == 0)
            continue;
        deltas[i].rows = rows;
        deltas[i].max_rank = rank;
        deltas[i].u = cpu__alloc(be, (size_t)rows->n * rank * sizeof(float));
        n_groups += (size_t)rows->n_groups;
    }
    return n_groups;
}

bool cpu__adapt_plan(struct cpu_backend *be, const struct tensor *x, int n, struct weight *const *weights,
                     struct adapt_shrinks *out)
{
    const struct adapter_rows *rows = rows_of(be, x->n_rows);
    *out =
        (struct adapt_shrinks){.be = be, .n_in = x->n_cols, .deltas = cpu__alloc(be, (size_t)n * sizeof(*out->deltas))};
    size_t n_groups = out->deltas ? prepare_deltas(be, rows, n, weights, out->deltas) : 0;
    if (be->failed || n_groups == 0)
        return !be->failed;
    if (!x->f32) {
        cpu__fail(be, ERR_INTERNAL, "An adapter wants values that are there as codes only.");
        return false;
    }
    out->items = cpu__alloc(be, n_groups * sizeof(*out->items));
    const float **xs = gather(be, x, rows);
    for (int i = 0; !be->failed && i < n; i++) {
        if (out->deltas[i].rows)
            add_shrinks(out, xs, &out->deltas[i]);
    }
    atomic_init(&out->n_left, out->n_tiles);
    return !be->failed;
}

/* ---- b u ---- */

/* The first of a group's rows that is not below `row`, as an index into them. */
static int first_at(const int *order, int n, int row)
{
    int low = 0;
    while (n > 0) {
        int half = n / 2;
        bool below = order[low + half] < row;
        low += below ? half + 1 : 0;
        n = below ? n - half - 1 : half;
    }
    return low;
}

/* Of the part's row `row`, which begins a panel. */
static const uint16_t *b_of(const struct weight_adapter *adapter, const struct weight_part *part, int row)
{
    return adapter->b + (part->first_panel * ADAPT_PANEL + (size_t)row) * (size_t)adapter->rank;
}

static void expand(const struct adapt_shrinks *s, const struct adapt_delta *delta, const struct weight_part *part,
                   int token, const struct linear_tile *of)
{
    for (int i = 0; i < delta->rows->n_groups; i++) {
        const struct adapter_group *group = &delta->rows->groups[i];
        const struct weight_adapter *adapter = part_of(delta->w, group);
        const int *order = delta->rows->order + group->first;
        int begin = first_at(order, group->n, token);
        int end = first_at(order, group->n, token + of->n_t);
        if (!adapter || begin == end)
            continue;
        size_t rank = (size_t)adapter->rank;
        struct adapt_tile tile = {
            .b = b_of(adapter, part, of->first_row),
            .rank = adapter->rank,
            .u = delta->u + (size_t)group->first * delta->max_rank + (size_t)begin * rank,
            .rows = order + begin,
            .first_row = token,
            .n_t = end - begin,
            .n = of->n_rows,
            .out = of->out,
            .out_stride = of->out_stride,
        };
        s->be->kernels->adapt(&tile);
    }
}

/* Of all adapters of the batch, whose rows another tile has perhaps. */
FETCHING void fetch_b(const struct adapt_delta *delta, const struct weight_part *part, int row, int n_rows)
{
    size_t n = ((size_t)n_rows + ADAPT_PANEL - 1) / ADAPT_PANEL * ADAPT_PANEL, left = FETCH_MAX;
    for (int i = 0; left > 0 && i < delta->rows->n_groups; i++) {
        const struct weight_adapter *adapter = part_of(delta->w, &delta->rows->groups[i]);
        size_t size = adapter ? n * (size_t)adapter->rank : 0;
        if (adapter)
            left -= fetch(b_of(adapter, part, row), size < left ? size : left);
    }
}

/* The tile some rows at a time, and b of them before. */
static void run_fetching(const struct adapt_shrinks *s, const struct adapt_delta *delta, const struct weight_part *part,
                         const struct linear_tile *tile)
{
    struct linear_tile some = *tile;
    for (int row = 0; row < tile->n_rows; row += ADAPT_PANEL) {
        some.first_row = tile->first_row + row;
        some.n_rows = tile->n_rows - row < ADAPT_PANEL ? tile->n_rows - row : ADAPT_PANEL;
        some.out = tile->out + row;
        some.bias = tile->bias ? tile->bias + row : NULL;
        fetch_b(delta, part, some.first_row, some.n_rows);
        cpu__run_tile(s->be, part, &some);
    }
}

void cpu__adapt_tile(const struct adapt_shrinks *s, int i, const struct weight_part *part, int token,
                     const struct linear_tile *tile)
{
    const struct adapt_delta *delta = &s->deltas[i];
    if (!delta->rows || tile->n_t > FETCH_TOKENS)
        cpu__run_tile(s->be, part, tile);
    else
        run_fetching(s, delta, part, tile);
    if (!delta->rows)
        return;
    pool_await(&s->n_left);
    expand(s, delta, part, token, tile);
}
