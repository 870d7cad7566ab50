/* Attention over pages. A tile is a few consecutive rows of a sequence and one KV head, with all query heads that share
 * it. Keys are reduced page by page (cpu_kernels.h), and pages in stretches of SPLIT_PAGES, each of which begins from
 * nothing; stretches are joined in order. So what a query gets depends on its position and the pages only, and the
 * stretches of a long sequence may be computed at the same time:
 *
 *     pages      | 0 ... 15 | 16 ... 31 | 32 ... 40 |
 *     stretches      s0          s1          s2           out = ((sink + s0) + s1) + s2 */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Rows of a tile: as many as make its queries this many, at most TILE_MAX_ROWS. With a page they fit the first-level
 * cache. */
#define TILE_QUERIES  24
#define TILE_MAX_ROWS 16
#define SPLIT_PAGES   16 /* 512 positions: less would be joined too often, more would balance few threads badly */

/* Keys of stretches that one call computes: all of a tile's, or one. */
struct tile {
    const struct batch_seq *seq;
    int first, n;              /* rows of the sequence */
    int first_split, n_splits; /* that its rows see something of */
    atomic_int *n_left;        /* [n_kv_heads] stretches to come; NULL: one task computes all of them */
    float *partial;            /* [n_kv_heads, n_splits] states, when there are several tasks */
    int first_task;            /* its tasks: n_kv_heads, or n_kv_heads * n_splits */
};

struct attention_args {
    const struct cpu_backend *be;
    const struct kv_group *group;
    int group_index, layer;
    const struct tensor *q;
    struct tensor *out;
    const struct attention_params *p;
    int n_shared, tile_rows; /* query heads of a KV head */
    size_t v_stride;
    struct tile *tiles; /* [n_tiles] */
    int n_tiles, n_tasks;
};

/* Positions [first, end) that a query sees. */
struct span {
    int first, end;
};

static struct span visible(const struct attention_args *a, const struct batch_seq *seq, int i)
{
    int position = seq->start + i, total = seq->start + seq->n_rows, window = a->p->window;
    struct span s = {0, a->p->causal ? position + 1 : total};
    if (window > 0 && a->p->chunked) {
        s.first = position / window * window;
        s.end = s.end - s.first > window ? s.first + window : s.end;
    } else if (window > 0) {
        s.first = position - window + 1 > 0 ? position - window + 1 : 0;
        s.end = s.end - position > window ? position + window : s.end;
    }
    return s;
}

/* ---- states: acc, m, l of a tile's queries ---- */

static size_t state_floats(const struct attention_args *a, int n_rows)
{
    return (size_t)(n_rows * a->n_shared) * (a->v_stride + 2);
}

/* at: [state_floats] */
static void state_open(const struct attention_args *a, float *at, int n, struct attention_queries *out)
{
    out->n = n;
    out->v_stride = a->v_stride;
    out->acc = at;
    out->m = at + (size_t)n * a->v_stride;
    out->l = out->m + n;
}

static void state_clear(const struct attention_queries *s)
{
    memset(s->acc, 0, (size_t)s->n * s->v_stride * sizeof(float));
    for (int i = 0; i < s->n; i++) {
        s->m[i] = -INFINITY;
        s->l[i] = 0;
    }
}

/* A sink is a logit without a value: as if it had been the first key. */
static void state_begin(const struct attention_args *a, int head, const struct attention_queries *s)
{
    state_clear(s);
    for (int i = 0; a->p->sinks && i < s->n; i++) {
        s->m[i] = cpu__vector(a->p->sinks)[head * a->n_shared + i % a->n_shared];
        s->l[i] = 1;
    }
}

/* ---- scratch of a thread ---- */

struct scratch {
    float *q, *scores, *keep, *total, *part, *factors, *weight_factors;
    int16_t *codes, *weights;
    int *first, *end;
    struct span *spans; /* [rows] */
};

static void *take(uint8_t *base, size_t *at, size_t size)
{
    void *part = base ? base + *at : NULL;
    *at += (size + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    return part;
}

/* Its parts in the memory at base; NULL: only how much they take. */
static size_t lay_out(const struct attention_args *a, struct scratch *s, uint8_t *base)
{
    size_t rows = (size_t)a->tile_rows, n = rows * (size_t)a->n_shared, at = 0;
    size_t n_groups = a->group->spec.type == KV_Q8 ? kv_groups(a->p->k_dim) : 0;
    size_t state = state_floats(a, a->tile_rows) * sizeof(float);
    s->q = take(base, &at, n * (size_t)a->p->k_dim * sizeof(float));
    s->scores = take(base, &at, n * CPU_PAGE_TOKENS * sizeof(float));
    s->keep = take(base, &at, n * sizeof(float));
    s->total = take(base, &at, state);
    s->part = take(base, &at, state);
    s->first = take(base, &at, n * sizeof(int));
    s->end = take(base, &at, n * sizeof(int));
    s->spans = take(base, &at, rows * sizeof(struct span));
    s->codes = take(base, &at, n * n_groups * KV_GROUP * sizeof(int16_t));
    s->factors = take(base, &at, n * n_groups * sizeof(float));
    s->weights = take(base, &at, n * CPU_PAGE_TOKENS * sizeof(int16_t));
    s->weight_factors = take(base, &at, n * sizeof(float));
    return at;
}

/* ---- one stretch ---- */

/* What the queries of a position are multiplied by, besides their weights. */
static float query_scale(const struct attention_params *p, int position)
{
    if (p->temper_scale == 0)
        return p->scale;
    float stretches = floorf((float)(position + 1) / (float)p->temper_length);
    return p->scale * (logf(1 + stretches) * p->temper_scale + 1);
}

static void load_queries(const struct attention_args *a, const struct tile *tile, int head, const struct scratch *s)
{
    size_t k_dim = (size_t)a->p->k_dim, n = (size_t)a->n_shared * k_dim;
    for (int t = 0; t < tile->n; t++) {
        size_t row = (size_t)(tile->seq->first_row + tile->first + t);
        const float *q = a->q->f32 + row * (size_t)a->q->n_cols + (size_t)head * n;
        float scale = query_scale(a->p, tile->seq->start + tile->first + t);
        for (size_t d = 0; d < n; d++)
            s->q[(size_t)t * n + d] = q[d] * scale;
        s->spans[t] = visible(a, tile->seq, tile->first + t);
    }
    if (a->group->spec.type != KV_Q8)
        return;
    for (int i = 0; i < tile->n * a->n_shared; i++)
        cpu__kv_rotate(s->q + (size_t)i * k_dim, a->p->k_dim);
    if (a->be->kernels->attend_prepare)
        a->be->kernels->attend_prepare(s->q, tile->n * a->n_shared, a->p->k_dim, s->codes, s->factors);
}

static int clamp(int x, int low, int high)
{
    return x < low ? low : x > high ? high : x;
}

static struct kv_head page_of(const struct attention_args *a, const struct tile *tile, int page, int head)
{
    return cpu__kv_head(a->group, tile->seq->pages[a->group_index][page], a->layer, head);
}

static void run_page(const struct attention_args *a, const struct tile *tile, int head, const struct scratch *s,
                     int page, const uint8_t *next, const struct attention_queries *queries)
{
    const struct kv_group_spec *spec = &a->group->spec;
    int start = page * CPU_PAGE_TOKENS, low = CPU_PAGE_TOKENS, high = 0;
    for (int i = 0; i < queries->n; i++) {
        const struct span *span = &s->spans[i / a->n_shared];
        s->first[i] = clamp(span->first - start, 0, CPU_PAGE_TOKENS);
        s->end[i] = clamp(span->end - start, 0, CPU_PAGE_TOKENS);
        low = s->first[i] < low ? s->first[i] : low;
        high = s->end[i] > high ? s->end[i] : high;
    }
    if (low >= high)
        return;
    struct kv_head kv = page_of(a, tile, page, head);
    struct attention_page block = {.type = spec->type,
                                   .k_dim = spec->k_dim,
                                   .v_dim = spec->v_dim,
                                   .k = kv.k,
                                   .v = kv.v,
                                   .k_scales = kv.k_scales,
                                   .v_scales = kv.v_scales,
                                   .k_offsets = kv.k_offsets,
                                   .next = next,
                                   .first = low,
                                   .end = high,
                                   .softcap = a->p->softcap};
    a->be->kernels->attend(&block, queries);
}

/* Pages of the stretch that rows of the tile see: spans move forward from row to row. */
static void run_split(const struct attention_args *a, const struct tile *tile, int head, const struct scratch *s,
                      int split, float *state)
{
    struct attention_queries queries = {.q = s->q,
                                        .first = s->first,
                                        .end = s->end,
                                        .scores = s->scores,
                                        .keep = s->keep,
                                        .codes = s->codes,
                                        .factors = s->factors,
                                        .weights = s->weights,
                                        .weight_factors = s->weight_factors};
    state_open(a, state, tile->n * a->n_shared, &queries);
    state_clear(&queries);
    int first = s->spans[0].first / CPU_PAGE_TOKENS, end = (s->spans[tile->n - 1].end - 1) / CPU_PAGE_TOKENS + 1;
    first = first > split * SPLIT_PAGES ? first : split * SPLIT_PAGES;
    end = end < (split + 1) * SPLIT_PAGES ? end : (split + 1) * SPLIT_PAGES;
    for (int page = first; page < end; page++) {
        bool last = page + 1 == end; /* then the next head's first one is likely to come */
        const uint8_t *next = page_of(a, tile, last ? first : page + 1, last ? (head + 1) % a->p->n_kv_heads : head).k;
        run_page(a, tile, head, s, page, next, &queries);
    }
}

/* ---- output ---- */

static void finish(const struct attention_args *a, const struct tile *tile, int head,
                   const struct attention_queries *state)
{
    size_t v_dim = (size_t)a->p->v_dim;
    for (int i = 0; i < state->n; i++) {
        size_t row = (size_t)(tile->seq->first_row + tile->first + i / a->n_shared);
        size_t h = (size_t)(head * a->n_shared + i % a->n_shared);
        float *out = a->out->f32 + row * (size_t)a->out->n_cols + h * v_dim;
        float inverse = 1.0f / state->l[i];
        for (size_t d = 0; d < v_dim; d++)
            out[d] = state->acc[(size_t)i * state->v_stride + d] * inverse;
    }
}

static void join_all(const struct attention_args *a, const struct tile *tile, int head, const struct scratch *s,
                     float *parts)
{
    size_t size = state_floats(a, tile->n);
    int n = tile->n * a->n_shared;
    struct attention_queries total, part;
    state_open(a, s->total, n, &total);
    state_begin(a, head, &total);
    for (int i = 0; i < tile->n_splits; i++) {
        if (tile->n_left) {
            state_open(a, parts + (size_t)i * size, n, &part);
        } else {
            run_split(a, tile, head, s, tile->first_split + i, s->part);
            state_open(a, s->part, n, &part);
        }
        a->be->kernels->attend_join(&total, &part);
    }
    finish(a, tile, head, &total);
}

static const struct tile *tile_of(const struct attention_args *a, int task)
{
    int low = 0, high = a->n_tiles - 1; /* the last that begins at or before the task */
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (a->tiles[middle].first_task <= task)
            low = middle;
        else
            high = middle - 1;
    }
    return &a->tiles[low];
}

/* All stretches of a tile and head, or one: then whoever computes the last one joins them. */
static void run_task(void *arg, int task, int thread)
{
    const struct attention_args *a = arg;
    const struct tile *tile = tile_of(a, task);
    int local = task - tile->first_task, head = local % a->p->n_kv_heads, split = local / a->p->n_kv_heads;
    struct scratch s;
    lay_out(a, &s, cpu__thread_scratch(a->be, thread));
    load_queries(a, tile, head, &s);
    if (!tile->n_left) {
        join_all(a, tile, head, &s, NULL);
        return;
    }
    size_t size = state_floats(a, tile->n);
    float *parts = tile->partial + (size_t)head * (size_t)tile->n_splits * size;
    run_split(a, tile, head, &s, tile->first_split + split, parts + (size_t)split * size);
    if (atomic_fetch_sub_explicit(&tile->n_left[head], 1, memory_order_acq_rel) == 1)
        join_all(a, tile, head, &s, parts);
}

/* ---- the op ---- */

static bool cut_tiles(struct cpu_backend *be, struct attention_args *a)
{
    const struct batch *batch = be->batch;
    size_t n = 0;
    for (int s = 0; s < batch->n_seqs; s++)
        n += (size_t)((batch->seqs[s].n_rows + a->tile_rows - 1) / a->tile_rows);
    a->tiles = cpu__alloc(be, n * sizeof(*a->tiles));
    for (int s = 0; a->tiles && s < batch->n_seqs; s++) {
        const struct batch_seq *seq = &batch->seqs[s];
        for (int i = 0; i < seq->n_rows; i += a->tile_rows) {
            int left = seq->n_rows - i;
            struct tile *tile = &a->tiles[a->n_tiles++];
            *tile = (struct tile){.seq = seq, .first = i, .n = left < a->tile_rows ? left : a->tile_rows};
            int positions = SPLIT_PAGES * CPU_PAGE_TOKENS;
            tile->first_split = visible(a, seq, i).first / positions;
            tile->n_splits = (visible(a, seq, i + tile->n - 1).end - 1) / positions + 1 - tile->first_split;
        }
    }
    return a->tiles != NULL;
}

static bool share_tile(struct cpu_backend *be, const struct attention_args *a, struct tile *tile)
{
    size_t n_heads = (size_t)a->p->n_kv_heads, n_states = n_heads * (size_t)tile->n_splits;
    tile->n_left = cpu__alloc(be, n_heads * sizeof(*tile->n_left));
    tile->partial = cpu__alloc(be, n_states * state_floats(a, tile->n) * sizeof(float));
    for (size_t h = 0; tile->n_left && h < n_heads; h++)
        atomic_init(&tile->n_left[h], tile->n_splits);
    return tile->n_left && tile->partial;
}

/* Stretches become tasks where tiles alone are too few to keep the threads evenly busy. */
#define TASKS_WANTED 4 /* of each thread */

static bool plan_tasks(struct cpu_backend *be, struct attention_args *a)
{
    bool few = a->n_tiles * a->p->n_kv_heads < be->n_threads * TASKS_WANTED && be->n_threads > 1;
    for (int i = 0; i < a->n_tiles; i++) {
        struct tile *tile = &a->tiles[i];
        bool shared = few && tile->n_splits > 1;
        tile->first_task = a->n_tasks;
        a->n_tasks += a->p->n_kv_heads * (shared ? tile->n_splits : 1);
        if (shared && !share_tile(be, a, tile))
            return false;
    }
    return true;
}

static bool fits(const struct cpu_backend *be, int group, int layer, const struct tensor *q,
                 const struct attention_params *p)
{
    if (group >= be->n_groups || p->n_kv_heads <= 0 || p->n_heads % p->n_kv_heads != 0)
        return false;
    const struct kv_group_spec *spec = &be->groups[group].spec;
    /* Pages before the group's window are gone: an op may see less, never more. */
    bool window_fits = spec->window == 0 || (p->window > 0 && p->window <= spec->window);
    bool sinks_fit = !p->sinks || (p->sinks->vector && p->sinks->n_in == (size_t)p->n_heads);
    return layer < spec->n_layers && p->n_kv_heads == spec->n_kv_heads && p->k_dim == spec->k_dim &&
           p->v_dim == spec->v_dim && window_fits && sinks_fit && (p->temper_scale == 0 || p->temper_length > 0) &&
           q->n_cols == p->n_heads * p->k_dim && q->n_rows == be->batch->n_rows;
}

struct tensor *cpu__attention(struct backend *base, int group, int layer, struct tensor *q,
                              const struct attention_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!q)
        return NULL;
    if (!fits(be, group, layer, q, p))
        return cpu__fail(be, ERR_INTERNAL, "The attention does not fit its KV group.");
    int n_shared = p->n_heads / p->n_kv_heads;
    struct scratch sizes;
    struct attention_args args = {.be = be,
                                  .group = &be->groups[group],
                                  .group_index = group,
                                  .layer = layer,
                                  .q = q,
                                  .out = cpu__tensor(be, q->n_rows, p->n_heads * p->v_dim),
                                  .p = p,
                                  .n_shared = n_shared,
                                  .tile_rows = clamp(TILE_QUERIES / n_shared, 1, TILE_MAX_ROWS),
                                  .v_stride =
                                      ((size_t)p->v_dim + ATTENTION_LANES - 1) / ATTENTION_LANES * ATTENTION_LANES};
    if (!args.out || !cpu__scratch(be, lay_out(&args, &sizes, NULL)) || !cut_tiles(be, &args) || !plan_tasks(be, &args))
        return NULL;
    pool_run(be->pool, run_task, &args, args.n_tasks);
    be->memory.used = args.out->mark;
    return args.out;
}
