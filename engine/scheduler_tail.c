/* The block that a sequence is filling. Behind each step its page is sealed as far as it is computed, so that the next
 * engine need not compute up to a block of every sequence again:
 *
 *     blocks    | 0 | 1 | 2 | 3 ...|        0, 1, 2: whole, in the prefix cache and sealed by it
 *     computed  |===============|           3: a part, sealed here; no node of this engine's cache has it
 *
 * Its first positions stay as they are while the sequence runs: guesses that turned out wrong lie behind them, and
 * whoever shares the page copies it before writing. The seal goes when the page becomes free (scheduler.c), or a whole
 * block.
 *
 * Parts that an engine before this one left are nodes of the cache. A hit may end with one: its page is copied, like
 * any page that is shared, before the sequence writes behind its end. It is forgotten once the sequence has sealed what
 * it computed itself.
 *
 * With groups of states there are none: a state is that behind the last row, not that behind any position. */
#include "engine/scheduler_internal.h"

static bool seals_tails(const struct scheduler *s)
{
    return s->seals && kv_seals_parts(s->seals) && !s->has_states;
}

static void seal_tail(struct scheduler *s, struct sequence *q)
{
    uint32_t page_tokens = s->config->page_tokens, block = q->n_computed / page_tokens;
    uint32_t n = q->n_computed % page_tokens;
    if (n > 0 && block <= q->n_keys) {
        struct sha256 parent = scheduler__parent_key(s, q, block);
        struct sha256 key = prefix_part_key(s->cache, &parent, q->tokens + (size_t)block * page_tokens, n);
        for (int g = 0; g < s->n_groups; g++) {
            uint32_t page = q->tables[g][block];
            if (page != KV_PAGE_NONE && !kv_is_cached(s->kv, g, page)) {
                kv_seal_put_part(s->seals, g, page, &key, block, n);
            }
        }
    }
    if (q->n_part) {
        prefix_forget(s->cache, &q->part);
        q->n_part = 0;
    }
}

void scheduler__seal_tails(struct scheduler *s)
{
    for (int i = 0; seals_tails(s) && i < s->f->batch.n_seqs; i++) {
        struct sequence *q = s->f->members[i];
        if (q->state == SEQUENCE_RUNNING && !q->forgotten && scheduler__uses_cache(s, q->request)) {
            seal_tail(s, q);
        }
    }
}

void scheduler__end_tail(struct scheduler *s, int group, uint32_t page)
{
    if (seals_tails(s) && page != KV_PAGE_NONE && !kv_is_cached(s->kv, group, page)) {
        kv_seal_remove(s->seals, group, page);
    }
}

uint32_t scheduler__find_part(struct scheduler *s, struct sequence *q, uint32_t n_blocks)
{
    uint32_t at = n_blocks * s->config->page_tokens, left = q->n_tokens - at;
    if (!seals_tails(s) || left < 2 || !sequence_reserve_blocks(q, n_blocks + 1, s->n_groups)) {
        return 0;
    }
    struct sha256 parent = scheduler__parent_key(s, q, n_blocks);
    return prefix_find_part(s->cache, &parent, q->tokens + at, left, &q->part);
}
