/* KV pages: sizes, layout, writing. cpu_internal.h draws a page. */
#include "backend/cpu/cpu_internal.h"
#include "backend/state.h"

#include <math.h>
#include <string.h>

/* Bytes of the elements of CPU_PAGE_TOKENS vectors, and of their scales, which lie behind them. */
static size_t elements_size(enum kv_type type, int dim)
{
    return (size_t)dim * CPU_PAGE_TOKENS * cpu__kv_element(type);
}

static size_t vectors_size(enum kv_type type, int dim)
{
    return kv_vector_size(type, dim) * CPU_PAGE_TOKENS;
}

/* K and what belongs to it. */
static size_t keys_size(const struct kv_group_spec *spec)
{
    return vectors_size(spec->type, spec->k_dim) + (spec->type == KV_Q8 ? 2 * (size_t)spec->k_dim : 0);
}

static size_t head_size(const struct kv_group_spec *spec)
{
    return keys_size(spec) + vectors_size(spec->type, spec->v_dim);
}

int cpu__kv_page_tokens(const struct backend *be)
{
    (void)be;
    return CPU_PAGE_TOKENS;
}

size_t cpu__kv_page_size(const struct backend *be, const struct kv_group_spec *spec)
{
    (void)be;
    if (spec->state_size > 0)
        return kv_state_page_size(spec);
    return (size_t)spec->n_layers * (size_t)spec->n_kv_heads * head_size(spec);
}

bool cpu__kv_bind(struct backend *base, const struct kv_group_spec *groups, int n_groups, uint8_t *pool,
                  size_t pool_size, struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    if (n_groups < 0 || n_groups > KV_MAX_GROUPS)
        return error_set(err, ERR_INTERNAL, "%d KV groups were asked for; %d are possible.", n_groups, KV_MAX_GROUPS);
    if ((uintptr_t)pool % CPU_ALIGN != 0)
        return error_set(err, ERR_INTERNAL, "The KV pool is not aligned to %d bytes.", CPU_ALIGN);
    cpu__kv_drop_sums(be);
    for (int i = 0; i < n_groups; i++) {
        size_t page_size = cpu__kv_page_size(base, &groups[i]);
        if (groups[i].k_dim % cpu__kv_run(groups[i].type) != 0)
            return error_set(err, ERR_UNSUPPORTED, "KV of type q8 needs an even number of values in each key, not %d.",
                             groups[i].k_dim);
        if (groups[i].base > pool_size || page_size == 0)
            return error_set(err, ERR_INTERNAL, "KV group %d begins outside the pool, or its pages are empty.", i);
        be->groups[i] = (struct kv_group){
            .spec = groups[i],
            .head_size = groups[i].state_size > 0 ? 0 : head_size(&groups[i]),
            .page_size = page_size,
            .base = pool + groups[i].base,
            .n_pages = (pool_size - groups[i].base) / page_size,
        };
    }
    be->n_groups = n_groups;
    return true;
}

/* The first page that a row of the sequence may read. */
static int first_live_page(const struct kv_group_spec *spec, const struct batch_seq *seq)
{
    int first = spec->window > 0 ? seq->start - spec->window + 1 : 0;
    return first > 0 ? first / CPU_PAGE_TOKENS : 0;
}

static bool check_seq(const struct cpu_backend *be, const struct batch_seq *seq, struct error *err)
{
    int64_t n_positions = (int64_t)seq->start + seq->n_rows;
    if (seq->start < 0 || seq->n_rows < 0 || (int64_t)seq->n_pages * CPU_PAGE_TOKENS < n_positions)
        return error_set(err, ERR_INTERNAL, "A block table of %d pages does not cover %lld positions.", seq->n_pages,
                         (long long)n_positions);
    int end = (int)((n_positions + CPU_PAGE_TOKENS - 1) / CPU_PAGE_TOKENS);
    for (int g = 0; g < be->n_groups; g++) {
        if (be->groups[g].spec.state_size > 0)
            continue; /* check_states */
        for (int i = first_live_page(&be->groups[g].spec, seq); i < end; i++) {
            if (seq->pages[g][i] >= be->groups[g].n_pages)
                return error_set(err, ERR_INTERNAL, "Entry %d of a block table names page %lu; group %d has %zu.", i,
                                 (unsigned long)seq->pages[g][i], g, be->groups[g].n_pages);
        }
    }
    return true;
}

/* ---- states ---- */

static int32_t *tag_of(void *arg, int group, uint32_t page)
{
    const struct kv_group *g = &((const struct cpu_backend *)arg)->groups[group];
    size_t at = (size_t)g->spec.n_layers * kv_state_stride(&g->spec);
    return (int32_t *)(void *)(g->base + (size_t)page * g->page_size + at);
}

/* False: the group has no states. */
static bool state_group_of(struct cpu_backend *be, int group, struct state_group *out)
{
    const struct kv_group *g = &be->groups[group];
    *out = (struct state_group){
        .group = group, .page_tokens = CPU_PAGE_TOKENS, .n_pages = g->n_pages, .arg = be, .tag = tag_of};
    return g->spec.state_size > 0;
}

static bool check_states(struct cpu_backend *be, const struct batch *batch, struct error *err)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states) && !state_check(&states, batch, err))
            return false;
    }
    return true;
}

void cpu__kv_forget(struct cpu_backend *be)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states))
            state_forget(&states, be->batch);
    }
}

void cpu__kv_remember(struct cpu_backend *be)
{
    struct state_group states;
    for (int g = 0; g < be->n_groups; g++) {
        if (state_group_of(be, g, &states))
            state_remember(&states, be->batch);
    }
}

/* ---- batches ---- */

/* Pages are memory that kernels write: a wrong index must not get there. */
bool cpu__kv_check_batch(struct cpu_backend *be, const struct batch *batch, struct error *err)
{
    int next = 0;
    for (int i = 0; i < batch->n_seqs; i++) {
        const struct batch_seq *seq = &batch->seqs[i];
        if (seq->first_row != next)
            return error_set(err, ERR_INTERNAL, "Sequence %d begins at row %d instead of %d.", i, seq->first_row, next);
        if (!check_seq(be, seq, err))
            return false;
        next += seq->n_rows;
    }
    if (next != batch->n_rows)
        return error_set(err, ERR_INTERNAL, "The sequences have %d rows, the batch %d.", next, batch->n_rows);
    for (int i = 0; i < batch->n_out; i++) {
        if (batch->out_rows[i] < 0 || batch->out_rows[i] >= batch->n_rows)
            return error_set(err, ERR_INTERNAL, "Output row %d is not in the batch of %d.", batch->out_rows[i],
                             batch->n_rows);
        if (i > 0 && batch->out_rows[i] <= batch->out_rows[i - 1])
            return error_set(err, ERR_INTERNAL, "Output rows %d and %d are not in order.", batch->out_rows[i - 1],
                             batch->out_rows[i]);
    }
    return check_states(be, batch, err);
}

struct kv_head cpu__kv_head(const struct kv_group *g, uint32_t page, int layer, int head)
{
    const struct kv_group_spec *spec = &g->spec;
    size_t index = (size_t)layer * (size_t)spec->n_kv_heads + (size_t)head;
    uint8_t *k = g->base + (size_t)page * g->page_size + index * g->head_size;
    uint8_t *v = k + keys_size(spec);
    return (struct kv_head){.k = k,
                            .v = v,
                            .k_scales = (uint16_t *)(void *)(k + elements_size(spec->type, spec->k_dim)),
                            .v_scales = (uint16_t *)(void *)(v + elements_size(spec->type, spec->v_dim)),
                            .k_offsets = (uint16_t *)(void *)(k + vectors_size(spec->type, spec->k_dim))};
}

/* The first n_tokens of each of n rows of CPU_PAGE_TOKENS elements. */
static void copy_rows(uint8_t *to, const uint8_t *from, size_t n, size_t element, int n_tokens)
{
    for (size_t i = 0; i < n; i++)
        memcpy(to + i * CPU_PAGE_TOKENS * element, from + i * CPU_PAGE_TOKENS * element, (size_t)n_tokens * element);
}

static void copy_head(const struct kv_group_spec *spec, const struct kv_head *to, const struct kv_head *from,
                      int n_tokens)
{
    size_t run = (size_t)cpu__kv_run(spec->type), element = cpu__kv_element(spec->type) * run;
    size_t n_rows = ((size_t)n_tokens + run - 1) / run; /* of V: a pair's other position is not looked at */
    copy_rows(to->k, from->k, (size_t)spec->k_dim / run, element, n_tokens);
    memcpy(to->v, from->v, n_rows * (size_t)spec->v_dim * element);
    if (spec->type == KV_Q8) {
        copy_rows((uint8_t *)to->k_scales, (const uint8_t *)from->k_scales, kv_groups(spec->k_dim), 2, n_tokens);
        memcpy(to->k_offsets, from->k_offsets, 2 * (size_t)spec->k_dim);
        copy_rows((uint8_t *)to->v_scales, (const uint8_t *)from->v_scales, kv_groups(spec->v_dim), 2, n_tokens);
    }
}

void *cpu__kv_page(struct backend *base, int group, uint32_t page)
{
    const struct kv_group *g = &cpu__of(base)->groups[group];
    return g->base + (size_t)page * g->page_size;
}

void cpu__kv_copy_page(struct backend *base, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    const struct kv_group *g = &cpu__of(base)->groups[group];
    if (g->spec.state_size > 0) {
        memcpy(g->base + (size_t)dst * g->page_size, g->base + (size_t)src * g->page_size, g->page_size);
        return;
    }
    for (int layer = 0; layer < g->spec.n_layers; layer++) {
        for (int head = 0; head < g->spec.n_kv_heads; head++) {
            struct kv_head to = cpu__kv_head(g, dst, layer, head), from = cpu__kv_head(g, src, layer, head);
            copy_head(&g->spec, &to, &from, n_tokens);
        }
    }
    cpu__kv_copy_sums(g, src, dst, n_tokens);
}

/* ---- rotation ---- */

static void butterflies(float *x, int n, int half)
{
    for (int i = 0; i < n; i += 2 * half) {
        for (int k = i; k < i + half; k++) {
            float a = x[k], b = x[k + half];
            x[k] = a + b;
            x[k + half] = a - b;
        }
    }
}

void cpu__kv_rotate(float *x, int n)
{
    int block = n & -n; /* the largest power of two that divides n */
    float factor = 1 / sqrtf((float)block);
    for (int half = 1; half < block; half *= 2)
        butterflies(x, n, half);
    for (int i = 0; i < n; i++)
        x[i] *= factor;
}

/* ---- writing ---- */

struct write_args {
    const struct cpu_backend *be;
    const struct kv_group *group;
    int group_index, layer;
    const struct tensor *k, *v;
};

/* Rows [from, to) of a sequence, all of whose positions lie in one page. */
struct run {
    const struct batch_seq *seq;
    int from, to;
};

static int slot_of(const struct batch_seq *seq, int i)
{
    return (seq->start + i) % CPU_PAGE_TOKENS;
}

static const float *vector_of(const struct tensor *x, const struct batch_seq *seq, int i, int head, int dim)
{
    return x->f32 + (size_t)(seq->first_row + i) * (size_t)x->n_cols + (size_t)head * (size_t)dim;
}

static void store_key(const struct write_args *a, const struct kv_head *to, int slot, const float *key)
{
    const struct kv_group_spec *spec = &a->group->spec;
    size_t element = cpu__kv_element(spec->type);
    int run = cpu__kv_run(spec->type);
    a->be->kernels->kv_store(spec->type, key, spec->k_dim, to->k + (size_t)(slot * run) * element,
                             CPU_PAGE_TOKENS * run, run, to->k_scales + slot);
}

static void store_value(const struct write_args *a, const struct kv_head *to, int slot, const float *value)
{
    const struct kv_group_spec *spec = &a->group->spec;
    size_t element = cpu__kv_element(spec->type);
    int run = cpu__kv_run(spec->type);
    size_t row = (size_t)(slot / run) * (size_t)(spec->v_dim * run), place = (size_t)(slot % run);
    a->be->kernels->kv_store(spec->type, value, spec->v_dim, to->v + (row + place) * element, run, 1,
                             to->v_scales + slot);
}

static void rotated_key(const struct write_args *a, const struct batch_seq *seq, int i, int head, float *out)
{
    int k_dim = a->group->spec.k_dim;
    memcpy(out, vector_of(a->k, seq, i, head, k_dim), (size_t)k_dim * sizeof(float));
    cpu__kv_rotate(out, k_dim);
}

/* The first key of the run's page as it is stored. When it is in the batch it is taken from there: if its row is before
 * the run, another thread may not have written it yet. scratch: [k_dim] halves. */
static void first_key(const struct write_args *a, const struct run *r, int head, const struct kv_head *to,
                      uint16_t *scratch, float *out)
{
    size_t k_dim = (size_t)a->group->spec.k_dim;
    int first = r->from - slot_of(r->seq, r->from);
    uint16_t *halves = first < 0 || first == r->from ? to->k_offsets : scratch;
    if (first >= 0) {
        rotated_key(a, r->seq, first, head, out);
        a->be->kernels->kv_store(KV_F16, out, (int)k_dim, halves, 1, 1, NULL);
    }
    dtype_to_f32(DTYPE_F16, halves, k_dim, out);
}

/* KV_Q8: keys less the first of their page. scratch: [3, k_dim] */
static void store_differences(const struct write_args *a, const struct run *r, int head, const struct kv_head *to,
                              float *scratch)
{
    size_t k_dim = (size_t)a->group->spec.k_dim;
    float *key = scratch, *first = scratch + k_dim;
    first_key(a, r, head, to, (uint16_t *)(void *)(scratch + 2 * k_dim), first);
    for (int i = r->from; i < r->to; i++) {
        rotated_key(a, r->seq, i, head, key);
        for (size_t d = 0; d < k_dim; d++)
            key[d] -= first[d];
        store_key(a, to, slot_of(r->seq, i), key);
    }
}

static void write_run(const struct write_args *a, const struct run *r, int thread)
{
    const struct kv_group_spec *spec = &a->group->spec;
    uint32_t page = r->seq->pages[a->group_index][(r->seq->start + r->from) / CPU_PAGE_TOKENS];
    for (int h = 0; h < spec->n_kv_heads; h++) {
        struct kv_head to = cpu__kv_head(a->group, page, a->layer, h);
        if (spec->type == KV_Q8)
            store_differences(a, r, h, &to, cpu__thread_scratch(a->be, thread));
        for (int i = r->from; i < r->to; i++) {
            int slot = slot_of(r->seq, i);
            if (spec->type != KV_Q8)
                store_key(a, &to, slot, vector_of(a->k, r->seq, i, h, spec->k_dim));
            store_value(a, &to, slot, vector_of(a->v, r->seq, i, h, spec->v_dim));
        }
        cpu__kv_note_sums(a->group, r->seq, r->from, r->to, page, a->layer, h);
    }
}

static void write_rows(void *arg, int first, int end, int thread)
{
    const struct write_args *a = arg;
    const struct batch *batch = a->be->batch;
    for (int s = 0; s < batch->n_seqs; s++) {
        const struct batch_seq *seq = &batch->seqs[s];
        int to = end - seq->first_row < seq->n_rows ? end - seq->first_row : seq->n_rows;
        for (int i = first > seq->first_row ? first - seq->first_row : 0, next; i < to; i = next) {
            next = i + CPU_PAGE_TOKENS - slot_of(seq, i);
            next = next < to ? next : to;
            write_run(a, &(struct run){seq, i, next}, thread);
        }
    }
}

#define SCATTER_WORK 16 /* simple operations that writing an element of K into a line of its own costs, about */

void cpu__kv_write(struct backend *base, int group, int layer, struct tensor *k, struct tensor *v)
{
    struct cpu_backend *be = cpu__of(base);
    if (!k || !v)
        return;
    const struct kv_group *g = &be->groups[group];
    if (group >= be->n_groups || layer >= g->spec.n_layers || g->spec.state_size > 0 ||
        k->n_cols != g->spec.n_kv_heads * g->spec.k_dim || v->n_cols != g->spec.n_kv_heads * g->spec.v_dim ||
        k->n_rows != be->batch->n_rows) {
        cpu__fail(be, ERR_INTERNAL, "K and V do not fit the KV group.");
        return;
    }
    struct write_args args = {be, g, group, layer, k, v};
    if (!cpu__scratch(be, 3 * (size_t)g->spec.k_dim * sizeof(float)))
        return;
    cpu__for_rows(be, k->n_rows, (size_t)k->n_cols * SCATTER_WORK + (size_t)v->n_cols, write_rows, &args);
}
