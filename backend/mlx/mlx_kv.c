/* KV of the mlx backend: slabs (mlx_internal.h draws one), and which page lives where. Nothing is evaluated here. */
#include "backend/mlx/mlx_internal.h"

#include "base/array.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BATCH_SLABS ((size_t)1 << 20)

/* ---- pages ---- */

int mlx__kv_page_tokens(const struct backend *be)
{
    (void)be;
    return MLX_PAGE_TOKENS;
}

size_t mlx__kv_page_size(const struct backend *be, const struct kv_group_spec *spec)
{
    (void)be;
    return spec->state_size > 0 ? kv_state_page_size(spec) : kv_position_size(spec) * MLX_PAGE_TOKENS;
}

/* 16 bits are those of the activations, so that attention needs no conversion. */
static enum mlx_dtype element_type(const struct mlx_backend *be, enum kv_type type)
{
    if (type == KV_F32)
        return MLX_F32;
    return be->type == MLX_TYPE_BF16 ? MLX_BF16 : MLX_F16;
}

bool mlx__kv_bind(struct backend *base, const struct kv_group_spec *groups, int n_groups, uint8_t *pool,
                  size_t pool_size, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    (void)pool; /* MLX keeps K and V in memory of its own; the pool's size is what they may take */
    for (int i = 0; i < n_groups; i++) {
        if (groups[i].type == KV_Q8)
            return error_set(err, ERR_UNSUPPORTED, "The mlx backend keeps K and V as f32 or f16, not as q8.");
        struct mlx_kv_group *g = &be->groups[i];
        *g = (struct mlx_kv_group){.spec = groups[i], .type = element_type(be, groups[i].type)};
        g->n_pages = pool_size / mlx__kv_page_size(base, &groups[i]);
        be->n_groups = i + 1;
        if (groups[i].state_size == 0)
            g->homes = calloc(g->n_pages + 1, sizeof *g->homes);
        if (groups[i].state_size > 0 ? !mlx__states_bind(g) : !g->homes)
            return error_set(err, ERR_NO_MEMORY, "There is no memory for the names of %zu KV pages.", g->n_pages);
    }
    return true;
}

/* ---- slabs ---- */

static void slab_free(struct slab *s, int n_layers)
{
    for (int l = 0; l < n_layers; l++) {
        if (s->k)
            mlx_drop(s->k[l]);
        if (s->v)
            mlx_drop(s->v[l]);
    }
    free(s->k);
    free(s->v);
    free(s->pages);
    free(s);
}

/* Without arrays yet, and without pages. */
static struct slab *slab_create(struct mlx_backend *be, int group, int first_block, int cap_blocks)
{
    size_t n_layers = (size_t)be->groups[group].spec.n_layers;
    struct slab *s = calloc(1, sizeof *s);
    if (s) {
        *s = (struct slab){.group = group, .first_block = first_block, .cap_blocks = cap_blocks};
        s->pages = calloc((size_t)cap_blocks, sizeof *s->pages);
        s->k = calloc(n_layers, sizeof *s->k);
        s->v = calloc(n_layers, sizeof *s->v);
        if (s->pages && s->k && s->v)
            return s;
        slab_free(s, (int)n_layers);
    }
    mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for a slab of KV");
    return NULL;
}

static void forget(struct mlx_backend *be, int group, uint32_t page)
{
    struct page_home *home = &be->groups[group].homes[page];
    struct slab *s = home->slab;
    if (!s)
        return;
    s->pages[home->at] = KV_PAGE_NONE;
    *home = (struct page_home){0};
    if (--s->n_live == 0)
        slab_free(s, be->groups[group].spec.n_layers);
}

/* The page is block `at` of the slab from now on. */
static void settle(struct mlx_backend *be, struct slab *s, int at, uint32_t page)
{
    forget(be, s->group, page);
    s->pages[at] = page;
    s->n_live++;
    s->n_blocks = at + 1 > s->n_blocks ? at + 1 : s->n_blocks;
    be->groups[s->group].homes[page] = (struct page_home){s, at};
}

void mlx__kv_free_page(struct backend *base, int group, uint32_t page)
{
    struct mlx_backend *be = mlx__of(base);
    if (be->groups[group].states)
        mlx__state_drop(be, group, page);
    else
        forget(be, group, page);
}

void mlx__kv_release(struct mlx_backend *be)
{
    for (int g = 0; g < be->n_groups; g++) {
        const struct mlx_kv_group *group = &be->groups[g];
        for (size_t p = 0; (group->states || group->homes) && p < group->n_pages; p++)
            mlx__kv_free_page(&be->base, g, (uint32_t)p);
        free(group->homes);
        free(group->states);
    }
}

/* ---- putting a slab together ---- */

/* Blocks [at, at + n) of a slab's K or V of one layer. */
static struct mlx_array *blocks_of(struct mlx_backend *be, struct mlx_array *a, int at, int n)
{
    return mlx_slice(be->m, a, 2, at * MLX_PAGE_TOKENS, (at + n) * MLX_PAGE_TOKENS);
}

/* What a new slab is made of: runs of blocks that lie together, then room. */
struct run {
    const struct slab *from;
    int at, n;
};
struct recipe {
    struct run *runs; /* [n_runs] */
    int n_runs, n_room;
};

static struct mlx_array *cook(struct mlx_backend *be, int group, const struct recipe *r, int layer, bool values,
                              struct mlx_array **parts)
{
    const struct mlx_kv_group *g = &be->groups[group];
    int n = 0;
    for (int i = 0; i < r->n_runs; i++) {
        const struct run *run = &r->runs[i];
        parts[n++] = blocks_of(be, values ? run->from->v[layer] : run->from->k[layer], run->at, run->n);
    }
    if (r->n_room) {
        int dim = values ? g->spec.v_dim : g->spec.k_dim;
        struct mlx_shape room = {4, {1, g->spec.n_kv_heads, r->n_room * MLX_PAGE_TOKENS, dim}};
        parts[n++] = mlx_zeros(be->m, room, g->type);
    }
    return mlx_hold(be->m, n == 1 ? mlx_contiguous(be->m, parts[0]) : mlx_concat(be->m, parts, n, 2));
}

static bool fill(struct mlx_backend *be, struct slab *s, const struct recipe *r)
{
    const struct kv_group_spec *spec = &be->groups[s->group].spec;
    struct mlx_array **parts = calloc((size_t)r->n_runs + 1, sizeof(struct mlx_array *));
    if (!parts) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for a slab of KV");
        return false;
    }
    for (int l = 0; l < spec->n_layers; l++) {
        if (spec->k_dim > 0)
            s->k[l] = cook(be, s->group, r, l, false, parts);
        if (spec->v_dim > 0)
            s->v[l] = cook(be, s->group, r, l, true, parts);
    }
    free(parts);
    return mlx_ok(be->m);
}

/* Blocks [first, end) of the sequence as runs. False: a page that should hold something is not known. */
static bool find_runs(const struct mlx_backend *be, int group, const uint32_t *table, int first, int end,
                      struct recipe *r)
{
    for (int b = first; b < end; b++) {
        struct page_home home = be->groups[group].homes[table[b]];
        struct run *last = r->n_runs ? &r->runs[r->n_runs - 1] : NULL;
        if (!home.slab)
            return false;
        if (last && last->from == home.slab && last->at + last->n == home.at)
            last->n++;
        else
            r->runs[r->n_runs++] = (struct run){home.slab, home.at, 1};
    }
    return true;
}

/* A slab of [first, end) whose blocks before `written` are those of the pages. */
static struct slab *assemble(struct mlx_backend *be, int group, const uint32_t *table, const int bounds[3])
{
    int first = bounds[0], written = bounds[1], end = bounds[2];
    struct recipe r = {.runs = calloc((size_t)(written - first) + 1, sizeof(struct run)), .n_room = end - written};
    struct slab *s = slab_create(be, group, first, end - first);
    bool ok = s && r.runs;
    if (ok && !find_runs(be, group, table, first, written, &r)) {
        mlx_fail(be->m, ERR_INTERNAL, "a KV page that was never written is to be read");
        ok = false;
    }
    ok = ok && fill(be, s, &r);
    free(r.runs);
    if (!ok && s) {
        slab_free(s, be->groups[group].spec.n_layers);
        return NULL;
    }
    for (int b = first; ok && b < end; b++)
        settle(be, s, b - first, table[b]);
    return s;
}

/* ---- before a step ---- */

static int blocks_for(int n_tokens)
{
    return (n_tokens + MLX_PAGE_TOKENS - 1) / MLX_PAGE_TOKENS;
}

/* The slab that has all blocks [first, written), and room up to end; NULL when there is none. */
static struct slab *find_slab(struct mlx_backend *be, int group, const uint32_t *table, const int bounds[3])
{
    struct page_home *homes = be->groups[group].homes;
    struct page_home start = homes[table[bounds[0]]];
    if (bounds[0] == bounds[1] || !start.slab || start.at + bounds[2] - bounds[0] > start.slab->cap_blocks)
        return NULL;
    for (int b = bounds[0]; b < bounds[1]; b++) {
        struct page_home home = homes[table[b]];
        if (home.slab != start.slab || home.at != start.at + b - bounds[0])
            return NULL;
    }
    for (int b = bounds[1]; b < bounds[2]; b++) {
        int at = start.at + b - bounds[0];
        if (homes[table[b]].slab != start.slab || homes[table[b]].at != at)
            settle(be, start.slab, at, table[b]);
    }
    return start.slab;
}

static bool in_range(const struct mlx_backend *be, int group, const uint32_t *table, int first, int end)
{
    for (int b = first; b < end; b++) {
        if (table[b] >= be->groups[group].n_pages)
            return false;
    }
    return true;
}

static struct slab *prepare(struct mlx_backend *be, int group, const struct batch_seq *seq)
{
    int window = be->groups[group].spec.window, seen = window ? seq->start - window + 1 : 0;
    int bounds[3] = {seen > 0 ? seen / MLX_PAGE_TOKENS : 0, blocks_for(seq->start),
                     blocks_for(seq->start + seq->n_rows)};
    const uint32_t *table = seq->pages[group];
    if (seq->start < 0 || seq->n_rows < 1 || bounds[2] > seq->n_pages ||
        !in_range(be, group, table, bounds[0], bounds[2])) {
        mlx_fail(be->m, ERR_INTERNAL, "a block table does not cover the rows of its sequence");
        return NULL;
    }
    struct slab *s = find_slab(be, group, table, bounds);
    return s ? s : assemble(be, group, table, bounds);
}

bool mlx__kv_prepare(struct mlx_backend *be, const struct batch *batch, struct error *err)
{
    size_t n = (size_t)batch->n_seqs * (size_t)be->n_groups;
    if (!array_reserve(&be->slabs, &be->slabs_cap, n + 1, MAX_BATCH_SLABS, "sequences of a step", err) ||
        !array_reserve(&be->masks, &be->masks_cap, n + 1, MAX_BATCH_SLABS, "sequences of a step", err) ||
        !array_reserve(&be->parts, &be->parts_cap, 2 * (size_t)batch->n_seqs + 1, MAX_BATCH_SLABS,
                       "sequences of a step", err))
        return false;
    memset(be->masks, 0, n * sizeof *be->masks);
    for (int i = 0; i < batch->n_seqs; i++) {
        for (int g = 0; g < be->n_groups; g++) {
            bool states = be->groups[g].states;
            struct slab *s = states ? NULL : prepare(be, g, &batch->seqs[i]);
            if (!s && !states)
                return mlx_take_error(be->m, err);
            be->slabs[i * be->n_groups + g] = s;
        }
    }
    return true;
}

/* ---- copies ---- */

/* The copy is a slab of one block until its sequence's next step joins it with the others. */
void mlx__kv_copy_page(struct backend *base, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    struct mlx_backend *be = mlx__of(base);
    if (be->groups[group].states) {
        mlx__state_copy(be, group, src, dst);
        return;
    }
    struct page_home from = be->groups[group].homes[src];
    struct slab *s = from.slab ? slab_create(be, group, 0, 1) : NULL;
    (void)n_tokens; /* what is behind them is written before it is read */
    if (!s)
        return;
    struct recipe r = {&(struct run){from.slab, from.at, 1}, 1, 0};
    if (fill(be, s, &r))
        settle(be, s, 0, dst);
    else
        slab_free(s, be->groups[group].spec.n_layers);
}
