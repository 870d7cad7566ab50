/* What a model writes as events: reasoning, answer, tool calls, each with its tokens; over a port that the test plays.
 * How they are read again from any place is in test_pipeline_generation_kept.c. */
#include "tests/support/failing_memory.h"
#include "tests/support/pipeline_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_TOKENS 200
#define TOOLS                                                                                                \
    "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {\"type\": \"object\"}}}, " \
    "{\"type\": \"function\", \"function\": {\"name\": \"sub\"}}]"
#define CALL(name, arguments) "<tool_call>{\"name\": \"" name "\", \"arguments\": " arguments "}</tool_call>"

static const char template_source[] =
    "{% if tools %}tools <tool_call>{\"name\": .., \"arguments\": ..}</tool_call> {% endif %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if reasoning_effort %}[{{ reasoning_effort }}]{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% elif enable_thinking %}<think>"
    "{% endif %}";

struct fixture {
    struct pipeline_bench bench;
    struct gen_request request;
    struct generation *g;
    struct buf seen; /* the events, one after another */
    int32_t ids[MAX_TOKENS];
    uint32_t n;
};

static void free_json(void *root)
{
    json_free(root);
}

static const struct json *parse(struct fixture *f, const char *text)
{
    struct error err = {0};
    struct json *root = json_parse(str_of(text), 0, &err);
    assert_non_null(root);
    assert_true(arena_defer(f->request.arena, free_json, root));
    return root;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pipeline_bench_open_chat(&f->bench, template_source);
    buf_init(&f->seen, 1 << 16);
    gen_request_init(&f->request, arena_create(1 << 20), GEN_CHAT);
    snprintf(f->request.id, sizeof f->request.id, "chatcmpl-1");
    f->request.messages = parse(f, "[{\"role\": \"user\", \"content\": \"hi\"}]");
    f->request.tools = parse(f, TOOLS);
    f->request.return_token_ids = true;
    f->request.has_seed = true;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->g) {
        generation_free(f->g);
    } else {
        arena_free(f->request.arena);
    }
    buf_release(&f->seen);
    pipeline_bench_close(&f->bench);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    struct error err = {0};
    if (!pipeline_prepare(f->bench.pipeline, &f->request, &err)) {
        fail_msg("%s", err.msg);
    }
    f->g = generation_start(f->bench.pipeline, &f->request, NULL, NULL, &err);
    assert_non_null(f->g);
}

/* The tokens of a text: markers as control tokens, anything else byte by byte. */
static void tokens_of(struct fixture *f, const char *text)
{
    static const char *const markers[] = {"<think>", "</think>", "<tool_call>", "</tool_call>"};
    f->n = 0;
    while (*text) {
        int32_t id = (uint8_t)*text;
        size_t len = 1;
        for (size_t i = 0; i < 4; i++) {
            if (strncmp(text, markers[i], strlen(markers[i])) == 0) {
                id = BENCH_THINK + (int32_t)i;
                len = strlen(markers[i]);
            }
        }
        assert_true(f->n < MAX_TOKENS);
        f->ids[f->n++] = id;
        text += len;
    }
}

/* Tokens [from, to) of them; with the last, the end of text when the answer ends by itself. */
static void send_tokens(struct fixture *f, uint32_t choice, uint32_t from, uint32_t to, enum finish_reason finish)
{
    int32_t ids[MAX_TOKENS + 1];
    memcpy(ids, f->ids, sizeof f->ids);
    bool stops = finish == FINISH_STOP;
    if (stops) {
        ids[to] = BENCH_EOS;
    }
    pipeline_bench_send(&f->bench, (struct engine_event){.kind = ENGINE_TOKENS,
                                                         .job = pipeline_bench_last(&f->bench)->id,
                                                         .choice = choice,
                                                         .index = from,
                                                         .n = to + stops - from,
                                                         .ids = ids + from,
                                                         .finish = finish,
                                                         .stop_id = stops ? BENCH_EOS : -1});
}

static void note(struct fixture *f, const struct gen_event *e)
{
    static const char *const names[] = {
        [GEN_DELTA] = "text",        [GEN_REASONING] = "think",       [GEN_CALL] = "call", [GEN_ARGUMENTS] = "args",
        [GEN_CALL_END] = "end",      [GEN_FINISH] = "finish",         [GEN_DONE] = "done", [GEN_ERROR] = "error",
        [GEN_PROGRESS] = "progress", [GEN_PROMPT_LOGPROBS] = "prompt"};
    buf_printf(&f->seen, "%s", names[e->kind]);
    if (e->kind == GEN_CALL) {
        buf_printf(&f->seen, " %u " STR_FMT, e->call.index, STR_ARG(e->call.name));
    } else if (e->kind == GEN_CALL_END) {
        buf_printf(&f->seen, " %s", e->call.valid ? "valid" : e->call.fault.ptr);
    } else if (e->kind == GEN_FINISH) {
        buf_printf(&f->seen, " %u calls, %llu of %llu", e->n_calls, (unsigned long long)e->usage.n_reasoning,
                   (unsigned long long)e->usage.completion_tokens);
    } else {
        buf_printf(&f->seen, " " STR_FMT, STR_ARG(e->text));
    }
    if (e->n_tokens) {
        buf_printf(&f->seen, " #%zu", e->n_tokens);
    }
    buf_puts(&f->seen, "\n");
}

static void take_all(struct fixture *f, int64_t now_ms)
{
    struct gen_event e;
    while (generation_next(f->g, now_ms, &e)) {
        if (e.kind != GEN_DONE) {
            note(f, &e);
        }
    }
}

static void run(struct fixture *f, const char *text, enum finish_reason finish)
{
    start(f);
    tokens_of(f, text);
    send_tokens(f, 0, 0, f->n, finish);
    take_all(f, 0);
}

static void expect(struct fixture *f, const char *want)
{
    if (!str_eq(buf_view(&f->seen), str_of(want))) {
        fail_msg("got:\n" STR_FMT "want:\n%s", STR_ARG(buf_view(&f->seen)), want);
    }
}

/* Markers and white space that is dropped go with what follows; the end of text is no token of an event, as always. */
static void test_everything_in_order(void **state)
{
    struct fixture *f = *state;
    run(f, "<think>hm, hm</think>\n\nSo:\n" CALL("add", "{\"a\": 1}") "\n" CALL("sub", "{}"), FINISH_STOP);
    expect(f, "think hm, hm #7\n"
              "text So: #6\n"
              "call 0 add #16\n"
              "args {\"a\": 1} #23\n"
              "end valid #1\n"
              "call 1 sub #17\n"
              "args {} #17\n"
              "end valid #1\n"
              "text  #1\n" /* the last marker */
              "finish 2 calls, 7 of 90\n");
}

static void test_tokens_without_a_piece_come_before_the_end(void **state)
{
    struct fixture *f = *state;
    run(f, "<think>a</think>", FINISH_LENGTH);
    expect(f, "think a #2\ntext  #1\nfinish 0 calls, 2 of 3\n");
}

static void test_no_event_is_made_for_tokens_that_nobody_wants(void **state)
{
    struct fixture *f = *state;
    f->request.return_token_ids = false;
    run(f, "<think>a</think>", FINISH_LENGTH);
    expect(f, "think a\nfinish 0 calls, 2 of 3\n");
}

/* Token by token, every token comes once, and the pieces joined are the same. */
static void test_token_by_token(void **state)
{
    struct fixture *f = *state;
    struct gen_event e;
    struct buf joined;
    size_t n = 0;
    buf_init(&joined, 1 << 12);
    start(f);
    tokens_of(f, "<think>hm</think>\nSo " CALL("add", "{\"a\": 1}"));
    for (uint32_t i = 0; i <= f->n; i++) {
        if (i < f->n) {
            send_tokens(f, 0, i, i + 1, FINISH_NONE);
        } else {
            send_tokens(f, 0, f->n, f->n, FINISH_STOP);
        }
        while (generation_next(f->g, 0, &e)) {
            for (size_t k = 0; k < e.n_tokens; k++) {
                assert_int_equal(e.tokens[k].id, f->ids[n++]);
            }
            buf_append(&joined, e.kind == GEN_CALL ? e.call.name : e.text);
        }
    }
    assert_int_equal(n, f->n);
    assert_string_equal(joined.data, "hmSoadd{\"a\": 1}");
    buf_release(&joined);
}

static void test_flush_intervals_gather(void **state)
{
    struct fixture *f = *state;
    f->request.interval_tokens = 8;
    start(f);
    tokens_of(f, "<think>12345678</think>abcdefgh");
    for (uint32_t i = 0; i < f->n; i++) {
        send_tokens(f, 0, i, i + 1, FINISH_NONE);
        take_all(f, 0);
    }
    send_tokens(f, 0, f->n, f->n, FINISH_STOP);
    take_all(f, 0);
    expect(f, "think 12345678 #9\n" /* the first alone has nothing to show */
              "text abcdefg #8\n"
              "text h #1\n"
              "finish 0 calls, 9 of 19\n");
}

static void test_calls_that_are_not_valid(void **state)
{
    struct fixture *f = *state;
    run(f, CALL("mul", "{\"a\": 1}") "\n<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": ", FINISH_LENGTH);
    assert_true(str_find(buf_view(&f->seen), STR("end the request has no tool 'mul'.")) != STR_NPOS);
    assert_true(str_find(buf_view(&f->seen), STR("end the arguments of 'add' are no whole JSON object.")) != STR_NPOS);
    assert_true(str_find(buf_view(&f->seen), STR("finish 2 calls")) != STR_NPOS);
}

static void test_one_call_at_most(void **state)
{
    struct fixture *f = *state;
    f->request.parallel_tool_calls = false;
    run(f, CALL("add", "{}") CALL("sub", "{}"), FINISH_STOP);
    expect(f, "call 0 add #15\nargs {} #17\nend valid #1\ntext  #35\nfinish 1 calls, 0 of 69\n");
}

static void test_a_stop_string_cuts_a_call(void **state)
{
    struct fixture *f = *state;
    struct str stop = STR("STOP");
    f->request.stops = &stop;
    f->request.n_stops = 1;
    f->request.return_token_ids = false;
    run(f, CALL("add", "{\"a\": \"x STOP y\"}"), FINISH_STOP);
    expect(f, "call 0 add\nargs {\"a\": \"x \nend the arguments of 'add' are no whole JSON object.\n"
              "finish 1 calls, 0 of 43\n");
}

static void test_raw_output_is_text(void **state)
{
    struct fixture *f = *state;
    f->request.raw_output = true;
    run(f, "<think>a</think>" CALL("add", "{}"), FINISH_STOP);
    expect(f, "text <think>a</think>" CALL("add", "{}") " #37\nfinish 0 calls, 0 of 38\n");
}

/* Without tools what looks like a call is text, and its markers are control tokens like any other: hidden. */
static void test_without_tools_a_call_is_text(void **state)
{
    struct fixture *f = *state;
    f->request.tool_choice = GEN_TOOLS_NONE;
    run(f, "<think>a</think>" CALL("add", "{}"), FINISH_STOP);
    expect(f, "think a #2\ntext {\"name\": \"add\", \"arguments\": {}} #35\nfinish 0 calls, 2 of 38\n");
}

static void test_text_prompts_are_never_taken_apart(void **state)
{
    struct fixture *f = *state;
    struct gen_prompt prompt = {.text = STR("ab")};
    f->request.input = GEN_PROMPTS;
    f->request.prompts = &prompt;
    f->request.n_prompts = 1;
    run(f, "<think>a</think>b", FINISH_STOP);
    expect(f, "text ab #4\nfinish 0 calls, 0 of 5\n");
}

static void test_the_prompt_opens_the_reasoning(void **state)
{
    struct fixture *f = *state;
    f->request.thinking = 1;
    run(f, "hm</think>yes", FINISH_STOP);
    expect(f, "think hm #2\ntext yes #4\nfinish 0 calls, 2 of 7\n");
}

/* Everything with the n-th allocation refused: it does not begin, or ends with NO_MEMORY, or says everything. True: it
 * needs fewer. */
static bool run_with_failure(struct fixture *f, long n)
{
    struct gen_request request = f->request;
    struct error err = {0};
    struct gen_event e = {0};
    uint32_t n_calls = 0;
    size_t n_bytes = 0;
    request.arena = arena_create(1 << 20);
    assert_true(pipeline_prepare(f->bench.pipeline, &request, &err));
    pipeline_bench_forget_jobs(&f->bench);
    n_allocations = 0;
    fail_at = n;
    struct generation *g = generation_start(f->bench.pipeline, &request, NULL, NULL, &err);
    fail_at = -1;
    if (!g) {
        assert_int_equal(err.code, ERR_NO_MEMORY);
        arena_free(request.arena);
        return false;
    }
    tokens_of(f, "<think>a</think>b" CALL("add", "{\"a\": 1}"));
    send_tokens(f, 0, 0, f->n, FINISH_STOP);
    fail_at = n;
    while (generation_next(g, 0, &e)) {
        n_calls += e.kind == GEN_CALL_END && e.call.valid;
        assert_true(e.kind != GEN_ERROR || e.error.code == ERR_NO_MEMORY);
        n_bytes += e.text.len;
        assert_true(e.kind != GEN_DONE || (n_calls == 1 && n_bytes == strlen("ab{\"a\": 1}")));
    }
    fail_at = -1;
    bool all = n_allocations <= n;
    generation_free(g);
    return all;
}

static void test_every_allocation_may_fail(void **state)
{
    for (long n = 0; CAN_FAIL && !run_with_failure(*state, n); n++) {
        assert_true(n < 10000);
    }
}

/* ---- ids ---- */

static void ids_of(struct fixture *f, const char *request_id, uint64_t seed, char out[4][40])
{
    struct gen_request request = f->request;
    struct error err = {0};
    struct gen_event e;
    snprintf(request.id, sizeof request.id, "%s", request_id);
    request.seed = seed;
    request.n = 2;
    request.best_of = 2;
    request.arena = arena_create(1 << 20);
    assert_true(pipeline_prepare(f->bench.pipeline, &request, &err));
    struct generation *g = generation_start(f->bench.pipeline, &request, NULL, NULL, &err);
    assert_non_null(g);
    tokens_of(f, CALL("add", "{}") CALL("sub", "{}"));
    send_tokens(f, 0, 0, f->n, FINISH_STOP);
    send_tokens(f, 1, 0, f->n, FINISH_STOP);
    while (generation_next(g, 0, &e)) {
        if (e.kind == GEN_CALL) {
            assert_int_equal(e.call.id.len, 29);
            assert_true(str_starts(e.call.id, STR("call_")));
            snprintf(out[e.choice * 2 + e.call.index], 40, STR_FMT, STR_ARG(e.call.id));
        }
    }
    generation_free(g);
}

static void test_ids_are_the_requests_own(void **state)
{
    struct fixture *f = *state;
    char ids[16][40] = {{0}};
    ids_of(f, "chatcmpl-1", 7, ids);
    ids_of(f, "chatcmpl-2", 7, ids + 4);
    ids_of(f, "chatcmpl-1", 8, ids + 8);
    ids_of(f, "chatcmpl-1", 7, ids + 12); /* made again */
    for (int i = 0; i < 12; i++) {
        assert_true(ids[i][0]);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(ids[i], ids[k]);
        }
    }
    for (int i = 0; i < 4; i++) {
        assert_string_equal(ids[i], ids[12 + i]);
    }
}

/* ---- preparing ---- */

static void test_fields_become_variables(void **state)
{
    static const struct {
        int thinking;
        const char *effort, *kwargs, *want, *param;
    } cases[] = {
        {-1, NULL, NULL, "hi", NULL},
        {0, NULL, NULL, "hi<think></think>", NULL},
        {1, "high", NULL, "hi[high]<think>", NULL},
        {-1, "none", NULL, "hi[none]<think></think>", NULL},
        {-1, NULL, "{\"enable_thinking\": true, \"reasoning_effort\": \"low\"}", "hi[low]<think>", NULL},
        {1, "low", "{\"enable_thinking\": true, \"reasoning_effort\": \"low\"}", "hi[low]<think>", NULL},
        {0, NULL, "{\"enable_thinking\": true}", NULL, "chat_template_kwargs"},
        {-1, "high", "{\"reasoning_effort\": \"low\"}", NULL, "chat_template_kwargs"},
        {1, "none", NULL, NULL, "reasoning_effort"},
    };
    struct fixture *f = *state;
    f->request.tool_choice = GEN_TOOLS_NONE; /* the template is not shown them */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        buf_clear(&f->seen);
        f->request.thinking = cases[i].thinking;
        f->request.reasoning_effort = str_of(cases[i].effort);
        f->request.template_kwargs = cases[i].kwargs ? parse(f, cases[i].kwargs) : NULL;
        bool ok = pipeline_render_chat(f->bench.pipeline, &f->request, &f->seen, &err);
        assert_int_equal(ok, cases[i].want != NULL);
        if (ok) {
            assert_string_equal(f->seen.data, cases[i].want);
        } else {
            assert_int_equal(err.code, ERR_INVALID);
            assert_string_equal(err.param, cases[i].param);
        }
    }
}

/* What decoding does not enforce is looked at when the call is whole. */
static void test_arguments_are_checked_by_the_whole_schema(void **state)
{
    static const struct {
        const char *arguments, *fault;
    } cases[] = {
        {"{\"a\": 1}", ""},
        {"{\"a\": 1, \"b\": [1, 2]}", ""},
        {"{\"a\": \"1\"}", "the arguments of 'add' are not what its schema wants: "},
        {"{\"a\": 1, \"b\": [1, 1]}", "the arguments of 'add' are not what its schema wants: "},
        {"{}", "the arguments of 'add' are not what its schema wants: "},
        {"{\"a\": ", "the arguments of 'add' are no whole JSON object."},
    };
    struct fixture *f = *state;
    f->request.tools =
        parse(f, "[{\"type\": \"function\", \"function\": {\"name\": \"add\", \"parameters\": {\"type\": "
                 "\"object\", \"required\": [\"a\"], \"properties\": {\"a\": {\"type\": \"integer\"}, "
                 "\"b\": {\"uniqueItems\": true}}}}}]");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gen_request request = f->request;
        struct error err = {0};
        struct gen_event e;
        char text[200];
        bool ended = false;
        request.arena = arena_create(1 << 20);
        assert_true(pipeline_prepare(f->bench.pipeline, &request, &err));
        assert_true(str_eq(request.widened, STR("add:/properties/b/uniqueItems")));
        struct generation *g = generation_start(f->bench.pipeline, &request, NULL, NULL, &err);
        snprintf(text, sizeof text, "<tool_call>{\"name\": \"add\", \"arguments\": %s%s", cases[i].arguments,
                 i < 5 ? "}</tool_call>" : "");
        tokens_of(f, text);
        send_tokens(f, 0, 0, f->n, FINISH_STOP);
        while (generation_next(g, 0, &e)) {
            if (e.kind == GEN_CALL_END) {
                ended = true;
                assert_int_equal(e.call.valid, cases[i].fault[0] == '\0');
                assert_true(str_starts(e.call.fault, str_of(cases[i].fault)));
            }
        }
        assert_true(ended);
        generation_free(g);
        pipeline_bench_forget_jobs(&f->bench);
    }
}

static void test_formats_are_chosen(void **state)
{
    struct fixture *f = *state;
    struct output_formats formats = {0};
    struct error err = {0};
    assert_true(output_formats_choose("auto", NULL, f->bench.chat, &formats, &err));
    assert_string_equal(output_formats_tools(&formats), "hermes");
    assert_string_equal(output_formats_reasoning(&formats), "think");
    assert_true(output_formats_choose("none", "none", f->bench.chat, &formats, &err));
    assert_null(output_formats_tools(&formats));
    assert_null(output_formats_reasoning(&formats));
    assert_true(output_formats_choose("hermes", "think", NULL, &formats, &err));
    assert_string_equal(output_formats_tools(&formats), "hermes");
    assert_true(output_formats_choose("auto", "auto", NULL, &formats, &err));
    assert_null(output_formats_tools(&formats));
    assert_false(output_formats_choose("x", "auto", NULL, &formats, &err));
    assert_true(str_starts(str_of(err.msg), STR("--tool-format: 'x' is none of auto, none, ")));
    assert_false(output_formats_choose("auto", "x", NULL, &formats, &err));
    assert_true(str_starts(str_of(err.msg), STR("--reasoning-format: 'x' is none of auto, none, ")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_everything_in_order),
        TEST(test_tokens_without_a_piece_come_before_the_end),
        TEST(test_no_event_is_made_for_tokens_that_nobody_wants),
        TEST(test_token_by_token),
        TEST(test_flush_intervals_gather),
        TEST(test_calls_that_are_not_valid),
        TEST(test_one_call_at_most),
        TEST(test_a_stop_string_cuts_a_call),
        TEST(test_raw_output_is_text),
        TEST(test_without_tools_a_call_is_text),
        TEST(test_text_prompts_are_never_taken_apart),
        TEST(test_the_prompt_opens_the_reasoning),
        TEST(test_every_allocation_may_fail),
        TEST(test_ids_are_the_requests_own),
        TEST(test_fields_become_variables),
        TEST(test_arguments_are_checked_by_the_whole_schema),
        TEST(test_formats_are_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
