/* The sampler against an oracle that follows the definition the slow way: every step over the whole vocabulary, full
 * sorts, libm, doubles. Random rows and parameters; ids, ranks and top ids must be equal. */
#include "backend/cpu/cpu_math.h"
#include "backend/cpu/cpu_sampler.h"
#include "base/array.h"
#include "base/rng.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_VOCAB   40000
#define MAX_HISTORY 120

/* ---- random choices ---- */

struct dice {
    uint64_t seed;
    uint32_t n;
};

static double roll(struct dice *d)
{
    return rng_uniform(d->seed, d->n++, 0, 0, RNG_SAMPLE);
}

static int pick(struct dice *d, int n)
{
    return (int)(roll(d) * n);
}

static bool chance(struct dice *d, double p)
{
    return roll(d) < p;
}

static double gauss(struct dice *d)
{
    double u = roll(d), v = roll(d);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

/* ---- oracle: what changes logits ---- */

static bool is_in(const int32_t *ids, int n, int32_t id)
{
    for (int i = 0; i < n; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

/* Quadratic: the length of the match before position i + 1 of the window, compared token by token. */
static int oracle_match(const struct sample_row *r, const int32_t *window, int n, int i)
{
    int length = 0;
    while (length <= i && window[i - length] == window[n - 1 - length] &&
           !is_in(r->dry_breakers, r->n_dry_breakers, window[n - 1 - length]))
        length++;
    return length;
}

static void oracle_dry(float *x, int n_vocab, const struct sample_row *r)
{
    int n = r->n_prompt + r->n_output;
    const int32_t *window = r->history;
    if (r->dry_range >= 0 && r->dry_range < n) {
        window += n - r->dry_range;
        n = r->dry_range;
    }
    int *longest = calloc((size_t)n_vocab, sizeof(int));
    for (int i = 0; i + 1 < n; i++) {
        int length = oracle_match(r, window, n, i), next = window[i + 1];
        if (next >= 0 && next < n_vocab && length > longest[next])
            longest[next] = length;
    }
    for (int id = 0; id < n_vocab; id++) {
        if (longest[id] >= r->dry_allowed_length && longest[id] > 0 && !is_in(r->dry_breakers, r->n_dry_breakers, id)) {
            double penalty = r->dry_multiplier * pow(r->dry_base, longest[id] - r->dry_allowed_length);
            x[id] = (float)(x[id] - penalty);
        }
    }
    free(longest);
}

static void oracle_modify(float *x, int n_vocab, const struct sample_row *r)
{
    int n = r->n_prompt + r->n_output;
    for (int id = 0; id < n_vocab; id++) {
        if (is_in(r->history, n, id))
            x[id] = x[id] > 0 ? x[id] / r->repetition_penalty : x[id] * r->repetition_penalty;
    }
    if (r->dry_multiplier != 0)
        oracle_dry(x, n_vocab, r);
    for (int id = 0; id < n_vocab; id++) {
        int count = 0;
        for (int i = r->n_prompt; i < n; i++)
            count += r->history[i] == id;
        double penalty = count * (double)r->frequency_penalty + (count > 0 ? (double)r->presence_penalty : 0.0);
        x[id] = (float)((double)x[id] - penalty);
    }
    for (int i = 0; i < r->n_bias; i++)
        x[r->bias[i].id] += r->bias[i].bias;
    for (int id = 0; id < n_vocab; id++) {
        if ((r->mask && !(r->mask[id / 32] >> (id % 32) & 1)) || is_in(r->banned, r->n_banned, id))
            x[id] = -INFINITY;
    }
}

/* ---- oracle: selection ---- */

struct token {
    float x;
    int32_t id;
    double w, distance;
};

static int by_logit(const void *pa, const void *pb)
{
    const struct token *a = pa, *b = pb;
    return a->x > b->x ? -1 : a->x < b->x ? 1 : a->id - b->id;
}

static int by_distance(const void *pa, const void *pb)
{
    const struct token *a = pa, *b = pb;
    float da = (float)a->distance, db = (float)b->distance;
    return da < db ? -1 : da > db ? 1 : a->id - b->id;
}

static double total_of(const struct token *t, int n)
{
    double total = 0;
    for (int i = 0; i < n; i++)
        total += t[i].w;
    return total;
}

/* Length of the shortest prefix with at least p of the total. */
static int oracle_prefix(const struct token *t, int n, double p)
{
    double total = total_of(t, n), sum = 0;
    for (int i = 0; i < n; i++) {
        sum += t[i].w;
        if (sum >= p * total)
            return i + 1;
    }
    return n;
}

static int oracle_typical(struct token *t, int n, double p)
{
    double total = total_of(t, n), entropy = 0;
    for (int i = 0; i < n; i++)
        entropy -= t[i].w / total * log(t[i].w / total);
    for (int i = 0; i < n; i++)
        t[i].distance = fabs(-log(t[i].w / total) - entropy);
    qsort(t, (size_t)n, sizeof *t, by_distance);
    n = oracle_prefix(t, n, p);
    qsort(t, (size_t)n, sizeof *t, by_logit);
    return n;
}

static int oracle_min_p(struct token *t, int n, double min_p)
{
    int kept = 0;
    double bound = min_p * t[0].w;
    for (int i = 0; i < n; i++) {
        if (t[i].w >= bound)
            t[kept++] = t[i];
    }
    return kept;
}

static int oracle_xtc(struct token *t, int n, double threshold)
{
    double total = total_of(t, n);
    int above = 0;
    while (above < n && t[above].w / total >= threshold)
        above++;
    if (above < 2)
        return n;
    memmove(t, t + above - 1, (size_t)(n - above + 1) * sizeof *t);
    return n - above + 1;
}

static int oracle_sigma(struct token *t, int n, double n_sigma)
{
    double sum = 0, square = 0;
    for (int i = 0; i < n; i++)
        sum += t[i].x;
    for (int i = 0; i < n; i++)
        square += (t[i].x - sum / n) * (t[i].x - sum / n);
    double bound = (double)t[0].x - n_sigma * sqrt(square / n);
    while (n > 1 && t[n - 1].x < bound)
        n--;
    return n;
}

/* -1: nothing finite is left. */
static int32_t oracle(const float *logits, int n_vocab, const struct sample_row *r)
{
    float *x = malloc((size_t)n_vocab * sizeof(float));
    struct token *t = malloc((size_t)n_vocab * sizeof *t);
    memcpy(x, logits, (size_t)n_vocab * sizeof(float));
    oracle_modify(x, n_vocab, r);
    int n = 0;
    for (int id = 0; id < n_vocab; id++) {
        if (x[id] > -INFINITY)
            t[n++] = (struct token){.x = x[id], .id = id};
    }
    qsort(t, (size_t)n, sizeof *t, by_logit);
    int32_t result = n > 0 ? t[0].id : -1;
    if (n == 0 || r->temperature == 0)
        goto out;
    if (r->top_n_sigma > 0)
        n = oracle_sigma(t, n, r->top_n_sigma);
    if (r->top_k > 0 && r->top_k < n)
        n = r->top_k;
    for (int i = 0; i < n; i++) {
        t[i].w = exp(((double)t[i].x - t[0].x) / r->temperature);
        if (t[i].w * 0x1p42 < 0.5)
            n = i;
    }
    n = r->typical_p < 1 ? oracle_typical(t, n, r->typical_p) : n;
    n = r->top_p < 1 ? oracle_prefix(t, n, r->top_p) : n;
    n = oracle_min_p(t, n, r->min_p);
    if (r->xtc_uniform < r->xtc_probability && r->xtc_threshold <= 0.5f)
        n = oracle_xtc(t, n, r->xtc_threshold);
    double target = r->uniform * total_of(t, n), sum = 0;
    int i = 0;
    for (; i < n - 1; i++) {
        sum += t[i].w;
        if (sum > target)
            break;
    }
    result = t[i].id;
out:
    free(x);
    free(t);
    return result;
}

/* ---- random rows ---- */

struct trial {
    float x[MAX_VOCAB];
    int n;
    struct sample_row row;
    int32_t history[MAX_HISTORY], breakers[3], banned[4];
    struct logit_bias bias[4];
    uint32_t mask[MAX_VOCAB / 32 + 1];
};

static void make_logits(struct trial *t, struct dice *d)
{
    int kind = pick(d, 5);
    double size = chance(d, 0.1) ? 1e4 : 0.3 + 6 * roll(d);
    for (int i = 0; i < t->n; i++) {
        double v = gauss(d) * size;
        t->x[i] = (float)(kind == 0 ? round(v) / 2 : kind == 1 ? 1.5 : v);
        if (kind == 2 && chance(d, 0.3))
            t->x[i] = -INFINITY;
        if (kind == 3 && chance(d, 0.02))
            t->x[i] += 15;
    }
    if (!isfinite(t->x[0]))
        t->x[0] = 1;
}

static void make_history(struct trial *t, struct dice *d)
{
    int n_ids = 1 + pick(d, chance(d, 0.5) ? 4 : t->n); /* few distinct ids: long repetitions */
    int n = pick(d, MAX_HISTORY);
    for (int i = 0; i < n; i++)
        t->history[i] = pick(d, n_ids) % t->n;
    if (n > 0 && chance(d, 0.1))
        t->history[pick(d, n)] = -1;
    t->row.history = t->history;
    t->row.n_output = n ? pick(d, n + 1) : 0;
    t->row.n_prompt = n - t->row.n_output;
}

static void make_changes(struct trial *t, struct dice *d)
{
    struct sample_row *r = &t->row;
    if (chance(d, 0.5))
        r->repetition_penalty = (float)(0.7 + roll(d));
    if (chance(d, 0.5))
        r->presence_penalty = (float)(roll(d) * 4 - 2);
    if (chance(d, 0.5))
        r->frequency_penalty = (float)(roll(d) * 4 - 2);
    if (chance(d, 0.5)) {
        r->dry_multiplier = (float)roll(d);
        r->dry_base = (float)(1 + roll(d) * 0.2);
        r->dry_allowed_length = 1 + pick(d, 4);
        r->dry_range = chance(d, 0.5) ? -1 : pick(d, MAX_HISTORY);
        r->dry_breakers = t->breakers;
        r->n_dry_breakers = pick(d, 4);
        for (int i = 0; i < 3; i++)
            t->breakers[i] = pick(d, t->n);
    }
    r->n_bias = chance(d, 0.3) && t->n >= 4 ? 4 : 0;
    r->bias = t->bias;
    for (int i = 0; i < r->n_bias; i++)
        t->bias[i] = (struct logit_bias){i * (t->n / 4) + pick(d, t->n / 4), (float)(roll(d) * 20 - 10)};
    r->n_banned = chance(d, 0.3) ? pick(d, 5) : 0;
    r->banned = t->banned;
    for (int i = 0; i < 4; i++)
        t->banned[i] = pick(d, t->n);
    r->mask = chance(d, 0.3) ? t->mask : NULL;
    for (int i = 0; i <= t->n / 32; i++)
        t->mask[i] = chance(d, 0.2) ? 0 : chance(d, 0.2) ? UINT32_MAX : (uint32_t)(roll(d) * 4294967296.0);
}

static void make_filters(struct sample_row *r, struct dice *d, int n)
{
    static const float temperatures[] = {0, 1e-6f, 0.3f, 0.8f, 1, 1, 1, 1.7f, 20};
    r->temperature = temperatures[pick(d, (int)ARRAY_LEN(temperatures))];
    if (chance(d, 0.3))
        r->top_p = (float)roll(d);
    if (chance(d, 0.3))
        r->min_p = (float)(chance(d, 0.2) ? 1.0 : roll(d) * roll(d) * roll(d));
    if (chance(d, 0.2))
        r->typical_p = (float)roll(d);
    if (chance(d, 0.2))
        r->top_n_sigma = (float)(roll(d) * 4);
    if (chance(d, 0.3))
        r->top_k = 1 + pick(d, chance(d, 0.5) ? 5 : n + 2);
    if (chance(d, 0.3)) {
        r->xtc_probability = 0.7f;
        r->xtc_threshold = (float)(roll(d) * (chance(d, 0.5) ? 0.6 : 0.02));
    }
    r->uniform = roll(d);
    r->xtc_uniform = roll(d);
}

static struct sample_row neutral(void)
{
    return (struct sample_row){.score_id = -1,
                               .temperature = 1,
                               .top_p = 1,
                               .typical_p = 1,
                               .top_n_sigma = -1,
                               .repetition_penalty = 1,
                               .xtc_threshold = 0.1f,
                               .dry_base = 1.75f,
                               .dry_allowed_length = 2,
                               .dry_range = -1};
}

/* Scratch of exactly the stated size, full of garbage. */
static void sample(const float *x, int n, const struct sample_row *row, struct sample_result *result)
{
    size_t size = cpu_sampler_scratch_size(n);
    void *scratch = malloc(size);
    memset(scratch, 0xa5, size);
    cpu_sampler_run(x, n, row, scratch, result);
    free(scratch);
}

static void check_trial(struct trial *t, struct dice *d, bool change)
{
    t->row = neutral();
    make_logits(t, d);
    make_filters(&t->row, d, t->n);
    if (change) {
        make_history(t, d);
        make_changes(t, d);
    }
    struct sample_result result;
    sample(t->x, t->n, &t->row, &result);
    int32_t expected = oracle(t->x, t->n, &t->row);
    if (result.finite != (expected >= 0) || (result.finite && result.id != expected))
        fail_msg("seed %llu: id %d, expected %d of %d", (unsigned long long)d->seed, result.id, expected, t->n);
}

static void run_trials(uint64_t first_seed, int n_trials, bool change, const int *sizes, int n_sizes)
{
    struct trial *t = calloc(1, sizeof *t);
    for (int i = 0; i < n_trials; i++) {
        struct dice d = {.seed = first_seed + (uint64_t)i};
        t->n = sizes[pick(&d, n_sizes)];
        check_trial(t, &d, change);
    }
    free(t);
}

static const int small_sizes[] = {1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 127, 128, 200, 300};
static const int large_sizes[] = {1000, 4097, 20000, MAX_VOCAB};

static void filters_agree(void **state)
{
    (void)state;
    run_trials(1000000, 20000, false, small_sizes, (int)ARRAY_LEN(small_sizes));
}

static void everything_agrees(void **state)
{
    (void)state;
    run_trials(2000000, 10000, true, small_sizes, (int)ARRAY_LEN(small_sizes));
}

static void large_rows_agree(void **state)
{
    (void)state;
    run_trials(3000000, 300, false, large_sizes, (int)ARRAY_LEN(large_sizes));
    run_trials(4000000, 40, true, large_sizes, 2);
}

/* Logprob, rank and top of random rows against a full sort and long double sums. */
static void reports_agree(void **state)
{
    (void)state;
    struct trial *t = calloc(1, sizeof *t);
    struct token *sorted = malloc(MAX_VOCAB * sizeof *sorted);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct dice d = {.seed = 5000000 + seed};
        t->n = seed % 100 ? small_sizes[pick(&d, (int)ARRAY_LEN(small_sizes))] : 20000;
        t->row = neutral();
        make_logits(t, &d);
        make_filters(&t->row, &d, t->n);
        t->row.n_top = pick(&d, SAMPLE_MAX_TOP + 1);
        t->row.want_logprob = true;
        t->row.score_id = chance(&d, 0.5) ? pick(&d, t->n) : -1;
        struct sample_result r;
        sample(t->x, t->n, &t->row, &r);
        assert_true(r.finite);

        long double sum = 0;
        int n = 0;
        for (int id = 0; id < t->n; id++) {
            if (t->x[id] > -INFINITY)
                sorted[n++] = (struct token){.x = t->x[id], .id = id};
        }
        qsort(sorted, (size_t)n, sizeof *sorted, by_logit);
        for (int i = 0; i < n; i++)
            sum += expl((long double)sorted[i].x - sorted[0].x);
        assert_int_equal(r.n_top, n < t->row.n_top ? n : t->row.n_top);
        for (int i = 0; i < r.n_top; i++) {
            assert_int_equal(r.top[i].id, sorted[i].id);
            long double expected = (long double)sorted[i].x - sorted[0].x - logl(sum);
            assert_true(fabsl(r.top[i].logprob - expected) <= 2e-7L * (1 + fabsl(expected)));
        }
        if (t->row.score_id >= 0)
            assert_int_equal(r.id, t->row.score_id);
        if (t->x[r.id] == -INFINITY) {
            assert_true(r.logprob == -INFINITY && r.rank > n);
            continue;
        }
        assert_true(r.rank >= 1 && r.rank <= n);
        assert_int_equal(sorted[r.rank - 1].id, r.id);
        long double expected = (long double)t->x[r.id] - sorted[0].x - logl(sum);
        assert_true(fabsl(r.logprob - expected) <= 2e-7L * (1 + fabsl(expected)));
    }
    free(sorted);
    free(t);
}

/* ---- exp and log ---- */

static void weights_are_accurate(void **state)
{
    (void)state;
    assert_true(cpu_weight(0.0) == CPU_WEIGHT_ONE);
    assert_true(cpu_weight(-1.0) == CPU_WEIGHT_ONE / 2);
    assert_true(cpu_weight(-INFINITY) == 0 && cpu_weight(-1e300) == 0 && cpu_weight(-CPU_WEIGHT_DEPTH) == 0);
    struct dice d = {.seed = 6};
    for (int i = 0; i < 200000; i++) {
        double y = -roll(&d) * (i & 1 ? 50.0 : 1.5);
        long double expected = exp2l(y) * 0x1p42L;
        assert_true(fabsl((long double)cpu_weight(y) - expected) <= 0.5L + expected * 0x1p-51L);
    }
}

static void log_is_accurate(void **state)
{
    (void)state;
    assert_true(cpu_log(1.0) == 0.0);
    struct dice d = {.seed = 7};
    for (int i = 0; i < 200000; i++) {
        double x = i & 1 ? 0.5 + roll(&d) * 1.5 : ldexp(0.5 + roll(&d) / 2, pick(&d, 2000) - 1000);
        long double expected = logl(x);
        double ulp = nextafter(fabs((double)expected), INFINITY) - fabs((double)expected);
        assert_true(fabsl(cpu_log(x) - expected) <= 2.0L * ulp);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_accurate), cmocka_unit_test(log_is_accurate),  cmocka_unit_test(filters_agree),
        cmocka_unit_test(everything_agrees),    cmocka_unit_test(large_rows_agree), cmocka_unit_test(reports_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
