/* Penalties, bias and bans, on a copy of the row. All loops run over the history, not the vocabulary: slots[id] is
 * valid only for ids that the same function has set before. */
#include "backend/cpu/cpu_sampler_internal.h"

#include <float.h>
#include <math.h>

static bool in_vocab(int32_t id, int n)
{
    return id >= 0 && id < n;
}

static float held_finite(double v)
{
    if (v > FLT_MAX)
        return FLT_MAX;
    return v > -FLT_MAX ? (float)v : -FLT_MAX; /* a NaN too */
}

static int n_history(const struct sample_row *row)
{
    return row->n_prompt + row->n_output;
}

/* ---- repetition, presence, frequency ---- */

/* slots[id] = how often each id occurs. */
static void count_ids(const int32_t *ids, int n_ids, int n, int32_t *slots)
{
    for (int i = 0; i < n_ids; i++) {
        if (in_vocab(ids[i], n))
            slots[ids[i]] = 0;
    }
    for (int i = 0; i < n_ids; i++) {
        if (in_vocab(ids[i], n))
            slots[ids[i]]++;
    }
}

/* Keskar et al., "CTRL", 2019, with the multiplication of negative logits that all implementations have. */
static void repetition(float *x, int n, const struct sample_row *row, int32_t *slots)
{
    double penalty = row->repetition_penalty;
    const int32_t *ids = row->history;
    count_ids(ids, n_history(row), n, slots);
    for (int i = 0; i < n_history(row); i++) {
        if (!in_vocab(ids[i], n) || slots[ids[i]] == 0)
            continue;
        slots[ids[i]] = 0;
        float *v = &x[ids[i]];
        if (*v > -INFINITY)
            *v = held_finite(*v > 0 ? *v / penalty : *v * penalty);
    }
}

static void presence_frequency(float *x, int n, const struct sample_row *row, int32_t *slots)
{
    const int32_t *ids = row->history + row->n_prompt;
    count_ids(ids, row->n_output, n, slots);
    for (int i = 0; i < row->n_output; i++) {
        if (!in_vocab(ids[i], n) || slots[ids[i]] == 0)
            continue;
        float *v = &x[ids[i]];
        double penalty = (double)slots[ids[i]] * row->frequency_penalty + row->presence_penalty;
        if (*v > -INFINITY)
            *v = held_finite(*v - penalty);
        slots[ids[i]] = 0;
    }
}

/* ---- DRY ---- */

#define BREAKER (-1)

struct dry {
    const int32_t *ids; /* [n_ids] the last dry_range tokens */
    int n_ids, n_vocab;
    int32_t *slots;   /* per id of the window: longest repetition that it would go on, or BREAKER */
    int32_t *matches; /* [cap] */
    int cap;          /* longest match that counts: up to the last breaker, and to CPU_DRY_MAX_MATCH */
    int allowed;
};

/* Marks breakers, clears the other ids of the window, and finds how far back from the end no breaker stands. */
static void dry_prepare(struct dry *d, const struct sample_row *row)
{
    for (int i = 0; i < d->n_ids; i++) {
        if (in_vocab(d->ids[i], d->n_vocab))
            d->slots[d->ids[i]] = 0;
    }
    for (int i = 0; i < row->n_dry_breakers; i++) {
        if (in_vocab(row->dry_breakers[i], d->n_vocab))
            d->slots[row->dry_breakers[i]] = BREAKER;
    }
    int limit = 0;
    while (limit < d->n_ids && limit < CPU_DRY_MAX_MATCH) {
        int32_t id = d->ids[d->n_ids - 1 - limit];
        if (in_vocab(id, d->n_vocab) && d->slots[id] == BREAKER)
            break;
        limit++;
    }
    d->cap = limit;
}

static void dry_note(struct dry *d, int32_t next, int length)
{
    if (length < d->allowed || !in_vocab(next, d->n_vocab) || d->slots[next] == BREAKER)
        return;
    if (d->slots[next] < length)
        d->slots[next] = length;
}

/* Z-algorithm (Gusfield 1997, 1.3) over the window read backwards: matches[k] = length of the common suffix of the
 * window and the window without its last k tokens. Lengths stop at cap, so a box [left, right) never looks up matches
 * beyond it; each comparison that holds moves right, so the whole is linear. */
static void dry_find(struct dry *d)
{
    const int32_t *last = d->ids + d->n_ids - 1;
    int left = 0, right = 0;
    for (int k = 1; k < d->n_ids; k++) {
        int z = 0;
        if (k < right)
            z = d->matches[k - left] < right - k ? d->matches[k - left] : right - k;
        while (z < d->cap && k + z < d->n_ids && last[-z] == last[-k - z])
            z++;
        if (k < d->cap)
            d->matches[k] = z;
        if (k + z > right) {
            left = k;
            right = k + z;
        }
        dry_note(d, last[1 - k], z);
    }
}

/* base^n by squaring; FLT_MAX when it is more. base >= 1. */
static double capped_power(double base, int n)
{
    double power = 1.0;
    for (; n > 0; n >>= 1) {
        if (n & 1)
            power *= base;
        base *= base;
    }
    return power < FLT_MAX ? power : FLT_MAX;
}

static void dry(float *x, int n, const struct sample_row *row, int32_t *slots, int32_t *matches)
{
    int n_all = n_history(row);
    int n_ids = row->dry_range >= 0 && row->dry_range < n_all ? row->dry_range : n_all;
    if (n_ids < 2)
        return;
    struct dry d = {.ids = row->history + (n_all - n_ids),
                    .n_ids = n_ids,
                    .n_vocab = n,
                    .slots = slots,
                    .matches = matches,
                    .allowed = row->dry_allowed_length > 1 ? row->dry_allowed_length : 1};
    dry_prepare(&d, row);
    if (d.cap < d.allowed)
        return;
    dry_find(&d);
    for (int i = 0; i < n_ids; i++) {
        int32_t id = d.ids[i];
        if (!in_vocab(id, n) || slots[id] <= 0)
            continue;
        double penalty = row->dry_multiplier * capped_power(row->dry_base, slots[id] - d.allowed);
        if (x[id] > -INFINITY)
            x[id] = held_finite(x[id] - penalty);
        slots[id] = 0;
    }
}

/* ---- bias and bans ---- */

static void add_bias(float *x, int n, const struct sample_row *row)
{
    for (int i = 0; i < row->n_bias; i++) {
        const struct logit_bias *b = &row->bias[i];
        if (!in_vocab(b->id, n) || x[b->id] == -INFINITY)
            continue;
        x[b->id] = b->bias == -INFINITY ? -INFINITY : held_finite((double)x[b->id] + b->bias);
    }
}

static void apply_mask(float *x, int n, const uint32_t *mask)
{
    for (int first = 0; first < n; first += 32) {
        uint32_t allowed = mask[first / 32];
        int end = n - first < 32 ? n : first + 32;
        if (allowed == UINT32_MAX)
            continue;
        for (int id = first; id < end; id++, allowed >>= 1)
            x[id] = allowed & 1 ? x[id] : -INFINITY;
    }
}

static bool penalizes_output(const struct sample_row *row)
{
    return row->n_output > 0 && (row->presence_penalty != 0 || row->frequency_penalty != 0);
}

static bool penalizes_repetition(const struct sample_row *row)
{
    return row->repetition_penalty != 1 && n_history(row) > 0;
}

static bool uses_dry(const struct sample_row *row)
{
    return row->dry_multiplier != 0 && row->dry_base >= 1 && row->dry_range != 0;
}

bool cpu_sampler__modifies(const struct sample_row *row)
{
    return penalizes_repetition(row) || uses_dry(row) || penalizes_output(row) || row->n_bias > 0 || row->mask ||
           row->n_banned > 0;
}

void cpu_sampler__modify(float *x, int n, const struct sample_row *row, int32_t *slots, int32_t *matches)
{
    if (penalizes_repetition(row))
        repetition(x, n, row, slots);
    if (uses_dry(row))
        dry(x, n, row, slots, matches);
    if (penalizes_output(row))
        presence_frequency(x, n, row, slots);
    add_bias(x, n, row);
    if (row->mask)
        apply_mask(x, n, row->mask);
    for (int i = 0; i < row->n_banned; i++) {
        if (in_vocab(row->banned[i], n))
            x[row->banned[i]] = -INFINITY;
    }
}
