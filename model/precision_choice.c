#include "model/precision_choice.h"

#include <stdio.h>

#define N_CANDIDATES 3

struct candidate {
    int bits;
    uint64_t weights;
    const char *name;
};

static double gib(uint64_t size)
{
    return (double)size / (1 << 30);
}

static bool fits(const struct precision_question *q, const struct candidate *c, uint64_t kv)
{
    return q->memory == 0 ||
           (c->weights <= q->memory && kv <= q->memory - c->weights && q->other <= q->memory - c->weights - kv);
}

/* Tokens a second. */
static double rate(const struct precision_question *q, uint64_t weights)
{
    return q->bandwidth / ((double)weights * (q->read_share > 0 ? q->read_share : 1));
}

static bool is_fast(const struct precision_question *q, const struct candidate *c)
{
    return q->bandwidth <= 0 || c->weights == 0 || rate(q, c->weights) >= PRECISION_MIN_RATE;
}

/* What is left for K and V beside the weights, up to what is wanted. */
static uint64_t kv_of(const struct precision_question *q, const struct candidate *c)
{
    if (fits(q, c, q->kv_wanted))
        return q->kv_wanted;
    return fits(q, c, q->kv_least) ? q->memory - c->weights - q->other : q->kv_least;
}

static struct precision_answer answer(const struct precision_question *q, const struct candidate *c, bool fit)
{
    return (struct precision_answer){.bits = c->bits, .fits = fit, .weights = c->weights, .kv = kv_of(q, c)};
}

/* The first that fits with kv and is fast, else the last that fits. */
static const struct candidate *pick(const struct precision_question *q, const struct candidate all[N_CANDIDATES],
                                    uint64_t kv, bool *slow)
{
    const struct candidate *best = NULL;
    for (int i = 0; i < N_CANDIDATES; i++) {
        if (!fits(q, &all[i], kv))
            continue;
        best = &all[i];
        *slow = !is_fast(q, best);
        if (!*slow)
            break;
    }
    return best;
}

static void explain(const struct precision_question *q, const struct candidate all[N_CANDIDATES],
                    const struct candidate *c, bool narrow, struct precision_answer *a)
{
    char limit[96] = "(no limit of memory is known)";
    bool for_speed = c != &all[0] && fits(q, &all[0], narrow ? q->kv_least : q->kv_wanted);
    if (q->memory)
        snprintf(limit, sizeof(limit), "in %.2f GiB (%.40s)", gib(q->memory), q->memory_from);
    if (c == &all[0])
        snprintf(a->why, sizeof(a->why),
                 "Full precision: %.2f GiB of weights, %.2f GiB of KV and %.2f GiB besides fit %s.", gib(c->weights),
                 gib(a->kv), gib(q->other), limit);
    else if (for_speed)
        snprintf(a->why, sizeof(a->why),
                 "%s: full precision, %.2f GiB, fits, but would decode about %.1f tokens a second; these %.2f GiB "
                 "about %.1f.",
                 c->name, gib(q->full), rate(q, q->full), gib(c->weights), rate(q, c->weights));
    else
        snprintf(a->why, sizeof(a->why),
                 "%s: %.2f GiB of weights, %.2f GiB of KV and %.2f GiB besides fit %s; full precision, %.2f GiB, does "
                 "not.",
                 c->name, gib(c->weights), gib(a->kv), gib(q->other), limit, gib(q->full));
}

static struct precision_answer as_they_are(const struct precision_question *q, const struct candidate *c)
{
    struct precision_answer a = answer(q, c, fits(q, c, q->kv_least));
    const char *why = q->stays ? q->stays : "the weights are quantized already.";
    if (a.fits)
        snprintf(a.why, sizeof(a.why), "As it is: %.200s", why);
    else
        snprintf(a.why, sizeof(a.why),
                 "As it is it does not fit: %.2f GiB of weights, %.2f GiB of KV for one sequence and %.2f GiB besides "
                 "need more than %.2f GiB (%.40s).",
                 gib(c->weights), gib(q->kv_least), gib(q->other), gib(q->memory), q->memory_from);
    return a;
}

struct precision_answer precision_choose(const struct precision_question *q)
{
    const struct candidate all[N_CANDIDATES] = {
        {0, q->full, "Full precision"}, {8, q->bits8, "8 bits"}, {4, q->bits4, "4 bits"}};
    struct precision_answer a;
    bool slow = false, narrow = false;
    if (q->quantized)
        return as_they_are(q, &all[0]);
    const struct candidate *c = pick(q, all, q->kv_wanted, &slow);
    if (!c) {
        narrow = true;
        c = pick(q, all, q->kv_least, &slow);
    }
    if (c) {
        a = answer(q, c, true);
        explain(q, all, c, narrow, &a);
        return a;
    }
    a = answer(q, &all[N_CANDIDATES - 1], false);
    snprintf(a.why, sizeof(a.why),
             "Not even 4 bits fit: %.2f GiB of weights, %.2f GiB of KV for one sequence and %.2f GiB besides need more "
             "than %.2f GiB (%.40s).",
             gib(q->bits4), gib(q->kv_least), gib(q->other), gib(q->memory), q->memory_from);
    return a;
}
