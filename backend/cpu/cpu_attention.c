/* Attention over pages. One tile is up to TILE_TOKENS consecutive rows of a sequence and one KV head, with all query
 * heads that share it. A query's pages are reduced in order, each as one block (see cpu_kernels.h), so its bits depend
 * on its position and the pages only. Pages that all rows of a tile see wholly are computed for all queries at once;
 * those at the borders of causality and window row by row. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

#define TILE_TOKENS 8

struct attention_tile {
    const struct batch_seq *seq;
    int first, n; /* rows of the sequence */
};

struct attention_args {
    const struct cpu_backend *be;
    const struct kv_group *group;
    int group_index, layer;
    const struct tensor *q;
    struct tensor *out;
    const struct attention_params *p;
    struct attention_tile *tiles; /* [n_tiles] */
    int n_tiles;
};

/* Positions [first, end) that a query sees. */
struct span {
    int first, end;
};

static struct span visible(const struct attention_args *a, const struct batch_seq *seq, int i)
{
    int position = seq->start + i, total = seq->start + seq->n_rows, window = a->p->window;
    struct span s = {0, a->p->causal ? position + 1 : total};
    if (window > 0) {
        s.first = position - window + 1 > 0 ? position - window + 1 : 0;
        s.end = s.end - position > window ? position + window : s.end;
    }
    return s;
}

/* ---- one tile ---- */

struct tile_state {
    int n_tokens, n_shared; /* rows; query heads of a KV head */
    struct span spans[TILE_TOKENS];
    struct attention_query *queries; /* [n_tokens, n_shared] */
};

static size_t state_size(const struct attention_params *p)
{
    size_t n_queries = (size_t)(p->n_heads / p->n_kv_heads) * TILE_TOKENS;
    size_t floats = (size_t)(p->k_dim + p->v_dim) + 32; /* each part rounded up to a cache line */
    return n_queries * (sizeof(struct attention_query) + floats * sizeof(float)) + CPU_ALIGN;
}

static size_t line_floats(int n)
{
    return ((size_t)n + 15) / 16 * 16;
}

static void begin(const struct attention_args *a, const struct attention_tile *tile, int head, void *scratch,
                  struct tile_state *s)
{
    const struct attention_params *p = a->p;
    size_t k_dim = (size_t)p->k_dim, v_dim = (size_t)p->v_dim;
    float *floats = scratch;
    s->n_tokens = tile->n;
    s->n_shared = p->n_heads / p->n_kv_heads;
    size_t n_queries = (size_t)s->n_tokens * (size_t)s->n_shared;
    s->queries = (struct attention_query *)(floats + n_queries * (line_floats(p->k_dim) + line_floats(p->v_dim)));
    for (int t = 0; t < tile->n; t++) {
        s->spans[t] = visible(a, tile->seq, tile->first + t);
        size_t row = (size_t)(tile->seq->first_row + tile->first + t);
        for (int i = 0; i < s->n_shared; i++) {
            int h = head * s->n_shared + i;
            const float *q = a->q->f32 + row * (size_t)a->q->n_cols + (size_t)h * k_dim;
            float *scaled = floats, *acc = floats + line_floats(p->k_dim);
            floats = acc + line_floats(p->v_dim);
            for (size_t d = 0; d < k_dim; d++)
                scaled[d] = q[d] * p->scale;
            memset(acc, 0, v_dim * sizeof(float));
            /* A sink is a logit without a value: as if it had been the first key. */
            s->queries[t * s->n_shared + i] = (struct attention_query){
                .q = scaled,
                .acc = acc,
                .m = p->sinks ? p->sinks[h] : -INFINITY,
                .l = p->sinks ? 1.0f : 0.0f,
            };
        }
    }
}

static void run_page(const struct attention_args *a, const struct tile_state *s, const uint8_t *data, int page)
{
    const struct kv_group_spec *spec = &a->group->spec;
    int start = page * CPU_PAGE_TOKENS;
    struct attention_block block = {
        .k = data,
        .v = data + (size_t)spec->k_dim * CPU_PAGE_TOKENS * kv_type_size(spec->type),
        .type = spec->type,
        .k_dim = spec->k_dim,
        .v_dim = spec->v_dim,
        .softcap = a->p->softcap,
    };
    bool whole = true;
    for (int t = 0; t < s->n_tokens; t++)
        whole = whole && s->spans[t].first <= start && s->spans[t].end >= start + CPU_PAGE_TOKENS;
    if (whole) {
        block.end = CPU_PAGE_TOKENS;
        a->be->kernels->attention(&block, s->queries, s->n_tokens * s->n_shared);
        return;
    }
    for (int t = 0; t < s->n_tokens; t++) {
        int first = s->spans[t].first - start, end = s->spans[t].end - start;
        block.first = first > 0 ? first : 0;
        block.end = end < CPU_PAGE_TOKENS ? end : CPU_PAGE_TOKENS;
        if (block.first < block.end)
            a->be->kernels->attention(&block, s->queries + t * s->n_shared, s->n_shared);
    }
}

static void finish(const struct attention_args *a, const struct attention_tile *tile, int head,
                   const struct tile_state *s)
{
    size_t v_dim = (size_t)a->p->v_dim;
    for (int t = 0; t < s->n_tokens; t++) {
        size_t row = (size_t)(tile->seq->first_row + tile->first + t);
        float *out = a->out->f32 + row * (size_t)a->out->n_cols + (size_t)(head * s->n_shared) * v_dim;
        for (int i = 0; i < s->n_shared; i++, out += v_dim) {
            const struct attention_query *query = &s->queries[t * s->n_shared + i];
            float inverse = 1.0f / query->l;
            for (size_t d = 0; d < v_dim; d++)
                out[d] = query->acc[d] * inverse;
        }
    }
}

static void attention_tile(void *arg, int index, int thread)
{
    const struct attention_args *a = arg;
    const struct attention_tile *tile = &a->tiles[index / a->p->n_kv_heads];
    int head = index % a->p->n_kv_heads;
    struct tile_state s;
    begin(a, tile, head, cpu__thread_scratch(a->be, thread), &s);
    int last = (s.spans[s.n_tokens - 1].end - 1) / CPU_PAGE_TOKENS; /* spans move forward from row to row */
    for (int page = s.spans[0].first / CPU_PAGE_TOKENS; page <= last; page++) {
        uint32_t at = tile->seq->pages[a->group_index][page];
        run_page(a, &s, cpu__kv_head(a->group, at, a->layer, head), page);
    }
    finish(a, tile, head, &s);
}

/* ---- the op ---- */

/* Long sequences are cut into more rows per tile than short ones: never more than TILE_TOKENS. */
static bool cut_tiles(struct cpu_backend *be, struct attention_args *a)
{
    const struct batch *batch = be->batch;
    size_t n = 0;
    for (int s = 0; s < batch->n_seqs; s++)
        n += (size_t)(batch->seqs[s].n_rows + TILE_TOKENS - 1) / TILE_TOKENS;
    a->tiles = cpu__alloc(be, n * sizeof(*a->tiles));
    if (!a->tiles)
        return false;
    for (int s = 0; s < batch->n_seqs; s++) {
        const struct batch_seq *seq = &batch->seqs[s];
        for (int i = 0; i < seq->n_rows; i += TILE_TOKENS) {
            int left = seq->n_rows - i;
            a->tiles[a->n_tiles++] = (struct attention_tile){seq, i, left < TILE_TOKENS ? left : TILE_TOKENS};
        }
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
    return layer < spec->n_layers && p->n_kv_heads == spec->n_kv_heads && p->k_dim == spec->k_dim &&
           p->v_dim == spec->v_dim && window_fits && q->n_cols == p->n_heads * p->k_dim &&
           q->n_rows == be->batch->n_rows;
}

struct tensor *cpu__attention(struct backend *base, int group, int layer, struct tensor *q,
                              const struct attention_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!q)
        return NULL;
    if (!fits(be, group, layer, q, p))
        return cpu__fail(be, ERR_INTERNAL, "The attention does not fit its KV group.");
    struct tensor *out = cpu__tensor(be, q->n_rows, p->n_heads * p->v_dim);
    if (!out || !cpu__scratch(be, state_size(p)))
        return NULL;
    struct attention_args args = {
        .be = be, .group = &be->groups[group], .group_index = group, .layer = layer, .q = q, .out = out, .p = p};
    if (!cut_tiles(be, &args))
        return NULL;
    pool_run(be->pool, attention_tile, &args, args.n_tiles * p->n_kv_heads);
    be->memory.used = out->mark;
    return out;
}
