/* Turns of a generation over a port that the test plays, with calls of an MCP server that this program is too: started
 * with the word "server", it answers `echo` and says nothing to `hang`. */
#include "pipeline/deadlines.h"
#include "pipeline/mcp_host.h"
#include "tests/support/pipeline_bench.h"
#include "tests/support/temp_dir.h"

#include "base/clock.h"
#include "base/sys_file.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

static const char template_source[] =
    "{% for t in tools or [] %}{{ t | tojson }}\n<tool_call>{\"name\": .., \"arguments\": ..}</tool_call>{% endfor %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}</tool_call>{% endfor "
    "%}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";

#define CALL(name, arguments) "<tool_call>{\"name\": \"" name "\", \"arguments\": " arguments "}</tool_call>"

/* ---- the server ---- */

static void answer(const struct json *m, const char *result)
{
    printf("{\"jsonrpc\":\"2.0\",\"id\":%lld,%s}\n", (long long)json_int(json_get(m, "id")), result);
    fflush(stdout);
}

static void answer_call(const struct json *m)
{
    const struct json *params = json_get(m, "params"), *text = json_get(json_get(params, "arguments"), "text");
    char result[512];
    if (str_eq(json_str(json_get(params, "name")), STR("echo"))) {
        snprintf(result, sizeof result, "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"<%s>\"}]}",
                 json_str(text).ptr);
        answer(m, result);
    }
}

static void handle(const struct json *m)
{
    struct str method = json_str(json_get(m, "method"));
    if (str_eq(method, STR("initialize"))) {
        answer(m, "\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},"
                  "\"serverInfo\":{\"name\":\"s\",\"version\":\"1\"}}");
    } else if (str_eq(method, STR("tools/list"))) {
        answer(m, "\"result\":{\"tools\":[{\"name\":\"echo\",\"inputSchema\":{\"type\":\"object\",\"properties\":"
                  "{\"text\":{\"type\":\"string\"}},\"required\":[\"text\"]}},"
                  "{\"name\":\"hang\",\"inputSchema\":{\"type\":\"object\"}}]}");
    } else if (str_eq(method, STR("tools/call"))) {
        answer_call(m);
    } else if (json_get(m, "id")) {
        answer(m, "\"error\":{\"code\":-32601,\"message\":\"no\"}");
    }
}

static int serve(void)
{
    char line[65536];
    struct error err = {0};
    while (fgets(line, sizeof line, stdin)) {
        struct json *m = json_parse(str_of(line), 0, &err);
        handle(m);
        json_free(m);
    }
    return 0;
}

/* ---- a pipeline with it ---- */

struct fixture {
    struct loop *loop;
    struct temp_dir dir;
    struct mcp_host *host;
    struct pipeline_bench bench;
    struct gen_request request;
    struct generation *g;
    struct buf text, results; /* DELTA; RESULT, each in brackets */
    struct gen_event finish;
    uint64_t total_prompt, total_tokens;
    int n_errors, n_done, n_ready;
    bool closed;
};

static void on_ready(void *arg)
{
    ((struct fixture *)arg)->n_ready++;
}

static void take_all(struct fixture *f)
{
    struct gen_event e;
    while (f->g && generation_next(f->g, clock_ms(), &e)) {
        if (e.kind == GEN_DELTA) {
            buf_append(&f->text, e.text);
        } else if (e.kind == GEN_RESULT) {
            assert_true(str_eq(e.call.server, STR("s")));
            buf_printf(&f->results, "[%u%s " STR_FMT "]", e.call.index, e.is_error ? " error" : "", STR_ARG(e.text));
        } else if (e.kind == GEN_FINISH) {
            f->finish = e;
        } else if (e.kind == GEN_DONE) {
            f->n_done++;
            f->total_prompt = e.usage.prompt_tokens;
            f->total_tokens = e.usage.completion_tokens;
        }
        f->n_errors += e.kind == GEN_ERROR;
    }
}

static void on_tick(void *arg)
{
    (void)arg;
}

static void run_until(struct fixture *f, bool (*done)(const struct fixture *f))
{
    int64_t end = clock_ms() + 30000;
    struct loop_timer *tick = loop_timer_create(f->loop, on_tick, f);
    loop_timer_start(tick, 5, 5);
    for (take_all(f); !done(f); take_all(f)) {
        assert_true(clock_ms() < end);
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    }
    loop_timer_free(tick);
}

static bool is_ready(const struct fixture *f)
{
    struct buf out;
    buf_init(&out, MIB(1));
    mcp_host_put_servers(f->host, &out);
    bool ready = str_find(buf_view(&out), STR("\"state\":\"ready\"")) != STR_NPOS;
    buf_release(&out);
    return ready;
}

static bool has_two_jobs(const struct fixture *f)
{
    return f->bench.port.n_jobs == 2;
}

static bool has_result(const struct fixture *f)
{
    return f->results.len > 0;
}

static bool is_closed(const struct fixture *f)
{
    return f->closed;
}

static bool is_unheld(const struct fixture *f)
{
    return f->bench.n_held == 0;
}

static void make_config(const char *path)
{
    char self[512], text[1024];
    assert_true(sys_self_path(self, sizeof self));
    int n = snprintf(text, sizeof text, "{\"mcpServers\":{\"s\":{\"command\":\"%s\",\"args\":[\"server\"]}}}", self);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, (size_t)n, out), n);
    fclose(out);
}

static void open_host(struct fixture *f, int64_t max_turns)
{
    struct error err = {0};
    temp_dir_make(&f->dir);
    char *path = temp_dir_file(&f->dir, "mcp.json");
    make_config(path);
    struct mcp_host_options o = {.loop = f->loop, .config_path = path, .version = "1", .max_turns = max_turns};
    f->host = mcp_host_create(&o, &err);
    free(path);
    if (!f->host) {
        fail_msg("host: %s", err.msg);
    }
    run_until(f, is_ready);
}

static const struct json *parse(struct fixture *f, const char *text)
{
    struct error err = {0};
    const struct json *v = json_keep(json_parse(str_of(text), 0, &err), f->request.arena, "a test", &err);
    assert_non_null(v);
    return v;
}

static void start(struct fixture *f)
{
    struct error err = {0};
    bool ok = mcp_host_choose(f->host, &f->request, &err) && pipeline_prepare(f->bench.pipeline, &f->request, &err);
    if (!ok) {
        fail_msg("prepare: %s", err.msg);
    }
    f->g = generation_start(f->bench.pipeline, &f->request, on_ready, f, &err);
    assert_non_null(f->g);
}

static struct fixture *open_fixture(int64_t max_turns)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    f->loop = loop_create(1, &err);
    buf_init(&f->text, MIB(1));
    buf_init(&f->results, MIB(1));
    open_host(f, max_turns);
    f->bench.mcp = f->host;
    pipeline_bench_open_chat(&f->bench, template_source);
    gen_request_init(&f->request, arena_create(MIB(16)), GEN_CHAT);
    f->request.messages = parse(f, "[{\"role\":\"user\",\"content\":\"Hi.\"}]");
    f->request.mcp.wanted = true;
    f->request.seed = 5;
    f->request.has_seed = true;
    return f;
}

static int setup(void **state)
{
    *state = open_fixture(3);
    return 0;
}

static int setup_one_turn(void **state)
{
    *state = open_fixture(1);
    return 0;
}

static void on_closed(void *arg)
{
    ((struct fixture *)arg)->closed = true;
}

static void free_generation(struct fixture *f)
{
    generation_free(f->g);
    f->g = NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->g) {
        free_generation(f);
    }
    run_until(f, is_unheld);
    pipeline_bench_close(&f->bench);
    mcp_host_close(f->host, on_closed, f);
    run_until(f, is_closed);
    mcp_host_free(f->host);
    loop_free(f->loop);
    buf_release(&f->text);
    buf_release(&f->results);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

/* All of a turn's text, in events of as many tokens as the bench takes. */
static void say(struct fixture *f, const char *text)
{
    int job = f->bench.port.n_jobs - 1;
    uint32_t at = 0;
    for (; strlen(text) > 40; text += 40, at += 40) {
        char piece[41];
        snprintf(piece, sizeof piece, "%.40s", text);
        pipeline_bench_tokens(&f->bench, job, 0, at, piece, FINISH_NONE);
    }
    pipeline_bench_tokens(&f->bench, job, 0, at, text, FINISH_STOP);
    take_all(f);
}

static void expect(struct buf *b, const char *text)
{
    buf_putc(b, '\0');
    assert_string_equal(b->data, text);
    buf_truncate(b, b->len - 1);
}

static bool prompt_has(const struct fixture *f, const char *text)
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
    struct fixture *f = *state;
    enum gen_limit which;
    f->request.timeout_ms = 60000;
    f->request.max_tokens = 500;
    start(f);
    uint64_t n_first = pipeline_bench_last(&f->bench)->n_prompt, seed = pipeline_bench_last(&f->bench)->seed;
    say(f, "I look." CALL("echo", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}"));
    assert_false(generation_complete(f->g));
    assert_true(generation_deadline_ms(f->g, &which) < INT64_MAX);
    run_until(f, has_two_jobs);
    expect(&f->results, "[0 <x>][1 <y>]");
    assert_int_equal(f->finish.kind, 0); /* none was given out */
    const struct job *job = pipeline_bench_last(&f->bench);
    assert_true(prompt_has(f, "[assistant] I look.") && prompt_has(f, "\"arguments\": {\"text\": \"x\"}"));
    assert_true(prompt_has(f, "[tool] <x>[tool] <y>[assistant] "));
    assert_true(job->max_tokens < 500 && job->seed != seed && generation_request(f->g)->max_tokens == 500);
    say(f, "Done.");
    assert_int_equal(f->finish.finish, FINISH_STOP);
    assert_int_equal(f->finish.n_calls, 0);
    assert_int_equal(f->n_done, 1);
    assert_true(generation_complete(f->g));
    expect(&f->text, "I look.Done.");
    assert_int_equal(f->total_prompt, n_first + job->n_prompt);
    assert_true(f->total_tokens > 100);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 2);
    assert_int_equal(mcp_host_n_turns(f->host), 1);
}

static void test_wrong_arguments(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": 5}"));
    run_until(f, has_two_jobs);
    assert_true(str_starts(buf_view(&f->results), STR("[0 error the arguments of 'echo'")));
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_INVALID], 1);
}

static void test_own_tool_ends_it(void **state)
{
    struct fixture *f = *state;
    f->request.tools = parse(f, "[{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}]");
    start(f);
    say(f, CALL("clock", "{}") CALL("echo", "{\"text\": \"x\"}"));
    run_until(f, has_result);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(f->finish.n_calls, 1);
    assert_int_equal(f->bench.port.n_jobs, 1);
    expect(&f->results, "[0 <x>]");
}

/* A later turn of no tokens would be another thing. */
static void test_no_more_tokens(void **state)
{
    struct fixture *f = *state;
    static const char text[] = CALL("echo", "{\"text\": \"x\"}");
    f->request.max_tokens = sizeof text; /* a token for each byte, and the end */
    start(f);
    say(f, text);
    assert_true(f->finish.finish == FINISH_LENGTH && !f->finish.out_of_turns && f->n_done == 1);
    assert_int_equal(generation_finish(f->g), FINISH_LENGTH);
    expect(&f->results, "[0 error not called: the answer may have no more tokens.]");
}

static void test_no_more_turns(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    assert_true(f->finish.out_of_turns && f->finish.finish == FINISH_LENGTH && f->n_done == 1);
    expect(&f->results, "[0 error not called: the request may have no more turns.]");
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 0);
}

static void test_limit_of_calls(void **state)
{
    struct fixture *f = *state;
    f->request.mcp.max_calls = 1;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}"));
    run_until(f, has_two_jobs);
    expect(&f->results, "[0 <x>][1 error not called: the request's limit of tool calls is reached.]");
}

static void test_cancel_in_a_call(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("hang", "{}"));
    assert_int_equal(f->n_done, 0);
    generation_cancel(f->g);
    take_all(f);
    expect(&f->results, "[0 error cancelled.]");
    assert_int_equal(f->finish.finish, FINISH_CANCELLED);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(generation_finish(f->g), FINISH_CANCELLED);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 1);
}

static void test_deadline_in_a_call(void **state)
{
    struct fixture *f = *state;
    uint64_t counts[GEN_LIMIT_COUNT] = {0};
    f->request.timeout_ms = 60000;
    start(f);
    say(f, CALL("hang", "{}"));
    pipeline_expire(f->bench.pipeline, clock_ms() + 61000, counts);
    take_all(f);
    assert_int_equal(counts[GEN_LIMIT_TOTAL], 1);
    assert_true(f->n_errors == 1 && f->n_done == 0);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 1);
}

static void test_engine_lost_in_a_call(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    pipeline_bench_send(&f->bench, (struct engine_event){.kind = ENGINE_LOST, .error.code = ERR_ENGINE_LOST});
    run_until(f, has_two_jobs);
    say(f, "Done.");
    assert_true(f->n_done == 1 && f->n_errors == 0);
    expect(&f->text, "Done.");
}

static bool is_held(const struct fixture *f)
{
    return f->bench.n_held > 0 || f->bench.port.n_jobs == 2;
}

/* The consumer leaves while a worker reads the request; what is left goes with it. */
static void test_free_while_it_is_prepared(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("echo", "{\"text\": \"x\"}"));
    run_until(f, is_held);
    free_generation(f);
    run_until(f, is_unheld);
}

static void test_free_in_a_call(void **state)
{
    struct fixture *f = *state;
    start(f);
    say(f, CALL("hang", "{}") CALL("echo", "{\"text\": \"x\"}"));
    free_generation(f);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_CANCELLED], 2);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct gen_mcp_server server = {.name = STR("nobody")};
    f->request.mcp.servers = &server;
    f->request.mcp.n_servers = 1;
    assert_false(mcp_host_choose(f->host, &f->request, &err));
    assert_int_equal(err.code, ERR_INVALID);
    server = (struct gen_mcp_server){.name = STR("s"), .tools = parse(f, "[\"nothing\"]")};
    assert_false(mcp_host_choose(f->host, &f->request, &err));
    server = (struct gen_mcp_server){.name = STR("s"), .configs = parse(f, "{\"hang\": {\"enabled\": false}}")};
    assert_true(mcp_host_choose(f->host, &f->request, &err));
    assert_int_equal(f->request.mcp.n_tools, 1);
    f->request.tools = parse(f, "[{\"type\":\"function\",\"function\":{\"name\":\"echo\"}}]");
    assert_false(mcp_host_merge(&f->request, &err));
    assert_non_null(strstr(err.msg, "'echo'"));
    f->request.tools = NULL;
    f->request.tool_choice = GEN_TOOLS_NAMED;
    f->request.tool_name = STR("hang");
    assert_false(mcp_host_merge(&f->request, &err));
    assert_string_equal(err.param, "tool_choice");
    arena_free(f->request.arena);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "server") == 0) {
        return serve();
    }
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_two_turns),
        TEST(test_wrong_arguments),
        TEST(test_own_tool_ends_it),
        TEST(test_no_more_tokens),
        cmocka_unit_test_setup_teardown(test_no_more_turns, setup_one_turn, teardown),
        cmocka_unit_test_setup_teardown(test_own_tool_ends_it, setup_one_turn, teardown),
        TEST(test_limit_of_calls),
        TEST(test_cancel_in_a_call),
        TEST(test_deadline_in_a_call),
        TEST(test_engine_lost_in_a_call),
        TEST(test_free_while_it_is_prepared),
        TEST(test_free_in_a_call),
        TEST(test_names),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
