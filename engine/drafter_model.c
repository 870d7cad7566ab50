#include "engine/drafter_model.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/acceptance.h"
#include "engine/sampler.h"
#include "engine/step_cost.h"

#include <math.h>
#include <stdlib.h>

#define READY_ROWS     48 /* tokens that may be missing when guessing begins: one draft and some more */
#define CATCH_UP_FLOOR 32 /* rows for texts that lag behind, in a step, however dear they are */
#define IDLE_STEPS     64 /* proposals without it after which a sequence's pages may go to another */
#define TRIALS         8  /* proposals at first, whether they are expected to pay or not */
#define TRIALS_LATER   3  /* and after a rest */
#define FIRST_REST     32 /* tokens */
#define LONGEST_REST   1024

/* Kinds of guesses, by the probability that the draft model gives its token. The last kind is any first guess. */
#define N_CONFIDENCES 8
#define KIND_FIRST    15
static const float confidences[N_CONFIDENCES - 1] = {0.2f, 0.4f, 0.6f, 0.75f, 0.87f, 0.95f, 0.99f};
static const float prior[ACCEPTANCE_KINDS] = {0.1f, 0.3f, 0.5f, 0.65f, 0.8f, 0.9f, 0.95f, 0.98f, [KIND_FIRST] = 0.6f};

struct draft_state { /* of one sequence */
    struct draft_state *prev, *next;
    struct sequence *q;
    uint32_t *tables[KV_MAX_GROUPS]; /* [n_blocks] of [cap_blocks] */
    uint32_t n_blocks, cap_blocks;
    uint32_t n_computed; /* positions */
    uint64_t used;       /* the proposal in which it took part last */

    int32_t guesses[DRAFT_MAX]; /* [n_guesses] for the tokens from `base` on, not compared yet */
    uint8_t kinds[DRAFT_MAX];
    uint32_t base, n_guesses;
    struct acceptance acceptance;
    uint32_t trials, rest, rest_until; /* proposals to come anyway; length of the next rest; token that ends this one */
};

struct row_owner { /* of a sequence's rows in a step */
    struct draft *draft;
    bool samples;
};

struct model_drafter {
    struct drafter base;
    struct model_drafter_options o;
    struct kv_pool *kv;
    struct draft_state *states; /* all */
    struct step_cost cost;
    uint64_t n_proposals;
    bool broken; /* a step failed: no more guesses */

    /* One step: [max_rows], [max_sequences] */
    struct batch batch;
    int32_t *ids, *positions, *out_rows;
    struct batch_seq *seqs;
    struct row_owner *members;
    struct sample_row *rows;
    struct executor_owner *owners;
    struct sample_result *results;
    struct draft **active; /* [n_active] whose next guess is wanted */
    uint32_t n_active;
};

/* ---- pages ---- */

static void drop_pages(struct model_drafter *d, struct draft_state *st)
{
    while (st->n_blocks > 0) {
        st->n_blocks--;
        for (int g = 0; g < d->o.geometry.n_groups; g++) {
            kv_release(d->kv, g, st->tables[g][st->n_blocks]);
        }
    }
    st->n_computed = st->n_guesses = 0;
}

/* Pages of a sequence that does not run, or was not asked for long. Those of the running ones are not taken in turns,
 * which would only make all of them compute their texts again and again. */
static bool steal_pages(struct model_drafter *d)
{
    struct draft_state *oldest = NULL;
    for (struct draft_state *st = d->states; st; st = st->next) {
        bool idle = st->q->state != SEQUENCE_RUNNING || d->n_proposals - st->used > IDLE_STEPS;
        if (st->n_blocks && idle && st->used < d->n_proposals && (!oldest || st->used < oldest->used)) {
            oldest = st;
        }
    }
    if (oldest) {
        drop_pages(d, oldest);
    }
    return oldest != NULL;
}

static uint32_t alloc_page(struct model_drafter *d, int group)
{
    uint32_t page;
    do {
        page = kv_alloc(d->kv, group);
    } while (page == KV_PAGE_NONE && steal_pages(d));
    return page;
}

static bool add_block(struct model_drafter *d, struct draft_state *st)
{
    for (int g = 0; g < d->o.geometry.n_groups; g++) {
        uint32_t page = alloc_page(d, g);
        if (page == KV_PAGE_NONE) {
            while (g > 0) {
                g--;
                kv_release(d->kv, g, st->tables[g][st->n_blocks]);
            }
            return false;
        }
        st->tables[g][st->n_blocks] = page;
    }
    st->n_blocks++;
    return true;
}

static bool reserve_tables(struct model_drafter *d, struct draft_state *st, uint32_t n_blocks)
{
    if (n_blocks <= st->cap_blocks) {
        return true;
    }
    uint32_t cap = n_blocks + n_blocks / 2 + 4;
    for (int g = 0; g < d->o.geometry.n_groups; g++) {
        uint32_t *table = realloc(st->tables[g], cap * sizeof *table);
        if (!table) {
            return false;
        }
        st->tables[g] = table;
    }
    st->cap_blocks = cap;
    return true;
}

/* Pages for n positions. */
static bool hold(struct model_drafter *d, struct draft_state *st, uint32_t n)
{
    uint32_t n_blocks = (n + d->o.page_tokens - 1) / d->o.page_tokens;
    if (!reserve_tables(d, st, n_blocks)) {
        return false;
    }
    while (st->n_blocks < n_blocks) {
        if (!add_block(d, st)) {
            return false;
        }
    }
    return true;
}

/* ---- what is known of a sequence ---- */

static struct draft_state *state_of(struct model_drafter *d, struct sequence *q)
{
    if (!q->drafted) {
        struct draft_state *st = calloc(1, sizeof *st);
        if (!st) {
            return NULL;
        }
        st->q = q;
        st->trials = TRIALS;
        st->rest = FIRST_REST;
        st->next = d->states;
        if (st->next) {
            st->next->prev = st;
        }
        d->states = q->drafted = st;
    }
    return q->drafted;
}

static void forget(struct drafter *base, struct sequence *q)
{
    struct model_drafter *d = (struct model_drafter *)base;
    struct draft_state *st = q->drafted;
    if (!st) {
        return;
    }
    drop_pages(d, st);
    *(st->prev ? &st->prev->next : &d->states) = st->next;
    if (st->next) {
        st->next->prev = st->prev;
    }
    for (int g = 0; g < KV_MAX_GROUPS; g++) {
        free(st->tables[g]);
    }
    free(st);
    q->drafted = NULL;
}

/* Compares the last guesses with what came, whether they were checked in a step or not, and goes back to the last
 * position that was computed from what became a token. */
static void note(struct drafter *base, struct sequence *q)
{
    struct draft_state *st = q->drafted;
    (void)base;
    if (!st || q->n_tokens <= st->base) {
        return;
    }
    uint32_t n_held = 0, n_known = q->n_tokens - st->base;
    for (bool held = true; held && n_held < min_u32(st->n_guesses, n_known); n_held += held) {
        held = q->tokens[st->base + n_held] == st->guesses[n_held];
        acceptance_note(&st->acceptance, st->kinds[n_held], held);
        if (n_held == 0) {
            acceptance_note(&st->acceptance, KIND_FIRST, held);
        }
    }
    st->n_computed = min_u32(st->n_computed, st->base + n_held);
    st->n_guesses = 0;
    st->base = q->n_tokens;
}

static double trust(const struct drafter *base, const struct sequence *q)
{
    const struct model_drafter *d = (const struct model_drafter *)base;
    static const struct acceptance nothing;
    const struct draft_state *st = q->drafted;
    if (d->broken || (st && q->n_tokens < st->rest_until) || q->n_tokens + 1 >= d->o.n_context) {
        return 0;
    }
    return acceptance_of(st ? &st->acceptance : &nothing, prior, KIND_FIRST);
}

/* ---- one step ---- */

static uint32_t missing(const struct draft *draft)
{
    return draft->q->n_tokens + draft->n - draft->q->drafted->n_computed;
}

/* The next `rows` tokens that the sequence's text, guesses included, has and its pages do not. */
static void add_rows(struct model_drafter *d, struct draft *draft, uint32_t rows)
{
    struct batch *b = &d->batch;
    struct sequence *q = draft->q;
    struct draft_state *st = q->drafted;
    struct batch_seq *seq = &d->seqs[b->n_seqs];
    bool samples = rows == missing(draft);
    *seq = (struct batch_seq){.first_row = b->n_rows,
                              .n_rows = (int32_t)rows,
                              .start = (int32_t)st->n_computed,
                              .n_pages = (int32_t)st->n_blocks};
    for (int g = 0; g < d->o.geometry.n_groups; g++) {
        seq->pages[g] = st->tables[g];
    }
    for (uint32_t i = 0; i < rows; i++) {
        d->ids[b->n_rows] = q->tokens[st->n_computed + i];
        d->positions[b->n_rows++] = (int32_t)(st->n_computed + i);
    }
    d->members[b->n_seqs++] = (struct row_owner){draft, samples};
    if (samples) {
        struct sample_row row = sampler_draft_row(q, draft->n, b->n_out);
        row.want_logprob = true;
        row.want_digest = false;
        row.n_top = 0;
        row.mask = d->o.n_vocab <= d->o.n_target_vocab ? row.mask : NULL;
        d->rows[b->n_out] = row;
        d->owners[b->n_out] = (struct executor_owner){q->request->job->id, q->choice};
        d->out_rows[b->n_out++] = b->n_rows - 1;
    }
}

static void begin_batch(struct model_drafter *d)
{
    d->batch = (struct batch){.ids = d->ids, .positions = d->positions, .seqs = d->seqs, .out_rows = d->out_rows};
}

static struct step_shape shape_of(const struct model_drafter *d)
{
    struct step_shape shape = {.decode_rows = d->batch.n_rows, .sampled_rows = d->batch.n_out};
    for (int i = 0; i < d->batch.n_rows; i++) {
        shape.decode_reads += d->positions[i] + 1;
    }
    return shape;
}

static bool run(struct model_drafter *d)
{
    struct executor *x = d->o.executor;
    struct executor_step step = {.batch = &d->batch, .rows = d->rows, .owners = d->owners, .n_samples = d->batch.n_out};
    struct tensor *sampled = NULL;
    struct error err = {0};
    struct step_shape shape = shape_of(d);
    int64_t before = x->timed ? (int64_t)x->eval_ns : clock_ns();
    if (!x->ops->step(x, &step, &sampled, &err) || !x->ops->read(x, &step, sampled, d->results, &err)) {
        LOG_WARN("the draft model fails and is not asked any more", "reason=\"%s\"", err.msg);
        d->broken = true;
        return false;
    }
    int64_t took = (x->timed ? (int64_t)x->eval_ns : clock_ns()) - before;
    step_cost_note(&d->cost, &shape, (double)took);
    d->base.n_rows += (uint64_t)d->batch.n_rows;
    d->base.ns += (uint64_t)(took > 0 ? took : 0);
    return true;
}

/* ---- guesses ---- */

static uint8_t kind_of(float logprob)
{
    float p = expf(logprob);
    uint8_t kind = 0;
    while (kind < N_CONFIDENCES - 1 && p >= confidences[kind]) {
        kind++;
    }
    return kind;
}

/* Price of one more guess of each of the n sequences whose guesses are made together. */
static double price_of_guess(const struct model_drafter *d, const struct draft *draft, uint32_t n)
{
    double reads = (double)n * (draft->q->n_tokens + draft->n);
    return step_cost_of(&d->cost, &(struct step_shape){n, 0, n, reads, 0}) / n;
}

/* A guess that holds with probability p is worth its row and the step that makes it. */
static bool pays(const struct model_drafter *d, const struct draft *draft, uint32_t n, double p,
                 const struct draft_prices *prices)
{
    return p * prices->token_value > DRAFT_MARGIN * (prices->row_price + price_of_guess(d, draft, n));
}

/* False: the guess is of no use, and no other follows. */
static bool take_guess(struct model_drafter *d, struct draft *draft, const struct sample_result *result)
{
    struct draft_state *st = draft->q->drafted;
    if (!result->finite || result->id < 0 || (uint32_t)result->id >= d->o.n_target_vocab) {
        return false;
    }
    uint8_t kind = kind_of(result->logprob);
    double before = draft->n ? (double)draft->p[draft->n - 1] : 1;
    st->guesses[draft->n] = result->id;
    st->kinds[draft->n] = kind;
    st->n_guesses = draft->n + 1;
    draft->q->tokens[draft->q->n_tokens + draft->n] = result->id;
    draft->p[draft->n++] = (float)(before * acceptance_of(&st->acceptance, prior, kind));
    return true;
}

static bool wants_more(const struct model_drafter *d, const struct draft *draft, const struct draft_prices *prices)
{
    const struct draft_state *st = draft->q->drafted;
    double next = (double)draft->p[draft->n - 1] * acceptance_of(&st->acceptance, prior, KIND_FIRST);
    if (draft->n >= draft->max || draft->q->n_tokens + draft->n >= d->o.n_context) {
        return false;
    }
    return draft->forced || pays(d, draft, d->n_active, next, prices);
}

/* What the step gave; those who want another guess are active. */
static void settle(struct model_drafter *d, const struct draft_prices *prices)
{
    uint32_t n_active = 0, out = 0;
    for (int i = 0; i < d->batch.n_seqs; i++) {
        struct draft *draft = d->members[i].draft;
        draft->q->drafted->n_computed += (uint32_t)d->seqs[i].n_rows;
        if (d->members[i].samples && take_guess(d, draft, &d->results[out++]) && wants_more(d, draft, prices)) {
            d->active[n_active++] = draft;
        }
    }
    d->n_active = n_active;
}

/* Rows for the texts that lag behind: as many as take no longer than a token is worth. */
static uint32_t catch_up_rows(const struct model_drafter *d, const struct draft_prices *prices)
{
    uint32_t rows = CATCH_UP_FLOOR;
    struct step_shape shape = {.decode_rows = 2 * rows};
    while (2 * rows <= d->o.max_rows && step_cost_of(&d->cost, &shape) <= prices->token_value) {
        rows *= 2;
        shape.decode_rows = 2 * rows;
    }
    return min_u32(rows, d->o.max_rows);
}

/* Whether q takes part now; if not, because it would not pay, it rests. */
static bool takes_part(struct model_drafter *d, struct draft *draft, uint32_t n, const struct draft_prices *prices)
{
    struct draft_state *st = state_of(d, draft->q);
    if (!st) {
        return false;
    }
    st->used = d->n_proposals;
    if (!hold(d, st, min_u32(draft->q->n_tokens + draft->max, d->o.n_context))) {
        return false;
    }
    st->n_computed =
        min_u32(st->n_computed, draft->q->n_tokens - 1); /* guesses that no step has checked are no tokens */
    st->base = draft->q->n_tokens;
    st->n_guesses = 0;
    if (draft->forced || pays(d, draft, n, trust(&d->base, draft->q), prices)) {
        st->rest = FIRST_REST;
        return true;
    }
    if (st->trials > 0) {
        return true;
    }
    st->rest_until = draft->q->n_tokens + st->rest;
    st->rest = min_u32(2 * st->rest, LONGEST_REST);
    st->trials = TRIALS_LATER;
    return false;
}

/* The first step: those who lack little guess, the others catch up. */
static void begin(struct model_drafter *d, struct draft **drafts, uint32_t n, const struct draft_prices *prices)
{
    uint32_t budget = d->o.max_rows, catch_up = catch_up_rows(d, prices);
    begin_batch(d);
    d->n_active = n;
    for (uint32_t i = 0; i < n; i++) {
        if (!takes_part(d, drafts[i], n, prices)) {
            continue;
        }
        struct draft_state *st = drafts[i]->q->drafted;
        uint32_t rows = missing(drafts[i]);
        bool ready = rows <= min_u32(READY_ROWS, d->o.max_rows);
        rows = min_u32(ready ? rows : min_u32(rows, catch_up), budget);
        if (rows == 0 || (ready && rows < missing(drafts[i]))) {
            continue;
        }
        catch_up -= ready ? 0 : rows;
        budget -= rows;
        st->trials -= ready && st->trials > 0;
        add_rows(d, drafts[i], rows);
    }
}

static void propose(struct drafter *base, struct draft **drafts, uint32_t n, const struct draft_prices *prices)
{
    struct model_drafter *d = (struct model_drafter *)base;
    d->n_proposals++;
    begin(d, drafts, n, prices);
    while (d->batch.n_rows > 0 && run(d)) {
        settle(d, prices);
        begin_batch(d);
        for (uint32_t i = 0; i < d->n_active; i++) {
            add_rows(d, d->active[i], 1);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        drafts[i]->by_model = drafts[i]->n > 0;
    }
}

/* ---- life ---- */

static void free_drafter(struct drafter *base)
{
    struct model_drafter *d = (struct model_drafter *)base;
    d->o.executor->ops->free(d->o.executor);
    if (d->o.release) {
        d->o.release(d->o.resources);
    }
    kv_pool_free(d->kv);
    free(d->ids);
    free(d->positions);
    free(d->out_rows);
    free(d->seqs);
    free(d->members);
    free(d->rows);
    free(d->owners);
    free(d->results);
    free(d->active);
    free(d);
}

static const struct drafter_ops ops = {
    .propose = propose, .trust = trust, .note = note, .forget = forget, .free = free_drafter};

static bool create_arrays(struct model_drafter *d)
{
    size_t n_rows = d->o.max_rows, n_seqs = d->o.max_sequences;
    d->ids = calloc(n_rows, sizeof *d->ids);
    d->positions = calloc(n_rows, sizeof *d->positions);
    d->out_rows = calloc(n_seqs, sizeof *d->out_rows);
    d->seqs = calloc(n_seqs, sizeof *d->seqs);
    d->members = calloc(n_seqs, sizeof *d->members);
    d->rows = calloc(n_seqs, sizeof *d->rows);
    d->owners = calloc(n_seqs, sizeof *d->owners);
    d->results = calloc(n_seqs, sizeof *d->results);
    d->active = calloc(n_seqs, sizeof(struct draft *));
    return d->ids && d->positions && d->out_rows && d->seqs && d->members && d->rows && d->owners && d->results &&
           d->active;
}

static void page_freed(void *arg, int group, uint32_t page)
{
    struct model_drafter *d = arg;
    d->o.executor->ops->free_page(d->o.executor, group, page);
}

struct drafter *model_drafter_create(const struct model_drafter_options *options, struct error *err)
{
    struct model_drafter *d = calloc(1, sizeof *d);
    if (!d) {
        options->executor->ops->free(options->executor);
        if (options->release) {
            options->release(options->resources);
        }
        error_set(err, ERR_NO_MEMORY, "There is no memory for the draft model's steps.");
        return NULL;
    }
    d->base.ops = &ops;
    d->o = *options;
    step_cost_init(&d->cost);
    if (!create_arrays(d)) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the draft model's steps.");
    } else if ((d->kv = kv_pool_create(&d->o.geometry, err))) {
        if (d->o.executor->ops->free_page) {
            kv_on_free(d->kv, page_freed, d);
        }
        return &d->base;
    }
    free_drafter(&d->base);
    return NULL;
}

bool model_drafter_check(const struct drafter *base, struct error *err)
{
    const struct model_drafter *d = (const struct model_drafter *)base;
    uint32_t *expected[KV_MAX_GROUPS] = {0};
    bool ok = true;
    for (int g = 0; g < d->o.geometry.n_groups; g++) {
        expected[g] = calloc(kv_n_pages(d->kv, g) + 1, sizeof *expected[g]);
        for (const struct draft_state *st = d->states; st && expected[g]; st = st->next) {
            for (uint32_t i = 0; i < st->n_blocks; i++) {
                expected[g][st->tables[g][i]]++;
            }
        }
        ok = (expected[g] || error_set(err, ERR_NO_MEMORY, "There is no memory for a recount.")) && ok;
    }
    ok = ok && kv_check(d->kv, (const uint32_t *const *)expected, err);
    for (int g = 0; g < d->o.geometry.n_groups; g++) {
        free(expected[g]);
    }
    return ok;
}
