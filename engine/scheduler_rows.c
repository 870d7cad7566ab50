/* Rows of a step: one for each sequence that decodes, then prompts up to a budget, then guesses of tokens
 * (scheduler_draft.c) in what is left.
 *
 * The budget is max_batch_tokens, and less while somebody decodes: a prompt makes everybody's step longer, so it gets
 * only as many rows as keep the step within max_itl_factor of what the decoding rows would take alone. When more
 * prompts wait than sequences decode, they count for more: who just began to decode would otherwise hold up all that
 * came with it. Only how fast prompts are computed depends on it, not what comes out. */
#include "engine/scheduler_internal.h"

#include "base/array.h"

#include <stdlib.h>

#define PREFILL_FLOOR 16 /* rows of prompts in a step, however dear they are: prompts go on */
#define FIRST_STEPS   4  /* of an engine, in which twice as many each time: what rows cost is being learned */
#define MOST_CROWDED  4  /* times the factor, at most, when many prompts wait beside few who decode */

uint32_t scheduler__remaining(const struct sequence *q)
{
    return q->load.ticket ? 0 : q->n_tokens - q->n_computed;
}

/* ---- what rows cost ---- */

double scheduler__reads(const struct scheduler *s, uint32_t position)
{
    double reads = 0;
    for (int g = 0; g < s->n_groups; g++) {
        uint32_t window = (uint32_t)s->config->window[g], all = position + 1;
        reads += s->group_share[g] * (window && window < all ? window : all);
    }
    return reads;
}

void scheduler__add_shape(const struct scheduler *s, const struct sequence *q, struct step_shape *shape)
{
    double rows = q->plan.rows, reads = rows * scheduler__reads(s, q->n_computed + q->plan.rows / 2);
    if (scheduler__remaining(q) == 1) {
        shape->decode_rows += rows;
        shape->decode_reads += reads;
        shape->sampled_rows += rows;
    } else {
        shape->prefill_rows += rows;
        shape->prefill_reads += reads;
        shape->sampled_rows += q->scores ? rows : q->n_computed + q->plan.rows == q->n_tokens;
    }
}

/* ---- decode ---- */

/* One row for each sequence that has one token to compute. When they do not all fit, the next step goes on behind the
 * last one served. Returns the rows left. */
static uint32_t plan_decodes(struct scheduler *s, uint32_t budget)
{
    uint32_t start = s->n_running ? s->decode_turn % s->n_running : 0;
    for (uint32_t k = 0; k < s->n_running; k++) {
        uint32_t at = (start + k) % s->n_running;
        struct sequence *q = s->running[at];
        if (scheduler__remaining(q) != 1) {
            continue;
        }
        if (budget == 0) {
            s->decode_turn = at;
            return 0;
        }
        q->plan.rows = 1;
        budget--;
    }
    s->decode_turn = 0;
    return budget;
}

/* ---- prefill ---- */

/* Rows a prefill may have in one step besides the budget. */
static uint32_t most_rows(const struct scheduler *s, const struct sequence *q)
{
    uint32_t most = scheduler__remaining(q);
    if (s->config->prefill_chunk) {
        most = min_u32(most, s->config->prefill_chunk);
    }
    return q->scores ? min_u32(most, SCORE_ROWS) : most;
}

static uint32_t give(const struct scheduler *s, struct sequence *q, uint32_t budget)
{
    uint32_t rows = min_u32(budget, most_rows(s, q) - q->plan.rows);
    q->plan.rows += rows;
    return budget - rows;
}

static int by_priority_and_rest(const void *a, const void *b)
{
    const struct sequence *x = *(struct sequence *const *)a, *y = *(struct sequence *const *)b;
    if (x->request->job->priority != y->request->job->priority) {
        return x->request->job->priority < y->request->job->priority ? -1 : 1;
    }
    if (scheduler__remaining(x) != scheduler__remaining(y)) {
        return scheduler__remaining(x) < scheduler__remaining(y) ? -1 : 1;
    }
    return scheduler__before(x, y) ? -1 : 1;
}

/* The most urgent of the prompts is more urgent than everybody who decodes: nobody is spared for it. */
static bool prompts_are_urgent(const struct scheduler *s)
{
    const struct sequence *first = s->n_running ? s->running[0] : NULL; /* by priority */
    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct sequence *q = s->running[i];
        if (scheduler__remaining(q) == 1 && q->request->job->priority <= first->request->job->priority) {
            return false;
        }
    }
    return true;
}

/* The most rows, at most `budget`, with which the step stays within `ns`. Time grows with rows. */
static uint32_t rows_within(const struct scheduler *s, const struct step_shape *decode, double reads_per_row, double ns,
                            uint32_t budget)
{
    uint32_t low = 0, high = budget;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        struct step_shape shape = *decode;
        shape.prefill_rows = middle;
        shape.prefill_reads = middle * reads_per_row;
        shape.sampled_rows += 1;
        if (step_cost_of(&s->cost, &shape) <= ns) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Rows for the n prompts that wait. */
static uint32_t prefill_budget(const struct scheduler *s, uint32_t n, uint32_t budget)
{
    struct step_shape decode = {0};
    double reads = 0, n_decodes = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        if (s->running[i]->plan.rows) {
            scheduler__add_shape(s, s->running[i], &decode);
            n_decodes++;
        }
    }
    double alone = step_cost_of(&s->cost, &decode), crowd = n_decodes > 0 ? n / n_decodes : 1;
    if (s->config->max_itl_factor <= 0 || n_decodes == 0 || prompts_are_urgent(s)) {
        return budget;
    }
    if (s->cost.n_steps < FIRST_STEPS) { /* who decodes already comes from an engine before, and has waited enough */
        budget = min_u32(PREFILL_FLOOR << s->cost.n_steps, budget);
    }
    if (alone <= 0) {
        return budget;
    }
    for (uint32_t i = 0; i < n; i++) {
        reads += scheduler__reads(s, s->prefills[i]->n_computed) / n;
    }
    crowd = crowd < 1 ? 1 : crowd > MOST_CROWDED ? MOST_CROWDED : crowd;
    uint32_t rows = rows_within(s, &decode, reads, alone * (double)s->config->max_itl_factor * crowd, budget);
    return rows < PREFILL_FLOOR ? min_u32(PREFILL_FLOOR, budget) : rows;
}

/* The oldest prompt has half of the budget for sure, so that it is not starved; the other half goes to the shortest
 * rests first, so that a short prompt is not behind a long one; what they leave goes to the oldest again. Prompts of a
 * lower priority get what the oldest leaves. Returns the rows left of `budget`. */
static uint32_t plan_prefills(struct scheduler *s, uint32_t budget)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_running; i++) {
        if (scheduler__remaining(s->running[i]) > 1) {
            s->prefills[n++] = s->running[i];
        }
    }
    if (n == 0 || budget == 0) {
        return budget;
    }
    struct sequence *oldest = s->prefills[0];
    bool has_equals = n > 1 && s->prefills[1]->request->job->priority == oldest->request->job->priority;
    uint32_t rows = prefill_budget(s, n, budget), for_others = has_equals ? rows / 2 : 0, left;
    qsort(s->prefills + 1, n - 1, sizeof(struct sequence *), by_priority_and_rest);
    left = give(s, oldest, rows - for_others) + for_others;
    for (uint32_t i = 1; i < n; i++) {
        left = give(s, s->prefills[i], left);
    }
    left = give(s, oldest, left);
    return budget - (rows - left);
}

void scheduler__choose_rows(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_running; i++) {
        s->running[i]->plan.rows = s->running[i]->plan.n_drafts = 0;
    }
    scheduler__plan_drafts(s, plan_prefills(s, plan_decodes(s, scheduler__max_rows(s))));
}
