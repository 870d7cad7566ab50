/* Checksums of single positions of KV pages. K lies transposed, so that a position's bytes are in as many cache lines
 * as K has elements; when they were just written these are at hand, and behind a step they are not. So each layer's
 * part is summed up as it is written, and the sum of a position is the sum of its parts, each seeded with its place.
 *
 * Of a page that is whole behind the step nobody asks for positions: there nothing is summed up, and what was known is
 * not any more. */
#include "backend/cpu/cpu_internal.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define GATHERED 512 /* bytes that are summed up at once */

static uint64_t two_bytes(const uint8_t *from)
{
    uint16_t x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Four at a time: what was stored in small pieces is slow to load in large ones. */
static void gather_pairs(uint8_t *to, const uint8_t *from, size_t n, size_t stride)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint8_t *at = from + i * stride;
        uint64_t four = two_bytes(at) | two_bytes(at + stride) << 16 | two_bytes(at + 2 * stride) << 32 |
                        two_bytes(at + 3 * stride) << 48;
        memcpy(to + 2 * i, &four, sizeof four);
    }
    for (; i < n; i++)
        memcpy(to + 2 * i, from + i * stride, 2);
}

/* n elements of the same size, each `stride` bytes behind the one before. */
static void gather(uint8_t *to, const uint8_t *from, size_t n, size_t element, size_t stride)
{
    if (element == 2) {
        gather_pairs(to, from, n, stride);
    } else if (element == 4) {
        for (size_t i = 0; i < n; i++)
            memcpy(to + 4 * i, from + i * stride, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i * stride];
    }
}

static uint64_t sum_elements(const uint8_t *from, size_t n, size_t element, size_t stride, uint64_t seed)
{
    uint8_t bytes[GATHERED];
    for (size_t i = 0, some; i < n; i += some) {
        some = n - i < GATHERED / element ? n - i : GATHERED / element;
        gather(bytes, from + i * stride, some, element, stride);
        seed = xxh3(bytes, some * element, seed);
    }
    return seed;
}

/* The page's offsets belong to its first position, with which they are written. */
static uint64_t sum_q8(const struct kv_group_spec *spec, const struct kv_head *at, int slot, uint64_t seed)
{
    size_t stride = 2 * (size_t)CPU_PAGE_TOKENS;
    seed = sum_elements((const uint8_t *)(at->k_scales + slot), kv_groups(spec->k_dim), 2, stride, seed);
    seed = sum_elements((const uint8_t *)(at->v_scales + slot), kv_groups(spec->v_dim), 2, stride, seed);
    return slot == 0 ? xxh3(at->k_offsets, 2 * (size_t)spec->k_dim, seed) : seed;
}

/* One head of one layer of the position in this slot. */
static uint64_t sum_head(const struct kv_group *g, uint32_t page, int layer, int head, int slot)
{
    const struct kv_group_spec *spec = &g->spec;
    struct kv_head at = cpu__kv_head(g, page, layer, head);
    size_t run = (size_t)cpu__kv_run(spec->type), element = cpu__kv_element(spec->type), v_dim = (size_t)spec->v_dim;
    size_t i = (size_t)slot, piece = run * element;
    uint64_t sum = ((uint64_t)layer << 40) + ((uint64_t)head << 8) + i;
    sum = sum_elements(at.k + i * piece, (size_t)spec->k_dim / run, piece, CPU_PAGE_TOKENS * piece, sum);
    const uint8_t *v = at.v + (i / run * v_dim * run + i % run) * element;
    sum = run == 1 ? xxh3(v, v_dim * element, sum) : sum_elements(v, v_dim, element, piece, sum);
    return spec->type == KV_Q8 ? sum_q8(spec, &at, slot, sum) : sum;
}

/* As they are in memory. sums: [to - from] */
static void sum_positions(const struct kv_group *g, uint32_t page, int from, int to, uint64_t *sums)
{
    memset(sums, 0, (size_t)(to - from) * sizeof *sums);
    for (int layer = 0; layer < g->spec.n_layers; layer++) {
        for (int head = 0; head < g->spec.n_kv_heads; head++) {
            for (int i = from; i < to; i++)
                sums[i - from] += sum_head(g, page, layer, head, i);
        }
    }
}

static uint64_t *kept(const struct kv_group *g, uint32_t page)
{
    return g->sums + (size_t)page * CPU_PAGE_TOKENS;
}

static bool are_known(const struct kv_group *g, uint32_t page, int from, int to)
{
    for (int i = from; i < to; i++) {
        if (!g->sums || kept(g, page)[i] == 0)
            return false;
    }
    return true;
}

uint64_t cpu__kv_sum(struct backend *be, int group, uint32_t page, int from, int to, uint64_t seed, bool written)
{
    const struct kv_group *g = &cpu__of(be)->groups[group];
    uint64_t sums[CPU_PAGE_TOKENS];
    if (written && are_known(g, page, from, to))
        memcpy(sums, kept(g, page) + from, (size_t)(to - from) * sizeof *sums);
    else
        sum_positions(g, page, from, to, sums);
    for (int i = from; i < to; i++)
        seed = xxh3(&sums[i - from], sizeof *sums, seed);
    return seed;
}

/* ---- while they are written ---- */

void cpu__kv_note_sums(const struct kv_group *g, const struct batch_seq *seq, int from, int to, uint32_t page,
                       int layer, int head)
{
    if (!g->sums)
        return;
    int slot = (seq->start + from) % CPU_PAGE_TOKENS, end = seq->start + from - slot + CPU_PAGE_TOKENS;
    bool whole = seq->start + seq->n_rows >= end;
    uint64_t *sums = kept(g, page) + slot;
    for (int i = 0; i < to - from && !(whole && layer + head > 0); i++) {
        uint64_t before = layer + head > 0 ? sums[i] : 0;
        sums[i] = whole ? 0 : before + sum_head(g, page, layer, head, slot + i);
    }
}

void cpu__kv_copy_sums(const struct kv_group *g, uint32_t src, uint32_t dst, int n_tokens)
{
    if (g->sums)
        memcpy(kept(g, dst), kept(g, src), (size_t)n_tokens * sizeof *g->sums);
}

bool cpu__kv_keep_sums(struct backend *base, struct error *err)
{
    struct cpu_backend *be = cpu__of(base);
    cpu__kv_drop_sums(be);
    for (int i = 0; i < be->n_groups; i++) {
        struct kv_group *g = &be->groups[i];
        if (g->spec.state_size > 0)
            continue;
        g->sums = calloc(g->n_pages ? g->n_pages : 1, CPU_PAGE_TOKENS * sizeof *g->sums);
        if (!g->sums) {
            cpu__kv_drop_sums(be);
            return error_set(err, ERR_NO_MEMORY, "There is no memory for the checksums of %zu KV pages.", g->n_pages);
        }
    }
    return true;
}

void cpu__kv_drop_sums(struct cpu_backend *be)
{
    for (int i = 0; i < KV_MAX_GROUPS; i++) {
        free(be->groups[i].sums);
        be->groups[i].sums = NULL;
    }
}
