/* Constraints in a step: the mask of what each constrained sequence may write next, and what it wrote.
 *
 * A job with a constraint waits in the queue until its states are there (engine/constrainer.h). A state says what may
 * follow the tokens that its choice has; it needs no pages, so a preempted sequence keeps it. Its masks are of one
 * step, and are allocated once, for as many sequences as may run.
 *
 * Text in front of a call that may come is free: as long as no mask applies, tokens are guessed and steps are enqueued
 * ahead. What was sampled from a row behind the token with which that ended is not looked at.
 *
 * Where a constraint cannot be kept up (it ran out of fuel, or a script writes what it forbids) its job fails, and
 * nobody else notices. */
#include "engine/scheduler_internal.h"

#include "base/bits.h"
#include "base/clock.h"

#include <stdlib.h>

static size_t mask_words(const struct scheduler *s)
{
    return bits_words(s->config->n_vocab);
}

static bool make_masks(struct scheduler *s, struct error *err)
{
    if (!s->masks) {
        s->masks = calloc(s->config->max_sequences, mask_words(s) * sizeof *s->masks);
    }
    return s->masks || error_set(err, ERR_NO_MEMORY, "There is no memory for the masks of constraints.");
}

/* Resumed choices may be at the grammar's end already. */
static void finish_done(struct scheduler *s, struct request *r)
{
    uint32_t n_choices = r->job->n_choices;
    for (uint32_t i = 0; i < n_choices; i++) {
        struct sequence *q = &r->sequences[i];
        if (q->state != SEQUENCE_DONE && q->constraint && constraint_state_done(q->constraint)) {
            scheduler__finish(s, q, FINISH_STOP);
        }
    }
}

void scheduler_constrained(struct scheduler *s, struct constrained *c)
{
    struct request *r = scheduler__find_request(s, c->job);
    s->stats.constraints++;
    s->stats.constraint_compile_ns += c->compile_ns;
    if (!r || !r->unconstrained || c->n_choices != r->job->n_choices) {
        constrained_free(c); /* cancelled or late */
        return;
    }
    if (c->error.code == ERR_NONE && make_masks(s, &c->error)) {
        for (uint32_t i = 0; i < c->n_choices; i++) {
            if (r->sequences[i].state != SEQUENCE_DONE) {
                r->sequences[i].constraint = c->states[i];
                c->states[i] = NULL;
            }
        }
        r->unconstrained = false;
        finish_done(s, r);
    } else {
        scheduler__fail(s, r, &c->error);
    }
    constrained_free(c);
}

/* ---- masks ---- */

/* Before min_tokens the ends of generation are banned, as far as the constraint leaves something else: where its text
 * can only end, it ends. */
static void ban(const struct scheduler *s, const struct sequence *q, uint32_t *mask)
{
    const struct request *r = q->request;
    size_t n_words = mask_words(s);
    uint32_t n_left = 0;
    if (sequence_n_output(q) >= r->job->min_tokens) {
        return;
    }
    for (size_t i = 0; i < n_words; i++) {
        n_left += (uint32_t)__builtin_popcount(r->min_mask ? mask[i] & r->min_mask[i] : mask[i]);
    }
    for (uint32_t i = 0; i < r->n_banned; i++) {
        n_left -= bits_have(mask, r->banned[i]);
    }
    for (size_t i = 0; r->min_mask && n_left && i < n_words; i++) {
        mask[i] &= r->min_mask[i];
    }
    for (uint32_t i = 0; n_left && i < r->n_banned; i++) {
        bits_remove(mask, r->banned[i]);
    }
}

/* False: its request has failed. */
static bool find_mask(struct scheduler *s, struct sequence *q, uint32_t *mask)
{
    struct error why = {0};
    int64_t start_ns = clock_ns();
    int applies = constraint_state_mask(q->constraint, mask, &why);
    s->stats.masks++;
    if (applies > 0) {
        ban(s, q, mask);
    }
    s->stats.mask_ns += (uint64_t)(clock_ns() - start_ns);
    q->plan.mask = applies > 0 ? mask : NULL;
    if (applies < 0) {
        scheduler__fail(s, q->request, &why);
    }
    return applies >= 0;
}

/* Of those that run; how many. UINT32_MAX: a request failed, and others moved up. */
static uint32_t find_all(struct scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        s->running[i]->plan.mask = NULL;
    }
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (q->constraint && q->plan.rows && scheduler__will_sample(q) &&
            !find_mask(s, q, s->masks + mask_words(s) * n++)) {
            return UINT32_MAX;
        }
    }
    return n;
}

/* Siblings that start from a prompt have the state of whoever computes it, so they have its mask too. */
void scheduler__find_masks(struct scheduler *s)
{
    while (s->masks && find_all(s) == UINT32_MAX) {
    }
}

/* ---- tokens ---- */

bool scheduler__is_free(const struct sequence *q)
{
    return q->constraint ? constraint_state_is_free(q->constraint) : !q->request->job->constraint;
}

bool scheduler__accept_token(const struct sequence *q, int32_t id, struct error *err)
{
    return !q->constraint || constraint_state_accept(q->constraint, id, err);
}
