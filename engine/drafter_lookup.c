/* A drafter over engine/lookup.h: one lookup per sequence. */
#include "engine/drafter.h"
#include "engine/lookup.h"

#include <stdlib.h>

static void note(struct drafter *d, struct sequence *q)
{
    const struct job *job = q->request->job;
    (void)d;
    if (!q->lookup) {
        q->lookup = lookup_create(job->prediction, job->n_prediction);
    }
    if (q->lookup) {
        lookup_read(q->lookup, q->tokens, job->n_prompt, q->n_tokens);
    }
}

static double trust(const struct drafter *d, const struct sequence *q)
{
    int32_t id;
    float p = 0;
    (void)d;
    return q->lookup && lookup_guess(q->lookup, 1, 0, &id, &p) ? (double)p : 0;
}

static void propose(struct drafter *d, struct draft **drafts, uint32_t n, const struct draft_prices *prices)
{
    double least = prices->token_value > 0 ? prices->row_price / prices->token_value : 1;
    (void)d;
    for (uint32_t i = 0; i < n; i++) {
        struct draft *draft = drafts[i];
        struct sequence *q = draft->q;
        if (q->lookup) {
            draft->n =
                lookup_guess(q->lookup, draft->max, draft->forced ? 0 : least, q->tokens + q->n_tokens, draft->p);
        }
    }
}

static void forget(struct drafter *d, struct sequence *q)
{
    (void)d;
    lookup_free(q->lookup);
    q->lookup = NULL;
}

static void free_drafter(struct drafter *d)
{
    free(d);
}

static const struct drafter_ops ops = {
    .propose = propose, .trust = trust, .note = note, .forget = forget, .free = free_drafter};

struct drafter *lookup_drafter_create(struct error *err)
{
    struct drafter *d = calloc(1, sizeof *d);
    if (!d) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for guesses of tokens.");
        return NULL;
    }
    d->ops = &ops;
    return d;
}
