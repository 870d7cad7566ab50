/* Turns of a generation over a port that the test plays, with calls of an MCP server that this program is too: started
 * with the word "server", it answers `echo` and `look`, which only reads, and says nothing to `hang`. */
#include "pipeline/deadlines.h"
#include "pipeline/generation_kept.h"
#include "pipeline/mcp_host.h"
#include "pipeline/mcp_turn.h"
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
    struct str name = json_str(json_get(params, "name"));
    if (str_eq(name, STR("echo")) || str_eq(name, STR("look"))) {
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
                  "{\"name\":\"look\",\"inputSchema\":{\"type\":\"object\"},\"annotations\":{\"readOnlyHint\":true}},"
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
            assert_true(e.n_tokens == 0 && (e.usage.completion_tokens > 0) == f->request.continuous_usage);
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
    for (take_all(f); !done(f); take_all(f)) { /* what is kept has taken it already */
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

static void init_request(struct fixture *f, struct arena *arena)
{
    gen_request_init(&f->request, arena, GEN_CHAT);
    f->request.messages = parse(f, "[{\"role\":\"user\",\"content\":\"Hi.\"}]");
    f->request.mcp.wanted = true;
    f->request.seed = 5;
    f->request.has_seed = true;
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
    init_request(f, arena_create(MIB(16)));
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
    f->request.continuous_usage = true;
    start(f);
    uint64_t n_first = pipeline_bench_last(&f->bench)->n_prompt, seed = pipeline_bench_last(&f->bench)->seed;
    say(f, "I look." CALL("echo", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}"));
    assert_false(generation_complete(f->g));
    assert_int_equal(generation_phase(f->g), GEN_CALLING);
    assert_true(generation_deadline_ms(f->g, &which) < INT64_MAX);
    run_until(f, has_two_jobs);
    expect(&f->results, "[0 <x>][1 <y>]");
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
    assert_int_equal(f->request.mcp.n_tools, 2);
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

static void no_answer(void *arg, const struct mcp_answer *answer)
{
    (void)arg;
    (void)answer;
    fail();
}

/* What is kept may have tools of a server that is not configured any more: its calls are no other server's. */
static void test_server_that_is_gone(void **state)
{
    struct fixture *f = *state;
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

/* ---- kept ---- */

#define FIRST  "I look." CALL("look", "{\"text\": \"x\"}") CALL("echo", "{\"text\": \"y\"}")
#define SECOND "More." CALL("look", "{\"text\": \"z\"}")
#define LAST   "Done."
static const char *const texts[] = {FIRST, SECOND, LAST};

static void prepare_kept(struct fixture *f)
{
    struct error err = {0};
    if (!mcp_host_choose(f->host, &f->request, &err) || !pipeline_prepare(f->bench.pipeline, &f->request, &err)) {
        fail_msg("prepare: %s", err.msg);
    }
}

static void start_kept(struct fixture *f)
{
    struct error err = {0};
    prepare_kept(f);
    f->g = generation_start_kept(f->bench.pipeline, &f->request, on_ready, f, &err);
    assert_non_null(f->g);
}

/* Bytes [from, to) of what a turn says, and its end where that is among them. */
static void send_part(struct fixture *f, const char *text, uint32_t from, uint32_t to)
{
    char piece[256];
    bool all = to == strlen(text);
    for (uint32_t at = from; at < to; at += 40) {
        uint32_t n = to - at < 40 ? to - at : 40;
        snprintf(piece, sizeof piece, "%.*s", (int)n, text + at);
        pipeline_bench_tokens(&f->bench, f->bench.port.n_jobs - 1, 0, at, piece,
                              all && at + n == to ? FINISH_STOP : FINISH_NONE);
    }
}

static struct gen_saved_call saved_call_of(struct arena *arena, const struct mcp_turn_call *c,
                                           enum finish_reason finish)
{
    return (struct gen_saved_call){.tool = arena_str(arena, buf_view(&c->name)),
                                   .arguments = arena_str(arena, buf_view(&c->arguments)),
                                   .answered = c->answered,
                                   .is_error = c->is_error,
                                   .text = arena_str(arena, buf_view(&c->result)),
                                   .finish = finish};
}

/* What a journal would have of it now; tokens of the last turn up to n. */
static struct gen_saved *save(const struct fixture *f, struct arena *arena)
{
    size_t n = generation_n_turns(f->g);
    struct gen_saved_prompt *prompts = arena_alloc_array(arena, n, sizeof *prompts);
    struct gen_saved_choice *choices = arena_alloc_array(arena, n, sizeof *choices);
    struct gen_saved_calls *calls = arena_alloc_array(arena, n, sizeof *calls);
    struct gen_saved *saved = arena_alloc(arena, sizeof *saved);
    for (size_t t = 0; t < n; t++) {
        const struct choice *c = generation_choice(f->g, t, 0);
        const struct mcp_turn *turn = generation_turn(f->g, t);
        bool out_of_turns;
        int32_t *ids = arena_alloc_array(arena, c->n_tokens + 1, sizeof *ids);
        for (size_t i = 0; i < c->n_tokens; i++) {
            ids[i] = c->tokens[i].id;
        }
        prompts[t] = (struct gen_saved_prompt){.n_cached = generation_n_cached(f->g, t)};
        choices[t] = (struct gen_saved_choice){
            .ids = ids, .n = (uint32_t)c->n_tokens, .finish = c->finish, .stop_id = c->stop_id};
        struct gen_saved_call *items = arena_alloc_array(arena, turn->n_calls + 1, sizeof *items);
        for (size_t i = 0; i < turn->n_calls && (turn->calls[i].answered || turn->calls[i].saved); i++) {
            items[i] = saved_call_of(arena, &turn->calls[i], generation_turn_end(f->g, t, &out_of_turns));
            calls[t].n++;
        }
        calls[t].items = items;
    }
    *saved = (struct gen_saved){.prompts = prompts, .choices = choices, .calls = calls, .n_turns = n, .n_called = n};
    return saved;
}

/* Those that wait are recorded; go: and go out. */
static void record_calls(struct fixture *f, bool go)
{
    struct mcp_turn *turn = generation_turn(f->g, generation_n_turns(f->g) - 1);
    for (size_t i = 0; i < turn->n_calls; i++) {
        turn->calls[i].saved = turn->calls[i].due;
    }
    if (go) {
        generation_make_calls(f->g);
    }
}

/* The program ends, and the next one has what was kept. */
static void restart(struct fixture *f, bool replay)
{
    struct error err = {0};
    struct arena *arena = arena_create(MIB(16));
    struct gen_saved *saved = save(f, arena);
    free_generation(f);
    run_until(f, is_unheld);
    init_request(f, arena);
    prepare_kept(f);
    f->g = replay ? generation_replay(f->bench.pipeline, &f->request, saved, on_ready, f, &err)
                  : generation_restore(f->bench.pipeline, &f->request, saved, on_ready, f, &err);
    if (!f->g) {
        fail_msg("restored: %s", err.msg);
    }
}

static void put_event(struct buf *out, const struct gen_event *e)
{
    if (e->kind == GEN_DELTA || e->kind == GEN_ARGUMENTS) {
        buf_append(out, e->text);
    } else if (e->kind == GEN_CALL) {
        buf_printf(out, "<%u " STR_FMT " " STR_FMT ">", e->call.index, STR_ARG(e->call.name), STR_ARG(e->call.id));
    } else if (e->kind == GEN_RESULT) {
        buf_printf(out, "[%u " STR_FMT "%s " STR_FMT "]", e->call.index, STR_ARG(e->call.id),
                   e->is_error ? " error" : "", STR_ARG(e->text));
    } else if (e->kind == GEN_FINISH || e->kind == GEN_ERROR) {
        buf_printf(out, "{%d %s}", (int)e->finish, e->error.msg);
    } else if (e->kind == GEN_DONE) {
        buf_printf(out, "(%d)", (int)e->usage.completion_tokens);
    }
}

/* All that a reader has from a place on. */
static void read_from(struct fixture *f, struct gen_place place, struct buf *out)
{
    struct error err = {0};
    struct gen_event e;
    struct generation *reader = generation_follow(f->g, NULL, NULL, &err);
    assert_non_null(reader);
    assert_true(generation_skip(reader, &place, 1, &err));
    (void)generation_catch_up(reader, NULL);
    while (generation_next(reader, clock_ms(), &e)) {
        put_event(out, &e);
    }
    generation_free(reader);
}

static size_t turns_wanted;

static bool has_turns(const struct fixture *f)
{
    return generation_n_turns(f->g) >= turns_wanted && !generation_calls_due(f->g) &&
           (turns_wanted == 1 ||
            pipeline_bench_last(&f->bench)->n_prompt == generation_job(f->g, turns_wanted - 1)->n_prompt);
}

static bool has_answers(const struct fixture *f)
{
    const struct mcp_turn *turn = generation_turn(f->g, turns_wanted - 1);
    for (size_t i = 0; i < turn->n_calls; i++) {
        if (!turn->calls[i].answered) {
            return false;
        }
    }
    return turn->n_calls > 0;
}

static void wait_for_turn(struct fixture *f, size_t n)
{
    turns_wanted = n;
    run_until(f, has_turns);
}

static bool calls_wait(const struct fixture *f)
{
    return generation_calls_due(f->g);
}

enum cut { NOWHERE, IN_TEXT, BEFORE_CALLS, IN_CALLS, BEHIND_RESULTS };

/* The three turns, with a restart at one place of one of them. */
static void converse(struct fixture *f, size_t cut_turn, enum cut cut)
{
    start_kept(f);
    for (size_t t = 0; t < 3; t++) {
        uint32_t n = (uint32_t)strlen(texts[t]), half = n / 2;
        enum cut here = t == cut_turn ? cut : NOWHERE;
        wait_for_turn(f, t + 1);
        send_part(f, texts[t], 0, half);
        if (here == IN_TEXT) {
            restart(f, false);
            wait_for_turn(f, t + 1);
        }
        send_part(f, texts[t], half, n);
        if (t == 2) {
            break;
        }
        assert_true(generation_calls_due(f->g));
        record_calls(f, here != IN_CALLS && here != BEFORE_CALLS);
        if (here == BEFORE_CALLS) { /* nothing was recorded of them */
            struct mcp_turn *turn = generation_turn(f->g, t);
            for (size_t i = 0; i < turn->n_calls; i++) {
                turn->calls[i].saved = 0;
            }
        }
        if (here == BEFORE_CALLS || here == IN_CALLS) {
            restart(f, false);
            run_until(f, calls_wait); /* those that may be made again */
            record_calls(f, true);
        } else if (here == BEHIND_RESULTS) {
            turns_wanted = t + 1;
            run_until(f, has_answers);
            restart(f, false);
        }
    }
    assert_true(generation_complete(f->g));
}

static void undisturbed(struct fixture *f, struct buf *out)
{
    buf_init(out, MIB(1));
    converse(f, 0, NOWHERE);
    read_from(f, (struct gen_place){0, 0}, out);
    assert_true(str_find(buf_view(out), STR("<x>")) != STR_NPOS && str_find(buf_view(out), STR("<z>")) != STR_NPOS);
}

static void begin_again(struct fixture *f)
{
    free_generation(f);
    run_until(f, is_unheld);
    init_request(f, arena_create(MIB(16)));
}

/* Every place of an answer is a place to go on from: what comes behind it is the rest of the whole. */
static void test_kept_places(void **state)
{
    struct fixture *f = *state;
    struct buf whole, rest;
    undisturbed(f, &whole);
    buf_init(&rest, MIB(1));
    size_t before = whole.len, n_same = 0, n_all = 0;
    for (uint32_t n = 0; n <= strlen(FIRST SECOND LAST) + 3; n++) {
        for (uint32_t pieces = 0; pieces < 5; pieces++) {
            buf_clear(&rest);
            read_from(f, (struct gen_place){n, pieces}, &rest);
            n_same += rest.len == before;
            n_all++;
            before = rest.len;
            if (!str_ends(buf_view(&whole), buf_view(&rest))) {
                fail_msg("behind %u.%u: " STR_FMT, n, pieces, STR_ARG(buf_view(&rest)));
            }
        }
    }
    assert_true(n_same < n_all && before < 16); /* the end comes every time */
    buf_release(&whole);
    buf_release(&rest);
}

static void test_kept_restarts(void **state)
{
    struct fixture *f = *state;
    struct buf whole, again;
    undisturbed(f, &whole);
    uint64_t n_calls = mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK];
    buf_init(&again, MIB(1));
    static const struct {
        size_t turn;
        enum cut cut;
    } cuts[] = {{0, IN_TEXT},      {0, BEFORE_CALLS}, {0, BEHIND_RESULTS}, {1, IN_TEXT},
                {1, BEFORE_CALLS}, {1, IN_CALLS},     {1, BEHIND_RESULTS}, {2, IN_TEXT}};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        begin_again(f);
        buf_clear(&again);
        converse(f, cuts[i].turn, cuts[i].cut);
        read_from(f, (struct gen_place){0, 0}, &again);
        if (!str_eq(buf_view(&again), buf_view(&whole))) {
            fail_msg("cut %zu: " STR_FMT "\ninstead of: " STR_FMT, i, STR_ARG(buf_view(&again)),
                     STR_ARG(buf_view(&whole)));
        }
        assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], n_calls * (i + 2)); /* none was made twice */
    }
    buf_release(&whole);
    buf_release(&again);
}

/* Of two calls that had begun one only reads. */
static void test_kept_restart_in_a_call(void **state)
{
    struct fixture *f = *state;
    struct buf again;
    buf_init(&again, MIB(1));
    converse(f, 0, IN_CALLS);
    read_from(f, (struct gen_place){0, 0}, &again);
    assert_true(str_find(buf_view(&again), STR(" <x>]")) != STR_NPOS);
    assert_true(str_find(buf_view(&again), STR(" error the server was restarted while this tool ran")) != STR_NPOS);
    assert_true(str_find(buf_view(&again), STR("<y>")) == STR_NPOS);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 2);
    buf_release(&again);
}

/* Damage: what became of a call nobody knows, so it counts as begun. */
static void test_kept_damaged(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    struct arena *arena = arena_create(MIB(16));
    struct gen_saved *saved = save(f, arena);
    saved->damaged = true;
    free_generation(f);
    init_request(f, arena);
    prepare_kept(f);
    f->g = generation_restore(f->bench.pipeline, &f->request, saved, on_ready, f, &err);
    assert_non_null(f->g);
    const struct mcp_turn *turn = generation_turn(f->g, 0);
    assert_int_equal(turn->n_calls, 2);
    assert_true(turn->calls[0].due && !turn->calls[0].answered);
    assert_true(turn->calls[1].answered && turn->calls[1].is_error);
}

static bool is_read(const struct fixture *f)
{
    return f->n_done + f->n_errors > 0;
}

/* What has ended is read again from what was saved, without anything being made; what is lost of it is an error. */
static void test_kept_replay(void **state)
{
    struct fixture *f = *state;
    struct buf whole;
    undisturbed(f, &whole);
    uint64_t n_calls = mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK];
    int n_jobs = f->bench.port.n_jobs;
    restart(f, true);
    run_until(f, is_read);
    assert_true(f->n_done == 1 && f->finish.finish == FINISH_STOP && f->bench.port.n_jobs == n_jobs);
    expect(&f->text, "I look.More.Done.");
    expect(&f->results, "[0 <x>][1 <y>][2 <z>]");
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], n_calls);
    buf_release(&whole);
}

static void test_kept_replay_of_less(void **state)
{
    struct fixture *f = *state;
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    record_calls(f, true);
    turns_wanted = 1;
    run_until(f, has_answers);
    restart(f, true);
    run_until(f, is_read);
    assert_int_equal(f->n_errors, 1);
    expect(&f->results, "[0 <x>][1 <y>]");
}

static void test_kept_cancelled(void **state)
{
    struct fixture *f = *state;
    struct buf out;
    start_kept(f);
    send_part(f, FIRST, 0, strlen(FIRST));
    assert_true(generation_calls_due(f->g) && !generation_complete(f->g));
    generation_cancel(f->g);
    assert_true(generation_complete(f->g) && !generation_calls_due(f->g));
    buf_init(&out, MIB(1));
    read_from(f, (struct gen_place){0, 0}, &out);
    assert_true(str_find(buf_view(&out), STR(" error cancelled.]")) != STR_NPOS);
    assert_int_equal(mcp_host_usage(f->host, 0)->calls[MCP_CALL_OK], 0);
    restart(f, true);
    run_until(f, is_read);
    assert_true(f->n_done == 1 && f->finish.finish == FINISH_CANCELLED);
    buf_release(&out);
}

/* Readers see what their marks show: no result before its turn's is saved, no end before that is. */
static void test_kept_marks(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct gen_event e;
    struct gen_mark marks[GEN_SAVED_TURNS] = {0};
    struct buf out, whole;
    buf_init(&out, MIB(1));
    undisturbed(f, &whole);
    struct generation *reader = generation_follow(f->g, NULL, NULL, &err);
    marks[0] = (struct gen_mark){.n = 6};
    for (int step = 0; step < 5; step++) {
        static const char *const shown[] = {"I look", "> error", "[0 ", "[1 ", "{1"};
        marks[0] = step == 0   ? (struct gen_mark){.n = 6}
                   : step == 1 ? (struct gen_mark){.n = 500, .finished = true}
                   : step == 2 ? (struct gen_mark){.n = 500, .finished = true, .n_results = 1}
                               : (struct gen_mark){.n = 500, .finished = true, .n_results = 2};
        marks[1] = marks[2] = step < 4 ? (struct gen_mark){0} : (struct gen_mark){500, true, 9, true};
        (void)generation_catch_up(reader, marks);
        while (generation_next(reader, clock_ms(), &e)) {
            put_event(&out, &e);
        }
        for (int i = 0; i < 5; i++) {
            bool found = str_find(buf_view(&out), str_of(shown[i])) != STR_NPOS;
            assert_int_equal(found, i == 1 ? 0 : i <= step);
        }
    }
    assert_true(str_eq(buf_view(&out), buf_view(&whole)));
    generation_free(reader);
    buf_release(&out);
    buf_release(&whole);
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
        TEST(test_server_that_is_gone),
        TEST(test_kept_places),
        TEST(test_kept_restarts),
        TEST(test_kept_restart_in_a_call),
        TEST(test_kept_damaged),
        TEST(test_kept_replay),
        TEST(test_kept_replay_of_less),
        TEST(test_kept_cancelled),
        TEST(test_kept_marks),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
