/* Turns of a generation, with calls of tools of an MCP server. */
#include "pipeline/deadlines.h"
#include "tests/support/pipeline_mcp.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    *state = mcp_bench_open(3);
    return 0;
}

static int setup_one_turn(void **state)
{
    *state = mcp_bench_open(1);
    return 0;
}

static bool has_two_jobs(const struct mcp_bench *f)
{
    return f->bench.port.n_jobs == 2;
}

static bool has_result(const struct mcp_bench *f)
{
    return f->results.len > 0;
}

static void start(struct mcp_bench *f)
{
    struct error err = {0};
    mcp_bench_prepare(f);
    f->g = generation_start(f->bench.pipeline, &f->request, mcp_bench_on_ready, f, &err);
    assert_non_null(f->g);
}

/* All of a turn's text, in events of as many tokens as the bench takes. */
static void say(struct mcp_bench *f, const char *text)
{
    int job = f->bench.port.n_jobs - 1;
    uint32_t at = 0;
    for (; strlen(text) > 40; text += 40, at += 40) {
        char piece[41];
        snprintf(piece, sizeof piece, "%.40s", text);
        pipeline_bench_tokens(&f->bench, job, 0, at, piece, FINISH_NONE);
    }
    pipeline_bench_tokens(&f->bench, job, 0, at, text, FINISH_STOP);
    mcp_bench_take(f);
}

static bool prompt_has(const struct mcp_bench *f, const char *text)
{
    const struct job *job = pipeline_bench_last(&f->bench);
    char *bytes = calloc(job->n_prompt + 1, 1);
    for (uint32_t i = 0; i < job->n_prompt; i++) {
        bytes[i] = (char)(job->prompt[i] < 256 ? job->prompt[i] : '~'); /* a marker */
    }
    bool found = strstr(bytes, text) != NULL;
    free(bytes);
    return found;
}

/* ---- tests ---- */

static void test_two_turns(void **state)
{
    struct mcp_bench *f = *state;
    enum gen_limit which;
    f->request.timeout_ms = 60000;
    f->request.max_tokens = 500;
    f->request.continuous_usage = true;
    start(f);
    uint64_t n_first = pipeline_bench_last(&f->bench)->n_prompt, seed = pipeline_bench_last(&f->bench)->seed;
    say(f, "I look." CALL("echo", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}"));
    assert_false(generation_complete(f->g));
    assert_int_equal(generation_phase(f->g), GEN_CALLING);
    assert_true(generation_deadline_ms(f->g, &which) < INT64_MAX);
    mcp_bench_run_until(f, has_two_jobs);
    mcp_bench_expect(&f->results, "[0 <x>][1 <y>]");
    assert_int_equal(f->finish.kind, 0); /* none was given out */
    const struct job *job = pipeline_bench_last(&f->bench);
    struct gen_status status;
    generation_status(f->g, clock_us(), &status);
    assert_true(status.phase == GEN_QUEUED && status.n_prefilled == n_first);
    assert_int_equal(status.max_tokens, 500); /* of all turns */
    assert_true(prompt_has(f, "[assistant] I look.") && prompt_has(f, "\"arguments\": {\"text\": \"x\"}"));
    assert_true(prompt_has(f, "[tool] <x>[tool] <y>[assistant] "));
    assert_true(job->max_tokens < 500 && job->seed != seed && generation_request(f->g)->max_tokens == 500);
    say(f, "Done.");
    assert_int_equal(f->finish.finish, FINISH_STOP);
    assert_int_equal(f->finish.n_calls, 0);
    assert_int_equal(f->n_done, 1);
    assert_true(generation_complete(f->g));
    mcp_bench_expect(&f->text, "I look.Done.");
    assert_int_equal(f->total_prompt, n_first + job->n_prompt);
    assert_true(f->total_tokens > 100);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 2);
    assert_int_equal(mcp_host_n_turns(f->host), 1);
}

static void test_wrong_arguments(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": 5}"));
    mcp_bench_run_until(f, has_two_jobs);
    assert_true(str_starts(buf_view(&f->results), STR("[0 error the arguments of 'echo'")));
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_INVALID], 1);
}

static void test_own_tool_ends_it(void **state)
{
    struct mcp_bench *f = *state;
    f->request.tools = mcp_bench_parse(f, "[{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}]");
    start(f);
    say(f, CALL("clock", "{}") CALL("echo", "{\"text\": \"x\"}"));
    mcp_bench_run_until(f, has_result);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(f->finish.n_calls, 1);
    assert_int_equal(f->bench.port.n_jobs, 1);
    mcp_bench_expect(&f->results, "[0 <x>]");
}

/* A later turn of no tokens would be another thing. */
static void test_no_more_tokens(void **state)
{
    struct mcp_bench *f = *state;
    static const char text[] = CALL("echo", "{\"text\": \"x\"}");
    f->request.max_tokens = sizeof text; /* a token for each byte, and the end */
    start(f);
    say(f, text);
    assert_true(f->finish.finish == FINISH_LENGTH && !f->finish.out_of_turns && f->n_done == 1);
    assert_int_equal(generation_finish(f->g), FINISH_LENGTH);
    mcp_bench_expect(&f->results, "[0 error not called: the answer may have no more tokens.]");
}

static void test_no_more_turns(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    assert_true(f->finish.out_of_turns && f->finish.finish == FINISH_LENGTH && f->n_done == 1);
    mcp_bench_expect(&f->results, "[0 error not called: the request may have no more turns.]");
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 0);
}

static void test_limit_of_calls(void **state)
{
    struct mcp_bench *f = *state;
    f->request.mcp.max_calls = 1;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}"));
    mcp_bench_run_until(f, has_two_jobs);
    mcp_bench_expect(&f->results, "[0 <x>][1 error not called: the request's limit of tool calls is reached.]");
}

static void test_cancel_in_a_call(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("hang", "{}"));
    assert_int_equal(f->n_done, 0);
    generation_cancel(f->g);
    mcp_bench_take(f);
    mcp_bench_expect(&f->results, "[0 error cancelled.]");
    assert_int_equal(f->finish.finish, FINISH_CANCELLED);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(generation_finish(f->g), FINISH_CANCELLED);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 1);
}

static void test_deadline_in_a_call(void **state)
{
    struct mcp_bench *f = *state;
    uint64_t counts[GEN_LIMIT_COUNT] = {0};
    f->request.timeout_ms = 60000;
    start(f);
    say(f, CALL("hang", "{}"));
    pipeline_expire(f->bench.pipeline, clock_ms() + 61000, counts);
    mcp_bench_take(f);
    assert_int_equal(counts[GEN_LIMIT_TOTAL], 1);
    assert_true(f->n_errors == 1 && f->n_done == 0);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 1);
}

static void test_engine_lost_in_a_call(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    pipeline_bench_send(&f->bench, (struct engine_event){.kind = ENGINE_LOST, .error.code = ERR_ENGINE_LOST});
    mcp_bench_run_until(f, has_two_jobs);
    say(f, "Done.");
    assert_true(f->n_done == 1 && f->n_errors == 0);
    mcp_bench_expect(&f->text, "Done.");
}

static bool is_held(const struct mcp_bench *f)
{
    return f->bench.n_held > 0 || f->bench.port.n_jobs == 2;
}

/* The consumer leaves while a worker reads the request; what is left goes with it. */
static void test_free_while_it_is_prepared(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    mcp_bench_run_until(f, is_held);
    mcp_bench_free_generation(f);
    mcp_bench_run_until(f, mcp_bench_is_unheld);
}

static void test_free_in_a_call(void **state)
{
    struct mcp_bench *f = *state;
    start(f);
    say(f, CALL("hang", "{}") CALL("echo", "{\"text\": \"x\"}"));
    mcp_bench_free_generation(f);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 2);
}

static void test_names(void **state)
{
    struct mcp_bench *f = *state;
    struct error err = {0};
    struct gen_mcp_server server = {.name = STR("nobody")};
    f->request.mcp.servers = &server;
    f->request.mcp.n_servers = 1;
    assert_false(mcp_host_choose(f->host, &f->request, &err));
    assert_int_equal(err.code, ERR_INVALID);
    server = (struct gen_mcp_server){.name = STR("s"), .tools = mcp_bench_parse(f, "[\"nothing\"]")};
    assert_false(mcp_host_choose(f->host, &f->request, &err));
    server =
        (struct gen_mcp_server){.name = STR("s"), .configs = mcp_bench_parse(f, "{\"hang\": {\"enabled\": false}}")};
    assert_true(mcp_host_choose(f->host, &f->request, &err));
    assert_int_equal(f->request.mcp.n_tools, 2);
    f->request.tools = mcp_bench_parse(f, "[{\"type\":\"function\",\"function\":{\"name\":\"echo\"}}]");
    assert_false(mcp_host_merge(&f->request, &err));
    assert_non_null(strstr(err.msg, "'echo'"));
    f->request.tools = NULL;
    f->request.tool_choice = GEN_TOOLS_NAMED;
    f->request.tool_name = STR("hang");
    assert_false(mcp_host_merge(&f->request, &err));
    assert_string_equal(err.param, "tool_choice");
    arena_free(f->request.arena);
}

static void no_answer(void *arg, const struct mcp_answer *answer)
{
    (void)arg;
    (void)answer;
    fail();
}

/* What is kept may have tools of a server that is not configured any more: its calls are no other server's. */
static void test_server_that_is_gone(void **state)
{
    struct mcp_bench *f = *state;
    struct error err = {0};
    struct mcp_call_request call = {.request_id = "r",
                                    .tool = {.name = STR("echo"), .own_name = STR("echo"), .server = STR("gone")},
                                    .done = no_answer};
    assert_null(mcp_host_call(f->host, &call, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    mcp_host_note_invalid(f->host, "r", &call.tool);
    for (int i = 0; i < MCP_CALL_COUNT; i++) {
        assert_int_equal(mcp_host_usage(f->host, 0)->calls[i], 0);
    }
    arena_free(f->request.arena);
}

static int all_tests(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, mcp_bench_close)
    const struct CMUnitTest tests[] = {
        TEST(test_two_turns),
        TEST(test_wrong_arguments),
        TEST(test_own_tool_ends_it),
        TEST(test_no_more_tokens),
        cmocka_unit_test_setup_teardown(test_no_more_turns, setup_one_turn, mcp_bench_close),
        cmocka_unit_test_setup_teardown(test_own_tool_ends_it, setup_one_turn, mcp_bench_close),
        TEST(test_limit_of_calls),
        TEST(test_cancel_in_a_call),
        TEST(test_deadline_in_a_call),
        TEST(test_engine_lost_in_a_call),
        TEST(test_free_while_it_is_prepared),
        TEST(test_free_in_a_call),
        TEST(test_names),
        TEST(test_server_that_is_gone),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return mcp_bench_main(argc, argv, all_tests);
}
