/* The sampler on cases small enough to compute by hand, on the edges of its definition, as a distribution, and through
 * the op of the cpu backend. */
#include "backend/cpu/cpu_sampler.h"
#include "base/array.h"
#include "base/hash.h"
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

#define LAST_UNIFORM (1.0 - 0x1p-53)

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

static struct sample_row greedy(void)
{
    struct sample_row row = neutral();
    row.temperature = 0;
    return row;
}

static struct sample_result sample(const float *x, int n, const struct sample_row *row)
{
    struct sample_result result;
    void *scratch = malloc(cpu_sampler_scratch_size(n));
    memset(scratch, 0xa5, cpu_sampler_scratch_size(n));
    cpu_sampler_run(x, n, row, scratch, &result);
    free(scratch);
    return result;
}

static int32_t id_of(const float *x, int n, const struct sample_row *row)
{
    struct sample_result result = sample(x, n, row);
    assert_true(result.finite);
    return result.id;
}

/* Bit i: id i is drawn for some of many uniforms. */
static uint32_t reachable(const float *x, int n, struct sample_row row)
{
    uint32_t ids = 0;
    for (int i = 0; i < 4096; i++) {
        row.uniform = i / 4096.0;
        ids |= 1u << id_of(x, n, &row);
    }
    row.uniform = LAST_UNIFORM;
    return ids | 1u << id_of(x, n, &row);
}

/* The changed logit of an id, found with a neighbour of known value: id 0 wins from exactly this value on. */
static void assert_changed(const struct sample_row *changes, float *x, int n, int32_t id, float expected)
{
    struct sample_row row = *changes;
    row.temperature = 0;
    for (int32_t other = 1; other < n; other++)
        assert_true(other == id || x[other] < expected - 1);
    x[0] = nextafterf(expected, -INFINITY);
    assert_int_equal(id_of(x, n, &row), id);
    x[0] = expected; /* a tie: the lower id */
    assert_int_equal(id_of(x, n, &row), 0);
}

/* ---- penalties ---- */

static void repetition_divides_and_multiplies(void **state)
{
    (void)state;
    const int32_t history[] = {2, 3, 3, 2};
    struct sample_row row = neutral();
    row.history = history;
    row.n_prompt = 3; /* both in the prompt; each counts once */
    row.n_output = 1;
    row.repetition_penalty = 2;
    assert_changed(&row, (float[]){0, -90, 6, -90}, 4, 2, 3.0f);
    assert_changed(&row, (float[]){0, -90, -90, -2}, 4, 3, -4.0f);
    assert_changed(&row, (float[]){0, 5, -90, -90}, 4, 1, 5.0f);
}

static void presence_and_frequency_see_output_only(void **state)
{
    (void)state;
    const int32_t history[] = {1, 1, 2, 2, 2};
    struct sample_row row = neutral();
    row.history = history;
    row.n_prompt = 2;
    row.n_output = 3;
    row.presence_penalty = 0.5f;
    row.frequency_penalty = 0.25f;
    assert_changed(&row, (float[]){0, 4, -90}, 3, 1, 4.0f);
    assert_changed(&row, (float[]){0, -90, 4}, 3, 2, 4 - 0.5f - 0.75f);
    row.presence_penalty = -2;
    row.frequency_penalty = 0;
    assert_changed(&row, (float[]){0, -90, 4}, 3, 2, 6.0f);
}

static void dry_by_hand(void **state)
{
    (void)state;
    /* the end "5 6 7" stood before 1; "6 7" also before 2; "7" also before 3 */
    const int32_t history[] = {5, 6, 7, 1, 9, 6, 7, 2, 9, 9, 7, 3, 5, 6, 7};
    struct sample_row row = neutral();
    row.history = history;
    row.n_prompt = 10;
    row.n_output = 5;
    row.dry_multiplier = 1.5f;
    row.dry_base = 2;
    float low[10] = {0, -90, -90, -90, -90, -90, -90, -90, -90, -90}, x[10];
    const float expected[] = {0, 10 - 3.0f, 10 - 1.5f, 10, 10}; /* 1.5 * 2^(n - 2) */
    for (int32_t id = 1; id <= 4; id++) {
        memcpy(x, low, sizeof x);
        x[id] = 10;
        assert_changed(&row, x, 10, id, expected[id]);
    }
    int32_t breaker = 6; /* ends every match before "7" */
    row.dry_breakers = &breaker;
    row.n_dry_breakers = 1;
    row.dry_allowed_length = 1;
    for (int32_t id = 1; id <= 3; id++) {
        memcpy(x, low, sizeof x);
        x[id] = 10;
        assert_changed(&row, x, 10, id, 8.5f);
    }
    row.dry_range = 5; /* "7 3 5 6 7": only 3 */
    memcpy(x, low, sizeof x);
    x[2] = 10;
    assert_changed(&row, x, 10, 2, 10.0f);
}

static void dry_never_overflows(void **state)
{
    (void)state;
    enum { LENGTH = 3 * CPU_DRY_MAX_MATCH };
    int32_t *history = malloc(LENGTH * sizeof *history);
    for (int i = 0; i < LENGTH; i++)
        history[i] = 1;
    struct sample_row row = neutral();
    row.history = history;
    row.n_prompt = LENGTH;
    row.dry_multiplier = 10;
    float x[] = {-1, 20};
    assert_int_equal(id_of(x, 2, &row), 0);
    assert_int_equal(id_of((float[]){-INFINITY, 20}, 2, &row), 1); /* penalized without bound, but not forbidden */
    row.dry_base = 1;
    assert_changed(&row, (float[]){0, 20}, 2, 1, 10.0f);
    row.dry_base = 0.5f;
    assert_changed(&row, (float[]){0, 20}, 2, 1, 20.0f);
    free(history);
}

static void bias_mask_and_bans(void **state)
{
    (void)state;
    float x[70];
    for (int i = 0; i < 70; i++)
        x[i] = (float)-i;
    struct sample_row row = greedy();
    struct logit_bias bias[] = {{5, 5.5f}, {0, -1000}, {69, -INFINITY}, {70, 9}};
    row.bias = bias;
    row.n_bias = 4;
    assert_int_equal(id_of(x, 70, &row), 5);
    int32_t banned[] = {5, -1, 70};
    row.banned = banned;
    row.n_banned = 3;
    assert_int_equal(id_of(x, 70, &row), 1);
    uint32_t mask[3] = {1u << 5, 0, 1u << 4 | 1u << 5};
    row.mask = mask;
    assert_int_equal(id_of(x, 70, &row), 68);
    mask[2] = 1u << 5; /* 69: its bias is -inf */
    assert_false(sample(x, 70, &row).finite);
    row.n_bias = 0;
    assert_int_equal(id_of(x, 70, &row), 69);
    memset(mask, 0, sizeof mask);
    assert_false(sample(x, 70, &row).finite);
}

/* ---- filters ---- */

/* p = 1/2, 1/4, 1/8, 1/16, 1/16 in scrambled order: ids 3, 0, 4, 1, 2 */
static const float halves[5] = {-2 * 0.69314718f, -4 * 0.69314718f, -4 * 0.69314718f, -0.69314718f, -3 * 0.69314718f};
#define BITS_3     (1u << 3)
#define BITS_30    (BITS_3 | 1u << 0)
#define BITS_304   (BITS_30 | 1u << 4)
#define BITS_3041  (BITS_304 | 1u << 1)
#define BITS_30412 (BITS_3041 | 1u << 2)

static void filters_keep_what_they_should(void **state)
{
    (void)state;
    struct sample_row row = neutral();
    assert_int_equal(reachable(halves, 5, row), BITS_30412);
    const struct {
        float p;
        uint32_t ids;
    } top_p[] = {{0, BITS_3}, {0.49f, BITS_3}, {0.51f, BITS_30}, {0.76f, BITS_304}, {0.9f, BITS_3041}, {1, BITS_30412}};
    for (size_t i = 0; i < ARRAY_LEN(top_p); i++) {
        row.top_p = top_p[i].p;
        assert_int_equal(reachable(halves, 5, row), top_p[i].ids);
    }
    row = neutral();
    const uint32_t top_k[] = {BITS_30412, BITS_3, BITS_30, BITS_304, BITS_3041, BITS_30412, BITS_30412};
    for (int k = 0; k < 7; k++) {
        row.top_k = k;
        assert_int_equal(reachable(halves, 5, row), top_k[k]);
    }
    row = neutral();
    row.min_p = 1;
    assert_int_equal(reachable(halves, 5, row), BITS_3);
    row.min_p = 0.49f;
    assert_int_equal(reachable(halves, 5, row), BITS_30);
    row.min_p = 0.13f;
    assert_int_equal(reachable(halves, 5, row), BITS_304);
    row.top_k = 2; /* and each filter sees what the one before it left */
    row.top_p = 0.6f;
    assert_int_equal(reachable(halves, 5, row), BITS_3);
}

/* H = 1.875 bits; |-log2 p - H| = 0.875, 0.125, 1.125, 2.125, 2.125 for 3, 0, 4, 1, 2 */
static void typical_by_hand(void **state)
{
    (void)state;
    struct sample_row row = neutral();
    row.typical_p = 0.2f;
    assert_int_equal(reachable(halves, 5, row), 1u << 0);
    row.typical_p = 0.7f;
    assert_int_equal(reachable(halves, 5, row), BITS_30);
    row.typical_p = 0.8f;
    assert_int_equal(reachable(halves, 5, row), BITS_304);
    row.typical_p = 0.9f; /* a tie: the lower id */
    assert_int_equal(reachable(halves, 5, row), BITS_3041);
    row.typical_p = 0.2f; /* the likeliest is gone: min-p looks at what is left */
    row.min_p = 1;
    assert_int_equal(reachable(halves, 5, row), 1u << 0);
}

static void xtc_by_hand(void **state)
{
    (void)state;
    struct sample_row row = neutral();
    row.xtc_probability = 0.5f;
    row.xtc_uniform = 0.4;
    row.xtc_threshold = 0.2f; /* 3 and 0 are above: 3 goes */
    assert_int_equal(reachable(halves, 5, row), BITS_30412 & ~BITS_3);
    row.xtc_threshold = 0.12f; /* 3, 0, 4: 3 and 0 go */
    assert_int_equal(reachable(halves, 5, row), BITS_30412 & ~BITS_30);
    row.xtc_threshold = 0.3f; /* only one is above: it stays */
    assert_int_equal(reachable(halves, 5, row), BITS_30412);
    row.xtc_threshold = 0; /* all but the last of the tie */
    assert_int_equal(reachable(halves, 5, row), 1u << 2);
    row.xtc_threshold = 0.2f;
    row.xtc_uniform = 0.5; /* not under the probability */
    assert_int_equal(reachable(halves, 5, row), BITS_30412);
    row.xtc_uniform = 0;
    row.xtc_threshold = 0.51f;
    assert_int_equal(reachable((float[]){0, 0}, 2, row), 3);
    row.xtc_threshold = 0.5f;
    assert_int_equal(reachable((float[]){0, 0}, 2, row), 2);
}

static void top_n_sigma_by_hand(void **state)
{
    (void)state;
    const float x[] = {4, -INFINITY, 2, 0, 2}; /* mean 2, deviation sqrt 2 over the finite */
    struct sample_row row = neutral();
    row.top_n_sigma = 1;
    assert_int_equal(reachable(x, 5, row), 1u << 0);
    row.top_n_sigma = 1.5f;
    assert_int_equal(reachable(x, 5, row), 1u << 0 | 1u << 2 | 1u << 4);
    row.top_n_sigma = 3;
    assert_int_equal(reachable(x, 5, row), 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4);
    row.top_n_sigma = 0; /* off */
    assert_int_equal(reachable(x, 5, row), 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4);
}

/* ---- the draw ---- */

static void inverse_cdf_by_hand(void **state)
{
    (void)state;
    struct sample_row row = neutral();
    float x[300];
    for (int i = 0; i < 300; i++)
        x[i] = i & 1 ? 2.0f : -INFINITY; /* 150 equal: ids ascend with the uniform */
    for (int i = 0; i < 150; i++) {
        row.uniform = (i + 0.5) / 150;
        assert_int_equal(id_of(x, 300, &row), 2 * i + 1);
    }
    row.uniform = LAST_UNIFORM;
    assert_int_equal(id_of(x, 300, &row), 299);
    row.uniform = 0;
    assert_int_equal(id_of(x, 300, &row), 1);
    const float two[] = {0, 0};
    row.uniform = 0.5; /* the running sum has to exceed it */
    assert_int_equal(id_of(two, 2, &row), 1);
    row.uniform = nextafter(0.5, 0);
    assert_int_equal(id_of(two, 2, &row), 0);
}

/* Ids of equal logits follow in ascending order, so moving distinct logits to other ids moves the answer with them. */
static void permutation_moves_the_answer(void **state)
{
    (void)state;
    enum { N = 500 };
    float x[N], moved[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)(i * 37 % N) * 0.02f;
    struct sample_row row = neutral();
    row.top_p = 0.9f;
    row.min_p = 0.01f;
    for (int shift = 1; shift < N; shift += 41) {
        for (int i = 0; i < N; i++)
            moved[(i + shift) % N] = x[i];
        row.uniform = rng_uniform(1, (uint32_t)shift, 0, 0, RNG_SAMPLE);
        assert_int_equal((id_of(x, N, &row) + shift) % N, id_of(moved, N, &row));
    }
}

static double chi_square(const float *x, int n, struct sample_row row, const double *p, int n_draws)
{
    int *counts = calloc((size_t)n, sizeof *counts);
    for (int i = 0; i < n_draws; i++) {
        row.uniform = rng_uniform(42, (uint32_t)i, 0, 0, RNG_SAMPLE);
        row.xtc_uniform = rng_uniform(42, (uint32_t)i, 0, 0, RNG_XTC);
        counts[id_of(x, n, &row)]++;
    }
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double expected = p[i] * n_draws;
        assert_true(expected > 0 || counts[i] == 0);
        if (expected > 0)
            sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    free(counts);
    return sum;
}

/* Statistic under 86 with probability 0.999 at 49 degrees of freedom; the seed is fixed. */
static void draws_follow_the_softmax(void **state)
{
    (void)state;
    enum { N = 50, DRAWS = 200000 };
    float x[N];
    double p[N], total = 0, without_top = 0;
    for (int i = 0; i < N; i++)
        x[i] = (float)(2.5 * sin(i * 1.7));
    int top = 0;
    for (int i = 0; i < N; i++) {
        p[i] = exp(x[i] / 1.3);
        total += p[i];
        top = x[i] > x[top] ? i : top;
    }
    for (int i = 0; i < N; i++)
        p[i] /= total;
    struct sample_row row = neutral();
    row.temperature = 1.3f;
    assert_true(chi_square(x, N, row, p, DRAWS) < 86);

    row.min_p = 0.3f;
    double kept[N], kept_total = 0;
    for (int i = 0; i < N; i++)
        kept_total += kept[i] = p[i] >= 0.3f * p[top] ? p[i] : 0;
    for (int i = 0; i < N; i++)
        kept[i] /= kept_total;
    assert_true(chi_square(x, N, row, kept, DRAWS) < 86);

    row.min_p = 0; /* XTC half of the time: the likeliest goes when two are above the threshold */
    row.xtc_probability = 0.5f;
    double second = 0;
    for (int i = 0; i < N; i++)
        second = i != top && p[i] > second ? p[i] : second;
    row.xtc_threshold = (float)(second * 0.99999);
    int n_above = 0;
    for (int i = 0; i < N; i++)
        n_above += p[i] >= row.xtc_threshold;
    assert_int_equal(n_above, 2);
    without_top = 1 - p[top];
    for (int i = 0; i < N; i++)
        kept[i] = 0.5 * p[i] + (i == top ? 0 : 0.5 * p[i] / without_top);
    assert_true(chi_square(x, N, row, kept, DRAWS) < 86);
}

/* ---- edges ---- */

static void bad_numbers(void **state)
{
    (void)state;
    float x[130];
    const float bad[] = {NAN, -NAN, INFINITY};
    struct sample_row row = greedy();
    for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
        for (int i = 0; i < 130; i++) {
            for (int j = 0; j < 130; j++)
                x[j] = (float)j;
            x[i] = bad[b];
            struct sample_result r = sample(x, 130, &row);
            assert_false(r.finite);
            assert_int_equal(r.id, 0);
        }
    }
    for (int j = 0; j < 130; j++)
        x[j] = -INFINITY;
    assert_false(sample(x, 130, &row).finite);
    x[129] = -FLT_MAX;
    assert_int_equal(id_of(x, 130, &row), 129);
    row.score_id = 130;
    assert_false(sample(x, 130, &row).finite);
}

static void extremes(void **state)
{
    (void)state;
    struct sample_row row = neutral();
    row.uniform = LAST_UNIFORM;
    row.want_logprob = true;
    row.n_top = 5;
    struct sample_result r = sample((float[]){-3}, 1, &row); /* a vocabulary of one */
    assert_true(r.finite && r.id == 0 && r.logprob == 0 && r.rank == 1 && r.n_top == 1 && r.top[0].logprob == 0);

    const float huge[] = {-FLT_MAX, FLT_MAX, 3e38f, -INFINITY};
    const float temperatures[] = {0, 1e-45f, 1e-6f, 1, 1e30f};
    for (size_t i = 0; i < ARRAY_LEN(temperatures); i++) {
        row.temperature = temperatures[i];
        assert_int_equal(id_of(huge, 4, &row), 1);
    }
    row.temperature = FLT_MAX; /* nearly uniform over the finite */
    assert_int_equal(reachable(huge, 4, row), 7);
    row.temperature = INFINITY;
    assert_int_equal(reachable(huge, 4, row), 7);
    row.temperature = NAN;
    assert_int_equal(id_of(huge, 4, &row), 1);

    row = neutral();
    row.temperature = 1e-6f; /* neighbours in f32 are told apart, ties are not */
    row.uniform = 0.7;
    assert_int_equal(id_of((float[]){1, nextafterf(20, 30), 20}, 3, &row), 1);
    assert_int_equal(reachable((float[]){1, 20, 20}, 3, row), 6);
    row = greedy();
    assert_int_equal(id_of((float[]){-0.0f, 0.0f, -1}, 3, &row), 0);
    assert_int_equal(id_of((float[]){0.0f, -0.0f, -1}, 3, &row), 0);
    row = neutral();
    row.uniform = 0.1;
    assert_int_equal(id_of((float[]){-0.0f, 0.0f, -1}, 3, &row), 0);
}

static void reports(void **state)
{
    (void)state;
    float storage[6] = {9, 1, 3, 3, -INFINITY, 2};
    const float *x = storage + 1; /* not aligned to 16 */
    struct sample_row row = greedy();
    struct sample_result r = sample(x, 5, &row);
    assert_true(r.id == 1 && r.rank == 0 && r.logprob == 0 && r.n_top == 0 && r.digest == 0);
    int32_t banned[] = {1, 2};
    row.banned = banned;
    row.n_banned = 2;
    row.want_logprob = row.want_digest = true;
    row.n_top = 20;
    r = sample(x, 5, &row); /* logprobs are of the raw row */
    double log_sum = log(exp(1) + 2 * exp(3) + exp(2));
    assert_int_equal(r.id, 4);
    assert_int_equal(r.rank, 3);
    assert_true(fabs(r.logprob - (2 - log_sum)) < 1e-6);
    assert_int_equal(r.n_top, 4);
    const int32_t top[] = {1, 2, 4, 0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(r.top[i].id, top[i]);
    assert_true(fabs(r.top[3].logprob - (1 - log_sum)) < 1e-6);
    assert_true(r.digest == xxh3(x, 5 * sizeof *x, 0));
    row.score_id = 2;
    row.want_logprob = false; /* scoring implies it */
    r = sample(x, 5, &row);
    assert_true(r.finite && r.id == 2 && r.rank == 2 && fabs(r.logprob - (3 - log_sum)) < 1e-6);
    row.score_id = 3;
    r = sample(x, 5, &row);
    assert_true(r.finite && r.rank == 5 && r.logprob == -INFINITY);
}

/* ---- through the backend ---- */

/* Rows of a table stand in for logits: embed gives them. */
static void op_of_the_backend(void **state)
{
    (void)state;
    enum { ROWS = 3, VOCAB = 20 };
    float values[ROWS][VOCAB];
    for (int i = 0; i < ROWS * VOCAB; i++)
        values[i / VOCAB][i % VOCAB] = (float)(i * 7 % 23);
    values[1][4] = NAN;
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 2, .spin_us = 0};
    struct backend *be = cpu_backend_create(&o, &err);
    assert_non_null(be);
    struct tensor_view view = {.name = STR("logits"),
                               .type = DTYPE_F32,
                               .n_dims = 2,
                               .shape = {ROWS, VOCAB, 1, 1},
                               .data = values,
                               .size = sizeof values};
    const struct tensor_view *views[] = {&view};
    struct weight *table = be->ops->weight_create(be, views, 1, &err);
    assert_non_null(table);

    const int32_t ids[ROWS] = {0, 1, 2}, positions[ROWS] = {0, 1, 2};
    struct batch_seq seq = {.n_rows = ROWS, .n_pages = 1};
    struct batch batch = {.n_rows = ROWS, .ids = ids, .positions = positions, .n_seqs = 1, .seqs = &seq};
    struct sample_row rows[4];
    for (int i = 0; i < 4; i++) {
        rows[i] = neutral();
        rows[i].logits_row = i % ROWS;
        rows[i].uniform = 0.3 * i;
        rows[i].n_top = i;
    }
    assert_true(be->ops->step_begin(be, &batch, &err));
    struct tensor *sampled = be->ops->sample(be, op_embed(be, table, 1), rows, 4);
    assert_non_null(sampled);
    assert_true(be->ops->step_end(be, &err));
    struct sample_result results[4], expected;
    assert_true(be->ops->step_begin(be, &batch, &err)); /* they live through the next step */
    (void)op_embed(be, table, 1);
    assert_true(be->ops->read_samples(be, sampled, results, &err));
    assert_true(be->ops->step_end(be, &err));
    for (int i = 0; i < 4; i++) {
        expected = sample(values[i % ROWS], VOCAB, &rows[i]);
        assert_int_equal(results[i].finite, i != 1);
        assert_memory_equal(&results[i], &expected, sizeof expected);
    }

    assert_true(be->ops->step_begin(be, &batch, &err));
    rows[0].logits_row = ROWS;
    assert_null(be->ops->sample(be, op_embed(be, table, 1), rows, 1));
    assert_false(be->ops->step_end(be, &err));
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_null(be->ops->sample(be, NULL, rows, 1));
    assert_false(be->ops->read_samples(be, NULL, results, &err));
    be->ops->weight_free(be, table);
    be->ops->free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repetition_divides_and_multiplies),
        cmocka_unit_test(presence_and_frequency_see_output_only),
        cmocka_unit_test(dry_by_hand),
        cmocka_unit_test(dry_never_overflows),
        cmocka_unit_test(bias_mask_and_bans),
        cmocka_unit_test(filters_keep_what_they_should),
        cmocka_unit_test(typical_by_hand),
        cmocka_unit_test(xtc_by_hand),
        cmocka_unit_test(top_n_sigma_by_hand),
        cmocka_unit_test(inverse_cdf_by_hand),
        cmocka_unit_test(permutation_moves_the_answer),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(bad_numbers),
        cmocka_unit_test(extremes),
        cmocka_unit_test(reports),
        cmocka_unit_test(op_of_the_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
