/* Workloads of bench-serve: what becomes of a line, of --body and of a prompt set; checks of answers; arrivals. */
#include "cli/loadgen_workload.h"

#include "base/array.h"
#include "base/json.h"
#include "base/sys_file.h"
#include "cli/loadgen.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct loadgen_workload_options plain(void)
{
    return (struct loadgen_workload_options){.api = LOADGEN_CHAT, .prompts = {.set = LOADGEN_SET_SHORT, .seed = 7}};
}

static void expect_body(const struct loadgen_workload *w, uint64_t index, const char *expected)
{
    struct buf body;
    buf_init(&body, LOADGEN_BODY_MAX);
    loadgen_workload_body(w, index, "m\"1", &body);
    assert_false(body.failed);
    assert_string_equal(body.data, expected);
    buf_release(&body);
}

/* ---- lines ---- */

static void a_line_becomes_a_body(void **state)
{
    (void)state;
#define M "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
    static const struct {
        const char *line, *body; /* --body; NULL: none */
        int64_t max_tokens;
        bool ignore_eos, stream;
        const char *expected; /* behind the model */
    } cases[] = {
        {"{" M "}", NULL, 0, false, false, M "}"},
        {"{\"prompt\":\"hi\"}", NULL, 0, false, false, M "}"},
        {"{" M ",\"max_tokens\":5,\"top_p\":0.5}", NULL, 0, false, false, M ",\"max_tokens\":5,\"top_p\":0.5}"},
        {"{" M ",\"max_tokens\":5}", NULL, 9, false, false, M ",\"max_tokens\":9}"},
        {"{" M ",\"max_completion_tokens\":5}", NULL, 9, false, false, M ",\"max_tokens\":9}"},
        {"{" M ",\"max_completion_tokens\":5}", "{\"max_tokens\":6}", 0, false, false,
         M ",\"max_completion_tokens\":5}"},
        {"{" M "}", "{\"max_tokens\":6,\"seed\":1}", 0, false, false, M ",\"max_tokens\":6,\"seed\":1}"},
        {"{" M ",\"seed\":2}", "{\"max_tokens\":6,\"seed\":1}", 0, false, false, M ",\"seed\":2,\"max_tokens\":6}"},
        {"{" M ",\"seed\":null}", "{\"seed\":1}", 0, false, false, M ",\"seed\":null}"},
        {"{" M ",\"ignore_eos\":false}", "{\"ignore_eos\":false}", 0, true, false, M ",\"ignore_eos\":true}"},
        {"{\"at_ms\":5,\"check\":{}," M "}", NULL, 0, false, true,
         M ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
        {" {" M ",\"tools\":[{\"a\":{\"b\":[1,2]}}]}\r", NULL, 0, false, false,
         M ",\"tools\":[{\"a\":{\"b\":[1,2]}}]}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_workload_options o = plain();
        struct error err = {0};
        char expected[400];
        o.body = cases[i].body;
        o.max_tokens = cases[i].max_tokens;
        o.ignore_eos = cases[i].ignore_eos;
        o.stream = cases[i].stream;
        struct loadgen_workload *w = loadgen_workload_parse(&o, str_of(cases[i].line), &err);
        if (!w) {
            fail_msg("%s: %s", cases[i].line, err.msg);
        }
        snprintf(expected, sizeof expected, "{\"model\":\"m\\\"1\",%s", cases[i].expected);
        expect_body(w, 0, expected);
        loadgen_workload_free(w);
    }
}

static void completions_take_prompts(void **state)
{
    (void)state;
    struct loadgen_workload_options o = plain();
    struct error err = {0};
    o.api = LOADGEN_COMPLETIONS;
    struct loadgen_workload *w = loadgen_workload_parse(&o, STR("{\"prompt\":\"a\"}\n\n{\"prompt\":[1,2]}\n"), &err);
    assert_non_null(w);
    assert_int_equal(loadgen_workload_lines(w), 2);
    expect_body(w, 0, "{\"model\":\"m\\\"1\",\"prompt\":\"a\"}");
    expect_body(w, 1, "{\"model\":\"m\\\"1\",\"prompt\":[1,2]}");
    expect_body(w, 2, "{\"model\":\"m\\\"1\",\"prompt\":\"a\"}"); /* over and over */
    loadgen_workload_free(w);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        enum loadgen_api api;
    } cases[] = {
        {"", "no request in it", LOADGEN_CHAT},
        {"\n \n", "no request in it", LOADGEN_CHAT},
        {"{\"prompt\":\"a\"}\n{", "line 2: ", LOADGEN_CHAT},
        {"[]", "line 1: expected an object, but got array", LOADGEN_CHAT},
        {"\n\n{}", "line 3: expected 'messages' or 'prompt'", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"messages\":[1]}", "and not both", LOADGEN_CHAT},
        {"{\"messages\":[]}", "not empty", LOADGEN_CHAT},
        {"{\"messages\":\"a\"}", "not empty", LOADGEN_CHAT},
        {"{\"prompt\":5}", "'prompt': expected a string, but got integer", LOADGEN_CHAT},
        {"{\"prompt\":[1]}", "'prompt': expected a string, but got array", LOADGEN_CHAT},
        {"{\"messages\":[1]}", "for --api chat", LOADGEN_COMPLETIONS},
        {"{\"prompt\":\"a\",\"stream\":true}", "'stream' cannot be given", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"model\":\"x\"}", "'model' cannot be given", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "line 1: ", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"x\\u0000y\":1}", "U+0000", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"at_ms\":-1}", "'at_ms': expected a number from 0", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"at_ms\":1e300}", "'at_ms'", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"at_ms\":\"1\"}", "'at_ms'", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"at_ms\":5}\n{\"prompt\":\"a\",\"at_ms\":4}", "line 2: 'at_ms': 4 is earlier than 5",
         LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"at_ms\":5}\n{\"prompt\":\"a\"}", "line 2: 'at_ms' is missing", LOADGEN_CHAT},
        {"{\"prompt\":\"a\"}\n{\"prompt\":\"a\",\"at_ms\":5}", "line 2: 'at_ms' is here", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":1}", "'check': expected an object", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"has\":\"x\"}}", "'check.has': there is no such check", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"equals\":[\"x\"]}}", "'check.equals': expected a string", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"contains\":[1]}}", "'check.contains': expected a string or", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"json\":1}}", "'check.json': expected true or false", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"regex\":\"(\"}}", "'check.regex' is no regular expression", LOADGEN_CHAT},
        {"{\"prompt\":\"a\",\"check\":{\"contains\":\"a\\u0000\"}}", "NUL", LOADGEN_CHAT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_workload_options o = plain();
        struct error err = {0};
        o.api = cases[i].api;
        assert_null(loadgen_workload_parse(&o, str_of(cases[i].text), &err));
        if (err.code == ERR_NONE || !strstr(err.msg, cases[i].message)) {
            fail_msg("%s: '%s' has no '%s'", cases[i].text, err.msg, cases[i].message);
        }
    }
}

static void bad_bodies_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"", "--body"},
        {"{", "--body"},
        {"5", "--body: expected an object, but got integer"},
        {"{\"messages\":[]}", "'messages' cannot be given"},
        {"{\"prompt\":\"\"}", "'prompt' cannot be given"},
        {"{\"stream\":false}", "'stream' cannot be given"},
        {"{\"check\":{}}", "'check' cannot be given"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_workload_options o = plain();
        struct error err = {0};
        o.body = cases[i].body;
        assert_null(loadgen_workload_create(&o, &err));
        if (!strstr(err.msg, cases[i].message)) {
            fail_msg("%s: '%s' has no '%s'", cases[i].body, err.msg, cases[i].message);
        }
    }
}

static void a_file_is_read(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct error err = {0};
    struct loadgen_workload_options o = plain();
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "workload.jsonl");
    assert_true(file_write_atomic(path, STR("{\"prompt\":\"a\",\"at_ms\":0}\n{\"prompt\":\"b\",\"at_ms\":1.5}"), &err));
    o.path = path;
    struct loadgen_workload *w = loadgen_workload_create(&o, &err);
    assert_non_null(w);
    assert_true(loadgen_workload_timed(w));
    assert_true(loadgen_workload_at_ms(w, 0) == 0 && loadgen_workload_at_ms(w, 1) == 1.5);
    assert_null(loadgen_workload_check(w, 0));
    loadgen_workload_free(w);
    assert_true(file_write_atomic(path, STR("oops"), &err));
    assert_null(loadgen_workload_create(&o, &err));
    assert_non_null(strstr(err.msg, "workload.jsonl"));
    assert_non_null(strstr(err.msg, "line 1"));
    o.path = "/no/such/file";
    assert_null(loadgen_workload_create(&o, &err));
    assert_non_null(strstr(err.msg, "/no/such/file"));
    free(path);
    temp_dir_remove(&dir);
}

/* ---- checks ---- */

static void answers_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *check;
        struct str text;
        const char *finish_reason, *complaint; /* NULL: it passes */
    } cases[] = {
        {"{}", STR(""), "", NULL},
        {"{\"contains\":\"Paris\"}", STR("It is Paris."), "stop", NULL},
        {"{\"contains\":\"Paris\"}", STR("It is paris."), "stop", "does not contain 'Paris'"},
        {"{\"contains\":[\"a\",\"b\"]}", STR("ab"), "", NULL},
        {"{\"contains\":[\"a\",\"b\"]}", STR("a"), "", "does not contain 'b'"},
        {"{\"not_contains\":\"sorry\"}", STR("fine"), "", NULL},
        {"{\"not_contains\":[\"x\",\"sorry\"]}", STR("so sorry"), "", "contains 'sorry'"},
        {"{\"equals\":\" 4 \"}", STR("\n4\n"), "", NULL},
        {"{\"equals\":\"4\"}", STR("4."), "", "is not '4'"},
        {"{\"regex\":\"^[0-9]+$\"}", STR("42"), "", NULL},
        {"{\"regex\":\"^[0-9]+$\"}", STR("42."), "", "does not match '^[0-9]+$'"},
        {"{\"regex\":\"b|c\"}", STR("abc"), "", NULL},
        {"{\"json\":true}", STR(" {\"a\": [1]} "), "", NULL},
        {"{\"json\":true}", STR("{\"a\": [1]"), "", "not valid 'JSON'"},
        {"{\"json\":false}", STR("{"), "", NULL},
        {"{\"finish_reason\":\"stop\"}", STR(""), "stop", NULL},
        {"{\"finish_reason\":\"stop\"}", STR(""), "length", "finish reason is not 'stop'"},
        {"{\"contains\":\"a\",\"not_contains\":\"b\",\"finish_reason\":\"stop\"}", STR("ab"), "stop", "contains 'b'"},
        {"{\"contains\":\"b\"}", STR("a\0b"), "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct arena *arena = arena_create(1 << 16);
        struct json *spec = json_parse(str_of(cases[i].check), 0, &err);
        struct loadgen_check *c = loadgen_check_create(spec, arena, &err);
        assert_non_null(c);
        json_free(spec); /* nothing of it is kept */
        bool passes = loadgen_check_passes(c, cases[i].text, cases[i].finish_reason, &err);
        if (passes != !cases[i].complaint || (!passes && !strstr(err.msg, cases[i].complaint))) {
            fail_msg("%s: %s", cases[i].check, passes ? "passes" : err.msg);
        }
        arena_free(arena);
    }
}

/* ---- prompt sets ---- */

static void prompt_of(const struct loadgen_workload_options *o, uint64_t index, struct buf *out)
{
    struct error err = {0};
    struct loadgen_workload *w = loadgen_workload_create(o, &err);
    assert_non_null(w);
    assert_int_equal(loadgen_workload_lines(w), 0);
    buf_init(out, LOADGEN_BODY_MAX);
    loadgen_workload_body(w, index, "m", out);
    loadgen_workload_free(w);
}

static void sets_have_their_limits(void **state)
{
    (void)state;
    struct loadgen_workload_options o = plain();
    static const struct {
        const char *body;
        int64_t max_tokens;
        const char *expected;
    } cases[] = {
        {NULL, 0, ",\"max_tokens\":64}"},
        {NULL, 9, ",\"max_tokens\":9}"},
        {"{\"temperature\":0}", 0, ",\"temperature\":0,\"max_tokens\":64}"},
        {"{\"max_completion_tokens\":5}", 0, ",\"max_completion_tokens\":5}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf body;
        o.body = cases[i].body;
        o.max_tokens = cases[i].max_tokens;
        prompt_of(&o, 0, &body);
        assert_true(str_ends(buf_view(&body), str_of(cases[i].expected)));
        buf_release(&body);
    }
}

/* Equal for equal (set, seed, index), from the first words on different for others, about as long as asked for, and
 * valid as requests. */
static void sets_are_functions_of_seed_and_index(void **state)
{
    (void)state;
    for (int set = LOADGEN_SET_SHORT; set <= LOADGEN_SET_SHARED_PREFIX; set++) {
        for (int api = LOADGEN_CHAT; api <= LOADGEN_COMPLETIONS; api++) {
            struct loadgen_workload_options o = plain();
            struct buf a, same, next, other;
            struct error err = {0};
            o.api = (enum loadgen_api)api;
            o.prompts.set = (enum loadgen_prompt_set)set;
            prompt_of(&o, (uint64_t)5 << 32, &a);
            prompt_of(&o, (uint64_t)5 << 32, &same);
            prompt_of(&o, ((uint64_t)5 << 32) + 1, &next);
            o.prompts.seed = 8;
            prompt_of(&o, (uint64_t)5 << 32, &other);
            assert_string_equal(a.data, same.data);
            assert_string_not_equal(a.data, next.data);
            assert_string_not_equal(a.data, other.data);
            size_t common = 0;
            while (a.data[common] == next.data[common]) {
                common++;
            }
            assert_true((common > 3000) == (set == LOADGEN_SET_SHARED_PREFIX)); /* the long part is the same */
            assert_true(set == LOADGEN_SET_SHARED_PREFIX || common < 120);
            struct json *root = json_parse(buf_view(&a), 0, &err);
            assert_non_null(root);
            const struct json *messages = json_get(root, "messages");
            assert_true(api == LOADGEN_CHAT ? json_len(messages) > 0 : json_str(json_get(root, "prompt")).len > 0);
            for (size_t i = 0; i < json_len(messages); i++) {
                assert_true(json_str(json_get(json_at(messages, i), "content")).len > 0);
            }
            json_free(root);
            buf_release(&a);
            buf_release(&same);
            buf_release(&next);
            buf_release(&other);
        }
    }
}

static void prompts_are_as_long_as_asked_for(void **state)
{
    (void)state;
    static const int lengths[] = {1, 50, 400, 5000};
    for (int set = LOADGEN_SET_SHORT; set <= LOADGEN_SET_SHARED_PREFIX; set++) {
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            struct loadgen_prompts p = {.set = (enum loadgen_prompt_set)set, .prompt_tokens = lengths[i], .seed = 1};
            struct buf text;
            size_t n_words = 0;
            buf_init(&text, LOADGEN_BODY_MAX);
            loadgen_prompt_text(&p, 1, &text);
            for (size_t k = 0; k < text.len; k++) {
                n_words += text.data[k] == ' ';
            }
            assert_true(n_words > 0);
            if (lengths[i] >= 400 && set != LOADGEN_SET_CODE) { /* a word is about a token; lines of code have more */
                assert_in_range(n_words, (size_t)lengths[i] * 7 / 10, (size_t)lengths[i] * 11 / 10);
            }
            buf_release(&text);
        }
    }
}

static void sets_have_names(void **state)
{
    (void)state;
    struct error err = {0};
    enum loadgen_prompt_set set;
    for (int i = LOADGEN_SET_SHORT; i <= LOADGEN_SET_SHARED_PREFIX; i++) {
        assert_true(loadgen_prompt_set_parse(loadgen_prompt_set_name((enum loadgen_prompt_set)i), &set, &err));
        assert_int_equal(set, i);
        assert_true(loadgen_prompt_set_tokens(set) > 0 && loadgen_prompt_set_max_tokens(set) > 0);
    }
    assert_false(loadgen_prompt_set_parse("sharegpt", &set, &err));
}

/* ---- arrivals ---- */

static void poisson_arrivals(void **state)
{
    (void)state;
    enum { N = 20000 };
    double *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b), longest = 0;
    int n_short = 0;
    loadgen_poisson_times(3, 50, N, a, N);
    loadgen_poisson_times(3, 50, N, b, N);
    assert_memory_equal(a, b, N * sizeof *a);
    assert_float_equal(a[N - 1], N / 50.0, 1e-6); /* scaled to the rate */
    for (int i = 0; i < N; i++) {
        double gap = a[i] - (i ? a[i - 1] : 0);
        assert_true(gap >= 0);
        n_short += gap < 0.02; /* of mean 20 ms: 1 - 1/e of them */
        longest = gap > longest ? gap : longest;
    }
    assert_float_equal((double)n_short / N, 0.632, 0.02);
    assert_true(longest > 0.1 && longest < 0.6);
    loadgen_poisson_times(4, 50, N, b, N);
    assert_true(memcmp(a, b, N * sizeof *a) != 0);
    loadgen_poisson_times(3, 50, 0, b, N); /* not scaled: near, not exact */
    assert_float_equal(b[N - 1], N / 50.0, 20);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_becomes_a_body),
        cmocka_unit_test(completions_take_prompts),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(bad_bodies_are_named),
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(answers_are_checked),
        cmocka_unit_test(sets_have_their_limits),
        cmocka_unit_test(sets_are_functions_of_seed_and_index),
        cmocka_unit_test(prompts_are_as_long_as_asked_for),
        cmocka_unit_test(sets_have_names),
        cmocka_unit_test(poisson_arrivals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
