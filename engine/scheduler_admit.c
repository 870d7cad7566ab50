/* Who starts. In the order of the queue: a sequence that would compute what another is computing waits and is passed
 * over; one for which there are no pages, or whose hit is not checked yet, lets nobody overtake it: they would take its
 * pages. Who runs and has nobody waiting for it (JOB_PRIORITY_IDLE) gives way. */
#include "engine/scheduler_internal.h"

#include "base/limits.h"

enum admission { ADMITTED, PASSED_OVER, NO_ROOM, UNCHECKED, ENDED };

/* Bytes of adopted pages that are checked in a step beside which others run: some milliseconds. A hit of more is taken
 * some steps later. */
#define VERIFY_STEP_SIZE MIB(64)
/* In an engine's first steps all come from the one before it, those that run already as well: they get on sooner
 * together than one after another. A tenth of a second, about. */
#define VERIFY_FIRST_STEPS 8
#define VERIFY_FIRST_SIZE  GIB(1)

struct hit {
    uint32_t n_here; /* blocks in memory */
    uint32_t n_part; /* positions behind them, of the part of a block; 0: none */
    uint32_t n_load; /* blocks with those that are to be read from disk; 0: none are */
    uint32_t n_chain;
};

/* Its siblings start from the prompt that the first of them computes. */
static bool waits_for_sibling(const struct sequence *q)
{
    return q->request->leader && sequence_n_output(q) == 0;
}

static bool waits_for_prefix(struct scheduler *s, struct sequence *q)
{
    if (q->waits && !prefix_expected(s->cache, &q->wait_key)) {
        q->waits = false;
    }
    return q->waits;
}

static bool wants_scores(const struct request *r)
{
    return (r->job->flags & JOB_PROMPT_LOGPROBS) && r->n_scored < r->job->n_prompt && !r->scorer;
}

/* With what all of them are expected to grow to, and one more page for each of those that run, to go on with. */
bool scheduler__has_room(const struct scheduler *s, const struct sequence *q, const uint32_t more[KV_MAX_GROUPS])
{
    uint32_t need[KV_MAX_GROUPS] = {0};
    scheduler__add_growth(s, q, need);
    for (uint32_t i = 0; i < s->n_running; i++) {
        scheduler__add_growth(s, s->running[i], need);
    }
    for (int g = 0; g < s->n_groups; g++) { /* of states nobody needs more than it was counted with */
        need[g] += more[g] + (s->config->state[g] ? 0 : s->n_running);
    }
    return kv_can_alloc(s->kv, need);
}

static bool has_room(const struct scheduler *s, const struct sequence *q)
{
    uint32_t more[KV_MAX_GROUPS] = {0};
    bool in_block = q->n_computed < q->n_blocks * s->config->page_tokens;
    for (int g = 0; g < s->n_groups; g++) {
        more[g] = in_block; /* the copy of the hit's last page, which is written to */
    }
    return scheduler__has_room(s, q, more);
}

/* Takes the longest hit with which there is room; false: none, not even without a hit. */
static bool take_room(struct scheduler *s, struct sequence *q, const struct hit *hit)
{
    scheduler__take_hit(s, q, hit->n_here, hit->n_part);
    if (has_room(s, q)) {
        return true;
    }
    scheduler__release_pages(s, q);
    if (s->n_running > 0) {
        return false;
    }
    /* Nothing runs, so nothing will make room: start from an empty pool, where every admitted job fits. */
    kv_evict_all(s->kv);
    return true;
}

/* Those that run will leave some; alone it fails. */
static enum admission no_memory(struct scheduler *s, struct sequence *q)
{
    struct error full = {0};
    if (scheduler__may_wait(s, s->n_running)) {
        return NO_ROOM;
    }
    error_set(&full, ERR_NO_MEMORY, "There is no memory for a request of %u tokens.", q->request->job->n_prompt);
    scheduler__fail(s, q->request, &full);
    return ENDED;
}

/* Nobody waits while nothing runs. */
static enum prefix_trust verify(struct scheduler *s, const struct sha256 *keys, uint32_t n_keys, uint32_t n_blocks)
{
    size_t all = SIZE_MAX;
    enum prefix_trust trust = prefix_verify(s->cache, keys, n_keys, n_blocks, s->n_running ? &s->verify_left : &all);
    s->stats.adopted_blocks_dropped += trust == PREFIX_BROKEN;
    return trust;
}

/* The longest hit whose pages are what they should be. UNCHECKED: that is not known yet. */
static enum admission find_hit(struct scheduler *s, struct sequence *q, struct hit *hit)
{
    enum prefix_trust trust;
    do { /* every round but the last forgets something */
        struct prefix_match match = prefix_match(s->cache, q->keys, scheduler__hit_blocks(s, q));
        if (match.expected) {
            q->waits = true;
            q->wait_key = *scheduler__await(s, q, match.wait_for);
            return PASSED_OVER;
        }
        hit->n_chain = match.n_chain;
        hit->n_here = match.n_blocks;
        hit->n_load = scheduler__plan_load(s, q, match.n_blocks);
        hit->n_part = hit->n_load ? 0 : scheduler__find_part(s, q, match.n_blocks);
        trust = verify(s, q->keys, q->n_keys, hit->n_here);
        trust = trust == PREFIX_SOUND ? verify(s, q->keys, q->n_keys, hit->n_load) : trust;
        trust = trust == PREFIX_SOUND ? verify(s, &q->part, hit->n_part > 0, hit->n_part > 0) : trust;
    } while (trust == PREFIX_BROKEN);
    return trust == PREFIX_SOUND ? ADMITTED : UNCHECKED;
}

static enum admission try_admit(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    struct hit hit = {0};
    if (r->unconstrained || waits_for_sibling(q) || waits_for_prefix(s, q)) {
        return PASSED_OVER;
    }
    if (!sequence_load(q)) {
        return no_memory(s, q);
    }
    bool uses_cache = scheduler__uses_cache(s, r), scores = wants_scores(r);
    if (uses_cache && !scheduler__update_keys(s, q)) {
        return no_memory(s, q);
    }
    enum admission found = uses_cache && !scores ? find_hit(s, q, &hit) : ADMITTED;
    if (found != ADMITTED) {
        return found;
    }
    if (!(hit.n_load && scheduler__begin_load(s, q, hit.n_load)) && !take_room(s, q, &hit)) {
        return NO_ROOM;
    }
    q->n_chain = hit.n_chain;
    q->scores = scores;
    r->scorer = scores ? q : r->scorer;
    return ADMITTED;
}

/* Of its hit, those that an engine before this one computed. */
static uint32_t adopted_tokens(const struct scheduler *s, const struct sequence *q)
{
    uint32_t n = q->n_computed / s->config->page_tokens, n_adopted = 0;
    for (uint32_t i = 0; s->stats.adopted_blocks && i < n && i < q->n_keys; i++) {
        n_adopted += prefix_is_adopted(s->cache, &q->keys[i]);
    }
    return n_adopted * s->config->page_tokens + q->n_part;
}

void scheduler__note_started(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    if (scheduler__uses_cache(s, r)) {
        s->stats.cache_queries += !q->scores;
        s->stats.queried_tokens += q->scores || r->started ? 0 : r->job->n_prompt;
        s->stats.cache_hits += q->n_computed > 0;
        s->stats.adopted_tokens += adopted_tokens(s, q);
    }
    scheduler__start(s, r, q->n_computed < r->job->n_prompt ? q->n_computed : r->job->n_prompt);
}

static void start(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    scheduler__dequeue(s, q);
    scheduler__run(s, q);
    if (sequence_n_output(q) == 0) {
        r->leader = q;
    }
    if (scheduler__uses_cache(s, r)) {
        scheduler__expect_blocks(s, q);
    }
    if (!q->load.ticket) {
        scheduler__note_started(s, q);
    } else if (q->load.n_left == 0) { /* only who follows whom had to be known from the disk */
        scheduler__finish_load(s, q);
    }
}

/* The last of those that run, if nobody waits for it and q is more urgent: it gives way. */
static struct sequence *idle_one(const struct scheduler *s, const struct sequence *q)
{
    struct sequence *last = s->n_running ? s->running[s->n_running - 1] : NULL;
    int32_t priority = last ? last->request->job->priority : 0;
    return priority >= JOB_PRIORITY_IDLE && priority > q->request->job->priority ? last : NULL;
}

static bool may_admit(const struct scheduler *s, const struct sequence *q)
{
    bool memory_is_short = s->admit_pause > 0 && s->n_running > 0;
    bool has_place = s->n_running < s->config->max_sequences || idle_one(s, q);
    return has_place && !s->paused && !memory_is_short;
}

/* Idle ones leave it their pages, where there are not enough, and a place among those that run. */
static enum admission admit_before_others(struct scheduler *s, struct sequence *q)
{
    enum admission a;
    struct sequence *last;
    while ((a = try_admit(s, q)) == NO_ROOM && (last = idle_one(s, q))) {
        scheduler__preempt(s, last);
    }
    if (a == ADMITTED && s->n_running == s->config->max_sequences) {
        scheduler__preempt(s, idle_one(s, q));
    }
    return a;
}

static size_t verify_size(const struct scheduler *s)
{
    size_t size = s->stats.steps < VERIFY_FIRST_STEPS ? VERIFY_FIRST_SIZE : VERIFY_STEP_SIZE;
    return s->config->verify_size ? s->config->verify_size : size;
}

void scheduler__admit(struct scheduler *s)
{
    struct sequence *next;
    s->stats.starved = 0;
    scheduler__poll_disk(s);
    s->verify_left = verify_size(s);
    for (struct sequence *q = s->queue; q && may_admit(s, q); q = next) {
        next = q->next; /* who gives way to q is not looked at in this step */
        enum admission a = admit_before_others(s, q);
        if (a == ADMITTED) {
            start(s, q);
        } else if (a == NO_ROOM || a == UNCHECKED) {
            s->stats.starved = a == NO_ROOM && q->request->job->priority < JOB_PRIORITY_IDLE;
            break;
        } else if (a == ENDED) {
            next = s->queue; /* its siblings left the queue with it */
        }
    }
    scheduler__read_ahead(s);
}
