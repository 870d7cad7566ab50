/* Who starts. In the order of the queue: a sequence that would compute what another is computing waits and is passed
 * over; one for which there are no pages lets nobody overtake it. */
#include "engine/scheduler_internal.h"

enum admission { ADMITTED, PASSED_OVER, NO_ROOM, ENDED };

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
    for (int g = 0; g < s->n_groups; g++) {
        need[g] += s->n_running + more[g];
    }
    return kv_can_alloc(s->kv, need);
}

static bool has_room(const struct scheduler *s, const struct sequence *q)
{
    uint32_t more[KV_MAX_GROUPS] = {0};
    bool whole = q->n_blocks > 0 && q->n_computed + 1 == q->n_tokens && q->n_tokens % s->config->page_tokens == 0;
    for (int g = 0; g < s->n_groups; g++) {
        more[g] = whole; /* the copy of the hit's last page */
    }
    return scheduler__has_room(s, q, more);
}

/* Takes the longest hit with which there is room; false: none, not even without a hit. */
static bool take_room(struct scheduler *s, struct sequence *q, uint32_t n_blocks)
{
    scheduler__take_hit(s, q, n_blocks);
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

static enum admission try_admit(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    struct prefix_match match = {0};
    if (waits_for_sibling(q) || waits_for_prefix(s, q)) {
        return PASSED_OVER;
    }
    if (!sequence_load(q)) {
        return no_memory(s, q);
    }
    bool uses_cache = scheduler__uses_cache(s, r), scores = wants_scores(r);
    if (uses_cache && !scheduler__update_keys(s, q)) {
        return no_memory(s, q);
    }
    if (uses_cache && !scores) {
        match = prefix_match(s->cache, q->keys, q->n_keys);
        if (match.expected) {
            q->waits = true;
            q->wait_key = q->keys[match.wait_for];
            return PASSED_OVER;
        }
    }
    uint32_t n_blocks = uses_cache && !scores ? scheduler__plan_load(s, q, match.n_blocks) : 0;
    if (!(n_blocks && scheduler__begin_load(s, q, n_blocks)) && !take_room(s, q, match.n_blocks)) {
        return NO_ROOM;
    }
    q->scores = scores;
    r->scorer = scores ? q : r->scorer;
    return ADMITTED;
}

void scheduler__note_started(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    if (scheduler__uses_cache(s, r)) {
        s->stats.cache_queries += !q->scores;
        s->stats.queried_tokens += q->scores || r->started ? 0 : r->job->n_prompt;
        s->stats.cache_hits += q->n_computed > 0;
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

static bool may_admit(const struct scheduler *s)
{
    bool memory_is_short = s->admit_pause > 0 && s->n_running > 0;
    return s->n_running < s->config->max_sequences && !s->paused && !memory_is_short;
}

void scheduler__admit(struct scheduler *s)
{
    struct sequence *next;
    s->stats.starved = 0;
    scheduler__poll_disk(s);
    for (struct sequence *q = s->queue; q && may_admit(s); q = next) {
        next = q->next;
        enum admission a = try_admit(s, q);
        if (a == ADMITTED) {
            start(s, q);
        } else if (a == NO_ROOM) {
            s->stats.starved = 1;
            break;
        } else if (a == ENDED) {
            next = s->queue; /* its siblings left the queue with it */
        }
    }
    scheduler__read_ahead(s);
}
