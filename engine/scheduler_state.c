/* Groups of states: layers that keep a state of fixed size, however long the text (backend.h). A page of such a group
 * is the state behind one position, and as large as K and V of many blocks, so blocks have one only where it is of use:
 *
 *     blocks       | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7
 *     computed     |========================|           what the next step starts from: the state behind block 6's last
 *     own states                      5   6             row, which it overwrites; and that behind block 5, in case it
 *     cached           1       3                        fails, and for the end
 *
 * A state cannot be taken back by a row: what goes wrong behind a border (a step that fails, a row that is dropped) is
 * computed again from that border, whose page no step writes any more.
 *
 * What is cached. A hit ends where somebody left a state, so the borders are chosen by who may come: the last one of
 * the prompt, for the same prompt with another end; the one where the prompt left what others had begun with, for
 * whoever has that beginning too; one that somebody waits for; the last one of all when the sequence ends or gives way,
 * for the next turn of a conversation; and on the way one in so many that states take no more memory than the K and V
 * beside them. */
#include "engine/scheduler_internal.h"

/* Tokens by which the end of a prompt may differ in the next turn of a conversation, since templates write "the
 * assistant begins" in other ways when it is history: where they reach over a border, the one before is kept too. */
#define PROMPT_END 8

void scheduler__init_states(struct scheduler *s)
{
    const struct kv_geometry *geometry = &s->config->geometry;
    size_t states = 0, others = 0;
    for (int g = 0; g < s->n_groups; g++) {
        *(s->config->state[g] ? &states : &others) += geometry->page_size[g];
    }
    s->has_states = states > 0;
    s->state_every = others ? (uint32_t)((states + others - 1) / others) : 1;
}

uint32_t scheduler__hit_blocks(const struct scheduler *s, const struct sequence *q)
{
    uint32_t most = s->has_states ? (q->n_tokens - 1) / s->config->page_tokens : q->n_keys;
    return q->n_keys < most ? q->n_keys : most;
}

const struct sha256 *scheduler__await(struct scheduler *s, const struct sequence *q, uint32_t first)
{
    uint32_t last = first, end = scheduler__hit_blocks(s, q);
    if (!s->has_states) {
        return &q->keys[first];
    }
    while (last + 1 < end && prefix_expected(s->cache, &q->keys[last + 1])) {
        last++;
    }
    prefix_want(s->cache, &q->keys[last]);
    return &q->keys[last];
}

/* ---- what a sequence holds ---- */

uint32_t scheduler__first_state(const struct scheduler *s, uint32_t n)
{
    uint32_t n_whole = n / s->config->page_tokens;
    return n_whole ? n_whole - 1 : 0;
}

uint32_t scheduler__states_held(const struct sequence *q, int group)
{
    uint32_t n = 0;
    for (uint32_t i = q->first_block[group]; i < q->n_blocks; i++) {
        n += q->tables[group][i] != KV_PAGE_NONE;
    }
    return n;
}

uint32_t scheduler__states_needed(const struct sequence *q)
{
    return q->n_tokens - q->n_computed > 1 ? STATES_HELD : STATES_DECODING;
}

bool scheduler__hold_states(struct scheduler *s, struct sequence *q, uint32_t block)
{
    bool taken[KV_MAX_GROUPS] = {0};
    for (int g = 0; g < s->n_groups; g++) {
        if (!s->config->state[g] || q->tables[g][block] != KV_PAGE_NONE) {
            continue;
        }
        q->tables[g][block] = kv_alloc(s->kv, g);
        taken[g] = q->tables[g][block] != KV_PAGE_NONE;
        for (int k = 0; !taken[g] && k < g; k++) {
            if (taken[k]) {
                kv_release(s->kv, k, q->tables[k][block]);
                q->tables[k][block] = KV_PAGE_NONE;
            }
        }
        if (!taken[g]) {
            return false;
        }
    }
    return true;
}

void scheduler__drop_states(struct scheduler *s, struct sequence *q)
{
    uint32_t end = scheduler__first_state(s, q->n_computed);
    for (int g = 0; g < s->n_groups; g++) {
        for (; s->config->state[g] && q->first_block[g] < end; q->first_block[g]++) {
            uint32_t *page = &q->tables[g][q->first_block[g]];
            if (*page != KV_PAGE_NONE) {
                kv_release(s->kv, g, *page);
                *page = KV_PAGE_NONE;
            }
        }
    }
}

void scheduler__rewind(const struct scheduler *s, struct sequence *q)
{
    if (s->has_states) {
        q->n_computed -= q->n_computed % s->config->page_tokens;
    }
}

void scheduler__rewind_members(const struct scheduler *s)
{
    for (int i = 0; s->has_states && i < s->f->batch.n_seqs; i++) {
        struct sequence *q = s->f->members[i];
        if (q->state == SEQUENCE_RUNNING) {
            scheduler__rewind(s, q);
        }
    }
}

/* ---- what is cached ---- */

static bool is_end_of_prompt(const struct scheduler *s, const struct sequence *q, uint32_t n_blocks)
{
    uint32_t n = q->request->job->n_prompt, page_tokens = s->config->page_tokens;
    return n_blocks == (n - 1) / page_tokens || (n > PROMPT_END && n_blocks == (n - PROMPT_END) / page_tokens);
}

bool scheduler__keeps_states(const struct scheduler *s, const struct sequence *q, uint32_t block)
{
    uint32_t n_blocks = block + 1;
    return n_blocks % s->state_every == 0 || n_blocks == q->n_chain || is_end_of_prompt(s, q, n_blocks) ||
           (block < q->n_keys && prefix_wanted(s->cache, &q->keys[block]));
}

/* The cache has states behind this block already. */
static bool has_states(const struct scheduler *s, const struct sequence *q, uint32_t block)
{
    for (int g = 0; g < s->n_groups; g++) {
        if (s->config->state[g] && (block >= q->n_keys || prefix_page(s->cache, &q->keys[block], g) == KV_PAGE_NONE)) {
            return false;
        }
    }
    return true;
}

static void keep_states(struct scheduler *s, struct sequence *q)
{
    uint32_t page_tokens = s->config->page_tokens, end = (q->n_computed + q->plan.rows) / page_tokens;
    for (uint32_t i = q->n_computed / page_tokens; i < end; i++) {
        if (scheduler__keeps_states(s, q, i) && !has_states(s, q, i) && !scheduler__hold_states(s, q, i)) {
            return;
        }
    }
}

void scheduler__keep_states(struct scheduler *s)
{
    for (uint32_t i = 0; s->has_states && i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (q->plan.rows && scheduler__uses_cache(s, q->request)) {
            keep_states(s, q);
        }
    }
}

void scheduler__leave_states(struct scheduler *s, struct sequence *q)
{
    uint32_t n_whole = q->n_computed / s->config->page_tokens, block = n_whole - 1;
    if (!s->has_states || n_whole == 0 || n_whole > q->n_keys || n_whole > q->n_blocks || q->forgotten ||
        !scheduler__uses_cache(s, q->request)) {
        return;
    }
    for (int g = 0; g < s->n_groups; g++) {
        if (s->config->state[g] && q->tables[g][block] != KV_PAGE_NONE) {
            prefix_insert(s->cache, &q->keys[block], block, g, q->tables[g][block]);
        }
    }
}
