#include "tests/support/pipeline_mcp.h"

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

int mcp_bench_main(int argc, char **argv, int (*tests)(void))
{
    if (argc > 1 && strcmp(argv[1], "server") == 0) {
        return serve();
    }
    signal(SIGPIPE, SIG_IGN);
    return tests();
}

/* ---- a pipeline with it ---- */

void mcp_bench_on_ready(void *arg)
{
    ((struct mcp_bench *)arg)->n_ready++;
}

void mcp_bench_take(struct mcp_bench *f)
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

void mcp_bench_run_until(struct mcp_bench *f, bool (*done)(const struct mcp_bench *f))
{
    int64_t end = clock_ms() + 30000;
    struct loop_timer *tick = loop_timer_create(f->loop, on_tick, f);
    loop_timer_start(tick, 5, 5);
    for (mcp_bench_take(f); !done(f); mcp_bench_take(f)) { /* what is kept has taken it already */
        assert_true(clock_ms() < end);
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    }
    loop_timer_free(tick);
}

static bool is_ready(const struct mcp_bench *f)
{
    struct buf out;
    buf_init(&out, MIB(1));
    mcp_host_put_servers(f->host, &out);
    bool ready = str_find(buf_view(&out), STR("\"state\":\"ready\"")) != STR_NPOS;
    buf_release(&out);
    return ready;
}

static bool is_closed(const struct mcp_bench *f)
{
    return f->closed;
}

bool mcp_bench_is_unheld(const struct mcp_bench *f)
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

static void open_host(struct mcp_bench *f, int64_t max_turns)
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
    mcp_bench_run_until(f, is_ready);
}

const struct json *mcp_bench_parse(struct mcp_bench *f, const char *text)
{
    struct error err = {0};
    const struct json *v = json_keep(json_parse(str_of(text), 0, &err), f->request.arena, "a test", &err);
    assert_non_null(v);
    return v;
}

void mcp_bench_init_request(struct mcp_bench *f, struct arena *arena)
{
    gen_request_init(&f->request, arena, GEN_CHAT);
    f->request.messages = mcp_bench_parse(f, "[{\"role\":\"user\",\"content\":\"Hi.\"}]");
    f->request.mcp.wanted = true;
    f->request.seed = 5;
    f->request.has_seed = true;
}

void mcp_bench_prepare(struct mcp_bench *f)
{
    struct error err = {0};
    if (!mcp_host_choose(f->host, &f->request, &err) || !pipeline_prepare(f->bench.pipeline, &f->request, &err)) {
        fail_msg("prepare: %s", err.msg);
    }
}

struct mcp_bench *mcp_bench_open(int64_t max_turns)
{
    struct mcp_bench *f = calloc(1, sizeof *f);
    struct error err = {0};
    f->loop = loop_create(1, &err);
    buf_init(&f->text, MIB(1));
    buf_init(&f->results, MIB(1));
    open_host(f, max_turns);
    f->bench.mcp = f->host;
    pipeline_bench_open_chat(&f->bench, template_source);
    mcp_bench_init_request(f, arena_create(MIB(16)));
    return f;
}

static void on_closed(void *arg)
{
    ((struct mcp_bench *)arg)->closed = true;
}

void mcp_bench_free_generation(struct mcp_bench *f)
{
    generation_free(f->g);
    f->g = NULL;
}

int mcp_bench_close(void **state)
{
    struct mcp_bench *f = *state;
    if (f->g) {
        mcp_bench_free_generation(f);
    }
    mcp_bench_run_until(f, mcp_bench_is_unheld);
    pipeline_bench_close(&f->bench);
    mcp_host_close(f->host, on_closed, f);
    mcp_bench_run_until(f, is_closed);
    mcp_host_free(f->host);
    loop_free(f->loop);
    buf_release(&f->text);
    buf_release(&f->results);
    temp_dir_remove(&f->dir);
    free(f);
    return 0;
}

void mcp_bench_expect(struct buf *b, const char *text)
{
    buf_putc(b, '\0');
    assert_string_equal(b->data, text);
    buf_truncate(b, b->len - 1);
}
