/* Blocks to and from the disk tier. A sequence whose hit goes on on disk is admitted like any other: it runs, with
 * pages of its own for what is to be read, and has no rows until all of it has come. Then it has the same hit as if
 * everything had been in memory. Meanwhile others go on; those that want the same blocks wait for them, as for blocks
 * that somebody computes; and whatever ends or preempts a running sequence ends the reading too.
 *
 * When reading pays. Both sides are measured as they happen: nanoseconds per block read (with those that wait before
 * it) and per prompt token computed (a first guess comes from the store). A hit is read when that is expected to take
 * no longer than computing its tokens, and given up, to be computed after all, when it turns out otherwise: as soon as
 * the rest would take longer at the pace seen so far, or nothing has come for a quarter of the time that computing the
 * rest takes. So a slow disk costs a prompt at most about that quarter. Each refusal shortens the expected time a
 * little, so that a disk that was slow once is tried again. */
#include "engine/scheduler_internal.h"

#include "base/clock.h"

#include <stdlib.h>

#define PACE_BLOCKS   4       /* a pace is judged after so many blocks ... */
#define PATIENCE      4       /* ... silence after one part in so many of what computing would take ... */
#define LEAST_WAIT_NS 2000000 /* ... but not before two milliseconds */
#define SMOOTH        0.125   /* weight of a new figure in a mean */
#define FORGIVE       0.875   /* what a refusal leaves of the expected time of reading */
#define PREFILL_ROWS  32      /* of a step that says what a prompt token costs: most of its rows, and so many */
#define AHEAD_LOOKS   8       /* sequences announced in one step */

static void smooth(double *mean, double value)
{
    *mean = *mean > 0 ? *mean + SMOOTH * (value - *mean) : value;
}

static uint32_t page_tokens(const struct scheduler *s)
{
    return s->config->page_tokens;
}

void scheduler_set_disk(struct scheduler *s, struct kv_disk *disk)
{
    s->disk = disk;
    s->costs.token_ns = (double)kv_disk_cost_ns(disk) / page_tokens(s);
}

/* ---- to disk ---- */

/* Only what the prefix cache holds: nobody writes to such pages, and they are not among those with bad numbers. */
static bool is_cached(const struct scheduler *s, const struct sequence *q, uint32_t block)
{
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t page = q->tables[g][block];
        if (page == KV_PAGE_NONE || !kv_is_cached(s->kv, g, page)) {
            return false;
        }
    }
    return true;
}

void scheduler__offer_to_disk(struct scheduler *s, struct sequence *q, uint32_t block)
{
    if (!s->disk || !is_cached(s, q, block)) {
        return;
    }
    struct kv_disk_block b = {.key = q->keys[block],
                              .parent = block ? &q->keys[block - 1] : NULL,
                              .depth = block,
                              .cost_ns = (uint64_t)(s->costs.token_ns * page_tokens(s))};
    for (int g = 0; g < s->n_groups; g++) {
        b.pages[g] = s->x->ops->page_data(s->x, g, q->tables[g][block]);
    }
    kv_disk_offer(s->disk, &b);
}

/* Children before their parents, as their pages are released. What did not get to the disk when it was computed, since
 * the disk did not keep up or the cache was cleared meanwhile, is offered again, where nobody waits for it. */
void scheduler__leave_on_disk(struct scheduler *s, struct sequence *q)
{
    uint32_t n = q->n_computed / page_tokens(s);
    if (!s->disk || q->n_keys == 0) {
        return;
    }
    n = n < q->n_keys ? n : q->n_keys;
    for (uint32_t i = 0; i < n; i++) {
        scheduler__offer_to_disk(s, q, i);
    }
    for (uint32_t i = n; i > 0; i--) {
        kv_disk_touch(s->disk, &q->keys[i - 1]);
    }
}

/* ---- whether to read ---- */

static bool is_on_disk(const void *disk, const struct sha256 *key)
{
    return kv_disk_has(disk, key);
}

/* Pages of block i that a hit of n blocks needs and memory lacks. */
static uint8_t missing_groups(const struct scheduler *s, const struct sequence *q, uint32_t i, uint32_t n)
{
    uint8_t groups = 0;
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t first = prefix_first_visible(n * page_tokens(s), s->config->window[g], page_tokens(s));
        if (i >= first && prefix_page(s->cache, &q->keys[i], g) == KV_PAGE_NONE) {
            groups |= (uint8_t)(1 << g);
        }
    }
    return groups;
}

/* Decided once for each sequence. */
static bool pays(struct scheduler *s, struct sequence *q, uint32_t n_read, uint32_t n_tokens)
{
    double reading = s->costs.block_ns * (s->n_unread + n_read), computing = s->costs.token_ns * n_tokens;
    if (computing == 0 || reading <= computing || s->config->disk_always) {
        return true;
    }
    q->no_load = true;
    s->costs.block_ns *= FORGIVE;
    s->stats.disk_loads_declined++;
    return false;
}

uint32_t scheduler__plan_load(struct scheduler *s, struct sequence *q, uint32_t n_in_memory)
{
    if (!s->disk || q->no_load) {
        return 0;
    }
    uint32_t n_read = 0,
             n = prefix_match_with(s->cache, q->keys, scheduler__hit_blocks(s, q), is_on_disk, s->disk).n_blocks;
    if (n <= n_in_memory) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        n_read += missing_groups(s, q, i, n) != 0;
    }
    return pays(s, q, n_read, (n - n_in_memory) * page_tokens(s)) ? n : 0;
}

/* ---- reading ---- */

/* Pages that are in memory, with references; which ones are not. */
static void take_what_is_here(struct scheduler *s, struct sequence *q, uint8_t *groups, uint32_t more[KV_MAX_GROUPS])
{
    uint32_t n = q->load.n_blocks;
    for (uint32_t i = 0; i < n; i++) {
        groups[i] = missing_groups(s, q, i, n);
        q->load.n_left += groups[i] != 0;
        for (int g = 0; g < s->n_groups; g++) {
            uint32_t first = prefix_first_visible(n * page_tokens(s), s->config->window[g], page_tokens(s));
            uint32_t page = i < first ? KV_PAGE_NONE : prefix_page(s->cache, &q->keys[i], g);
            q->first_block[g] = first;
            q->tables[g][i] = page;
            more[g] += groups[i] >> g & 1;
            if (page != KV_PAGE_NONE) {
                kv_retain(s->kv, g, page);
            }
        }
    }
    q->n_blocks = n;
}

static bool add_pages(struct scheduler *s, struct sequence *q, const uint8_t *groups)
{
    for (uint32_t i = 0; i < q->n_blocks; i++) {
        for (int g = 0; g < s->n_groups; g++) {
            if (groups[i] >> g & 1 && (q->tables[g][i] = kv_alloc(s->kv, g)) == KV_PAGE_NONE) {
                return false;
            }
        }
    }
    return true;
}

/* Asks for as much as the tier takes now. */
static void ask(struct scheduler *s, struct sequence *q)
{
    for (; q->load.next < q->load.n_blocks; q->load.next++) {
        uint32_t i = q->load.next;
        if (!q->load.groups[i]) {
            continue;
        }
        if (!kv_disk_read(s->disk, &q->keys[i], q->load.groups[i], q->load.ticket, i)) {
            q->load.failed = q->load.failed || !kv_disk_has(s->disk, &q->keys[i]);
            return;
        }
    }
}

bool scheduler__begin_load(struct scheduler *s, struct sequence *q, uint32_t n_blocks)
{
    uint32_t more[KV_MAX_GROUPS] = {0}, first = 0;
    uint8_t *groups = calloc(n_blocks, 1);
    if (!groups) {
        return false;
    }
    q->load.n_blocks = n_blocks;
    q->load.next = q->load.n_left = q->load.n_read = 0;
    q->load.failed = false;
    take_what_is_here(s, q, groups, more);
    bool whole = n_blocks * page_tokens(s) == q->n_tokens; /* the copy of the hit's last page */
    uint32_t need[KV_MAX_GROUPS];
    for (int g = 0; g < s->n_groups; g++) {
        need[g] = more[g] + whole;
    }
    if (!scheduler__has_room(s, q, need) || !add_pages(s, q, groups)) {
        free(groups);
        scheduler__release_pages(s, q);
        return false;
    }
    while (first < n_blocks && !groups[first]) {
        first++;
    }
    q->n_inserted = first;
    q->n_computed = first * page_tokens(s);
    q->load.groups = groups;
    q->load.ticket = ++s->n_loads;
    q->load.start_ns = q->load.last_ns = clock_ns();
    s->n_loading++;
    s->n_unread += q->load.n_left;
    s->stats.disk_loads++;
    ask(s, q);
    return true;
}

void scheduler__end_load(struct scheduler *s, struct sequence *q)
{
    if (q->load.ticket) {
        kv_disk_cancel(s->disk, q->load.ticket);
        s->n_loading--;
        s->n_unread -= q->load.n_left;
        free(q->load.groups);
        q->load.groups = NULL;
        q->load.ticket = 0;
    }
}

void scheduler__finish_load(struct scheduler *s, struct sequence *q)
{
    uint32_t n_read = q->load.n_read;
    scheduler__end_load(s, q);
    q->n_computed = q->n_blocks * page_tokens(s);
    scheduler__offer_blocks(s, q);      /* those that wait for them go on */
    if (q->n_computed == q->n_tokens) { /* its last token is computed again, for its logits */
        q->n_computed--;
        q->n_inserted--;
    }
    s->stats.disk_tokens += (uint64_t)n_read * page_tokens(s);
    scheduler__note_started(s, q);
}

/* Back to its place in the queue, where it finds what has come in memory and computes the rest. */
static void abandon(struct scheduler *s, struct sequence *q)
{
    s->stats.disk_loads_abandoned++;
    q->no_load = true;
    scheduler__stop(s, q);
    scheduler__enqueue(s, q);
}

static bool too_slow(const struct scheduler *s, const struct sequence *q, int64_t now_ns)
{
    double computing = s->costs.token_ns * q->load.n_left * page_tokens(s);
    double silent = (double)(now_ns - q->load.last_ns), spent = (double)(now_ns - q->load.start_ns);
    if (computing == 0 || s->config->disk_always) {
        return false;
    }
    bool slow = q->load.n_read >= PACE_BLOCKS && spent / q->load.n_read * q->load.n_left > computing;
    return slow || (silent > LEAST_WAIT_NS && silent > computing / PATIENCE);
}

/* ---- what has come ---- */

static struct sequence *find_loading(const struct scheduler *s, uint64_t ticket)
{
    for (uint32_t i = 0; i < s->n_running; i++) {
        if (s->running[i]->load.ticket == ticket) {
            return s->running[i];
        }
    }
    return NULL;
}

static void take_read(struct scheduler *s, const struct kv_disk_read *r)
{
    struct sequence *q = find_loading(s, r->ticket);
    if (!q) {
        return; /* it ended, or was preempted */
    }
    if (!r->ok) {
        q->load.failed = true;
        return;
    }
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t page = q->tables[g][r->tag];
        if (q->load.groups[r->tag] >> g & 1) {
            memcpy(s->x->ops->page_data(s->x, g, page), r->pages[g], s->config->geometry.page_size[g]);
            prefix_insert(s->cache, &q->keys[r->tag], r->tag, g, page);
        }
    }
    q->load.n_left--;
    q->load.n_read++;
    q->load.last_ns = clock_ns();
    s->n_unread--;
    smooth(&s->costs.block_ns, (double)r->ns);
}

/* Steps that were mostly prefill since the last look say what a prompt token costs. */
static void observe_prefill(struct scheduler *s)
{
    uint64_t prefill = s->stats.rows_prefill - s->costs.rows_prefill;
    uint64_t decode = s->stats.rows_decode - s->costs.rows_decode, ns = s->stats.step_ns - s->costs.step_ns;
    if (prefill >= PREFILL_ROWS && prefill >= PATIENCE * decode) {
        smooth(&s->costs.token_ns, (double)ns / (double)(prefill + decode));
    }
    s->costs.rows_prefill = s->stats.rows_prefill;
    s->costs.rows_decode = s->stats.rows_decode;
    s->costs.step_ns = s->stats.step_ns;
}

void scheduler__poll_disk(struct scheduler *s)
{
    struct kv_disk_read r;
    if (!s->disk) {
        return;
    }
    observe_prefill(s);
    while (kv_disk_next(s->disk, &r)) {
        take_read(s, &r);
    }
    for (uint32_t i = s->n_running; i > 0 && s->n_loading > 0; i--) { /* backwards: some leave */
        struct sequence *q = s->running[i - 1];
        if (!q->load.ticket) {
            continue;
        }
        if (q->load.n_left == 0) {
            scheduler__finish_load(s, q);
        } else if (q->load.failed || too_slow(s, q, clock_ns())) {
            abandon(s, q);
        } else {
            ask(s, q);
        }
    }
}

/* ---- read ahead ---- */

static void announce(struct scheduler *s, struct sequence *q)
{
    q->read_ahead = true;
    if (q->no_load || !scheduler__uses_cache(s, q->request) || !sequence_load(q) || !scheduler__update_keys(s, q)) {
        return;
    }
    uint32_t n = prefix_match_with(s->cache, q->keys, scheduler__hit_blocks(s, q), is_on_disk, s->disk).n_blocks;
    for (uint32_t i = 0; i < n; i++) {
        if (missing_groups(s, q, i, n)) {
            kv_disk_prefetch(s->disk, &q->keys[i]);
        }
    }
}

/* Whoever was not admitted at once will be later: the system may bring its blocks into its own memory until then. */
void scheduler__read_ahead(struct scheduler *s)
{
    uint32_t n = 0;
    for (struct sequence *q = s->disk ? s->queue : NULL; q && n < AHEAD_LOOKS; q = q->next) {
        if (!q->read_ahead) {
            announce(s, q);
            n++;
        }
    }
}

/* ---- statistics ---- */

void scheduler__disk_stats(struct scheduler *s)
{
    if (s->disk) {
        struct kv_disk_stats d = kv_disk_stats(s->disk);
        s->stats.disk_blocks = d.blocks;
        s->stats.disk_size = d.size;
        s->stats.disk_limit_size = d.limit;
        s->stats.disk_queued = d.queued;
        s->stats.disk_blocks_written = d.written;
        s->stats.disk_blocks_read = d.read;
        s->stats.disk_blocks_recycled = d.recycled;
        s->stats.disk_blocks_skipped = d.skipped;
        s->stats.disk_blocks_dropped = d.dropped;
        s->stats.disk_errors = d.errors;
    }
}
