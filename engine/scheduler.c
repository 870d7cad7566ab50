#include "engine/scheduler_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sys_memory.h"

#include <stdlib.h>

/* ---- creation ---- */

static void page_freed(void *arg, int group, uint32_t page)
{
    struct scheduler *s = arg;
    if (s->seals) { /* before anybody else may write to it */
        kv_seal_remove(s->seals, group, page);
    }
    if (s->x->ops->free_page) {
        s->x->ops->free_page(s->x, group, page);
    }
}

static bool create_pages(struct scheduler *s, struct error *err)
{
    const struct engine_config *config = s->config;
    s->kv = kv_pool_create(&config->geometry, err);
    if (!s->kv) {
        return false;
    }
    kv_on_free(s->kv, page_freed, s);
    struct prefix_cache_options options = {.kv = s->kv, .n_groups = s->n_groups, .page_tokens = config->page_tokens};
    uint64_t n_nodes = config->max_sequences;
    for (int g = 0; g < s->n_groups; g++) {
        options.window[g] = config->window[g];
        n_nodes += kv_n_pages(s->kv, g);
    }
    options.n_nodes = n_nodes < UINT32_MAX / 2 ? (uint32_t)n_nodes : UINT32_MAX / 2;
    s->cache = prefix_cache_create(&options, err);
    return s->cache != NULL;
}

static bool create_flight(struct scheduler *s, struct flight *f)
{
    size_t n_seqs = s->config->max_sequences, n_rows = s->config->max_batch_tokens;
    f->members = calloc(n_seqs, sizeof(struct sequence *));
    f->seqs = calloc(n_seqs, sizeof *f->seqs);
    f->ids = calloc(n_rows, sizeof *f->ids);
    f->positions = calloc(n_rows, sizeof *f->positions);
    f->prev_row = calloc(n_rows, sizeof *f->prev_row);
    f->out_rows = calloc(s->max_samples, sizeof *f->out_rows);
    f->rows = calloc(s->max_samples, sizeof *f->rows);
    f->owners = calloc(s->max_samples, sizeof *f->owners);
    f->targets = calloc(s->max_samples, sizeof(struct sequence *));
    f->results = calloc(s->max_samples, sizeof *f->results);
    return f->members && f->seqs && f->ids && f->positions && f->prev_row && f->out_rows && f->rows && f->owners &&
           f->targets && f->results;
}

static void release_flight(struct flight *f)
{
    free(f->members);
    free(f->seqs);
    free(f->ids);
    free(f->positions);
    free(f->prev_row);
    free(f->out_rows);
    free(f->rows);
    free(f->owners);
    free(f->targets);
    free(f->results);
}

static bool create_arrays(struct scheduler *s, struct error *err)
{
    size_t n_seqs = s->config->max_sequences, n_rows = s->config->max_batch_tokens;
    s->max_samples = (uint32_t)(n_seqs + n_rows);
    s->running = calloc(n_seqs, sizeof(struct sequence *));
    s->prefills = calloc(n_seqs, sizeof(struct sequence *));
    s->drafts = calloc(n_seqs, sizeof *s->drafts);
    s->asked = calloc(n_seqs, sizeof(struct draft *));
    s->bad = calloc(n_seqs, sizeof *s->bad);
    s->f = &s->flights[0];
    bool ok = s->running && s->prefills && s->drafts && s->asked && s->bad && create_flight(s, &s->flights[0]) &&
              (!s->x->lazy || create_flight(s, &s->flights[1]));
    return ok ||
           error_set(err, ERR_NO_MEMORY, "There is no memory for steps of %zu rows and %zu sequences.", n_rows, n_seqs);
}

/* What a group reads of each position is as its pages are large. States are read once for each row. */
static void share_groups(struct scheduler *s)
{
    double all = 0;
    for (int g = 0; g < s->n_groups; g++) {
        all += s->config->state[g] ? 0 : (double)s->config->geometry.page_size[g];
    }
    for (int g = 0; g < s->n_groups; g++) {
        s->group_share[g] = s->config->state[g] ? 0 : (double)s->config->geometry.page_size[g] / all;
    }
}

static bool create_drafters(struct scheduler *s, struct error *err)
{
    struct drafter *lookup = lookup_drafter_create(err);
    if (lookup) {
        scheduler_add_drafter(s, lookup);
    }
    return lookup != NULL;
}

struct scheduler *scheduler_create(const struct engine_config *config, struct executor *x, struct error *err)
{
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the scheduler.");
        return NULL;
    }
    s->config = config;
    s->n_groups = config->geometry.n_groups;
    s->x = x;
    s->next_deadline_ns = INT64_MAX;
    scheduler__init_pool(s);
    step_cost_init(&s->cost);
    share_groups(s);
    scheduler__init_states(s);
    if (create_pages(s, err) && create_arrays(s, err) && create_drafters(s, err) &&
        events_init(&s->events, s->max_samples, err)) {
        return s;
    }
    scheduler_free(s);
    return NULL;
}

static void free_requests(struct scheduler *s, struct request *r)
{
    while (r) {
        struct request *next = r->next;
        for (uint32_t i = 0; i < r->job->n_choices; i++) {
            scheduler__forget_drafts(s, &r->sequences[i]);
        }
        request_free(r);
        r = next;
    }
}

void scheduler_free(struct scheduler *s)
{
    if (!s) {
        return;
    }
    free_requests(s, s->requests);
    free_requests(s, s->ended);
    for (int i = 0; i < s->n_drafters; i++) {
        s->drafters[i]->ops->free(s->drafters[i]);
    }
    prefix_cache_free(s->cache);
    kv_pool_free(s->kv);
    events_release(&s->events);
    free(s->running);
    free(s->prefills);
    free(s->drafts);
    free(s->asked);
    free(s->bad);
    free(s->masks);
    release_flight(&s->flights[0]);
    release_flight(&s->flights[1]);
    free(s);
}

void scheduler_set_sink(struct scheduler *s, engine_sink *sink, void *arg)
{
    s->events.sink = sink;
    s->events.arg = arg;
}

void scheduler_set_seals(struct scheduler *s, struct kv_seals *seals)
{
    s->seals = seals;
    s->stats.adopted_blocks = prefix_adopt(s->cache, seals);
    if (s->stats.adopted_blocks) {
        LOG_INFO("KV pages of the engine before this one are adopted", "blocks=%llu tokens=%llu",
                 (unsigned long long)s->stats.adopted_blocks,
                 (unsigned long long)s->stats.adopted_blocks * s->config->page_tokens);
    }
}

void scheduler_count_unstarted(struct scheduler *s, atomic_uint *n)
{
    s->n_unstarted = n;
}

void scheduler_set_expected(struct scheduler *s, _Atomic uint64_t *word)
{
    s->expected_ns = word;
}

void scheduler_set_sizes(struct scheduler *s, uint64_t weights_size)
{
    s->stats.weights_size = weights_size;
}

void scheduler_pause(struct scheduler *s, bool paused)
{
    s->paused = paused;
}

void scheduler_clear_cache(struct scheduler *s)
{
    kv_evict_all(s->kv);
    if (s->disk) {
        kv_disk_clear(s->disk);
    }
}

bool scheduler_idle(const struct scheduler *s)
{
    return !s->requests;
}

/* ---- queue and running list ---- */

bool scheduler__before(const struct sequence *a, const struct sequence *b)
{
    const struct request *x = a->request, *y = b->request;
    if (x->job->priority != y->job->priority) {
        return x->job->priority < y->job->priority;
    }
    return x->arrival != y->arrival ? x->arrival < y->arrival : a->choice < b->choice;
}

/* Most join at the end, so the search begins there. */
void scheduler__enqueue(struct scheduler *s, struct sequence *q)
{
    struct sequence *after = s->queue_tail;
    while (after && scheduler__before(q, after)) {
        after = after->prev;
    }
    q->state = SEQUENCE_WAITING;
    q->prev = after;
    q->next = after ? after->next : s->queue;
    *(q->prev ? &q->prev->next : &s->queue) = q;
    *(q->next ? &q->next->prev : &s->queue_tail) = q;
}

void scheduler__dequeue(struct scheduler *s, struct sequence *q)
{
    *(q->prev ? &q->prev->next : &s->queue) = q->next;
    *(q->next ? &q->next->prev : &s->queue_tail) = q->prev;
    q->prev = q->next = NULL;
}

void scheduler__run(struct scheduler *s, struct sequence *q)
{
    uint32_t at = s->n_running++;
    for (; at > 0 && scheduler__before(q, s->running[at - 1]); at--) {
        s->running[at] = s->running[at - 1];
    }
    s->running[at] = q;
    q->state = SEQUENCE_RUNNING;
    s->n_active += q->request->n_running++ == 0;
}

void scheduler__stop(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    uint32_t at = 0;
    while (s->running[at] != q) {
        at++;
    }
    s->n_running--;
    memmove(&s->running[at], &s->running[at + 1], (s->n_running - at) * sizeof(struct sequence *));
    s->n_active -= --r->n_running == 0;
    r->leader = r->leader == q ? NULL : r->leader;
    r->scorer = r->scorer == q ? NULL : r->scorer;
    q->scores = false;
    q->plan.rows = q->plan.n_drafts = 0;
    scheduler__release_pages(s, q);
}

/* ---- life of a request ---- */

static void note_started(struct scheduler *s, struct request *r)
{
    if (!r->started) {
        r->started = true;
        if (s->n_unstarted) {
            atomic_fetch_sub(s->n_unstarted, 1);
        }
    }
}

void scheduler__start(struct scheduler *s, struct request *r, uint32_t n_cached)
{
    if (r->started) {
        return;
    }
    note_started(s, r);
    s->stats.jobs_admitted++;
    s->stats.prompt_tokens += r->job->n_prompt;
    s->stats.cached_tokens += n_cached;
    struct engine_event *e = events_add(&s->events, ENGINE_STARTED, r->job->id);
    e->n_cached = n_cached;
    e->queue_us = r->job->waited_us + (uint64_t)(clock_ns() - r->created_ns) / 1000;
}

static void end_request(struct scheduler *s, struct request *r)
{
    note_started(s, r);
    s->n_requests--;
    *(r->prev ? &r->prev->next : &s->requests) = r->next;
    if (r->next) {
        r->next->prev = r->prev;
    }
    r->prev = NULL;
    r->next = s->ended;
    s->ended = r;
}

/* Takes one choice out of everything; the request stays. */
static void drop(struct scheduler *s, struct sequence *q)
{
    if (q->state == SEQUENCE_RUNNING) {
        scheduler__stop(s, q);
    } else if (q->state == SEQUENCE_WAITING) {
        scheduler__dequeue(s, q);
    }
    q->state = SEQUENCE_DONE;
    q->request->n_left--;
    scheduler__forget_drafts(s, q);
    sequence_unload(q);
}

void scheduler__end(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    drop(s, q);
    if (r->n_left == 0) {
        s->stats.jobs_finished++;
        end_request(s, r);
    }
}

void scheduler__finish(struct scheduler *s, struct sequence *q, enum finish_reason reason)
{
    struct engine_event *e = events_add(&s->events, ENGINE_TOKENS, q->request->job->id);
    e->choice = q->choice;
    e->index = sequence_n_output(q);
    e->finish = reason;
    scheduler__end(s, q);
}

void scheduler__remove(struct scheduler *s, struct request *r)
{
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        if (r->sequences[i].state != SEQUENCE_DONE) {
            drop(s, &r->sequences[i]);
        }
    }
    end_request(s, r);
}

void scheduler__fail(struct scheduler *s, struct request *r, const struct error *error)
{
    s->stats.jobs_finished++;
    s->stats.jobs_failed++;
    events_add(&s->events, ENGINE_FAILED, r->job->id)->error = *error;
    scheduler__remove(s, r);
}

struct request *scheduler__find_request(struct scheduler *s, uint64_t job)
{
    struct request *r = s->requests;
    while (r && r->job->id != job) {
        r = r->next;
    }
    return r;
}

/* A resumed choice may have been complete already: its last token reached its client, the reason did not. */
static void finish_complete(struct scheduler *s, struct request *r)
{
    uint32_t n_choices = r->job->n_choices;
    uint64_t job = r->job->id;
    for (uint32_t i = 0; i < n_choices; i++) {
        struct sequence *q = &r->sequences[i];
        int32_t stop_id;
        enum finish_reason reason = sequence_finish(q, s->config, &stop_id);
        if (reason == FINISH_NONE || q->state == SEQUENCE_DONE) {
            continue;
        }
        struct engine_event *e = events_add(&s->events, ENGINE_TOKENS, job);
        e->choice = i;
        e->index = sequence_n_output(q);
        e->finish = reason;
        e->stop_id = stop_id;
        scheduler__end(s, q);
    }
}

void scheduler_accept(struct scheduler *s, struct request *r)
{
    if (scheduler__find_request(s, r->job->id)) {
        LOG_WARN("job refused: its id is in use", "job=%llu", (unsigned long long)r->job->id);
        note_started(s, r);
        request_free(r);
        return;
    }
    r->arrival = s->n_arrived++;
    r->prev = NULL;
    r->next = s->requests;
    if (r->next) {
        r->next->prev = r;
    }
    s->requests = r;
    s->n_requests++;
    if (r->deadline_ns && r->deadline_ns < s->next_deadline_ns) {
        s->next_deadline_ns = r->deadline_ns;
    }
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        if (r->sequences[i].state != SEQUENCE_DONE) {
            scheduler__enqueue(s, &r->sequences[i]);
        }
    }
    finish_complete(s, r);
}

void scheduler_fail(struct scheduler *s, uint64_t job, const struct error *why)
{
    struct request *r = scheduler__find_request(s, job);
    if (r) {
        scheduler__fail(s, r, why);
    }
}

void scheduler_fail_adapter(struct scheduler *s, uint32_t number)
{
    struct request *next;
    for (struct request *r = s->requests; r; r = next) {
        next = r->next;
        if (r->job->adapter == number) {
            struct error gone = {0};
            error_set_param(&gone, ERR_MODEL_NOT_FOUND, "model", "The adapter of this request was unloaded.");
            scheduler__fail(s, r, &gone);
        }
    }
}

void scheduler_cancel(struct scheduler *s, uint64_t job, uint32_t choice)
{
    struct request *r = scheduler__find_request(s, job);
    uint32_t n_choices = r ? r->job->n_choices : 0;
    for (uint32_t i = 0; i < n_choices; i++) {
        struct sequence *q = &r->sequences[i];
        if ((choice == i || choice == UINT32_MAX) && q->state != SEQUENCE_DONE) {
            scheduler__finish(s, q, FINISH_CANCELLED);
        }
    }
}

void scheduler__expire(struct scheduler *s, int64_t now_ns)
{
    struct request *next;
    if (now_ns < s->next_deadline_ns) {
        return;
    }
    s->next_deadline_ns = INT64_MAX;
    for (struct request *r = s->requests; r; r = next) {
        next = r->next;
        if (r->deadline_ns && r->deadline_ns <= now_ns) {
            struct error late = {0};
            error_set(&late, ERR_DEADLINE,
                      "The request did not finish within %u ms, its limit in all ('timeout', --timeout-ms).",
                      r->job->timeout_ms);
            scheduler__fail(s, r, &late);
        } else if (r->deadline_ns && r->deadline_ns < s->next_deadline_ns) {
            s->next_deadline_ns = r->deadline_ns;
        }
    }
}

/* ---- statistics ---- */

const struct engine_stats *scheduler_stats(struct scheduler *s)
{
    struct kv_counts counts = kv_counts(s->kv);
    s->stats.running = s->n_running;
    s->stats.waiting = s->n_requests - s->n_active;
    s->stats.pages_total = counts.total;
    s->stats.pages_referenced = counts.referenced;
    s->stats.pages_cached = counts.cached;
    s->stats.pages_evicted = counts.evicted;
    s->stats.kv_size = s->config->geometry.pool_size;
    s->stats.kv_usable_size = kv_usable_size(s->kv);
    s->stats.pages_given_back = counts.withdrawn;
    s->stats.scratch_size = s->x->scratch_size;
    scheduler__disk_stats(s);
    return &s->stats;
}

void scheduler_emit_stats(struct scheduler *s)
{
    s->stats.resident_size = sys_memory_resident();
    s->events.stats = *scheduler_stats(s);
    events_add(&s->events, ENGINE_STATS, 0)->stats = &s->events.stats;
    s->stats_sent_ns = clock_ns();
    events_flush(&s->events);
}
