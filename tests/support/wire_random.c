#include "tests/support/wire_random.h"

#include "base/rng.h"

#include <stdio.h>

uint32_t wire_random_below(struct wire_random *r, uint32_t n)
{
    return (uint32_t)(rng_uniform(r->seed, r->next++, 0, 0, RNG_SAMPLE) * n);
}

static uint64_t random64(struct wire_random *r)
{
    return (uint64_t)wire_random_below(r, UINT32_MAX) << 32 | wire_random_below(r, UINT32_MAX);
}

static const int32_t *random_ids(struct wire_random *r, struct arena *arena, uint32_t n)
{
    int32_t *ids = arena_alloc_array(arena, n ? n : 1, sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)wire_random_below(r, 1u << 20);
    }
    return ids;
}

/* A value within bounds, its ends included. */
#define RANDOM_SAMPLING(name, type, fallback, min, max, help)                              \
    switch (wire_random_below(r, 4)) {                                                     \
    case 0:                                                                                \
        s->name = (type)(min);                                                             \
        break;                                                                             \
    case 1:                                                                                \
        s->name = (type)(max);                                                             \
        break;                                                                             \
    default:                                                                               \
        s->name = (type)((min) + ((max) - (min)) * (wire_random_below(r, 1000) / 1000.0)); \
    }

static void random_sampling(struct wire_random *r, struct sampling *s)
{
    SAMPLING_TABLE(RANDOM_SAMPLING)
}

static void random_arrays(struct wire_random *r, struct arena *arena, struct job *job)
{
    job->n_bias = wire_random_below(r, 5);
    struct job_bias *bias = arena_alloc_array(arena, 5, sizeof *bias);
    for (uint32_t i = 0; i < job->n_bias; i++) {
        bias[i] = (struct job_bias){(int32_t)i * 7, (float)wire_random_below(r, 200) - 100};
    }
    job->bias = bias;
    job->n_stop_ids = wire_random_below(r, 5);
    job->stop_ids = random_ids(r, arena, job->n_stop_ids);
    job->n_dry_breakers = wire_random_below(r, 5);
    job->dry_breakers = random_ids(r, arena, job->n_dry_breakers);
    if (wire_random_below(r, 2)) {
        struct job_accepted *accepted = arena_alloc_array(arena, job->n_choices, sizeof *accepted);
        for (uint32_t i = 0; i < job->n_choices; i++) {
            accepted[i].n = wire_random_below(r, job->max_tokens + 1);
            accepted[i].ids = random_ids(r, arena, accepted[i].n);
            accepted[i].done = i > 0 && wire_random_below(r, 4) == 0;
        }
        job->accepted = accepted;
    }
    job->n_prediction = wire_random_below(r, 5);
    job->prediction = random_ids(r, arena, job->n_prediction);
    job->speculation = (enum speculation)wire_random_below(r, SPECULATION_COUNT);
    job->constraint_size = wire_random_below(r, 20);
    job->constraint = job->constraint_size ? arena_strdup(arena, (struct str){"constraint bytes....", 20}) : NULL;
}

void wire_random_job(struct wire_random *r, struct arena *arena, struct job *out)
{
    *out = (struct job){
        .id = random64(r),
        .kind = (enum job_kind)wire_random_below(r, JOB_KIND_COUNT),
        .flags = wire_random_below(r, 64),
        .prompt_index = wire_random_below(r, 64),
        .n_choices = 1 + wire_random_below(r, 4),
        .priority = (int32_t)wire_random_below(r, 100) - 50,
        .timeout_ms = wire_random_below(r, UINT32_MAX),
        .waited_us = random64(r),
        .seed = random64(r),
        .cache_salt = random64(r),
        .n_prompt = 1 + wire_random_below(r, 60),
        .max_tokens = 1 + wire_random_below(r, 20),
        .n_top = wire_random_below(r, JOB_MAX_TOP + 1),
        .n_prompt_top = wire_random_below(r, JOB_MAX_TOP + 1),
    };
    out->adapter = wire_random_below(r, 3);
    for (size_t i = 0; out->adapter && i < sizeof out->adapter_digest.bytes; i++) {
        out->adapter_digest.bytes[i] = (uint8_t)wire_random_below(r, 256);
    }
    out->min_tokens = wire_random_below(r, out->max_tokens + 1);
    out->prompt = random_ids(r, arena, out->n_prompt);
    random_sampling(r, &out->sampling);
    random_arrays(r, arena, out);
}

static const struct token_logprob *random_logprobs(struct wire_random *r, struct arena *arena, uint32_t n)
{
    struct token_logprob *logprobs = arena_alloc_array(arena, n ? n : 1, sizeof *logprobs);
    for (uint32_t i = 0; i < n; i++) {
        struct token_logprob *l = &logprobs[i];
        l->id = (int32_t)wire_random_below(r, 1000);
        l->logprob = -(float)wire_random_below(r, 1000) / 7;
        l->rank = (int32_t)wire_random_below(r, 1000);
        l->n_top = wire_random_below(r, JOB_MAX_TOP + 1);
        l->digest = random64(r);
        struct token_top *top = arena_alloc_array(arena, l->n_top + 1, sizeof *top);
        for (uint32_t k = 0; k < l->n_top; k++) {
            top[k] = (struct token_top){(int32_t)k, -(float)k};
        }
        l->top = top;
    }
    return logprobs;
}

static const struct engine_stats *random_stats(struct wire_random *r, struct arena *arena)
{
    struct engine_stats *stats = arena_alloc(arena, sizeof *stats);
    uint64_t *words = (uint64_t *)stats;
    for (size_t i = 0; i < sizeof *stats / sizeof *words; i++) {
        words[i] = random64(r);
    }
    return stats;
}

static void random_tokens(struct wire_random *r, struct arena *arena, struct engine_event *e)
{
    e->n = wire_random_below(r, 6);
    e->index = wire_random_below(r, 1000);
    if (e->kind == ENGINE_PROMPT || wire_random_below(r, 2)) {
        e->logprobs = random_logprobs(r, arena, e->n);
    }
    if (e->kind == ENGINE_TOKENS) {
        e->choice = wire_random_below(r, 64);
        e->ids = random_ids(r, arena, e->n);
        e->n_drafted = wire_random_below(r, 32);
        e->n_held = wire_random_below(r, 32);
        e->finish = (enum finish_reason)wire_random_below(r, FINISH_ERROR + 1);
        e->stop_id = e->finish == FINISH_STOP ? (int32_t)wire_random_below(r, 100) : -1;
    }
}

void wire_random_event(struct wire_random *r, struct arena *arena, struct engine_event *out)
{
    *out = (struct engine_event){
        .kind = (enum engine_event_kind)wire_random_below(r, ENGINE_EVENT_KINDS), .job = random64(r), .stop_id = -1};
    switch (out->kind) {
    case ENGINE_STARTED:
        out->n_cached = wire_random_below(r, 1000);
        out->queue_us = random64(r);
        break;
    case ENGINE_PROGRESS:
        out->n_done = wire_random_below(r, 1000);
        break;
    case ENGINE_PROMPT:
    case ENGINE_TOKENS:
        random_tokens(r, arena, out);
        break;
    case ENGINE_PREEMPTED:
        out->choice = wire_random_below(r, 64);
        break;
    case ENGINE_FAILED:
    case ENGINE_LOST:
        error_set_param(&out->error, (enum error_code)wire_random_below(r, ERR_COUNT), "prompt", "Sentence %u.",
                        wire_random_below(r, 1000));
        break;
    case ENGINE_REPLAYED:
        snprintf(out->fingerprint, sizeof out->fingerprint, "%08x", wire_random_below(r, UINT32_MAX));
        break;
    case ENGINE_STATS:
        out->stats = random_stats(r, arena);
        break;
    }
}

/* ---- comparison ---- */

static bool ids_equal(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b)
{
    return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * sizeof *a) == 0);
}

static bool accepted_equal(const struct job *a, const struct job *b)
{
    if (!a->accepted != !b->accepted) {
        return false;
    }
    for (uint32_t i = 0; a->accepted && i < a->n_choices; i++) {
        if (!ids_equal(a->accepted[i].ids, a->accepted[i].n, b->accepted[i].ids, b->accepted[i].n) ||
            a->accepted[i].done != b->accepted[i].done) {
            return false;
        }
    }
    return true;
}

static bool sampling_equal(const struct sampling *a, const struct sampling *b)
{
#define X(name, type, fallback, min, max, help) \
    if (a->name != b->name) {                   \
        return false;                           \
    }
    SAMPLING_TABLE(X)
#undef X
    return true;
}

bool wire_jobs_equal(const struct job *a, const struct job *b)
{
    bool numbers = a->id == b->id && a->kind == b->kind && a->flags == b->flags && a->prompt_index == b->prompt_index &&
                   a->n_choices == b->n_choices && a->priority == b->priority && a->timeout_ms == b->timeout_ms &&
                   a->waited_us == b->waited_us && a->seed == b->seed && a->cache_salt == b->cache_salt &&
                   a->max_tokens == b->max_tokens && a->min_tokens == b->min_tokens && a->n_top == b->n_top &&
                   a->n_prompt_top == b->n_prompt_top && a->adapter == b->adapter &&
                   memcmp(&a->adapter_digest, &b->adapter_digest, sizeof a->adapter_digest) == 0;
    return numbers && ids_equal(a->prompt, a->n_prompt, b->prompt, b->n_prompt) &&
           sampling_equal(&a->sampling, &b->sampling) && a->n_bias == b->n_bias &&
           (!a->n_bias || memcmp(a->bias, b->bias, a->n_bias * sizeof *a->bias) == 0) &&
           ids_equal(a->stop_ids, a->n_stop_ids, b->stop_ids, b->n_stop_ids) &&
           ids_equal(a->dry_breakers, a->n_dry_breakers, b->dry_breakers, b->n_dry_breakers) && accepted_equal(a, b) &&
           ids_equal(a->prediction, a->n_prediction, b->prediction, b->n_prediction) &&
           a->speculation == b->speculation && a->constraint_size == b->constraint_size &&
           (!a->constraint_size || memcmp(a->constraint, b->constraint, a->constraint_size) == 0);
}

static bool logprobs_equal(const struct engine_event *a, const struct engine_event *b)
{
    for (uint32_t i = 0; i < a->n && (a->logprobs || b->logprobs); i++) {
        const struct token_logprob *x = &a->logprobs[i], *y = &b->logprobs[i];
        if (!a->logprobs || !b->logprobs || x->id != y->id || x->logprob != y->logprob || x->rank != y->rank ||
            x->digest != y->digest || x->n_top != y->n_top ||
            (x->n_top && memcmp(x->top, y->top, x->n_top * sizeof *x->top) != 0)) {
            return false;
        }
    }
    return true;
}

bool wire_events_equal(const struct engine_event *a, const struct engine_event *b)
{
    bool numbers = a->kind == b->kind && a->job == b->job && a->choice == b->choice && a->index == b->index &&
                   a->n == b->n && a->finish == b->finish && a->stop_id == b->stop_id && a->n_cached == b->n_cached &&
                   a->n_done == b->n_done && a->queue_us == b->queue_us && a->n_drafted == b->n_drafted &&
                   a->n_held == b->n_held && a->error.code == b->error.code;
    return numbers && strcmp(a->error.msg, b->error.msg) == 0 && strcmp(a->error.param, b->error.param) == 0 &&
           strcmp(a->fingerprint, b->fingerprint) == 0 &&
           (a->kind != ENGINE_TOKENS || ids_equal(a->ids, a->n, b->ids, b->n)) && logprobs_equal(a, b) &&
           (a->kind != ENGINE_STATS || memcmp(a->stats, b->stats, sizeof *a->stats) == 0);
}
