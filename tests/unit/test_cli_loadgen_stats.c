/* Figures of bench-serve: percentiles against numpy's, a run by hand, medians and ratios, the service level, and the
 * plan that options make. */
#include "cli/loadgen_stats.h"

#include "base/array.h"
#include "cli/loadgen_plan.h"
#include "cli/loadgen_result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

#define MS 1000000LL

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * (1 + fabs(b)))) {
        fail_msg("%.17g is not %.17g", a, b);
    }
}

/* numpy 1.26: np.percentile([15, 20, 35, 40, 50], q), and of [3.2, 1.5, 9.75, 4]. */
static void percentiles_are_numpys(void **state)
{
    (void)state;
    double a[] = {40, 15, 50, 20, 35}, b[] = {3.2, 1.5, 9.75, 4};
    static const double expected_a[][2] = {{0, 15},  {5, 16},  {25, 20},   {50, 35},
                                           {90, 46}, {95, 48}, {99, 49.6}, {100, 50}};
    static const double expected_b[][2] = {{50, 3.6}, {95, 8.8875}, {99, 9.5775}, {33, 3.183}};
    loadgen_sort(a, 5);
    loadgen_sort(b, 4);
    for (size_t i = 0; i < ARRAY_LEN(expected_a); i++) {
        near(loadgen_percentile(a, 5, expected_a[i][0]), expected_a[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(expected_b); i++) {
        near(loadgen_percentile(b, 4, expected_b[i][0]), expected_b[i][1]);
    }
    near(loadgen_percentile(a, 1, 99), 15);
    assert_true(isnan(loadgen_percentile(a, 0, 50)));
}

/* Three answers and a failure in 2 s:
 *   0: sent 0, first 100, gaps 10 20 30, end 170; 4 tokens of usage, prompt 10, 5 cached; passes
 *   1: sent 50, first 250, gaps 40, end 300; 3 tokens, prompt 30; fails its check
 *   2: sent 1000, first 1100, no gap, end 1100; one token, counted
 *   3: sent 1500, end 2000: fails */
static const int64_t gaps[] = {10 * MS, 20 * MS, 30 * MS, 40 * MS};

static struct loadgen_run example(struct loadgen_sample samples[4])
{
    samples[0] = (struct loadgen_sample){.index = 0,
                                         .first_ns = 100 * MS,
                                         .last_ns = 160 * MS,
                                         .end_ns = 170 * MS,
                                         .n_gaps = 3,
                                         .prompt_tokens = 10,
                                         .completion_tokens = 4,
                                         .cached_tokens = 5,
                                         .has_usage = true,
                                         .verdict = LOADGEN_PASSED};
    samples[1] = (struct loadgen_sample){.index = 1,
                                         .due_ns = 48 * MS,
                                         .sent_ns = 50 * MS,
                                         .first_ns = 250 * MS,
                                         .last_ns = 290 * MS,
                                         .end_ns = 300 * MS,
                                         .gaps_at = 3,
                                         .n_gaps = 1,
                                         .prompt_tokens = 30,
                                         .completion_tokens = 3,
                                         .has_usage = true,
                                         .verdict = LOADGEN_FAILED};
    samples[2] = (struct loadgen_sample){.index = 2,
                                         .due_ns = 1000 * MS,
                                         .sent_ns = 1000 * MS,
                                         .first_ns = 1100 * MS,
                                         .last_ns = 1100 * MS,
                                         .end_ns = 1100 * MS,
                                         .completion_tokens = 1};
    samples[3] = (struct loadgen_sample){.index = 3,
                                         .due_ns = 1500 * MS,
                                         .sent_ns = 1500 * MS,
                                         .end_ns = 2000 * MS,
                                         .outcome = LOADGEN_STATUS,
                                         .status = 503};
    return (struct loadgen_run){.samples = samples,
                                .n_samples = 4,
                                .gaps = (int64_t *)gaps,
                                .n_gaps = 4,
                                .duration_ns = 2000 * MS,
                                .client_cpu_s = 0.1};
}

static void figures_of_a_run(void **state)
{
    (void)state;
    struct loadgen_sample samples[4];
    struct loadgen_run run = example(samples);
    struct loadgen_slo slo = {.ttft = 150};
    struct loadgen_figures f;
    loadgen_figures_of(&run, &slo, &f);
    near(f.completed, 3);
    near(f.failed, 1);
    near(f.duration_s, 2);
    near(f.requests_per_s, 1.5);
    near(f.output_tokens_per_s, 4);
    near(f.total_tokens_per_s, 24);
    near(f.prompt_tokens, 20);
    near(f.output_tokens, 8.0 / 3);
    near(f.cached_share, 0.125);
    near(f.counted_share, 1.0 / 3);
    near(f.good_share, 0.5);
    near(f.good_requests_per_s, 1);
    near(f.checks_passed, 1);
    near(f.checks_failed, 1);
    near(f.peak_tokens_per_s, 6); /* token events within the first second */
    near(f.peak_in_flight, 2);
    near(f.client_cpu, 0.05);
    near(f.ttft.min, 100);
    near(f.ttft.p50, 100);
    near(f.ttft.max, 200);
    near(f.ttft.mean, 400.0 / 3);
    near(f.itl.mean, 25);
    near(f.itl.p50, 25);
    near(f.itl.max, 40);
    near(f.tpot.min, 70.0 / 3); /* (170 - 100) / 3 */
    near(f.tpot.max, 25);       /* (300 - 250) / 2; a single token has none */
    near(f.e2e.max, 250);
    near(f.e2e.min, 100);
    assert_true(f.send_delay_ms > 1.9 && f.send_delay_ms <= 2);
}

static void nothing_measured_is_no_number(void **state)
{
    (void)state;
    struct loadgen_run run = {.duration_ns = 0};
    struct loadgen_slo none = {0};
    struct loadgen_figures f;
    loadgen_figures_of(&run, &none, &f);
    near(f.completed, 0);
    assert_true(isnan(f.requests_per_s) && isnan(f.ttft.p50) && isnan(f.itl.mean) && isnan(f.cached_share));
    assert_true(isnan(f.good_share) && isnan(f.checks_passed) && isnan(f.peak_tokens_per_s) && isnan(f.send_delay_ms));
}

static void whole_answers_have_only_their_end(void **state)
{
    (void)state;
    struct loadgen_sample sample = {.end_ns = 500 * MS, .completion_tokens = 10, .has_usage = true};
    struct loadgen_run run = {.samples = &sample, .n_samples = 1, .duration_ns = 500 * MS};
    struct loadgen_slo slo = {.e2e = 400};
    struct loadgen_figures f;
    loadgen_figures_of(&run, &slo, &f);
    assert_true(isnan(f.ttft.p50) && isnan(f.itl.p50) && isnan(f.tpot.p50) && isnan(f.peak_tokens_per_s));
    near(f.e2e.p50, 500);
    near(f.output_tokens_per_s, 20);
    near(f.good_share, 0);
}

static void requests_keep_every_limit_or_are_not_good(void **state)
{
    (void)state;
    static const struct {
        struct loadgen_slo slo;
        bool good[4];
    } cases[] = {
        {{.ttft = 100}, {true, false, true, false}},
        {{.itl = 29}, {true, false, true, false}}, /* p95 of 10, 20, 30 is 29 */
        {{.itl = 28.9}, {false, false, true, false}},
        {{.tpot = 24}, {true, false, true, false}},
        {{.e2e = 249}, {true, false, true, false}},
        {{.ttft = 200, .itl = 40, .tpot = 25, .e2e = 250}, {true, true, true, false}},
    };
    struct loadgen_sample samples[4];
    struct loadgen_run run = example(samples);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int k = 0; k < 4; k++) {
            assert_int_equal(loadgen_sample_good(&run, &samples[k], &cases[i].slo), cases[i].good[k]);
        }
    }
}

static void service_levels_are_read(void **state)
{
    (void)state;
    struct loadgen_slo slo;
    struct error err = {0};
    static const char *const wrong[] = {"",        "ttft",   "ttft=",   "ttft=x",      "ttft=0",
                                        "ttft=-1", "e2el=5", "ttft=5,", "ttft=5;itl=3"};
    assert_true(loadgen_slo_parse(NULL, &slo, &err) && !loadgen_slo_given(&slo));
    assert_true(loadgen_slo_parse("ttft=500,itl=50.5,e2e=10000", &slo, &err) && loadgen_slo_given(&slo));
    near(slo.ttft, 500);
    near(slo.itl, 50.5);
    near(slo.e2e, 10000);
    near(slo.tpot, 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        err = (struct error){0};
        if (loadgen_slo_parse(wrong[i], &slo, &err)) {
            fail_msg("'%s' was accepted", wrong[i]);
        }
        assert_non_null(strstr(err.msg, "--slo"));
    }
}

static void figures_have_names_and_places(void **state)
{
    (void)state;
    struct loadgen_figures f;
    char name[64];
    double *raw = (double *)(void *)&f;
    assert_int_equal(sizeof f, LOADGEN_N_FIGURES * sizeof(double));
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) {
        raw[i] = i;
    }
    for (int i = 0; i < LOADGEN_N_FIGURES; i++) { /* each once */
        near(loadgen_figure(&f, i), i);
        for (int k = 0; k < i; k++) {
            char other[64];
            assert_string_not_equal(loadgen_figure_name(i, name, sizeof name),
                                    loadgen_figure_name(k, other, sizeof other));
        }
    }
    assert_string_equal(loadgen_figure_name(LOADGEN_SCALAR_requests_per_s, name, sizeof name), "requests_per_s");
    assert_string_equal(loadgen_figure_name(LOADGEN_N_FIGURES - 1, name, sizeof name), "e2e_max_ms");
    near(loadgen_latency_part(&f, LOADGEN_LATENCY_ttft, LOADGEN_P99),
         loadgen_figure(&f, LOADGEN_N_SCALARS + LOADGEN_P99));
    assert_int_equal(loadgen_figure_better(LOADGEN_SCALAR_requests_per_s), 1);
    assert_int_equal(loadgen_figure_better(LOADGEN_N_SCALARS), -1);
}

static void medians_and_ratios(void **state)
{
    (void)state;
    struct loadgen_figures runs[4] = {{.requests_per_s = 3, .ttft.p50 = 10, .failed = NAN},
                                      {.requests_per_s = 1, .ttft.p50 = 40, .failed = NAN},
                                      {.requests_per_s = 2, .ttft.p50 = NAN, .failed = NAN},
                                      {.requests_per_s = 8, .ttft.p50 = 20, .failed = NAN}};
    struct loadgen_figures m, r;
    loadgen_figures_median(runs, 3, &m);
    near(m.requests_per_s, 2);
    near(m.ttft.p50, 25); /* of those that have it */
    assert_true(isnan(m.failed));
    loadgen_figures_median(runs, 4, &m);
    near(m.requests_per_s, 2.5);
    loadgen_figures_median(runs, 0, &m);
    assert_true(isnan(m.requests_per_s));
    loadgen_figures_ratio(&runs[0], &runs[1], &r);
    near(r.requests_per_s, 3);
    near(r.ttft.p50, 0.25);
    assert_true(isnan(r.failed) && isnan(r.duration_s)); /* nothing to divide by */
}

/* ---- the plan ---- */

static struct bench_serve_options options(void)
{
    return (struct bench_serve_options){.api = "chat", .prompt_set = "short", .stream = true, .seed = 5, .repeat = 1};
}

static void points_are_read(void **state)
{
    (void)state;
    struct bench_serve_options o = options();
    struct loadgen_plan plan;
    struct error err = {0};
    char name[80];
    o.concurrency = "16, 1,4";
    assert_true(loadgen_plan_parse(&o, &plan, &err));
    assert_int_equal(plan.n_points, 3);
    assert_true(plan.points[0].load == 1 && plan.points[1].load == 4 && plan.points[2].load == 16); /* sorted */
    assert_int_equal(plan.points[0].mode, LOADGEN_CLOSED);
    assert_string_equal(loadgen_point_name(&plan.points[2], name, sizeof name), "concurrency 16");
    assert_int_equal(plan.seed, 5);
    loadgen_plan_default_points(&plan, true);
    assert_int_equal(plan.n_points, 3); /* they were given */
    o.concurrency = NULL;
    o.rate = "0.5,2";
    assert_true(loadgen_plan_parse(&o, &plan, &err));
    assert_int_equal(plan.points[1].mode, LOADGEN_POISSON);
    assert_string_equal(loadgen_point_name(&plan.points[0], name, sizeof name), "0.5 requests/s");
    o.rate = NULL;
    assert_true(loadgen_plan_parse(&o, &plan, &err));
    loadgen_plan_default_points(&plan, false);
    assert_int_equal(plan.n_points, 5);
    assert_true(loadgen_plan_parse(&o, &plan, &err));
    loadgen_plan_default_points(&plan, true);
    assert_true(plan.n_points == 1 && plan.points[0].mode == LOADGEN_REPLAY);
}

static void bad_plans_are_named(void **state)
{
    (void)state;
    static const struct {
        struct bench_serve_options o;
        const char *message;
    } cases[] = {
        {{.concurrency = "1", .rate = "1"}, "exclude each other"},
        {{.concurrency = ""}, "--concurrency: expected whole numbers"},
        {{.concurrency = "0"}, "got '0'"},
        {{.concurrency = "1.5"}, "got '1.5'"},
        {{.concurrency = "1,,2"}, "got ''"},
        {{.concurrency = "20000"}, "up to 10000"},
        {{.concurrency = "2,1,2"}, "2 is there twice"},
        {{.rate = "-1"}, "--rate: expected numbers above 0"},
        {{.rate = "0"}, "got '0'"},
        {{.rate = "nan"}, "got 'nan'"},
        {{.rate = "1e9"}, "up to 100000"},
        {{.api = "responses"}, "--api"},
        {{.prompt_set = "x"}, "--prompt-set"},
        {{.slo = "x"}, "--slo"},
        {{.workload = "f", .prompt_tokens = 5}, "--prompt-tokens is for prompt sets"},
        {{.workload = "f", .prompt_set = "long"}, "--prompt-set and --workload exclude each other"},
    };
    struct loadgen_plan plan;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bench_serve_options o = cases[i].o;
        o.api = o.api ? o.api : "chat";
        o.prompt_set = o.prompt_set ? o.prompt_set : "short";
        o.stream = true;
        err = (struct error){0};
        if (loadgen_plan_parse(&o, &plan, &err) || !strstr(err.msg, cases[i].message)) {
            fail_msg("%zu: '%s' has no '%s'", i, err.msg, cases[i].message);
        }
    }
    struct bench_serve_options o = options();
    o.stream = false;
    o.slo = "ttft=5";
    assert_false(loadgen_plan_parse(&o, &plan, &err));
    o.slo = "e2e=5";
    assert_true(loadgen_plan_parse(&o, &plan, &err));
}

static void a_point_has_requests_for_its_load(void **state)
{
    (void)state;
    struct bench_serve_options o = options();
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_CLOSED, 1}), 16);
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_CLOSED, 32}), 128);
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_POISSON, 0.1}), 16);
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_POISSON, 2.5}), 75);
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_REPLAY, 0}), 0);
    o.requests = 7;
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_CLOSED, 32}), 7);
    o.requests = 0;
    o.duration_s = 5;
    assert_int_equal(loadgen_plan_requests(&o, &(struct loadgen_point){LOADGEN_CLOSED, 32}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_numpys),
        cmocka_unit_test(figures_of_a_run),
        cmocka_unit_test(nothing_measured_is_no_number),
        cmocka_unit_test(whole_answers_have_only_their_end),
        cmocka_unit_test(requests_keep_every_limit_or_are_not_good),
        cmocka_unit_test(service_levels_are_read),
        cmocka_unit_test(figures_have_names_and_places),
        cmocka_unit_test(medians_and_ratios),
        cmocka_unit_test(points_are_read),
        cmocka_unit_test(bad_plans_are_named),
        cmocka_unit_test(a_point_has_requests_for_its_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
