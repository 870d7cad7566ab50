/* Filters and the draw, without sorting.
 *
 * Candidates are gathered from the top of the logits only as deep as a step needs: sums of weights are exact integers,
 * so once the total of all weights is known (one pass), a threshold that covers the needed part of it is enough,
 * whatever the order inside. Prefixes in key order are found by selection (quickselect on sums), linear in the
 * candidates. */
#include "backend/cpu/cpu_sampler_internal.h"

#include <float.h>
#include <math.h>

/* Tokens with weight; those not gathered lie below `low`. All are gathered when sum == total. */
struct selection {
    const struct logits *l;
    struct scale scale;
    struct candidate *c; /* [n], in no order */
    size_t n;
    float low;   /* every token with a logit >= low is gathered */
    float floor; /* no token below it is ever (top-n-sigma) */
    int64_t sum, total;
};

/* ---- prefixes ---- */

static uint64_t median(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* A key that at least one entry exceeds. Should medians of three have bad luck, halving the range of keys ends it. */
static uint64_t choose_pivot(const struct candidate *c, size_t n, int round)
{
    if (n > 2 && round < 48)
        return median(c[0].key, c[n / 2].key, c[n - 1].key);
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = c[i].key < low ? c[i].key : low;
        high = c[i].key > high ? c[i].key : high;
    }
    return low + (high - low) / 2;
}

/* Moves entries with keys <= pivot to the front; returns how many, adds their measure to *sum. Without branches on the
 * keys, which no predictor could guess. */
static size_t split(struct candidate *c, size_t n, uint64_t pivot, bool by_weight, int64_t *sum)
{
    size_t front = 0;
    int64_t added = 0;
    for (size_t i = 0; i < n; i++) {
        struct candidate e = c[i];
        bool below = e.key <= pivot;
        c[i] = c[front];
        c[front] = e;
        front += below;
        added += (by_weight ? e.weight : 1) & -(int64_t)below;
    }
    *sum += added;
    return front;
}

/* The entry, in key order, at which the running sum of weights (or the running count) first exceeds target, which the
 * whole sum must exceed. Its index afterwards: what precedes it in key order lies before it; *before is their sum. */
static size_t select_at(struct candidate *c, size_t n, bool by_weight, int64_t target, int64_t *before)
{
    size_t first = 0, end = n;
    int64_t sum = 0;
    for (int round = 0; end - first > 1; round++) {
        uint64_t pivot = choose_pivot(c + first, end - first, round);
        int64_t with = sum;
        size_t middle = first + split(c + first, end - first, pivot, by_weight, &with);
        if (with > target) {
            end = middle;
        } else {
            sum = with;
            first = middle;
        }
    }
    *before = sum;
    return first;
}

/* ---- gathering ---- */

/* Appends the keys of all logits in [low, high) to c[n ..]; the new count. Writes one entry past it. */
static size_t gather(const struct logits *l, float low, float high, struct candidate *c, size_t n)
{
    for (int b = 0; b < l->n_blocks; b++) {
        if (l->block_max[b] < low)
            continue;
        int end = (b + 1) * SCAN_BLOCK;
        end = end < l->n ? end : l->n;
        for (int id = b * SCAN_BLOCK; id < end; id++) {
            float x = l->x[id];
            c[n].key = candidate_key(x, id);
            n += (x >= low) & (x < high);
        }
    }
    return n;
}

size_t cpu_sampler__best(const struct logits *l, size_t k, float low, struct candidate *c)
{
    int64_t before;
    if (k < (size_t)l->n_blocks) { /* k blocks have something at or above the k-th largest maximum */
        for (int b = 0; b < l->n_blocks; b++)
            c[b].key = candidate_key(l->block_max[b], b);
        float bound = candidate_logit(c[select_at(c, (size_t)l->n_blocks, false, (int64_t)k - 1, &before)].key);
        low = bound > low ? bound : low;
    }
    size_t n = gather(l, low, INFINITY, c, 0);
    if (n <= k)
        return n;
    (void)select_at(c, n, false, (int64_t)k - 1, &before);
    return k;
}

/* Sets the weights of c[from .. n), drops those of 0. */
static void weigh(struct selection *s, size_t from)
{
    size_t n = from;
    for (size_t i = from; i < s->n; i += 2) {
        const struct candidate *a = &s->c[i], *b = i + 1 < s->n ? a + 1 : a;
        uint64_t keys[2] = {a->key, b->key};
        f64x2 y = {scale_of(&s->scale, candidate_logit(keys[0])), scale_of(&s->scale, candidate_logit(keys[1]))};
        i64x2 w = cpu_weight2(y);
        for (int j = 0; j < (a == b ? 1 : 2); j++) {
            s->c[n] = (struct candidate){keys[j], w[j]};
            n += w[j] > 0;
            s->sum += w[j];
        }
    }
    s->n = n;
}

/* The largest float <= v, at least -FLT_MAX. */
static float float_at_most(double v)
{
    if (!(v > -FLT_MAX))
        return -FLT_MAX;
    float f = (float)v;
    return (double)f > v ? nextafterf(f, -INFINITY) : f;
}

/* Gathers every token with a scaled logit of at least -depth. */
static void extend(struct selection *s, double depth)
{
    float low = float_at_most(s->scale.max - depth / s->scale.factor);
    low = low > s->floor ? low : s->floor;
    if (low >= s->low || s->sum == s->total)
        return;
    size_t from = s->n;
    s->n = gather(s->l, low, s->low, s->c, s->n);
    s->low = low;
    weigh(s, from);
}

/* Gathers until the sum reaches need <= total. */
static void cover(struct selection *s, int64_t need)
{
    for (double depth = 3.0; s->sum < need; depth *= 1.5)
        extend(s, depth);
}

/* Gathers every token with at least this weight. The slack is far more than the rounding of weights. */
static void cover_weight(struct selection *s, double weight)
{
    double bits = cpu_log(weight < 1.0 ? 1.0 : weight) * CPU_LOG2_E;
    extend(s, CPU_WEIGHT_BITS - bits + 1.01);
}

/* ---- filters ---- */

/* What is gathered and left is all there is. */
static void settle(struct selection *s, size_t n, int64_t sum)
{
    s->n = n;
    s->sum = s->total = sum;
}

/* The share p of the total, rounded up, 1 to total. */
static int64_t share(double p, int64_t total)
{
    double v = p * (double)total;
    if (!(v > 1.0))
        return 1;
    if (v >= (double)total)
        return total;
    int64_t n = (int64_t)v;
    return n + ((double)n < v);
}

/* The shortest prefix with at least the share p. */
static void keep_prefix(struct selection *s, double p)
{
    int64_t need = share(p, s->total), before;
    cover(s, need);
    size_t last = select_at(s->c, s->n, true, need - 1, &before);
    settle(s, last + 1, before + s->c[last].weight);
}

/* Meister et al., "Locally typical sampling", TACL 2023. With p = 2^y / Z: -log p - H = ln 2 (-y - mean of -y), so
 * neither Z nor the factor matters for the order. */
static void keep_typical(struct selection *s, double p)
{
    cover(s, s->total);
    int64_t moment = 0; /* of weight * y: whole units, so exact in any order */
    for (size_t i = 0; i < s->n; i++)
        moment += (int64_t)((double)s->c[i].weight * scale_of(&s->scale, candidate_logit(s->c[i].key)));
    double mean = (double)moment / (double)s->total;
    for (size_t i = 0; i < s->n; i++) {
        float distance = (float)fabs(scale_of(&s->scale, candidate_logit(s->c[i].key)) - mean);
        uint32_t bits;
        memcpy(&bits, &distance, sizeof bits);
        s->c[i].key = (uint64_t)bits << 32 | (uint32_t)s->c[i].key;
    }
    keep_prefix(s, p);
    for (size_t i = 0; i < s->n; i++) {
        int32_t id = candidate_id(s->c[i].key);
        s->c[i].key = candidate_key(s->l->x[id], id);
    }
}

static void keep_min_p(struct selection *s, double min_p)
{
    int64_t largest = s->sum < s->total ? CPU_WEIGHT_ONE : 0;
    for (size_t i = 0; i < s->n; i++)
        largest = s->c[i].weight > largest ? s->c[i].weight : largest;
    double bound = (min_p < 1.0 ? min_p : 1.0) * (double)largest;
    cover_weight(s, bound);
    size_t n = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct candidate e = s->c[i];
        if ((double)e.weight < bound)
            continue;
        s->c[n++] = e;
        sum += e.weight;
    }
    settle(s, n, sum);
}

/* "Exclude top choices": what is at or above the threshold goes, except the least likely of it. */
static void exclude_top(struct selection *s, double threshold)
{
    double bound = threshold * (double)s->total;
    cover_weight(s, bound);
    uint64_t last = 0; /* key of the one that stays */
    for (size_t i = 0; i < s->n; i++) {
        if ((double)s->c[i].weight >= bound && s->c[i].key > last)
            last = s->c[i].key;
    }
    size_t n = 0;
    int64_t removed = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct candidate e = s->c[i];
        if ((double)e.weight >= bound && e.key != last)
            removed += e.weight;
        else
            s->c[n++] = e;
    }
    s->n = n;
    s->sum -= removed;
    s->total -= removed;
}

/* Nsigma: Tang et al., "Top-n sigma", 2024. The smallest logit that stays. */
static float sigma_floor(const struct logits *l, float n_sigma)
{
    double mean, deviation;
    cpu_sampler__moments(l, &mean, &deviation);
    double v = (double)l->max - (double)n_sigma * deviation;
    float f = float_at_most(v);
    return (double)f < v ? nextafterf(f, INFINITY) : f;
}

/* Top-k gathers the few; otherwise the total of all is what tells how deep to gather. */
static void start(struct selection *s, const struct sample_row *row, int64_t *raw_total)
{
    if (row->top_k > 0 && row->top_k < s->l->n) {
        s->n = cpu_sampler__best(s->l, (size_t)row->top_k, s->floor, s->c);
        weigh(s, 0);
        settle(s, s->n, s->sum);
        return;
    }
    s->total = cpu_sampler__total(s->l, &s->scale, s->floor);
    if (s->scale.factor == CPU_LOG2_E && s->floor <= -FLT_MAX)
        *raw_total = s->total;
}

int32_t cpu_sampler__draw(const struct logits *l, const struct sample_row *row, struct candidate *c, int64_t *raw_total)
{
    if (!(row->temperature > 0) || row->top_k == 1)
        return cpu_sampler__argmax(l);
    double temperature = row->temperature <= FLT_MAX ? row->temperature : FLT_MAX;
    struct selection s = {.l = l, .scale = {l->max, CPU_LOG2_E / temperature}, .c = c, .low = INFINITY};
    s.floor = row->top_n_sigma > 0 ? sigma_floor(l, row->top_n_sigma) : -FLT_MAX;
    start(&s, row, raw_total);
    if (row->typical_p < 1)
        keep_typical(&s, row->typical_p);
    if (row->top_p < 1)
        keep_prefix(&s, row->top_p);
    if (row->min_p > 0)
        keep_min_p(&s, row->min_p);
    if (row->xtc_uniform < row->xtc_probability && row->xtc_threshold <= 0.5f)
        exclude_top(&s, row->xtc_threshold);
    int64_t target = (int64_t)(row->uniform * (double)s.total), before;
    target = target < s.total ? target : s.total - 1;
    cover(&s, target + 1);
    return candidate_id(s.c[select_at(s.c, s.n, true, target, &before)].key);
}
