/* Guesses of tokens, checked in the step: which sequences get how many.
 *
 *     tokens   | prompt ... output ... last | guess | guess | guess |     plan.rows 4, plan.n_drafts 3
 *     sampled                          a       b       c       d          a is a token; b is, when a equals the first
 *                                                                         guess; c, when b equals the second; ...
 *
 * A guess pays when the time that it saves is more than what its row takes: its probability (and that of those before
 * it) times the time that a token takes now, which is the step's by its tokens. Reading the weights is most of a step
 * with few rows, so one stream takes many guesses; with many streams a row costs about what a token does, and only near
 * certain guesses are taken. The likeliest guess is taken first, whoever's it is. */
#include "engine/scheduler_internal.h"

#include <assert.h>

#define DRAFT_ROWS 64 /* of all sequences: rows that may turn out useless, each with logits */

/* The request's wish, or else the engine's. Running ahead wins over guessing: there auto means off. */
static enum speculation wish_of(const struct scheduler *s, const struct sequence *q)
{
    enum speculation wish = q->request->job->speculation;
    wish = wish == SPECULATION_DEFAULT ? s->config->speculation : wish;
    return wish == SPECULATION_AUTO && s->x->no_guesses ? SPECULATION_OFF : wish;
}

bool scheduler__may_draft(const struct scheduler *s, const struct sequence *q)
{
    enum speculation wish = wish_of(s, q);
    if (s->has_states || !scheduler__is_free(q)) {
        return false; /* what follows a wrong guess would have to be taken back: states, a constraint's too */
    }
    return wish == SPECULATION_AUTO || wish == SPECULATION_ON;
}

void scheduler__forget_drafts(struct scheduler *s, struct sequence *q)
{
    for (int i = 0; i < s->n_drafters; i++) {
        s->drafters[i]->ops->forget(s->drafters[i], q);
    }
}

void scheduler_add_drafter(struct scheduler *s, struct drafter *d)
{
    assert(s->n_drafters < MAX_DRAFTERS);
    s->drafters[s->n_drafters++] = d;
}

/* ---- asking ---- */

/* The last token that is computed is the one before the last that may be sampled. */
static uint32_t most_guesses(const struct scheduler *s, const struct sequence *q)
{
    uint32_t left = q->request->job->max_tokens - sequence_n_output(q) - 1;
    return left < s->config->max_drafts ? left : s->config->max_drafts;
}

/* Sequences that decode in this step, and tell the drafters what they sampled since. */
static uint32_t collect(struct scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (q->plan.rows == 0 || scheduler__remaining(q) != 1 || sequence_n_output(q) == 0 ||
            !scheduler__may_draft(s, q)) {
            continue;
        }
        for (int k = 0; k < s->n_drafters; k++) {
            s->drafters[k]->ops->note(s->drafters[k], q);
        }
        uint32_t max = most_guesses(s, q);
        if (max > 0 && sequence_reserve_tokens(q, q->n_tokens + max + 1)) {
            s->drafts[n++] = (struct draft){.q = q, .max = max, .forced = wish_of(s, q) == SPECULATION_ON};
        }
    }
    return n;
}

/* The drafter `k` trusts itself more than those before it, which are cheaper. */
static bool is_best(const struct scheduler *s, int k, const struct sequence *q)
{
    double trust = s->drafters[k]->ops->trust(s->drafters[k], q);
    for (int i = 0; i < k; i++) {
        if (s->drafters[i]->ops->trust(s->drafters[i], q) >= trust) {
            return false;
        }
    }
    return trust > 0;
}

/* Nothing behind the end of an answer is worth a row. */
static void cut_at_end(const struct scheduler *s, struct draft *d)
{
    const int32_t *guesses = d->q->tokens + d->q->n_tokens;
    for (uint32_t i = 0; i < d->n; i++) {
        if (request_is_end_id(d->q->request, s->config, guesses[i])) {
            d->n = i + 1;
        }
    }
}

/* The dear drafters first; what they leave open goes to the cheap ones. */
static void ask(struct scheduler *s, uint32_t n, const struct draft_prices *prices)
{
    for (int k = s->n_drafters - 1; k >= 0; k--) {
        uint32_t n_asked = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (s->drafts[i].n == 0 && is_best(s, k, s->drafts[i].q)) {
                s->asked[n_asked++] = &s->drafts[i];
            }
        }
        if (n_asked) {
            s->drafters[k]->ops->propose(s->drafters[k], s->asked, n_asked, prices);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        cut_at_end(s, &s->drafts[i]);
    }
}

/* ---- choosing ---- */

struct choosing {
    struct step_shape decode, all; /* of the step as it is chosen so far: its decoding rows; prompts too */
    double n_tokens;               /* that it is expected to give */
    uint32_t budget;
};

static void add_row(const struct scheduler *s, const struct sequence *q, struct step_shape *shape)
{
    shape->decode_rows++;
    shape->sampled_rows++;
    shape->decode_reads += scheduler__reads(s, q->n_computed + q->plan.rows);
}

static void take(const struct scheduler *s, struct draft *d, struct choosing *c)
{
    struct sequence *q = d->q;
    add_row(s, q, &c->decode);
    add_row(s, q, &c->all);
    c->n_tokens += (double)d->p[q->plan.n_drafts];
    c->budget--;
    q->plan.rows++;
    q->plan.n_drafts++;
    q->plan.by_model = d->by_model;
}

static void prices_of(const struct scheduler *s, const struct sequence *q, const struct choosing *c,
                      struct draft_prices *prices)
{
    struct step_shape one_more = c->all;
    add_row(s, q, &one_more);
    prices->token_value = step_cost_of(&s->cost, &c->decode) / c->n_tokens;
    prices->row_price = step_cost_of(&s->cost, &one_more) - step_cost_of(&s->cost, &c->all);
}

static struct draft *likeliest(struct scheduler *s, uint32_t n)
{
    struct draft *best = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct draft *d = &s->drafts[i];
        uint32_t at = d->q->plan.n_drafts;
        if (!d->forced && at < d->n && (!best || d->p[at] > best->p[best->q->plan.n_drafts])) {
            best = d;
        }
    }
    return best;
}

static void choose(struct scheduler *s, uint32_t n, struct choosing *c)
{
    for (uint32_t i = 0; i < n; i++) {
        struct draft *d = &s->drafts[i];
        while (d->forced && c->budget > 0 && d->q->plan.n_drafts < d->n) {
            take(s, d, c);
        }
    }
    while (c->budget > 0) {
        struct draft *d = likeliest(s, n);
        struct draft_prices prices;
        if (!d) {
            return;
        }
        prices_of(s, d->q, c, &prices);
        if ((double)d->p[d->q->plan.n_drafts] * prices.token_value <= DRAFT_MARGIN * prices.row_price) {
            return;
        }
        take(s, d, c);
    }
}

void scheduler__plan_drafts(struct scheduler *s, uint32_t budget)
{
    struct choosing c = {.budget = budget < DRAFT_ROWS ? budget : DRAFT_ROWS};
    struct draft_prices prices;
    if (s->draft_pause > 0) {
        s->draft_pause--;
        return;
    }
    uint32_t n = collect(s);
    if (n == 0 || budget == 0) {
        return;
    }
    for (uint32_t i = 0; i < s->n_running; i++) {
        struct sequence *q = s->running[i];
        if (q->plan.rows) {
            scheduler__add_shape(s, q, &c.all);
            if (scheduler__remaining(q) == 1) {
                scheduler__add_shape(s, q, &c.decode);
                c.n_tokens++;
            }
        }
    }
    prices_of(s, s->drafts[0].q, &c, &prices);
    ask(s, n, &prices);
    choose(s, n, &c);
}

bool scheduler__drop_drafts(struct scheduler *s)
{
    bool had_some = false;
    for (int i = 0; i < s->f->batch.n_seqs; i++) {
        had_some = had_some || s->f->members[i]->plan.n_drafts > 0;
    }
    s->draft_pause = had_some ? MEMORY_PAUSE : s->draft_pause;
    return had_some;
}
