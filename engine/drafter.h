/* Drafters guess the tokens that a sequence will sample next; a step then checks them all at once: each guess is a row
 * of the batch, each row is sampled as if the guesses before it were tokens, and guesses equal to what was sampled are
 * tokens. So a drafter changes what an answer costs, never the answer.
 *
 *     d = lookup_drafter_create(err);                 what the text repeats (engine/lookup.h)
 *     d = model_drafter_create(&options, err);        a smaller model (engine/drafter_model.c)
 *     d->ops->propose(d, drafts, n, &prices);         before a step
 *     d->ops->note(d, q);                             when q has new tokens
 *     d->ops->forget(d, q);                           when q is done
 *
 * What a drafter knows of a sequence hangs on the sequence, is made when first needed, and outlives preemption: only
 * tokens count, which never change. A drafter that lacks memory or pages guesses nothing. The engine's thread. */
#ifndef TANDEM_ENGINE_DRAFTER_H
#define TANDEM_ENGINE_DRAFTER_H

#include "engine/request.h"

#define DRAFT_MAX    31  /* guesses of one sequence in a step */
#define DRAFT_MARGIN 1.1 /* gain by price, at least: what is predicted of either is not exact */

struct draft {
    struct sequence *q; /* room for `max` more tokens is behind its own: guesses are written there */
    uint32_t max;
    bool forced;        /* guesses are wanted whatever they cost */
    uint32_t n;         /* guesses made; 0 before */
    float p[DRAFT_MAX]; /* [n] probability that this guess and all before it hold */
    bool by_model;
};

/* In nanoseconds of a step. A guess pays while its probability times the value of a token is above the price of a row
 * and of making it. Values of 0: nothing is known yet, and only forced drafts are made. */
struct draft_prices {
    double token_value, row_price;
};

struct drafter;
struct drafter_ops {
    /* drafts: [n], of different sequences. Writes guesses behind each q's tokens. */
    void (*propose)(struct drafter *d, struct draft **drafts, uint32_t n, const struct draft_prices *prices);
    /* How likely the first guess for q would hold; 0: there would be none. */
    double (*trust)(const struct drafter *d, const struct sequence *q);
    void (*note)(struct drafter *d, struct sequence *q);
    void (*forget)(struct drafter *d, struct sequence *q);
    void (*free)(struct drafter *d); /* after every sequence was forgotten */
};

struct drafter { /* first member of every implementation */
    const struct drafter_ops *ops;
    uint64_t n_rows, ns; /* rows that it computed, time it took for them, in all */
};

NODISCARD struct drafter *lookup_drafter_create(struct error *err);

#endif
