#include "cli/bench_engine.h"

#include "base/clock.h"
#include "base/queue.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_SEED 42

/* What the sink fills, on the engine's thread, while a run lasts. The calling thread writes it before it submits the
 * jobs and reads it after it took the message of the run's end from the queue. */
struct run_log {
    int64_t *ns;   /* [n_streams, n_gen] */
    int *n_tokens; /* [n_streams] */
    int n_streams, n_gen, n_ended;
    uint64_t first_job;
    bool failed;
    struct error error;
};

struct bench_engine {
    struct engine *engine;
    struct queue *ends; /* of bool: the last job of a run has ended */
    struct run_log log;
    uint64_t next_job;
    int32_t *prompt; /* [n_context] of the stream being submitted */
};

/* ---- the engine's thread ---- */

static void note_tokens(struct run_log *log, const struct engine_event *e, int64_t now)
{
    uint64_t stream = e->job - log->first_job;
    for (uint32_t i = 0; i < e->n && log->n_tokens[stream] < log->n_gen; i++) {
        log->ns[stream * (uint64_t)log->n_gen + (uint64_t)log->n_tokens[stream]++] = now;
    }
}

static void note_failure(struct run_log *log, const struct error *error)
{
    log->error = log->failed ? log->error : *error;
    log->failed = true;
}

/* All tokens of a step come in one call: they have one time. */
static void take_events(void *arg, const struct engine_event *events, size_t n)
{
    struct bench_engine *b = arg;
    struct run_log *log = &b->log;
    int64_t now = clock_ns();
    int ended = 0;
    for (size_t i = 0; i < n; i++) {
        const struct engine_event *e = &events[i];
        if (e->kind == ENGINE_TOKENS) {
            note_tokens(log, e, now);
        } else if (e->kind == ENGINE_FAILED) {
            note_failure(log, &e->error);
        }
        ended += e->kind == ENGINE_FAILED || (e->kind == ENGINE_TOKENS && e->finish != FINISH_NONE);
    }
    if (ended > 0 && (log->n_ended += ended) == log->n_streams) {
        (void)queue_push(b->ends, &(bool){true}); /* there is room for the one run's end */
    }
}

/* ---- life ---- */

struct bench_engine *bench_engine_create(const struct engine_options *options, struct error *err)
{
    struct bench_engine *b = calloc(1, sizeof *b);
    if (!b || !(b->ends = queue_create(sizeof(bool), 1))) {
        free(b);
        error_set(err, ERR_NO_MEMORY, "There is no memory to run an engine.");
        return NULL;
    }
    b->engine = engine_create(options, err);
    if (!b->engine || !engine_start(b->engine, take_events, b, err)) {
        bench_engine_free(b);
        return NULL;
    }
    b->prompt = malloc((size_t)engine_info(b->engine)->n_context * sizeof *b->prompt);
    if (!b->prompt) {
        bench_engine_free(b);
        error_set(err, ERR_NO_MEMORY, "There is no memory for a prompt.");
        return NULL;
    }
    return b;
}

void bench_engine_free(struct bench_engine *b)
{
    if (b) {
        engine_free(b->engine);
        queue_free(b->ends);
        free(b->prompt);
        free(b);
    }
}

const struct engine_info *bench_engine_info(const struct bench_engine *b)
{
    return engine_info(b->engine);
}

/* ---- a run ---- */

static void draw_prompt(struct bench_engine *b, int stream, int n)
{
    double n_vocab = engine_info(b->engine)->n_vocab;
    for (int i = 0; i < n; i++) {
        b->prompt[i] = (int32_t)(n_vocab * rng_uniform(PROMPT_SEED, (uint32_t)i, (uint32_t)stream, 0, RNG_SAMPLE));
    }
}

static bool submit(struct bench_engine *b, const struct bench_run *run, int stream, struct error *err)
{
    struct job job = {.id = b->log.first_job + (uint64_t)stream,
                      .kind = JOB_GENERATE,
                      .flags = JOB_IGNORE_EOS | (run->use_cache ? 0 : JOB_NO_CACHE),
                      .n_choices = 1,
                      .prompt = b->prompt,
                      .n_prompt = (uint32_t)run->n_prompt,
                      .max_tokens = (uint32_t)run->n_gen,
                      .sampling = sampling_default()};
    job.sampling.temperature = 0;
    draw_prompt(b, stream, run->n_prompt);
    return engine_submit(b->engine, &job, err);
}

/* Paused, so that all jobs are admitted in one step. What cannot be submitted counts as ended. */
static void submit_all(struct bench_engine *b, const struct bench_run *run, int64_t *start_ns)
{
    struct error error;
    engine_pause(b->engine, true);
    for (int s = 0; s < run->n_streams; s++) {
        if (!submit(b, run, s, &error)) {
            /* The engine's thread writes the log only while jobs run, and none does yet. */
            note_failure(&b->log, &error);
            b->log.n_streams = s;
            break;
        }
    }
    *start_ns = clock_ns();
    engine_pause(b->engine, false);
    engine_cancel(b->engine, UINT64_MAX, 0); /* no such job: wakes the engine, which looks at a queue while it waits */
}

bool bench_engine_run(struct bench_engine *b, const struct bench_run *run, struct bench_times *out, struct error *err)
{
    bool end;
    size_t n = (size_t)run->n_streams;
    uint32_t n_context = engine_info(b->engine)->n_context;
    if ((uint64_t)run->n_prompt + (uint64_t)run->n_gen > n_context) {
        return error_set(err, ERR_CONTEXT_EXCEEDED,
                         "The engine's context of %u tokens is too short for %d and %d more.", n_context, run->n_prompt,
                         run->n_gen);
    }
    *out = (struct bench_times){
        .n_streams = run->n_streams, .n_gen = run->n_gen, .ns = calloc(n * (size_t)run->n_gen, sizeof *out->ns)};
    b->log = (struct run_log){.ns = out->ns,
                              .n_tokens = calloc(n, sizeof *b->log.n_tokens),
                              .n_streams = run->n_streams,
                              .n_gen = run->n_gen,
                              .first_job = b->next_job};
    b->next_job += n;
    bool ok = out->ns && b->log.n_tokens;
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the times of %zu tokens.", n * (size_t)run->n_gen);
    } else {
        submit_all(b, run, &out->start_ns);
        if (b->log.n_streams > 0) {
            (void)queue_wait(b->ends, &end, -1);
        }
        if (b->log.failed) {
            *err = b->log.error;
            ok = false;
        }
    }
    free(b->log.n_tokens);
    b->log = (struct run_log){0};
    if (!ok) {
        free(out->ns);
        out->ns = NULL;
    }
    return ok;
}

/* ---- what the times say ---- */

static int64_t token_ns(const struct bench_times *t, int stream, int token)
{
    return t->ns[(size_t)stream * (size_t)t->n_gen + (size_t)token];
}

double bench_times_total_rate(const struct bench_times *t)
{
    int64_t last = 0;
    for (int s = 0; s < t->n_streams; s++) {
        int64_t ns = token_ns(t, s, t->n_gen - 1);
        last = ns > last ? ns : last;
    }
    return (double)t->n_streams * t->n_gen * 1e9 / (double)(last - t->start_ns);
}

double bench_times_first_ms(const struct bench_times *t)
{
    double sum = 0;
    for (int s = 0; s < t->n_streams; s++) {
        sum += (double)(token_ns(t, s, 0) - t->start_ns) / 1e6;
    }
    return sum / t->n_streams;
}

struct window {
    int64_t first, last;
};

static struct window all_decoding(const struct bench_times *t)
{
    struct window w = {token_ns(t, 0, 0), token_ns(t, 0, t->n_gen - 1)};
    for (int s = 1; s < t->n_streams; s++) {
        int64_t first = token_ns(t, s, 0), last = token_ns(t, s, t->n_gen - 1);
        w.first = first > w.first ? first : w.first;
        w.last = last < w.last ? last : w.last;
    }
    return w;
}

double bench_times_decode_rate(const struct bench_times *t)
{
    struct window w = all_decoding(t);
    size_t n = 0;
    for (size_t i = 0; i < (size_t)t->n_streams * (size_t)t->n_gen; i++) {
        n += t->ns[i] > w.first && t->ns[i] <= w.last;
    }
    return w.last > w.first ? (double)n * 1e9 / (double)(w.last - w.first) : NAN;
}

size_t bench_times_gaps(const struct bench_times *t, double *out, size_t cap)
{
    struct window w = all_decoding(t);
    size_t n = 0;
    for (int s = 0; s < t->n_streams; s++) {
        for (int i = 1; i < t->n_gen && n < cap; i++) {
            int64_t before = token_ns(t, s, i - 1), now = token_ns(t, s, i);
            if (before >= w.first && now <= w.last) {
                out[n++] = (double)(now - before) / 1e6;
            }
        }
    }
    return n;
}
