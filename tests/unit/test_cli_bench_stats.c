/* Medians, percentiles, lists and words of the benchmarks' options, thread counts; and what the times of tokens say. */
#include "cli/bench_engine.h"
#include "cli/bench_limits.h"
#include "cli/bench_stats.h"

#include "base/sys_cpu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_medians(void **state)
{
    double odd[] = {5, 1, 9}, even[] = {4, 1, 2, 100}, one[] = {-3};
    (void)state;
    struct bench_stats s = bench_stats_of(odd, 3);
    assert_true(s.min == 1 && s.median == 5 && s.max == 9);
    s = bench_stats_of(even, 4);
    assert_true(s.min == 1 && s.median == 3 && s.max == 100);
    s = bench_stats_of(one, 1);
    assert_true(s.min == -3 && s.median == -3 && s.max == -3);
}

static void test_percentiles(void **state)
{
    double sorted[100];
    (void)state;
    for (int i = 0; i < 100; i++)
        sorted[i] = i + 1;
    assert_true(bench_percentile(sorted, 100, 50) == 50);
    assert_true(bench_percentile(sorted, 100, 95) == 95);
    assert_true(bench_percentile(sorted, 100, 99) == 99);
    assert_true(bench_percentile(sorted, 100, 100) == 100);
    assert_true(bench_percentile(sorted, 100, 0) == 1);
    assert_true(bench_percentile(sorted, 1, 99) == 1);
    assert_true(bench_percentile(sorted, 3, 50) == 2);
}

static const struct bench_range range = {"--streams", 1, 64};

static void parses(const char *text, int n, int first, int last)
{
    struct bench_list list;
    struct error err = {0};
    if (!bench_list_parse(text, &range, &list, &err))
        fail_msg("'%s': %s", text, err.msg);
    assert_true(list.n == n && list.items[0] == first && list.items[n - 1] == last);
}

static void refuses(const char *text, const char *why)
{
    struct bench_list list;
    struct error err = {0};
    if (bench_list_parse(text, &range, &list, &err))
        fail_msg("'%s' was taken", text);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.msg, "--streams") || !strstr(err.msg, why))
        fail_msg("'%s': %s", text, err.msg);
}

static void test_lists(void **state)
{
    struct bench_list list;
    struct error err = {0};
    (void)state;
    parses("1", 1, 1, 1);
    parses("64,2,1", 3, 64, 1);
    parses("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", 16, 1, 16);
    refuses("", "from 1 to 64");
    refuses("0", "got '0'");
    refuses("65", "got '65'");
    refuses("1,,2", "got ''");
    refuses("1,2,", "got ''");
    refuses("1, 2", "got ' 2'");
    refuses("1.5", "got '1.5'");
    refuses("-1", "got '-1'");
    refuses("99999999999999999999", "got '9999");
    refuses("1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "at most 16");
    assert_true(bench_list_parse("3,17,5", &range, &list, &err));
    assert_int_equal(bench_list_max(&list), 17);
}

static void test_words(void **state)
{
    (void)state;
    assert_true(bench_words_match(NULL, "linear"));
    assert_true(bench_words_match("lin", "linear"));
    assert_true(bench_words_match("rope,Q4_k", "q4_K"));
    assert_false(bench_words_match("linears", "linear"));
    assert_false(bench_words_match("near", "linear"));
    assert_false(bench_words_match("q5,q6", "Q4_K"));
}

static void test_threads(void **state)
{
    struct bench_list list;
    struct error err = {0};
    int usable = sys_cpu_usable();
    (void)state;
    assert_true(bench_threads_parse(NULL, "1,0", &list, &err));
    assert_int_equal(list.items[0], 1);
    assert_int_equal(list.n, usable > 1 ? 2 : 1); /* one thread is measured once */
    assert_int_equal(list.items[list.n - 1], usable);
    assert_true(bench_threads_parse("0", "1,0", &list, &err));
    assert_int_equal(list.items[0], 1);
    assert_true(bench_threads_parse("3,1,3", "0", &list, &err));
    assert_true(list.n == 2 && list.items[0] == 3 && list.items[1] == 1);
    assert_false(bench_threads_parse("257", "0", &list, &err));
    assert_non_null(strstr(err.msg, "--threads"));
}

/* ---- times of tokens ---- */

#define MS(x) ((int64_t)((x)*1000000.0))

/* Two streams of four tokens; the second begins 10 ms later and goes on longer. */
static void test_times(void **state)
{
    int64_t ns[] = {MS(110), MS(120), MS(130), MS(140), MS(120), MS(130), MS(140), MS(160)};
    struct bench_times t = {.n_streams = 2, .n_gen = 4, .start_ns = MS(100), .ns = ns};
    double gaps[8];
    (void)state;
    assert_true(fabs(bench_times_total_rate(&t) - 8 / 0.060) < 1e-6);
    assert_true(fabs(bench_times_first_ms(&t) - 15) < 1e-9);
    /* while both decode: behind 120, up to 140: two tokens of each */
    assert_true(fabs(bench_times_decode_rate(&t) - 4 / 0.020) < 1e-6);
    assert_int_equal(bench_times_gaps(&t, gaps, 8), 4);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(gaps[i] - 10) < 1e-9);
    assert_int_equal(bench_times_gaps(&t, gaps, 3), 3);
}

static void test_times_without_a_common_span(void **state)
{
    int64_t ns[] = {MS(10), MS(20), MS(30), MS(40)}, first[] = {MS(5)};
    struct bench_times apart = {.n_streams = 2, .n_gen = 2, .ns = ns}, one = {.n_streams = 1, .n_gen = 1, .ns = first};
    double gaps[4];
    (void)state;
    assert_true(isnan(bench_times_decode_rate(&apart)));
    assert_int_equal(bench_times_gaps(&apart, gaps, 4), 0);
    assert_true(isnan(bench_times_decode_rate(&one)));
    assert_true(fabs(bench_times_first_ms(&one) - 5) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_medians),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_times_without_a_common_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
