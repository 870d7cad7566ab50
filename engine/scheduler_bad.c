/* What a step does not survive whole.
 *
 * Bad numbers: logits that are not finite fail a row, not the engine. The pages of its request may hold what made them
 * bad, so nobody else is to use them; the request leaves the scheduler as a job that has its tokens, and whoever asked
 * for such jobs (engine/replay.h) gets it behind the step, when its events so far have been sent. The others in the
 * batch go on: no row looks at another's.
 *
 * Memory: a step that finds none gets smaller. First it goes without guesses, then with half of its rows, then with one
 * sequence less; only one that does not fit alone, tried a few times, fails. For a while the steps stay like that, or
 * the next one would fail the same way. */
#include "engine/scheduler_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

#define LEAST_ROWS 16 /* of a step that was made smaller: fewer save nothing worth having */
#define LAST_TRIES 3  /* of a sequence alone, before it fails */
#define TRY_MS     2  /* between them */

/* ---- bad numbers ---- */

/* What its tokens say, in one piece. */
static bool copy_job(const struct request *r, struct bad_job *out)
{
    _Static_assert(LIMIT_CHOICES <= 64, "a bit for every choice");
    struct job_accepted accepted[LIMIT_CHOICES] = {{0}};
    struct job job = *r->job;
    for (uint32_t i = 0; i < job.n_choices; i++) {
        const struct sequence *q = &r->sequences[i];
        if (q->state == SEQUENCE_DONE) {
            out->ended |= (uint64_t)1 << i;
            accepted[i].done = true;
        } else {
            accepted[i] = (struct job_accepted){.ids = sequence_output(q), .n = sequence_n_output(q)};
        }
    }
    job.accepted = accepted;
    job.flags = (job.flags & ~(uint32_t)JOB_PROGRESS) | JOB_NO_CACHE;
    if (r->n_scored >= job.n_prompt) {
        job.flags &= ~(uint32_t)JOB_PROMPT_LOGPROBS;
    }
    job.speculation = SPECULATION_OFF;
    job.n_prediction = 0;
    job.timeout_ms = 0;
    out->n_scored = r->n_scored;
    out->deadline_ns = r->deadline_ns;
    out->job = job_copy(&job);
    return out->job != NULL;
}

/* Its clients see that its choices wait. */
static bool set_aside(struct scheduler *s, struct request *r, uint32_t n_tokens)
{
    struct bad_job *bad = &s->bad[s->n_bad];
    *bad = (struct bad_job){0};
    snprintf(bad->at, sizeof bad->at, "token %u", n_tokens);
    if (!s->on_bad || !copy_job(r, bad)) {
        return false;
    }
    s->n_bad++;
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        if (r->sequences[i].state != SEQUENCE_DONE) {
            events_add(&s->events, ENGINE_PREEMPTED, r->job->id)->choice = i;
        }
    }
    scheduler__remove(s, r);
    return true;
}

void scheduler__bad_numbers(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    struct error bad = {0};
    for (uint32_t i = 0; i < r->job->n_choices; i++) {
        scheduler__forget_blocks(s, &r->sequences[i]);
    }
    if (!set_aside(s, r, q->n_tokens)) {
        error_set(&bad, ERR_BAD_NUMBERS,
                  "The model gave logits that are not finite numbers at token %u of this request.", q->n_tokens);
        scheduler__fail(s, r, &bad);
    }
}

void scheduler__hand_out(struct scheduler *s)
{
    uint32_t n = s->n_bad;
    s->n_bad = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct error err = {0};
        uint64_t id = s->bad[i].job->id;
        s->stats.replays++;
        s->stats.replaying++;
        if (!s->on_bad(s->on_bad_arg, &s->bad[i], &err)) {
            free(s->bad[i].job);
            scheduler_pass(s, &(struct engine_event){.kind = ENGINE_FAILED, .job = id, .stop_id = -1, .error = err},
                           true);
        }
    }
}

void scheduler_on_bad_numbers(struct scheduler *s, bool (*fn)(void *arg, const struct bad_job *bad, struct error *err),
                              void *arg)
{
    s->on_bad = fn;
    s->on_bad_arg = arg;
}

void scheduler_pass(struct scheduler *s, const struct engine_event *event, bool last)
{
    bool failed = event->kind == ENGINE_FAILED;
    s->stats.generated_tokens += event->kind == ENGINE_TOKENS ? event->n : 0;
    s->stats.jobs_finished += last;
    s->stats.replaying -= last;
    s->stats.jobs_failed += failed;
    s->stats.replays_failed += failed;
    if (s->events.sink) {
        s->events.sink(s->events.arg, event, 1);
    }
}

/* ---- a broken device ---- */

void scheduler_keep_device_error(struct scheduler *s)
{
    s->keeps_device_error = true;
}

const struct error *scheduler_device_error(const struct scheduler *s)
{
    return s->device_error.code == ERR_NONE ? NULL : &s->device_error;
}

/* ---- memory ---- */

bool scheduler__may_wait(struct scheduler *s, uint32_t n_others)
{
    s->stats.memory_shortages++;
    if (n_others > 0) {
        s->admit_pause = MEMORY_PAUSE;
        return true;
    }
    if (s->n_memory_tries < LAST_TRIES) {
        s->n_memory_tries++;
        clock_sleep_ms(TRY_MS);
        return true;
    }
    s->n_memory_tries = 0;
    return false;
}

bool scheduler__make_smaller(struct scheduler *s)
{
    uint32_t n_rows = (uint32_t)s->f->batch.n_rows;
    if (scheduler__drop_drafts(s)) {
        s->stats.memory_shortages++;
        return true;
    }
    if (n_rows > LEAST_ROWS) {
        s->stats.memory_shortages++;
        s->short_rows = n_rows / 2 > LEAST_ROWS ? n_rows / 2 : LEAST_ROWS;
        s->short_steps = MEMORY_PAUSE;
        return true;
    }
    if (!scheduler__may_wait(s, s->n_running - 1)) {
        return false;
    }
    if (s->n_running > 1) {
        scheduler__preempt(s, s->running[s->n_running - 1]);
    }
    return true;
}

void scheduler__note_memory(struct scheduler *s)
{
    s->short_steps -= s->short_steps > 0;
    s->admit_pause -= s->admit_pause > 0;
    s->n_memory_tries = 0;
}

uint32_t scheduler__max_rows(const struct scheduler *s)
{
    uint32_t most = s->config->max_batch_tokens;
    return s->short_steps ? min_u32(s->short_rows, most) : most;
}
