#include "engine/scheduler_internal.h"

/* Blocks that hold n positions. */
static uint32_t blocks_of(const struct scheduler *s, uint32_t n)
{
    return (n + s->config->page_tokens - 1) / s->config->page_tokens;
}

static uint32_t first_visible(const struct scheduler *s, int group, uint32_t next)
{
    return s->config->state[group] ? scheduler__first_state(s, next)
                                   : prefix_first_visible(next, s->config->window[group], s->config->page_tokens);
}

/* ---- prefix cache ---- */

bool scheduler__uses_cache(const struct scheduler *s, const struct request *r)
{
    return s->config->prefix_cache && !(r->job->flags & JOB_NO_CACHE);
}

static struct sha256 root_key(struct scheduler *s, const struct job *job)
{
    return prefix_root(s->cache, &s->config->root, job->cache_salt, job->adapter ? &job->adapter_digest : NULL);
}

struct sha256 scheduler__parent_key(struct scheduler *s, const struct sequence *q, uint32_t block)
{
    return block ? q->keys[block - 1] : root_key(s, q->request->job);
}

bool scheduler__update_keys(struct scheduler *s, struct sequence *q)
{
    uint32_t page_tokens = s->config->page_tokens, n = q->n_tokens / page_tokens;
    if (n <= q->n_keys) {
        return true;
    }
    if (!sequence_reserve_blocks(q, n, s->n_groups)) {
        return false;
    }
    for (; q->n_keys < n; q->n_keys++) {
        uint32_t i = q->n_keys;
        struct sha256 parent = scheduler__parent_key(s, q, i);
        q->keys[i] = prefix_key(s->cache, &parent, q->tokens + (size_t)i * page_tokens);
    }
    return true;
}

void scheduler__expect_blocks(struct scheduler *s, struct sequence *q)
{
    q->expect_from = q->expect_to = q->n_computed / s->config->page_tokens;
    while (q->expect_to < q->n_keys && prefix_expect(s->cache, &q->keys[q->expect_to])) {
        q->expect_to++;
    }
}

/* Behind the last states that a hit could start from, what the cache has is computed again: then there are two pages
 * of the same bytes, and one will do. So the cache's is in use, and neither the older nor the sooner gone for it. */
static void share_page(struct scheduler *s, struct sequence *q, int group, uint32_t block)
{
    uint32_t own = q->tables[group][block];
    if (!s->has_states || s->config->state[group] || s->x->kv_private || kv_is_cached(s->kv, group, own)) {
        return;
    }
    uint32_t page = prefix_take_page(s->cache, &q->keys[block], group);
    if (page != KV_PAGE_NONE) {
        kv_release(s->kv, group, own);
        q->tables[group][block] = page;
    }
}

void scheduler__offer_blocks(struct scheduler *s, struct sequence *q)
{
    uint32_t n = q->n_computed / s->config->page_tokens;
    if (!scheduler__uses_cache(s, q->request)) {
        return;
    }
    if (n > q->n_keys && !scheduler__update_keys(s, q)) {
        n = q->n_keys; /* cannot happen after reserve, and costs hits only */
    }
    for (; q->n_inserted < n; q->n_inserted++) {
        uint32_t i = q->n_inserted;
        for (int g = 0; g < s->n_groups; g++) {
            if (q->tables[g][i] != KV_PAGE_NONE && (!s->config->state[g] || scheduler__keeps_states(s, q, i))) {
                prefix_insert(s->cache, &q->keys[i], i, g, q->tables[g][i]);
                share_page(s, q, g, i);
            }
            scheduler__end_tail(s, g, q->tables[g][i]);
        }
        scheduler__offer_to_disk(s, q, i);
        if (i >= q->expect_from && i < q->expect_to) {
            prefix_unexpect(s->cache, &q->keys[i]);
            q->expect_from = i + 1;
        }
    }
}

void scheduler__forget_blocks(struct scheduler *s, struct sequence *q)
{
    q->forgotten = true;
    for (uint32_t i = 0; i < q->n_keys; i++) {
        prefix_forget(s->cache, &q->keys[i]);
        if (s->disk) {
            kv_disk_forget(s->disk, &q->keys[i]);
        }
    }
}

static void unexpect_rest(struct scheduler *s, struct sequence *q)
{
    for (; q->expect_from < q->expect_to; q->expect_from++) {
        prefix_unexpect(s->cache, &q->keys[q->expect_from]);
    }
}

/* ---- hits ---- */

static bool copy_block(struct scheduler *s, struct sequence *q, uint32_t block);
static void release_block(struct scheduler *s, struct sequence *q, uint32_t block, int n_groups);

/* Where pages are private a hit becomes copies. The originals are referenced meanwhile, so that finding pages does not
 * evict them. False: there are not enough pages, and the hit is given up. */
static bool copy_hit(struct scheduler *s, struct sequence *q, uint32_t n_blocks)
{
    for (uint32_t i = 0; i < n_blocks; i++) {
        if (!copy_block(s, q, i)) {
            for (uint32_t k = n_blocks; k > 0; k--) {
                release_block(s, q, k - 1, s->n_groups);
            }
            return false;
        }
    }
    return true;
}

void scheduler__take_hit(struct scheduler *s, struct sequence *q, uint32_t n_blocks, uint32_t n_part)
{
    uint32_t page_tokens = s->config->page_tokens, *behind[KV_MAX_GROUPS];
    prefix_take(s->cache, q->keys, n_blocks, q->tables);
    for (int g = 0; g < s->n_groups; g++) {
        behind[g] = q->tables[g] + n_blocks;
    }
    prefix_take(s->cache, &q->part, n_part > 0, behind);
    if (s->x->kv_private && !copy_hit(s, q, n_blocks + (n_part > 0))) {
        n_blocks = n_part = 0;
    }
    q->n_part = n_part;
    q->n_blocks = n_blocks + (n_part > 0);
    q->n_computed = n_blocks * page_tokens + n_part;
    for (int g = 0; g < s->n_groups; g++) {
        q->first_block[g] = n_blocks ? first_visible(s, g, n_blocks * page_tokens) : 0;
    }
    if (q->n_computed == q->n_tokens) { /* its last token is computed again, for its logits; never with states */
        q->n_computed--;
    }
    q->n_inserted = q->n_computed / page_tokens;
}

/* Replaces a page by a copy of its first n_tokens positions. False: no page left. */
static bool copy_page(struct scheduler *s, struct sequence *q, int group, uint32_t block, uint32_t n_tokens)
{
    uint32_t shared = q->tables[group][block], own = kv_alloc(s->kv, group);
    if (own == KV_PAGE_NONE) {
        return false;
    }
    s->x->ops->copy_page(s->x, group, shared, own, (int)n_tokens);
    kv_release(s->kv, group, shared);
    q->tables[group][block] = own;
    return true;
}

/* The block's pages become the sequence's own. False: no page left; those copied so far stay. */
static bool copy_block(struct scheduler *s, struct sequence *q, uint32_t block)
{
    for (int g = 0; g < s->n_groups; g++) {
        if (q->tables[g][block] != KV_PAGE_NONE && !copy_page(s, q, g, block, s->config->page_tokens)) {
            return false;
        }
    }
    return true;
}

/* A page that is shared or cached is never written: the cache's pages are complete, and a sibling still reads its own.
 */
static bool own_next_page(struct scheduler *s, struct sequence *q)
{
    uint32_t page_tokens = s->config->page_tokens, block = q->n_computed / page_tokens;
    uint32_t n_tokens = q->n_computed % page_tokens;
    if (block >= q->n_blocks) {
        return true;
    }
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t page = q->tables[g][block];
        bool others = page != KV_PAGE_NONE && (kv_refs(s->kv, g, page) > 1 || kv_is_cached(s->kv, g, page));
        if (others && !copy_page(s, q, g, block, n_tokens)) {
            return false;
        }
    }
    return true;
}

/* ---- growth ---- */

static void release_unseen(struct scheduler *s, struct sequence *q)
{
    scheduler__drop_states(s, q);
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t end = s->config->state[g] ? 0 : first_visible(s, g, q->n_computed);
        for (; q->first_block[g] < end && q->first_block[g] < q->n_blocks; q->first_block[g]++) {
            kv_release(s->kv, g, q->tables[g][q->first_block[g]]);
            q->tables[g][q->first_block[g]] = KV_PAGE_NONE;
        }
    }
}

static void release_block(struct scheduler *s, struct sequence *q, uint32_t block, int n_groups)
{
    for (int g = 0; g < n_groups; g++) {
        if (q->tables[g][block] != KV_PAGE_NONE) {
            kv_release(s->kv, g, q->tables[g][block]);
            q->tables[g][block] = KV_PAGE_NONE;
        }
    }
}

static bool append_block(struct scheduler *s, struct sequence *q)
{
    for (int g = 0; g < s->n_groups; g++) {
        bool state = s->config->state[g]; /* see scheduler__hold_states */
        q->tables[g][q->n_blocks] = state ? KV_PAGE_NONE : kv_alloc(s->kv, g);
        if (q->tables[g][q->n_blocks] == KV_PAGE_NONE && !state) {
            release_block(s, q, q->n_blocks, g);
            return false;
        }
    }
    q->n_blocks++;
    return true;
}

/* Blocks for n positions, and states behind the last of them and behind the last border before it. */
static bool append_blocks(struct scheduler *s, struct sequence *q, uint32_t n)
{
    uint32_t n_blocks = blocks_of(s, n), border = n / s->config->page_tokens;
    while (q->n_blocks < n_blocks) {
        if (!append_block(s, q)) {
            return false;
        }
    }
    return scheduler__hold_states(s, q, n_blocks - 1) &&
           (border <= q->n_computed / s->config->page_tokens || scheduler__hold_states(s, q, border - 1));
}

static bool grow(struct scheduler *s, struct sequence *q)
{
    return own_next_page(s, q) && append_blocks(s, q, q->n_computed + q->plan.rows);
}

/* Children before their parents: see prefix_cache.h. */
void scheduler__release_pages(struct scheduler *s, struct sequence *q)
{
    unexpect_rest(s, q);
    scheduler__end_load(s, q);
    scheduler__leave_states(s, q);
    scheduler__leave_on_disk(s, q);
    while (q->n_blocks > 0) {
        release_block(s, q, --q->n_blocks, s->n_groups);
    }
    memset(q->first_block, 0, sizeof q->first_block);
    q->n_computed = q->n_inserted = q->n_chain = q->n_part = q->expect_from = q->expect_to = 0;
}

/* Blocks of a window group that a sequence holds at most from now on. Who decodes has few rows in a step: what the
 * longest prompt's step would take is not kept for it. */
static uint32_t most_in_window(const struct scheduler *s, const struct sequence *q, int group)
{
    const struct engine_config *config = s->config;
    uint32_t left = q->n_tokens - q->n_computed, rows = left > 1 + config->max_drafts ? left : 1 + config->max_drafts;
    rows = rows < config->max_batch_tokens ? rows : config->max_batch_tokens;
    return blocks_of(s, (uint32_t)config->window[group] + rows) + 2;
}

void scheduler__add_need(const struct scheduler *s, const struct sequence *q, uint32_t n_tokens,
                         uint32_t need[KV_MAX_GROUPS])
{
    const struct engine_config *config = s->config;
    uint32_t all = blocks_of(s, n_tokens);
    for (int g = 0; g < s->n_groups; g++) {
        bool state = config->state[g];
        uint32_t live = all, have = state ? scheduler__states_held(q, g) : q->n_blocks - q->first_block[g];
        if (config->window[g]) {
            uint32_t most = state ? scheduler__states_needed(q) : most_in_window(s, q, g);
            live = live < most ? live : most;
        }
        need[g] += live > have ? live - have : 0;
    }
}

/* ---- preemption ---- */

void scheduler__preempt(struct scheduler *s, struct sequence *q)
{
    s->stats.preemptions++;
    if (q->request->started) { /* else it was read from the disk cache, and its client still sees it in the queue */
        events_add(&s->events, ENGINE_PREEMPTED, q->request->job->id)->choice = q->choice;
    }
    scheduler__stop(s, q);
    scheduler__enqueue(s, q);
}

/* The pool was its own and still not enough: its pages lie so that no slab is left for some group. Once more from an
 * empty pool, where it fits as its admission promised. */
static void restart_alone(struct scheduler *s, struct sequence *q)
{
    scheduler__preempt(s, q);
    kv_evict_all(s->kv);
    if (q->n_alone++ > 0) {
        struct error full = {0};
        error_set(&full, ERR_NO_MEMORY, "The KV pool does not hold the %u tokens of this request.", q->n_tokens);
        scheduler__fail(s, q->request, &full);
    }
}

/* Room for the tokens and keys that the step will add, so that accepting them cannot fail. */
static bool reserve(struct scheduler *s, struct sequence *q)
{
    uint32_t n_blocks = blocks_of(s, q->n_computed + q->plan.rows + 1);
    return sequence_reserve_tokens(q, q->n_tokens + q->plan.n_drafts + 1) &&
           sequence_reserve_blocks(q, n_blocks, s->n_groups);
}

/* Guesses are worth nobody's pages. */
static bool drop_drafts(struct sequence *q)
{
    uint32_t n = q->plan.n_drafts;
    q->plan.rows -= n;
    q->plan.n_drafts = 0;
    return n > 0;
}

/* It waits until others have ended; alone it fails. */
static void no_memory(struct scheduler *s, struct sequence *q)
{
    struct error full = {0};
    if (scheduler__may_wait(s, s->n_running - 1)) {
        scheduler__preempt(s, q);
        return;
    }
    error_set(&full, ERR_NO_MEMORY, "There is no memory for the %u tokens of this request.", q->n_tokens);
    scheduler__fail(s, q->request, &full);
}

bool scheduler__prepare(struct scheduler *s, struct sequence *q)
{
    if (!reserve(s, q) && !(drop_drafts(q) && reserve(s, q))) {
        no_memory(s, q);
        return false;
    }
    release_unseen(s, q);
    while (!grow(s, q)) {
        struct sequence *youngest = s->running[s->n_running - 1];
        if (drop_drafts(q)) {
            continue;
        }
        if (s->n_running == 1) {
            restart_alone(s, q);
            return false;
        }
        scheduler__preempt(s, youngest);
        scheduler__note_shortage(s);
        if (youngest == q) {
            return false;
        }
    }
    return true;
}

bool scheduler__prepare_after(struct scheduler *s, struct sequence *q)
{
    uint32_t n_blocks = blocks_of(s, q->n_tokens + 1);
    if (!sequence_reserve_tokens(q, q->n_tokens + 2) || !sequence_reserve_blocks(q, n_blocks + 1, s->n_groups)) {
        return false;
    }
    return append_blocks(s, q, q->n_tokens + 1);
}

void scheduler__share_pages(struct scheduler *s, const struct sequence *from, struct sequence *to)
{
    for (uint32_t i = 0; i < from->n_blocks; i++) {
        for (int g = 0; g < s->n_groups; g++) {
            to->tables[g][i] = from->tables[g][i];
            if (to->tables[g][i] != KV_PAGE_NONE) {
                kv_retain(s->kv, g, to->tables[g][i]);
            }
        }
    }
    if (from->n_keys) {
        memcpy(to->keys, from->keys, from->n_keys * sizeof *to->keys);
    }
    memcpy(to->first_block, from->first_block, sizeof to->first_block);
    to->n_blocks = from->n_blocks;
    to->n_keys = from->n_keys;
    to->n_inserted = from->n_inserted;
    to->n_computed = from->n_computed;
}
