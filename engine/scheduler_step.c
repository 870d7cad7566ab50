/* One step. Rows are chosen for sequences that run (scheduler_rows.c); then pages are found in order of age, so that
 * whoever must give way is younger than whoever makes it; what is left of the plan becomes the batch:
 *
 *     rows      | decode a | decode b, guess | prefill c ........... | prefill d ... |
 *     out_rows    0          1         2       (scores of c's prompt)                3     rows with logits
 *     samples     a's        b's       b's     c's scores              d's, d's siblings'  -> results, in this order
 *
 * A lazy executor is asked for the step after before this one is read (scheduler_ahead.c):
 *
 *     eager   plan t | step t | read t | settle t | plan t+1 | step t+1 | ...
 *     lazy    plan t | step t | step t+1 | read t | settle t | step t+2 | read t+1 | settle t+1 | ... */
#include "engine/scheduler_internal.h"

#include "base/array.h"
#include "base/clock.h"
#include "engine/sampler.h"

#define STATS_EVERY_NS 100000000

/* The oldest first. The list shrinks while pages are looked for: at its end by preemption, anywhere by a request that
 * fails; then it is gone through again, which does nothing for those that have their pages. */
static void find_pages(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_running;) {
        struct sequence *q = s->running[i];
        i = q->plan.rows == 0 || scheduler__prepare(s, q) ? i + 1 : 0;
    }
}

/* ---- batch ---- */

static void add_sample(struct scheduler *s, struct sequence *owner, struct sequence *target, struct sample_row row)
{
    s->f->rows[s->f->n_samples] = row;
    s->f->owners[s->f->n_samples] = (struct executor_owner){owner->request->job->id, owner->choice};
    s->f->targets[s->f->n_samples++] = target;
}

static int32_t add_out_row(struct scheduler *s, uint32_t row)
{
    s->f->out_rows[s->f->batch.n_out] = (int32_t)row;
    return s->f->batch.n_out++;
}

/* Position p scores prompt token p + 1. */
static void add_scores(struct scheduler *s, struct sequence *q, uint32_t first_row)
{
    uint32_t end = min_u32(q->n_computed + q->plan.rows, q->request->job->n_prompt - 1);
    uint32_t sent = q->request->n_scored;
    for (uint32_t p = q->n_computed; p < end; p++) {
        if (p + 1 >= sent) {
            int32_t logits_row = add_out_row(s, first_row + p - q->n_computed);
            add_sample(s, q, NULL, sampler_score_row(q, p + 1, logits_row));
            q->plan.n_scores++;
        }
    }
}

static bool can_fork(struct scheduler *s, const struct sequence *q, struct sequence *sibling)
{
    return !s->x->kv_private && sibling->state == SEQUENCE_WAITING && sequence_n_output(sibling) == 0 &&
           s->n_running + s->f->n_forks < s->config->max_sequences && sequence_load(sibling) &&
           sequence_reserve_tokens(sibling, sibling->n_tokens + 1) &&
           sequence_reserve_blocks(sibling, q->n_blocks + 1, s->n_groups);
}

/* The choices that wait for this prompt sample from its last row too, each with its own random numbers. Where pages are
 * private they are admitted one by one instead, with a hit on what the first computed. */
static void add_siblings(struct scheduler *s, struct sequence *q, int32_t logits_row)
{
    struct request *r = q->request;
    for (uint32_t i = 0; r->leader == q && i < r->job->n_choices; i++) {
        struct sequence *sibling = &r->sequences[i];
        if (can_fork(s, q, sibling)) {
            sibling->plan.forked = true;
            s->f->n_forks++;
            s->f->n_sampling++;
            add_sample(s, sibling, sibling, sampler_row(q, i, logits_row));
        }
    }
}

/* Each guess is a row whose sample counts when the guess, and those before it, turn out to be what was sampled. */
static void add_drafts(struct scheduler *s, struct sequence *q, uint32_t first_row)
{
    for (uint32_t i = 0; i < q->plan.n_drafts; i++) {
        int32_t logits_row = add_out_row(s, first_row + i);
        add_sample(s, q, q, sampler_draft_row(q, i + 1, logits_row));
    }
}

bool scheduler__will_sample(const struct sequence *q)
{
    return q->n_computed + q->plan.rows - q->plan.n_drafts == q->n_tokens && q->request->job->max_tokens > 0;
}

static void add_member(struct scheduler *s, struct sequence *q)
{
    struct batch *b = &s->f->batch;
    uint32_t first_row = (uint32_t)b->n_rows;
    struct batch_seq *seq = &s->f->seqs[b->n_seqs];
    *seq = (struct batch_seq){.first_row = b->n_rows,
                              .n_rows = (int32_t)q->plan.rows,
                              .start = (int32_t)q->n_computed,
                              .adapter = (int32_t)q->request->job->adapter,
                              .n_pages = (int32_t)q->n_blocks};
    for (int g = 0; g < s->n_groups; g++) {
        seq->pages[g] = q->tables[g];
    }
    for (uint32_t i = 0; i < q->plan.rows; i++) {
        s->f->ids[b->n_rows] = q->tokens[q->n_computed + i];
        s->f->positions[b->n_rows++] = (int32_t)(q->n_computed + i);
    }
    s->f->members[b->n_seqs++] = q;
    q->plan.first_sample = s->f->n_samples;
    q->plan.n_scores = 0;
    uint32_t n_own = q->plan.rows - q->plan.n_drafts;
    q->plan.samples = scheduler__will_sample(q);
    scheduler__add_shape(s, q, &s->f->shape);
    if (q->scores) {
        add_scores(s, q, first_row);
    }
    if (q->plan.samples) {
        int32_t logits_row = add_out_row(s, first_row + n_own - 1);
        add_sample(s, q, q, sampler_row(q, q->choice, logits_row));
        s->f->n_sampling++;
        add_siblings(s, q, logits_row);
        add_drafts(s, q, first_row + n_own);
    }
}

static void build_batch(struct scheduler *s)
{
    s->f->n_samples = s->f->n_forks = s->f->n_sampling = 0;
    s->f->shape = (struct step_shape){0};
    s->f->batch =
        (struct batch){.ids = s->f->ids, .positions = s->f->positions, .seqs = s->f->seqs, .out_rows = s->f->out_rows};
    for (int decodes = 1; decodes >= 0; decodes--) {
        for (uint32_t i = 0; i < s->n_running; i++) {
            struct sequence *q = s->running[i];
            if (q->plan.rows && (scheduler__remaining(q) == 1) == (decodes == 1)) {
                add_member(s, q);
            }
        }
        s->f->n_decodes = decodes ? (uint32_t)s->f->batch.n_rows : s->f->n_decodes;
    }
}

/* ---- what comes out ---- */

static void count_drafts(struct scheduler *s, const struct sequence *q, const struct engine_event *e)
{
    s->stats.spec_drafts += e->n_drafted > 0;
    s->stats.spec_draft_tokens += e->n_drafted;
    s->stats.spec_accepted_tokens += e->n_held;
    s->stats.spec_model_draft_tokens += q->plan.by_model ? e->n_drafted : 0;
    s->stats.spec_model_accepted_tokens += q->plan.by_model ? e->n_held : 0;
}

/* What was sampled from row after row becomes tokens, up to the row whose own token was a wrong guess, to an end, or to
 * what is wrong: numbers that are not finite (BAD_NUMBERS), a token that its constraint forbids. results:
 * [n_drafts + 1]. */
static struct engine_event *take_tokens(struct scheduler *s, struct sequence *q, const struct sample_result *results,
                                        uint32_t n_drafts, struct error *wrong)
{
    struct request *r = q->request;
    struct engine_event *e = events_add(&s->events, ENGINE_TOKENS, r->job->id);
    bool guessed = true;
    e->choice = q->choice;
    e->index = sequence_n_output(q);
    e->n_drafted = n_drafts;
    for (uint32_t i = 0; guessed && e->finish == FINISH_NONE; i++) {
        if (!results[i].finite) {
            wrong->code = ERR_BAD_NUMBERS;
            break;
        }
        if (!scheduler__accept_token(q, results[i].id, wrong)) {
            break;
        }
        const int32_t *id = events_id(&s->events, results[i].id);
        e->ids = e->n ? e->ids : id;
        if (r->job->flags & (JOB_LOGPROBS | JOB_DIGEST)) {
            const struct token_logprob *l = events_logprob(&s->events, &results[i], r->job->flags & JOB_LOGPROBS);
            e->logprobs = e->n ? e->logprobs : l;
        }
        guessed = i < n_drafts && q->tokens[q->n_tokens] == *id && scheduler__is_free(q);
        q->tokens[q->n_tokens++] = *id;
        e->n++;
        e->n_held += guessed;
        e->finish = sequence_finish(q, s->config, &e->stop_id);
    }
    return e;
}

/* Its last token's reason was sent with it. */
static void accept_tokens(struct scheduler *s, struct sequence *q, const struct sample_result *results,
                          uint32_t n_drafts)
{
    struct error wrong = {0};
    struct engine_event *e = take_tokens(s, q, results, n_drafts, &wrong);
    s->stats.generated_tokens += e->n;
    q->n_alone = 0;
    count_drafts(s, q, e);
    if (wrong.code == ERR_BAD_NUMBERS) {
        scheduler__bad_numbers(s, q);
        return;
    }
    if (wrong.code != ERR_NONE) {
        scheduler__fail(s, q->request, &wrong);
        return;
    }
    if (n_drafts) { /* rows behind a wrong guess were computed for nothing; they will be written again */
        q->n_computed = q->n_tokens - 1;
        scheduler__offer_blocks(s, q);
    }
    if (e->finish != FINISH_NONE) {
        scheduler__note_output(s, q);
        scheduler__end(s, q);
    }
}

static void emit_scores(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    bool first = r->n_scored == 0;
    if (!q->plan.n_scores && !(first && r->job->n_prompt == 1)) {
        return;
    }
    struct engine_event *e = events_add(&s->events, ENGINE_PROMPT, r->job->id);
    struct sample_result none = {.id = r->job->prompt[0]};
    const struct token_logprob *logprobs = first ? events_logprob(&s->events, &none, false) : NULL;
    for (uint32_t i = 0; i < q->plan.n_scores; i++) {
        const struct token_logprob *l = events_logprob(&s->events, &s->f->results[q->plan.first_sample + i], true);
        logprobs = logprobs ? logprobs : l;
    }
    e->index = r->n_scored;
    e->n = q->plan.n_scores + first;
    e->logprobs = logprobs;
    r->n_scored += e->n;
}

static void emit_progress(struct scheduler *s, struct sequence *q)
{
    struct request *r = q->request;
    uint32_t n_done = min_u32(q->n_computed, r->job->n_prompt);
    if (n_done > r->n_done) {
        r->n_done = n_done;
        if (r->job->flags & JOB_PROGRESS) {
            events_add(&s->events, ENGINE_PROGRESS, r->job->id)->n_done = n_done;
        }
    }
}

/* Samples of q and of the siblings that start from it, or of its guesses, behind its scores. */
static uint32_t n_results(const struct scheduler *s, const struct sequence *q)
{
    uint32_t n = q->plan.n_scores;
    while (q->plan.first_sample + n < s->f->n_samples) {
        const struct sequence *target = s->f->targets[q->plan.first_sample + n];
        if (!q->plan.samples || !target || (target != q && !(target->request == q->request && target->plan.forked))) {
            break;
        }
        n++;
    }
    return n;
}

static bool all_finite(const struct scheduler *s, const struct sequence *q, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!s->f->results[q->plan.first_sample + i].finite) {
            return false;
        }
    }
    return true;
}

static void start_sibling(struct scheduler *s, const struct sequence *q, struct sequence *sibling)
{
    scheduler__dequeue(s, sibling);
    scheduler__share_pages(s, q, sibling);
    scheduler__run(s, sibling);
    sibling->plan.forked = false;
}

/* A prompt that was only to be scored is done, for all choices. */
static void finish_scored(struct scheduler *s, struct request *r)
{
    uint32_t n = r->job->n_choices;
    for (uint32_t i = 0; i < n; i++) {
        if (r->sequences[i].state != SEQUENCE_DONE) {
            scheduler__finish(s, &r->sequences[i], FINISH_LENGTH);
        }
    }
}

static void settle_member(struct scheduler *s, struct sequence *q, uint32_t n)
{
    struct request *r = q->request;
    struct sequence *const *targets = &s->f->targets[q->plan.first_sample];
    const struct sample_result *results = &s->f->results[q->plan.first_sample];
    uint32_t n_scores = q->plan.n_scores;
    bool samples = q->plan.samples;
    if (q->plan.n_drafts) {
        accept_tokens(s, q, results, q->plan.n_drafts);
        return;
    }
    q->n_computed += q->plan.rows;
    scheduler__offer_blocks(s, q);
    scheduler__drop_states(s, q);
    if (q->scores) {
        emit_scores(s, q);
    }
    emit_progress(s, q);
    if (q->n_computed < r->job->n_prompt) {
        return;
    }
    r->leader = r->leader == q ? NULL : r->leader;
    r->scorer = r->scorer == q ? NULL : r->scorer;
    q->scores = false;
    if (r->job->max_tokens == 0) {
        finish_scored(s, r);
        return;
    }
    for (uint32_t i = n_scores; samples && i < n; i++) {
        if (targets[i] != q) {
            start_sibling(s, q, targets[i]);
        }
    }
    for (uint32_t i = n_scores; samples && i < n; i++) {
        accept_tokens(s, targets[i], &results[i], 0);
    }
}

/* A request may end while its other members are still to come: they are DONE then, and freed after the step. */
static void settle(struct scheduler *s, bool was_ahead)
{
    for (int i = 0; i < s->f->batch.n_seqs; i++) {
        struct sequence *q = s->f->members[i];
        if (q->state != SEQUENCE_RUNNING) {
            continue;
        }
        if (was_ahead && !scheduler__is_free(q)) {
            scheduler__rewind(s, q);
            continue;
        }
        uint32_t n = n_results(s, q);
        if (all_finite(s, q, q->plan.n_drafts ? 1 : n)) { /* what follows from a wrong guess is nobody's number */
            settle_member(s, q, n);
        } else {
            scheduler__bad_numbers(s, q);
        }
    }
}

static void drop_forks(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->f->n_samples; i++) {
        if (s->f->targets[i]) {
            s->f->targets[i]->plan.forked = false;
        }
    }
}

/* What is to be tried again smaller is; a broken device is the engine's end; anything else is the members' failure. */
static void step_failed(struct scheduler *s, const struct error *error)
{
    struct error why = *error;
    drop_forks(s);
    scheduler__rewind_members(s);
    if (error->code == ERR_DEVICE && s->keeps_device_error) {
        s->device_error = *error;
        return;
    }
    if (error->code == ERR_NO_MEMORY) {
        if (scheduler__make_smaller(s)) {
            return;
        }
        error_wrap(&why, "There is no memory to compute this request, not even alone and in small steps");
    }
    for (int i = 0; i < s->f->batch.n_seqs; i++) {
        if (s->f->members[i]->state == SEQUENCE_RUNNING) {
            scheduler__fail(s, s->f->members[i]->request, &why);
        }
    }
}

/* ---- step ---- */

static int bucket_of(uint32_t n)
{
    int bucket = 0;
    while (bucket < ENGINE_ROWS_BUCKETS - 1 && n > 1u << bucket) {
        bucket++;
    }
    return bucket;
}

/* Where the time goes, by what the step held. */
static void count_phase(struct engine_stats *stats, bool decodes, bool prefills, uint64_t step_ns)
{
    if (!prefills) {
        stats->steps_decode++;
        stats->step_decode_ns += step_ns;
    } else if (!decodes) {
        stats->steps_prefill++;
        stats->step_prefill_ns += step_ns;
    } else {
        stats->steps_mixed++;
        stats->step_mixed_ns += step_ns;
    }
}

/* Of the drafters, since it was asked last. */
static int64_t draft_time(struct scheduler *s)
{
    uint64_t rows = 0, ns = 0, before = s->stats.draft_ns;
    for (int i = 0; i < s->n_drafters; i++) {
        rows += s->drafters[i]->n_rows;
        ns += s->drafters[i]->ns;
    }
    s->stats.draft_rows = rows;
    s->stats.draft_ns = ns;
    return (int64_t)(ns - before);
}

static void count_step(struct scheduler *s, int64_t step_ns, int64_t executor_ns)
{
    uint32_t n_decode = s->f->n_decodes, n_rows = (uint32_t)s->f->batch.n_rows;
    s->stats.steps++;
    s->stats.rows_decode += n_decode;
    s->stats.rows_prefill += n_rows - n_decode;
    count_phase(&s->stats, n_decode > 0, n_rows > n_decode, (uint64_t)step_ns);
    s->stats.rows_per_step[bucket_of(n_rows)]++;
    s->stats.seqs_per_step[bucket_of(s->f->n_sampling)] += s->f->n_sampling > 0;
    int64_t draft_ns = draft_time(s);
    s->stats.step_ns += (uint64_t)step_ns;
    s->stats.host_ns += (uint64_t)(step_ns - executor_ns - draft_ns);
}

bool scheduler__enqueue_step(struct scheduler *s, struct flight *f, struct error *err)
{
    struct executor_step step = {
        .batch = &f->batch, .rows = f->rows, .owners = f->owners, .n_samples = (int)f->n_samples};
    f->sampled = NULL;
    if (s->expected_ns) {
        double ns = step_cost_bound(&s->cost, &f->shape, (double)s->stats.weights_size);
        atomic_store(s->expected_ns, (uint64_t)ns);
    }
    return s->x->ops->step(s->x, &step, &f->sampled, err);
}

static bool read_step(struct scheduler *s, struct flight *f, struct error *err)
{
    struct executor_step step = {
        .batch = &f->batch, .rows = f->rows, .owners = f->owners, .n_samples = (int)f->n_samples};
    return s->x->ops->read(s->x, &step, f->sampled, f->results, err);
}

/* Time that the executor took for itself: what it says, or all of its calls. */
static int64_t executor_time(const struct scheduler *s, int64_t now_ns)
{
    return s->x->timed ? (int64_t)s->x->eval_ns : now_ns;
}

/* What was enqueued behind a step that failed came from its numbers. */
static void drop_ahead(struct scheduler *s)
{
    struct error ignored = {0};
    if (s->ahead) {
        (void)read_step(s, s->ahead, &ignored);
        s->ahead = NULL;
    }
}

/* s->f, planned or enqueued already, to its end. */
static void execute(struct scheduler *s, int64_t start_ns, bool enqueued)
{
    struct error err = {0};
    int64_t before = executor_time(s, clock_ns());
    bool ok = enqueued || scheduler__enqueue_step(s, s->f, &err);
    s->ahead = ok ? scheduler__run_ahead(s) : NULL;
    ok = ok && read_step(s, s->f, &err);
    int64_t after = executor_time(s, clock_ns());
    if (enqueued) {
        scheduler__recall_plans(s);
    }
    if (ok && !enqueued && !s->ahead) { /* else other steps are in the time */
        step_cost_note(&s->cost, &s->f->shape, (double)(after - before));
    }
    if (ok) {
        scheduler__note_memory(s);
        settle(s, enqueued);
        if (s->lost_step) { /* it had the same members */
            scheduler__rewind_members(s);
        }
        scheduler__seal_tails(s);
    } else {
        drop_ahead(s);
        step_failed(s, &err);
    }
    s->lost_step = false;
    count_step(s, clock_ns() - start_ns, after - before);
}

static void reap(struct scheduler *s)
{
    while (s->ended) {
        struct request *r = s->ended;
        s->ended = r->next;
        request_free(r);
    }
}

/* What was enqueued ahead, or a new plan. False: there is nothing to do. */
static bool next_flight(struct scheduler *s, bool *enqueued)
{
    *enqueued = s->ahead != NULL;
    if (*enqueued) {
        s->f = s->ahead;
        s->ahead = NULL;
        return true;
    }
    scheduler__resize_pool(s);
    scheduler__admit(s);
    scheduler__choose_rows(s);
    find_pages(s);
    scheduler__find_masks(s);
    scheduler__keep_states(s);
    build_batch(s);
    return s->f->batch.n_rows > 0;
}

bool scheduler_step(struct scheduler *s)
{
    int64_t start_ns = clock_ns();
    bool enqueued;
    scheduler__expire(s, start_ns);
    bool ran = next_flight(s, &enqueued);
    if (ran) {
        execute(s, start_ns, enqueued);
    }
    bool last = scheduler_idle(s); /* whoever gets its end finds it in the statistics */
    if (ran && (last || start_ns - s->stats_sent_ns >= STATS_EVERY_NS)) {
        scheduler_emit_stats(s);
    }
    events_flush(&s->events);
    scheduler__hand_out(s);
    if (!s->ahead) { /* else it may name those that ended */
        reap(s);
    }
    return ran;
}
