/* Replies of OpenAI-compatible servers as bench-serve reads them: streams in any pieces, whole answers, failures. */
#include "cli/loadgen_answer.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define ROLE          "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
#define TOKEN(text)   "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define FINISH(why)   "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" why "\"}]}\n\n"
#define USAGE(fields) "data: {\"choices\":[],\"usage\":{" fields "}}\n\n"
#define DONE          "data: [DONE]\n\n"

/* Pieces that come 10 ns after each other, the first at 1000; each of `pieces` is one, cut further at `size`. */
static void feed(struct loadgen_reply *r, const char *const *pieces, size_t n, size_t size)
{
    loadgen_reply_init(r);
    r->status = 200;
    r->is_stream = true;
    for (size_t i = 0; i < n; i++) {
        struct str s = str_of(pieces[i]);
        for (size_t from = 0; from < s.len; from += size) {
            assert_true(loadgen_reply_add(r, str_slice(s, from, from + size), 1000 + 10 * (int64_t)i));
        }
    }
}

static void a_stream_is_timed_by_its_token_events(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        ": keep-alive\n\n",
        ROLE,
        TOKEN("Hello"),
        TOKEN(" wor") TOKEN("ld"),
        ": keep-alive\n\n",
        TOKEN("!"),
        FINISH("stop"),
        USAGE("\"prompt_tokens\":7,\"completion_tokens\":6,\"prompt_tokens_details\":{\"cached_tokens\":4}"),
        DONE,
    };
    for (size_t size = 1; size < 200; size += 7) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        feed(&r, pieces, ARRAY_LEN(pieces), size);
        loadgen_answer_read(&r, true, &a);
        assert_int_equal(a.outcome, LOADGEN_OK);
        assert_int_equal(a.first_ns, 1020); /* not the role's chunk */
        assert_int_equal(a.last_ns, 1050);
        assert_int_equal(a.end_ns, 1060); /* the finish reason; usage comes later */
        assert_int_equal(a.n_events, 4);
        assert_int_equal(a.n_gaps, 3);
        assert_true(a.gaps[0] == 10 && a.gaps[1] == 0 && a.gaps[2] == 20);
        assert_true(a.has_usage && a.prompt_tokens == 7 && a.completion_tokens == 6 && a.cached_tokens == 4);
        assert_string_equal(a.text.data, "Hello world!");
        assert_string_equal(a.finish_reason, "stop");
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
}

static void what_counts_as_output(void **state)
{
    (void)state;
    static const struct {
        const char *choice; /* between the brackets of choices */
        uint64_t n_events;
        const char *text;
    } cases[] = {
        {"{\"index\":0,\"delta\":{\"content\":\"a\"}}", 1, "a"},
        {"{\"index\":0,\"delta\":{\"content\":\"\"}}", 0, ""},
        {"{\"index\":0,\"delta\":{\"content\":null}}", 0, ""},
        {"{\"index\":0,\"delta\":{}}", 0, ""},
        {"{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}", 1, ""},
        {"{\"index\":0,\"delta\":{\"reasoning\":\"hm\",\"content\":null}}", 1, ""},
        {"{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]}}", 1, ""},
        {"{\"index\":0,\"delta\":{\"tool_calls\":[]}}", 0, ""},
        {"{\"index\":0,\"delta\":{\"refusal\":\"no\"}}", 1, ""},
        {"{\"index\":0,\"text\":\"b\",\"logprobs\":null}", 1, "b"}, /* completions */
        {"{\"index\":0,\"text\":\"\"}", 0, ""},
        {"{\"text\":\"c\"}", 1, "c"},
        {"{\"index\":1,\"delta\":{\"content\":\"other\"}}", 1, ""}, /* counts, but is not the first choice's text */
        {"{\"index\":0,\"delta\":{\"content\":\"x\"}},{\"index\":1,\"delta\":{\"content\":\"y\"}}", 1, "x"},
        {"5,null,[]", 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        char chunk[300];
        const char *const pieces[] = {chunk, FINISH("length") DONE};
        snprintf(chunk, sizeof chunk, "data: {\"choices\":[%s]}\n\n", cases[i].choice);
        feed(&r, pieces, 2, 1000);
        loadgen_answer_read(&r, true, &a);
        assert_int_equal(a.outcome, LOADGEN_OK);
        if (a.n_events != cases[i].n_events || !str_eq(buf_view(&a.text), str_of(cases[i].text))) {
            fail_msg("%s: %d events, '%s'", cases[i].choice, (int)a.n_events, a.text.data ? a.text.data : "");
        }
        assert_int_equal(a.first_ns, a.n_events ? 1000 : 1010); /* without output the end is the first token */
        assert_false(a.has_usage);
        assert_int_equal(a.completion_tokens, a.n_events); /* counted */
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
}

static void streams_that_fail(void **state)
{
    (void)state;
    static const struct {
        const char *stream;
        enum loadgen_outcome outcome;
        const char *message;
    } cases[] = {
        {TOKEN("a") FINISH("stop"), LOADGEN_OK, ""}, /* a missing [DONE] is forgiven */
        {TOKEN("a") DONE, LOADGEN_OK, ""},           /* and a missing finish reason, with [DONE] */
        {TOKEN("a"), LOADGEN_CUT_OFF, "without a finish reason"},
        {"", LOADGEN_CUT_OFF, "without a finish reason"},
        {TOKEN("a") "data: {\"choices\":[{\"finish_reason\":\"stop\"", LOADGEN_CUT_OFF, "without a finish reason"},
        {TOKEN("a") "data: {\"error\":{\"message\":\"engine\\nlost\"}}\n\n" DONE, LOADGEN_STREAM_ERROR, "engine lost"},
        {"data: {\"error\":\"no\"}\n\n", LOADGEN_STREAM_ERROR, "no"},
        {"data: {\"error\":{}}\n\n", LOADGEN_STREAM_ERROR, "without a message"},
        {"event: error\ndata: {\"error\":{\"message\":\"x\"}}\n\n", LOADGEN_STREAM_ERROR, "x"},
        {TOKEN("a") "data: {\n\n", LOADGEN_NOT_UNDERSTOOD, "JSON"},
        {TOKEN("a") FINISH("stop") DONE "data: nonsense\n\n", LOADGEN_OK, ""}, /* behind the end */
        {USAGE("\"completion_tokens\":0") DONE, LOADGEN_NOT_UNDERSTOOD, "no choices"},
        {"data: 5\n\n" DONE, LOADGEN_NOT_UNDERSTOOD, "no choices"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        feed(&r, &cases[i].stream, 1, 10000);
        loadgen_answer_read(&r, true, &a);
        if (a.outcome != cases[i].outcome || !strstr(a.message, cases[i].message)) {
            fail_msg("%s: %s, '%s'", cases[i].stream, loadgen_outcome_name(a.outcome), a.message);
        }
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
}

static void whole_answers(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum loadgen_outcome outcome;
        const char *text, *message;
    } cases[] = {
        {"{\"choices\":[{\"index\":0,\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}],"
         "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2},\"system_fingerprint\":\"fp\"}",
         LOADGEN_OK, "hi", ""},
        {"{\"choices\":[{\"text\":\"hi\"}]}", LOADGEN_OK, "hi", ""},
        {"{\"choices\":[]}", LOADGEN_NOT_UNDERSTOOD, "", "no choices"},
        {"{\"error\":{\"message\":\"bad\"}}", LOADGEN_STREAM_ERROR, "", "bad"},
        {"<html>", LOADGEN_NOT_UNDERSTOOD, "", "JSON"},
        {"", LOADGEN_NOT_UNDERSTOOD, "", "JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        feed(&r, &cases[i].body, 1, 5);
        r.is_stream = false;
        loadgen_answer_read(&r, false, &a);
        assert_int_equal(a.outcome, cases[i].outcome);
        assert_string_equal(a.text.data ? a.text.data : "", cases[i].text);
        assert_non_null(strstr(a.message, cases[i].message));
        assert_true(a.first_ns == 0 && a.n_events == 0);
        if (i == 0) {
            assert_true(a.has_usage && a.completion_tokens == 2);
            assert_string_equal(a.fingerprint, "fp");
            assert_string_equal(a.finish_reason, "stop");
            assert_int_equal(a.end_ns, 1000);
        }
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
}

static void transfers_that_fail(void **state)
{
    (void)state;
    static const struct {
        enum error_code code;
        enum loadgen_outcome outcome;
    } cases[] = {{ERR_UNAVAILABLE, LOADGEN_NO_CONNECTION}, {ERR_DEADLINE, LOADGEN_TIMEOUT},
                 {ERR_PROTOCOL, LOADGEN_BROKEN},           {ERR_TOO_LARGE, LOADGEN_NOT_UNDERSTOOD},
                 {ERR_CANCELLED, LOADGEN_INTERRUPTED},     {ERR_FORBIDDEN, LOADGEN_BROKEN}};
    static const char *const pieces[] = {TOKEN("a")};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        feed(&r, pieces, 1, 1000);
        error_set(&r.failure, cases[i].code, "it broke.");
        loadgen_answer_read(&r, true, &a);
        assert_int_equal(a.outcome, cases[i].outcome);
        assert_string_equal(a.message, "it broke.");
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
}

static void statuses_and_their_messages(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"{\"error\":{\"message\":\"no such model\",\"type\":\"x\"}}", "no such model"},
        {"{\"error\":\"plain\"}", "plain"},
        {"{\"message\":\"at top\",\"object\":\"error\"}", "at top"},
        {"{\"detail\":\"FastAPI\"}", "FastAPI"},
        {"{\"detail\":[{\"loc\":1}]}", "{\"detail\":[{\"loc\":1}]}"},
        {"  <h1>Bad \x1b[31mGateway\xff</h1>\r\n", "<h1>Bad  [31mGateway?</h1>"},
        {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct loadgen_reply r;
        struct loadgen_answer a;
        feed(&r, &cases[i].body, 1, 7);
        r.status = 502;
        loadgen_answer_read(&r, true, &a);
        assert_int_equal(a.outcome, LOADGEN_STATUS);
        assert_int_equal(a.status, 502);
        assert_string_equal(a.message, cases[i].message);
        loadgen_answer_release(&a);
        loadgen_reply_release(&r);
    }
    struct loadgen_reply r;
    struct loadgen_answer a;
    const char *const body = "{\"choices\":[]}";
    feed(&r, &body, 1, 100);
    r.is_stream = false;
    loadgen_answer_read(&r, true, &a);
    assert_int_equal(a.outcome, LOADGEN_NOT_UNDERSTOOD);
    assert_non_null(strstr(a.message, "--no-stream"));
    loadgen_answer_release(&a);
    loadgen_reply_release(&r);
}

static void text_for_terminals_is_clean(void **state)
{
    (void)state;
    static const struct {
        struct str text;
        size_t size;
        const char *clean;
    } cases[] = {
        {STR("plain"), 100, "plain"},
        {STR("a\tb\nc\x7f"), 100, "a b c "},
        {STR("\xc2\x9b"), 100, " "}, /* a C1 control: the start of a terminal's sequence */
        {STR("\xc3\xa9\xe2\x82\xac"), 100, "\xc3\xa9\xe2\x82\xac"},
        {STR("\xc3"), 100, "?"},
        {STR("12345"), 4, "123"},
        {STR("12\xe2\x82\xac"), 5, "12"}, /* not cut inside a character */
        {STR("12\xe2\x82\xac"), 6, "12\xe2\x82\xac"},
        {STR(""), 1, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[100];
        loadgen_clean_text(cases[i].text, out, cases[i].size);
        assert_string_equal(out, cases[i].clean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_timed_by_its_token_events),
        cmocka_unit_test(what_counts_as_output),
        cmocka_unit_test(streams_that_fail),
        cmocka_unit_test(whole_answers),
        cmocka_unit_test(transfers_that_fail),
        cmocka_unit_test(statuses_and_their_messages),
        cmocka_unit_test(text_for_terminals_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
