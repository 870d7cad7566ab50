/* Percentiles against those of all values, sorted; and what a minute is. */
#include "gateway/percentiles.h"

#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 5000

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct percentiles));
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void near_enough(int64_t got, const int64_t *sorted, double share)
{
    int64_t want = sorted[(size_t)ceil(share * N) - 1];
    if (fabs((double)(got - want)) > 0.0626 * (double)want + 1) {
        fail_msg("%g of them: %lld, not %lld", share, (long long)want, (long long)got);
    }
}

static void they_are_those_of_the_sorted_values(void **state)
{
    struct percentiles *p = *state;
    int64_t values[N];
    for (int i = 0; i < N; i++) { /* over nine decades */
        values[i] = (int64_t)pow(10, 9 * rng_uniform(7, (uint64_t)i, 0, 0, RNG_SAMPLE));
        percentiles_add(p, 1000, values[i], 1);
    }
    qsort(values, N, sizeof values[0], ascending);
    struct quantiles all = percentiles_all(p), recent = percentiles_recent(p, 1000);
    assert_int_equal(all.n, N);
    near_enough(all.p50, values, 0.5);
    near_enough(all.p95, values, 0.95);
    near_enough(all.p99, values, 0.99);
    assert_int_equal(recent.p95, all.p95);
}

static void nothing_has_no_percentiles(void **state)
{
    struct percentiles *p = *state;
    struct quantiles q = percentiles_all(p);
    assert_true(q.p50 == -1 && q.p95 == -1 && q.p99 == -1 && q.n == 0);
    q = percentiles_recent(p, 12345);
    assert_true(q.p50 == -1 && q.n == 0);
}

static void the_ends_of_the_scale(void **state)
{
    struct percentiles *p = *state;
    percentiles_add(p, 0, -5, 1); /* a clock that went back */
    assert_int_equal(percentiles_all(p).p99, 0);
    percentiles_add(p, 0, INT64_MAX, 1000);
    assert_true(percentiles_all(p).p50 >= INT64_C(1) << 35);
    assert_true(percentiles_all(p).p99 <= INT64_C(1) << 36);
}

/* Every value below the end is counted in a bucket that holds it. */
static void every_bucket_holds_its_values(void **state)
{
    struct percentiles *p = *state;
    for (int64_t us = 1; us < INT64_C(1) << 36; us += us / 7 + 1) {
        *p = (struct percentiles){0};
        percentiles_add(p, 0, us, 1);
        int64_t got = percentiles_all(p).p50;
        assert_true(got >= us - us / 16 - 1 && got <= us + us / 16 + 1);
    }
}

static void a_minute_passes(void **state)
{
    struct percentiles *p = *state;
    percentiles_add(p, 10000, 100, 5);
    percentiles_add(p, 40000, 200, 5);
    assert_int_equal(percentiles_recent(p, 40000).n, 10);
    assert_int_equal(percentiles_recent(p, 69999).n, 10); /* within the minute for sure */
    assert_int_equal(percentiles_recent(p, 80000).n, 5);
    assert_in_range(percentiles_recent(p, 80000).p50, 190, 210);
    assert_int_equal(percentiles_recent(p, 200000).n, 0);
    assert_int_equal(percentiles_all(p).n, 10);
    percentiles_add(p, 10000 + 65000 * 3, 300, 1); /* the same slot of the ring, used again */
    assert_int_equal(percentiles_recent(p, 10000 + 65000 * 3).n, 1);
    assert_int_equal(percentiles_all(p).n, 11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(they_are_those_of_the_sorted_values),
        TEST(nothing_has_no_percentiles),
        TEST(the_ends_of_the_scale),
        TEST(every_bucket_holds_its_values),
        TEST(a_minute_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
