/* A recount of everything that is kept up to date elsewhere. For tests: it is slow. */
#include "engine/scheduler_internal.h"

#include <stdlib.h>

static bool wrong(struct error *err, const char *what, const struct sequence *q)
{
    return error_set(err, ERR_INTERNAL, "The scheduler's books are wrong: %s (job %llu, choice %u).", what,
                     q ? (unsigned long long)q->request->job->id : 0, q ? q->choice : 0);
}

static void count_references(const struct scheduler *s, const struct sequence *q, uint32_t *expected[KV_MAX_GROUPS])
{
    for (int g = 0; g < s->n_groups; g++) {
        for (uint32_t i = 0; i < q->n_blocks; i++) {
            if (q->tables[g][i] != KV_PAGE_NONE) {
                expected[g][q->tables[g][i]]++;
            }
        }
    }
}

/* It can go on, and begin again at its last border. */
static bool has_states(const struct scheduler *s, const struct sequence *q)
{
    uint32_t n = q->n_computed, page_tokens = s->config->page_tokens;
    for (int g = 0; g < s->n_groups; g++) {
        bool border = n < page_tokens || q->tables[g][n / page_tokens - 1] != KV_PAGE_NONE;
        bool last = n % page_tokens == 0 || q->tables[g][n / page_tokens] != KV_PAGE_NONE;
        if (s->config->state[g] && !(border && last)) {
            return false;
        }
    }
    return true;
}

static bool check_running(const struct scheduler *s, uint32_t *expected[KV_MAX_GROUPS], struct error *err)
{
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct sequence *q = s->running[i];
        if (q->state != SEQUENCE_RUNNING || (i > 0 && !scheduler__before(s->running[i - 1], q))) {
            return wrong(err, "the order of the running sequences", q);
        }
        if (q->n_computed >= q->n_tokens && q->request->job->max_tokens > 0) {
            return wrong(err, "a running sequence has nothing to compute", q);
        }
        if ((uint64_t)q->n_blocks * s->config->page_tokens < q->n_computed) {
            return wrong(err, "a running sequence has fewer pages than positions", q);
        }
        if (!q->load.ticket && !has_states(s, q)) {
            return wrong(err, "a running sequence lacks a state that it needs", q);
        }
        count_references(s, q, expected);
    }
    return true;
}

static bool check_queue(const struct scheduler *s, struct error *err)
{
    for (const struct sequence *q = s->queue; q; q = q->next) {
        if (q->state != SEQUENCE_WAITING || q->n_blocks || (q->prev && !scheduler__before(q->prev, q))) {
            return wrong(err, "the queue", q);
        }
    }
    return true;
}

static bool check_requests(const struct scheduler *s, struct error *err)
{
    uint32_t n = 0, n_active = 0;
    for (const struct request *r = s->requests; r; r = r->next, n++) {
        uint32_t n_left = 0, n_running = 0;
        for (uint32_t i = 0; i < r->job->n_choices; i++) {
            n_left += r->sequences[i].state != SEQUENCE_DONE;
            n_running += r->sequences[i].state == SEQUENCE_RUNNING;
        }
        if (n_left != r->n_left || n_left == 0 || n_running != r->n_running) {
            return wrong(err, "the counts of a request", &r->sequences[0]);
        }
        n_active += n_running > 0;
    }
    return (n == s->n_requests && n_active == s->n_active) || wrong(err, "the number of requests", NULL);
}

static bool check_loads(const struct scheduler *s, struct error *err)
{
    uint32_t n = 0, n_unread = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct sequence *q = s->running[i];
        n += q->load.ticket != 0;
        n_unread += q->load.ticket ? q->load.n_left : 0;
        if (q->load.ticket && q->plan.rows) {
            return wrong(err, "a sequence is computed while its hit is being read", q);
        }
    }
    return ((n == s->n_loading && n_unread == s->n_unread) || wrong(err, "the number of hits being read", NULL)) &&
           (!s->disk || kv_disk_check(s->disk, err));
}

bool scheduler_check(const struct scheduler *s, struct error *err)
{
    uint32_t *expected[KV_MAX_GROUPS] = {0};
    bool ok = true;
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t n = kv_n_pages(s->kv, g);
        expected[g] = calloc(n ? n : 1, sizeof *expected[g]);
        ok = ok && expected[g];
    }
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a recount.");
    }
    ok = ok && check_running(s, expected, err) && check_queue(s, err) && check_requests(s, err) &&
         check_loads(s, err) && kv_check(s->kv, (const uint32_t *const *)expected, err) && prefix_check(s->cache, err);
    for (int g = 0; g < s->n_groups; g++) {
        free(expected[g]);
    }
    return ok;
}
