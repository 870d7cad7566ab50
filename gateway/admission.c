#include "gateway/admission.h"

#include "pipeline/deadlines.h"

#include <stdlib.h>

#define MOST_RETRY_S 300

/* Predictions err, and who is let in with no time to spare is late half of the time, which is work for nothing. So more
 * is reckoned with than is predicted: so many times as much, more with each request that is late. */
#define CAUTION_LEAST   1.2
#define CAUTION_MOST    3.0
#define CAUTION_LATE    1.1   /* times as much with each of them ... */
#define CAUTION_RECOVER 0.995 /* ... and of what it is above the least with each prompt that ends */

struct admission {
    struct admission_options options;
    struct throughput throughput;
    bool ready, starved;
    double caution;
    uint64_t n_late;      /* of options.n_late, when it was looked at last */
    uint64_t n_preparing; /* places of requests that are no generations yet */
    uint64_t n_refused_full, n_refused_late;
};

struct admission *admission_create(const struct admission_options *options, struct error *err)
{
    struct admission *a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NO_MEMORY, "no memory for a model's queue.");
        return NULL;
    }
    a->options = *options;
    a->caution = CAUTION_LEAST;
    return a;
}

void admission_free(struct admission *a)
{
    free(a);
}

void admission_note_stats(struct admission *a, const struct engine_stats *stats)
{
    uint64_t before = a->throughput.n_finished;
    throughput_note(&a->throughput, stats);
    for (uint64_t n = before; n < a->throughput.n_finished && a->caution > CAUTION_LEAST; n++) {
        a->caution = CAUTION_LEAST + CAUTION_RECOVER * (a->caution - CAUTION_LEAST);
    }
    a->starved = stats->starved > 0;
}

void admission_note_ready(struct admission *a, bool ready)
{
    a->ready = ready;
    if (!ready) {
        a->starved = false;
        throughput_lost(&a->throughput);
    }
}

/* ---- the view ---- */

static struct admission_view look(struct admission *a, int32_t priority)
{
    const struct throughput *t = &a->throughput;
    double prompt = throughput_prompt(t), output = throughput_output(t);
    struct pipeline_load load = pipeline_load(a->options.pipeline, priority, output);
    uint64_t running = load.sequences_running, most = a->ready && !a->starved ? a->options.max_sequences : 0;
    return (struct admission_view){
        .n_waiting = load.jobs_waiting + a->n_preparing,
        .n_before = load.jobs_before + a->n_preparing,
        .tokens_before = load.tokens_before + (double)a->n_preparing * (prompt + output),
        .n_free = most > running ? most - running : 0,
        .ready = a->ready,
        .rate = throughput_rate(t),
        .tokens_each = prompt + output,
        .n_running = running,
    };
}

/* Those before it that find no room must have been served as far as to leave it their place, and so must one that runs:
 * as many tokens as they have, and as a request has in the mean. */
int64_t admission_wait_ms(const struct admission_view *v)
{
    if (!v->ready || v->rate <= 0 || v->n_before < v->n_free) {
        return 0;
    }
    double share = v->n_before ? (double)(v->n_before - v->n_free) / (double)v->n_before : 0;
    return (int64_t)(1000 * (share * v->tokens_before + v->tokens_each) / v->rate);
}

/* Those that run share what is served. */
int64_t admission_service_ms(const struct admission_view *v)
{
    uint64_t n = v->n_running ? v->n_running : 1;
    return v->rate > 0 ? (int64_t)(1000 * (double)n * v->tokens_each / v->rate) : 0;
}

/* ---- refusals ---- */

static void learn_caution(struct admission *a)
{
    uint64_t n = 0;
    for (int i = 0; a->options.n_late && i < GEN_LIMIT_COUNT; i++) {
        n += a->options.n_late[i];
    }
    for (; a->n_late < n; a->n_late++) {
        double caution = a->caution * CAUTION_LATE;
        a->caution = caution < CAUTION_MOST ? caution : CAUTION_MOST;
    }
}

static void set_retry(struct error *err, int64_t ms)
{
    int64_t s = (ms + 999) / 1000;
    err->retry_after_s = (int32_t)(s < 1 ? 1 : s > MOST_RETRY_S ? MOST_RETRY_S : s);
}

static bool has_place(struct admission *a, const struct admission_view *v, uint64_t n_more, struct error *err)
{
    if (v->n_waiting + n_more < a->options.max_waiting + v->n_free) {
        return true;
    }
    a->n_refused_full++;
    if (!v->ready) {
        error_set(err, ERR_OVERLOADED,
                  "model '%.60s' is loading and %llu requests wait for it, which is all that may (--max-waiting). Try "
                  "again later.",
                  a->options.model, (unsigned long long)v->n_waiting);
    } else {
        error_set(err, ERR_OVERLOADED,
                  "%llu requests wait for model '%.60s', which is all that may (--max-waiting). Try again later.",
                  (unsigned long long)v->n_waiting, a->options.model);
    }
    set_retry(err, admission_wait_ms(v));
    return false;
}

static bool is_late(struct admission *a, int64_t wait_ms, int64_t left_ms, const char *limit, struct error *err)
{
    if (left_ms <= 0 || wait_ms <= left_ms) {
        return false;
    }
    a->n_refused_late++;
    error_set(err, ERR_OVERLOADED,
              "the request would take about %.1f s with model '%.60s', too long for its %.1f s %s. Try again later.",
              (double)wait_ms / 1000, a->options.model, (double)left_ms / 1000, limit);
    set_retry(err, wait_ms - left_ms);
    return true;
}

/* Of the limits that all requests have. */
static bool is_late_for_all(struct admission *a, int64_t wait_ms, struct error *err)
{
    return is_late(a, wait_ms, a->options.queue_timeout_ms, "in the queue (--queue-timeout-ms)", err) ||
           is_late(a, wait_ms, a->options.first_token_timeout_ms, "to its first token (--first-token-timeout-ms)", err);
}

bool admission_full(struct admission *a, uint64_t n_more, struct error *err)
{
    struct admission_view v = look(a, INT32_MAX);
    return !has_place(a, &v, n_more, err);
}

bool admission_enter(struct admission *a, const struct admission_request *r, struct error *err)
{
    struct admission_view v = look(a, r->priority);
    learn_caution(a);
    int64_t wait_ms = (int64_t)(a->caution * (double)admission_wait_ms(&v));
    int64_t service_ms = (int64_t)(a->caution * (double)admission_service_ms(&v));
    int64_t timeout_ms = r->timeout_ms > 0 ? r->timeout_ms : a->options.default_timeout_ms;
    if (!has_place(a, &v, 0, err) || is_late_for_all(a, wait_ms, err)) {
        return false;
    }
    /* What is begun and not finished in time is work for nothing: so its own time counts, but only behind others. */
    if (wait_ms > 0 && is_late(a, wait_ms + service_ms, timeout_ms, "in all ('timeout', --timeout-ms)", err)) {
        return false;
    }
    a->n_preparing += r->n_jobs;
    return true;
}

void admission_leave(struct admission *a, uint64_t n_jobs)
{
    a->n_preparing -= n_jobs;
}

struct admission_status admission_status(struct admission *a)
{
    struct admission_status s = {.view = look(a, 0), .max_waiting = a->options.max_waiting};
    s.wait_ms = admission_wait_ms(&s.view);
    s.n_refused_full = a->n_refused_full;
    s.n_refused_late = a->n_refused_late;
    return s;
}
