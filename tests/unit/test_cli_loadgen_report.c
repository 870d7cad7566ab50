/* Reports of bench-serve from made-up results with hostile strings in them: text, JSON, CSV, HTML and its plots, the
 * line of progress. */
#include "cli/loadgen_report.h"

#include "base/array.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/loadgen_export.h"
#include "cli/loadgen_html.h"
#include "cli/loadgen_plot.h"
#include "cli/loadgen_progress.h"
#include "cli/loadgen_timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>

#define MS   1000000LL
#define EVIL "</title><script>alert(1)</script>\"'&"

/* ---- results ---- */

struct fixture {
    struct loadgen_result r;
    struct loadgen_target targets[2];
    struct loadgen_point points[3];
    struct buf out;
};

/* n requests of 10 tokens each, so many in flight at once; every 7th fails when told so. */
static void fill_run(struct loadgen_measured *m, size_t n, size_t in_flight, int64_t token_ns, bool fails)
{
    struct loadgen_run *run = &m->run;
    run->samples = calloc(n, sizeof *run->samples);
    run->gaps = calloc(n * 9, sizeof *run->gaps);
    run->n_samples = n;
    for (size_t i = 0; i < n; i++) {
        struct loadgen_sample *s = &run->samples[i];
        int64_t began = (int64_t)(i / in_flight) * 20 * token_ns;
        *s = (struct loadgen_sample){.index = i,
                                     .due_ns = began,
                                     .sent_ns = began,
                                     .first_ns = began + 5 * token_ns,
                                     .gaps_at = run->n_gaps,
                                     .n_gaps = 9,
                                     .prompt_tokens = 20,
                                     .completion_tokens = 10,
                                     .has_usage = true,
                                     .end_ns = began + 14 * token_ns};
        if (fails && i % 7 == 6) {
            s->outcome = LOADGEN_STATUS;
            s->status = 503;
            s->n_gaps = 0;
            s->first_ns = 0;
        }
        for (size_t k = 0; k < s->n_gaps; k++) {
            run->gaps[run->n_gaps++] = token_ns + (int64_t)(k % 3) * 1000;
        }
        run->duration_ns = s->end_ns;
    }
    if (fails) {
        run->n_failures = run->n_examples = 1;
        run->failures[0] = (struct loadgen_failure){.outcome = LOADGEN_STATUS, .status = 503, .n = n / 7};
        snprintf(run->failures[0].message, sizeof run->failures[0].message, "busy %s", EVIL);
        run->examples[0].line = 3;
        snprintf(run->examples[0].complaint, sizeof run->examples[0].complaint, "the answer is not '%s'.", EVIL);
        snprintf(run->examples[0].text, sizeof run->examples[0].text, "<img src=x onerror=%s>", EVIL);
    }
    m->done = true;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err;
    f->targets[0] = (struct loadgen_target){.label = "=one",
                                            .url = "http://h/v1",
                                            .model = "m " EVIL,
                                            .auth = "Bearer secret",
                                            .server = "s " EVIL,
                                            .fingerprint = "fp"};
    f->targets[1] = (struct loadgen_target){
        .label = "two, " EVIL, .url = "http://i/?" EVIL, .model = "m2", .server = "", .fingerprint = ""};
    for (int i = 0; i < 3; i++) {
        f->points[i] = (struct loadgen_point){LOADGEN_CLOSED, 1 << (2 * i)};
    }
    f->r = (struct loadgen_result){.facts = {.version = "tandem 0",
                                             .processor = "cpu " EVIL,
                                             .workload = "work " EVIL,
                                             .n_processors = 2,
                                             .started_s = 1700000000,
                                             .seed = 42,
                                             .stream = true},
                                   .slo = {.ttft = 60},
                                   .targets = f->targets,
                                   .points = f->points,
                                   .n_targets = 2,
                                   .n_points = 3,
                                   .n_repeats = 2};
    assert_true(loadgen_result_init(&f->r, &err));
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 2; i++) {
            for (int t = 0; t < 2; t++) {
                struct loadgen_measured *m = loadgen_result_run(&f->r, p, i, t);
                fill_run(m, 20, (size_t)f->points[p].load, (10 + i + 10 * t) * MS, t == 1);
                loadgen_figures_of(&m->run, &f->r.slo, &m->figures);
            }
        }
    }
    buf_init(&f->out, (size_t)1 << 24);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loadgen_result_release(&f->r);
    buf_release(&f->out);
    free(f);
    return 0;
}

static bool has(const struct fixture *f, const char *text)
{
    return str_find(buf_view(&f->out), str_of(text)) != STR_NPOS;
}

static void must_have(const struct fixture *f, const char *text)
{
    if (!has(f, text)) {
        fail_msg("no '%s' in\n%s", text, f->out.data);
    }
}

static void unmeasured(struct fixture *f, int point, int repeat, int target)
{
    struct loadgen_measured *m = loadgen_result_run(&f->r, point, repeat, target);
    loadgen_run_release(&m->run);
    *m = (struct loadgen_measured){0};
}

/* ---- text ---- */

static void text_has_rows_ratios_and_failures(void **state)
{
    struct fixture *f = *state;
    loadgen_report_text(&f->r, &f->out);
    must_have(f, "=one: http://h/v1, model m ");
    must_have(f, "medians of 2 runs");
    must_have(f, "requests/s");
    must_have(f, "TTFT ms");
    must_have(f, ": first");
    must_have(f, "1.95x"); /* 20.5 against 10.5 ms, of the medians */
    must_have(f, "2 x HTTP status 503: busy ");
    must_have(f, "line 3: the answer is not");
    must_have(f, "18"); /* of 20 completed */
    assert_false(has(f, "checks"));
    assert_false(has(f, "secret"));
    struct str rest = buf_view(&f->out), line;
    while (str_split(&rest, '\n', &line)) {
        assert_false(str_ends(line, STR(" ")));
    }
}

static void text_of_an_interrupted_sweep(void **state)
{
    struct fixture *f = *state;
    f->r.interrupted = true;
    for (int i = 0; i < 2; i++) {
        unmeasured(f, 2, i, 0);
        unmeasured(f, 2, i, 1);
        unmeasured(f, 1, i, 1);
    }
    loadgen_report_text(&f->r, &f->out);
    must_have(f, "Interrupted: the last run is not complete.");
    must_have(f, "\n4 ");
    assert_false(has(f, "\n16"));
}

static void text_of_nothing(void **state)
{
    struct fixture *f = *state;
    for (int p = 0; p < 3; p++) {
        for (int i = 0; i < 4; i++) {
            unmeasured(f, p, i / 2, i % 2);
        }
    }
    loadgen_report_text(&f->r, &f->out);
    loadgen_html(&f->r, &f->out);
    loadgen_export_json(&f->r, true, &f->out);
    loadgen_export_csv(&f->r, &f->out);
    assert_false(f->out.failed);
}

static void numbers_for_people(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},        {NAN, "-"},  {1234.5, "1234"}, {99.96, "100"},    {99.94, "99.9"}, {9.996, "10.0"},
                 {9.994, "9.99"}, {1, "1.00"}, {0.1, "0.10"},    {0.0123, "0.012"}, {1e6, "1000000"}};
    char out[40];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(loadgen_number(cases[i].v, out, sizeof out), cases[i].text);
    }
}

/* ---- JSON and CSV ---- */

static void json_holds_everything(void **state)
{
    struct fixture *f = *state;
    struct error err;
    loadgen_export_json(&f->r, true, &f->out);
    struct json *root = json_parse(buf_view(&f->out), 0, &err);
    assert_non_null(root);
    assert_true(str_eq(json_str(json_get(json_at(json_get(root, "targets"), 1), "label")), STR("two, " EVIL)));
    assert_false(has(f, "secret"));
    assert_int_equal(json_int(json_get(root, "seed")), 42);
    assert_true(json_double(json_get(json_get(root, "slo_ms"), "ttft")) == 60);
    assert_true(json_is_null(json_get(json_get(root, "slo_ms"), "itl")));
    const struct json *points = json_get(root, "points"), *point = json_at(points, 1);
    assert_int_equal(json_len(points), 3);
    assert_true(json_double(json_get(point, "load")) == 4);
    const struct json *two = json_at(json_get(point, "targets"), 1), *runs = json_get(two, "runs");
    assert_int_equal(json_len(runs), 2);
    assert_null(json_get(json_at(json_get(point, "targets"), 0), "ratio_to_first"));
    double ratio = json_double(json_get(json_get(json_get(two, "ratio_to_first"), "ttft_ms"), "p50"));
    assert_true(ratio > 1.95 && ratio < 1.96);
    const struct json *requests = json_get(json_at(runs, 0), "requests");
    assert_int_equal(json_len(requests), 20);
    assert_int_equal(json_len(json_get(json_at(requests, 0), "itl_ms")), 9);
    assert_true(str_eq(json_str(json_get(json_at(requests, 6), "outcome")), STR("HTTP status")));
    const struct json *failure = json_at(json_get(json_at(runs, 0), "failures"), 0);
    assert_int_equal(json_int(json_get(failure, "status")), 503);
    assert_int_equal(json_len(json_get(json_at(runs, 0), "failed_checks")), 1);
    json_free(root);
    buf_clear(&f->out);
    loadgen_export_json(&f->r, false, &f->out);
    assert_false(has(f, "itl_ms\":["));
}

static size_t count_columns(struct str line)
{
    size_t n = 1;
    bool quoted = false;
    for (size_t i = 0; i < line.len; i++) {
        quoted = line.ptr[i] == '"' ? !quoted : quoted;
        n += line.ptr[i] == ',' && !quoted;
    }
    return n;
}

static void csv_is_a_table(void **state)
{
    struct fixture *f = *state;
    struct str rest, line;
    int n = 0;
    unmeasured(f, 2, 1, 1);
    loadgen_export_csv(&f->r, &f->out);
    assert_true(str_starts(buf_view(&f->out), STR("mode,load,target,repeat,completed,failed,")));
    for (rest = buf_view(&f->out); str_split(&rest, '\n', &line) && line.len; n++) {
        assert_int_equal(count_columns(line), 4 + LOADGEN_N_FIGURES);
    }
    assert_int_equal(n, 1 + 3 * 2 * 2 - 1);
    must_have(f, "\nconcurrency,4,\"'=one\",2,20,0,"); /* no formula */
    must_have(f, ",\"two, </title><script>alert(1)</script>\"\"'&\",1,18,2,");
}

/* ---- HTML ---- */

/* Every tag is closed by its own, attributes are quoted, '<' and '&' begin nothing else. */
static void must_nest(struct str html)
{
    static const char *const alone[] = {"meta", "!doctype", "br", "path", "circle", "rect", "i/"};
    char stack[64][16];
    int depth = 0;
    for (size_t i = 0; i < html.len; i++) {
        if (html.ptr[i] == '&') {
            size_t end = str_find_char(str_slice(html, i, html.len), ';');
            assert_true(end < 12);
        }
        if (html.ptr[i] != '<') {
            continue;
        }
        size_t end = i + str_find_char(str_slice(html, i, html.len), '>');
        struct str tag = str_slice(html, i + 1, end);
        bool closes = str_starts(tag, STR("/")), single = str_ends(tag, STR("/"));
        char name[16] = "";
        size_t n = closes;
        while (n < tag.len && n < 15 && tag.ptr[n] != ' ' && tag.ptr[n] != '/') {
            n++;
        }
        snprintf(name, sizeof name, "%.*s", (int)(n - closes), tag.ptr + closes);
        for (size_t k = 0; k < ARRAY_LEN(alone); k++) {
            single = single || strcmp(name, alone[k]) == 0;
        }
        if (closes) {
            assert_true(depth > 0);
            if (strcmp(stack[--depth], name) != 0) {
                fail_msg("</%s> closes <%s> at '%.60s'", name, stack[depth], html.ptr + i);
            }
        } else if (!single) {
            assert_true(depth < 64);
            memcpy(stack[depth++], name, sizeof name);
        }
        i = end;
    }
    assert_int_equal(depth, 0);
}

static void html_is_whole_and_escaped(void **state)
{
    struct fixture *f = *state;
    loadgen_html(&f->r, &f->out);
    assert_false(f->out.failed);
    assert_true(str_starts(buf_view(&f->out), STR("<!doctype html>")) && utf8_valid(buf_view(&f->out)));
    must_nest(buf_view(&f->out));
    must_have(f, "two, &lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;");
    must_have(f, "default-src 'none'");
    static const char *const never[] = {"<script", "<img", "onerror=</", "secret",  "http-equiv=\"refresh",
                                        "src=\"",  "href", "url(",       "@import", "nan",
                                        "inf"};
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        if (has(f, never[i])) {
            fail_msg("'%s' is in the page", never[i]);
        }
    }
    static const char *const parts[] = {"Output throughput",
                                        "Time to first token",
                                        "Inter-token latency",
                                        "Goodput",
                                        "What one gets and what all get",
                                        "Requests over time",
                                        "All figures",
                                        "What went wrong",
                                        "concurrency 16",
                                        "prefers-color-scheme:dark",
                                        "2023-11-14"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        must_have(f, parts[i]);
    }
}

static void html_of_one_point_and_of_a_replay(void **state)
{
    struct fixture *f = *state;
    f->points[0] = (struct loadgen_point){LOADGEN_REPLAY, 0};
    f->r.n_points = 1;
    loadgen_html(&f->r, &f->out);
    must_nest(buf_view(&f->out));
    assert_false(has(f, "Over the load"));
    must_have(f, "replay");
    assert_false(has(f, "nan"));
    f->r.n_points = 3;
}

static void html_that_does_not_fit_says_so(void **state)
{
    struct fixture *f = *state;
    struct buf small;
    struct error err = {0};
    buf_init(&small, 5000);
    loadgen_html(&f->r, &small);
    assert_false(buf_ok(&small, "the report", &err));
    buf_release(&small);
}

static void escapes(void **state)
{
    struct fixture *f = *state;
    loadgen_escape(&f->out, "a<b>&\"'\x01\x7f\n\xc3\xa9");
    assert_string_equal(f->out.data, "a&lt;b&gt;&amp;&quot;&#39;   \xc3\xa9");
}

/* ---- plots ---- */

static void steps_are_round(void **state)
{
    (void)state;
    static const double cases[][2] = {{1, 0.2}, {5, 1}, {7, 2}, {10, 2}, {11, 5}, {260, 100}, {0.013, 0.005}, {0, 1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double step = loadgen_plot_step(cases[i][0]);
        assert_float_equal(step, cases[i][1], 1e-9);
    }
}

static void odd_plots(void **state)
{
    struct fixture *f = *state;
    static const double x[] = {0, 1, 2}, nans[] = {NAN, NAN, NAN}, zeros[] = {0, 0, 0}, some[] = {NAN, 5, 1e9};
    struct plot_line lines[] = {
        {.label = EVIL, .x = x, .y = nans, .n = 3, .points = true},
        {.label = "z", .tag = EVIL, .x = x, .y = zeros, .n = 3, .points = true, .color = 99},
        {.label = "s", .x = x, .y = some, .low = zeros, .high = some, .n = 3, .points = true, .style = PLOT_DOTTED},
        {.label = "none", .x = x, .y = zeros, .n = 0},
    };
    for (int k = 0; k < 32; k++) {
        struct plot p = {.name = EVIL,
                         .x_title = EVIL,
                         .y_title = EVIL,
                         .x_unit = "u",
                         .y_unit = "u",
                         .lines = k & 1 ? lines : lines + 1,
                         .n_lines = k & 2 ? 1 : 3,
                         .log_x = k & 4,
                         .log_y = k & 8,
                         .x_ticks = x,
                         .n_x_ticks = k & 16 ? 3 : 0};
        buf_clear(&f->out);
        loadgen_plot(&p, &f->out);
        must_nest(buf_view(&f->out));
        assert_false(has(f, "nan") || has(f, "inf") || has(f, "<script"));
    }
}

static void timelines(void **state)
{
    struct fixture *f = *state;
    struct loadgen_measured *m = loadgen_result_run(&f->r, 1, 0, 1);
    loadgen_timeline(&m->run, EVIL, 1, 0, &f->out);
    must_nest(buf_view(&f->out));
    must_have(f, "class=\"failed\"");
    must_have(f, "class=\"waits\"");
    must_have(f, "request 19: ok");
    must_have(f, "class=\"rate\"");
    size_t lanes = 0; /* four in flight: bars lie in four lanes */
    for (int y = 0; y < 200; y++) {
        char at[40];
        snprintf(at, sizeof at, " y=\"%d.0\" width", y);
        lanes += has(f, at);
    }
    assert_int_equal(lanes, 4);
    buf_clear(&f->out);
    loadgen_timeline(&(struct loadgen_run){0}, "nothing", 0, 0, &f->out);
    must_nest(buf_view(&f->out));
    assert_false(has(f, "nan") || has(f, "inf"));
}

/* ---- progress ---- */

static void the_line_of_progress(void **state)
{
    struct fixture *f = *state;
    struct loadgen_screen s = {.n_runs = 10, .n_begun = 3, .what = "concurrency 8, tandem"};
    struct loadgen_progress p = {.n_done = 32, .n_total = 64, .n_in_flight = 8, .n_tokens = 1000, .elapsed_s = 4};
    loadgen_screen_line(&s, &p, 200, &f->out);
    assert_string_equal(f->out.data, "[3/10] concurrency 8, tandem  ########........  32/64, 250 tokens/s, 4 s, "
                                     "4 s left, 8 running");
    buf_clear(&f->out);
    s.unicode = true;
    p.n_failed = 2;
    p.n_total = 0;
    p.duration_s = 16;
    loadgen_screen_line(&s, &p, 200, &f->out);
    must_have(f, "\xe2\x94\x81\xe2\x94\x80");
    must_have(f, "  32 (2 failed), 250 tokens/s, 4 s, 12 s left, 8 running");
    buf_clear(&f->out);
    loadgen_screen_line(&s, &p, 40, &f->out);
    assert_int_equal(utf8_count(buf_view(&f->out)), 40);
    assert_true(utf8_valid(buf_view(&f->out)));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(text_has_rows_ratios_and_failures),
        TEST(text_of_an_interrupted_sweep),
        TEST(text_of_nothing),
        TEST(numbers_for_people),
        TEST(json_holds_everything),
        TEST(csv_is_a_table),
        TEST(html_is_whole_and_escaped),
        TEST(html_of_one_point_and_of_a_replay),
        TEST(html_that_does_not_fit_says_so),
        TEST(escapes),
        TEST(steps_are_round),
        TEST(odd_plots),
        TEST(timelines),
        TEST(the_line_of_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
