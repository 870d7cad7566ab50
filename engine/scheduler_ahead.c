/* Running ahead: while a lazy executor computes a step, the next one is enqueued behind it, so that it never waits for
 * the host. Its rows take their tokens from the handle of the samples that nobody has read yet.
 *
 * Only where nothing can come between: every running sequence is in the step, samples exactly one token in it, will
 * surely want another, and needs nothing of the host to sample it (penalties, DRY and constraints that apply look at
 * the token before; logprobs are the host's; guesses of tokens are compared here). One that turns out to have ended has
 * its row dropped, and so have those that are cancelled or run out of time meanwhile: their pages are released at once,
 * since whatever is enqueued later runs later. So has one whose constraint applies from the token before on: its row is
 * computed again, with a mask. After an end, or that, the next step is planned anew. */
#include "engine/scheduler_internal.h"

#include "engine/sampler.h"

static bool needs_host(const struct job *job)
{
    const struct sampling *p = &job->sampling;
    return job->flags & (JOB_LOGPROBS | JOB_DIGEST) || p->repetition_penalty != 1 || p->presence_penalty != 0 ||
           p->frequency_penalty != 0 || p->dry_multiplier != 0;
}

/* After the token of this step it wants another one, whatever the token is, unless that ends it. */
static bool goes_on(const struct scheduler *s, const struct sequence *q)
{
    const struct job *job = q->request->job;
    uint32_t n_output = sequence_n_output(q) + 1;
    return q->state == SEQUENCE_RUNNING && q->plan.samples && q->plan.n_scores == 0 && !q->scores && !needs_host(job) &&
           scheduler__is_free(q) && !scheduler__may_draft(s, q) && n_output < job->max_tokens &&
           job->n_prompt + n_output < s->config->n_context;
}

/* Somebody may be admitted in the next step. */
static bool someone_may_start(const struct scheduler *s)
{
    return s->queue && !s->paused && s->n_running < s->config->max_sequences;
}

static bool may_run_ahead(const struct scheduler *s)
{
    const struct flight *f = s->f;
    if (!s->x->lazy || s->pool.moving || f->n_forks > 0 || (uint32_t)f->batch.n_seqs != s->n_running ||
        someone_may_start(s)) {
        return false;
    }
    for (int i = 0; i < f->batch.n_seqs; i++) {
        if (!goes_on(s, f->members[i])) {
            return false;
        }
    }
    return true;
}

static void add_row(struct scheduler *s, struct flight *f, struct sequence *q)
{
    struct batch *b = &f->batch;
    int32_t at = b->n_rows++;
    f->ids[at] = 0;
    f->prev_row[at] = (int32_t)q->plan.first_sample;
    f->positions[at] = (int32_t)q->n_tokens;
    f->seqs[at] = (struct batch_seq){.first_row = at,
                                     .n_rows = 1,
                                     .start = (int32_t)q->n_tokens,
                                     .adapter = (int32_t)q->request->job->adapter,
                                     .n_pages = (int32_t)q->n_blocks};
    for (int g = 0; g < s->n_groups; g++) {
        f->seqs[at].pages[g] = q->tables[g];
    }
    f->out_rows[at] = at;
    f->members[at] = f->targets[at] = q;
    f->rows[at] = sampler_row_after(q, q->choice, at);
    f->owners[at] = (struct executor_owner){q->request->job->id, q->choice};
}

struct flight *scheduler__run_ahead(struct scheduler *s)
{
    struct flight *now = s->f, *next = now == &s->flights[0] ? &s->flights[1] : &s->flights[0];
    struct error err = {0};
    if (!may_run_ahead(s)) {
        return NULL;
    }
    for (int i = 0; i < now->batch.n_seqs; i++) {
        if (!scheduler__prepare_after(s, now->members[i])) {
            return NULL; /* what pages it took it will need anyway */
        }
    }
    next->batch = (struct batch){.ids = next->ids,
                                 .prev_row = next->prev_row,
                                 .prev_ids = now->sampled,
                                 .positions = next->positions,
                                 .seqs = next->seqs,
                                 .out_rows = next->out_rows};
    for (int i = 0; i < now->batch.n_seqs; i++) {
        add_row(s, next, now->members[i]);
    }
    next->batch.n_seqs = next->batch.n_out = next->batch.n_rows;
    next->n_samples = next->n_decodes = (uint32_t)next->batch.n_rows;
    next->n_sampling = next->n_samples;
    next->n_forks = 0;
    if (!scheduler__enqueue_step(s, next, &err)) {
        s->lost_step = true;
        return NULL; /* it is planned again, and fails again or not, when this one is settled */
    }
    s->stats.steps_ahead++;
    return next;
}

void scheduler__recall_plans(struct scheduler *s)
{
    for (int i = 0; i < s->f->batch.n_seqs; i++) {
        struct sequence *q = s->f->members[i];
        q->plan.rows = 1;
        q->plan.first_sample = (uint32_t)i;
        q->plan.n_scores = q->plan.n_drafts = 0;
        q->plan.samples = true;
        q->plan.forked = false;
    }
}
