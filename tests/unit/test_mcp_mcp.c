/* A registry of servers that never get ready: their states, what is refused, and the end. Real programs: one that
 * ends, one that says nothing, one that sends everything back, and one that is not there. Servers that work are in
 * tests/parity/check_mcp.py. */
#include "mcp/mcp.h"

#include "base/array.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sys_proc.h"
#include "mcp/log_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

static const char text[] =
    "{\"mcpServers\": {\"ends\": {\"command\": \"true\"}, \"silent\": {\"command\": \"sleep\", \"args\": "
    "[\"1000\"]}, \"echo\": {\"command\": \"cat\"}, \"missing\": {\"command\": \"no-such-program-x\"}, "
    "\"off\": {\"command\": \"cat\", \"disabled\": true}, \"web\": {\"url\": \"http://127.0.0.1:1/\"}}}";

enum { S_ENDS, S_SILENT, S_ECHO, S_MISSING, S_OFF, S_WEB, N_SERVERS };

struct fixture {
    struct loop *loop;
    struct arena *arena;
    struct mcp_config config;
    struct mcp *mcp;
    int n_changes;
    bool closed;
};

static void on_change(void *arg)
{
    ((struct fixture *)arg)->n_changes++;
}

static void on_closed(void *arg)
{
    struct fixture *f = arg;
    f->closed = true;
    mcp_free(f->mcp);
}

static void on_tick(void *arg)
{
    (void)arg; /* so that the loop goes on to look at the clock */
}

static bool all_failed(struct fixture *f)
{
    struct mcp_server_status s;
    bool all = true;
    for (size_t i = 0; i < N_SERVERS; i++) {
        mcp_server_status(f->mcp, i, &s);
        all = all && (i == S_OFF || (s.n_restarts >= 1 && s.failure));
    }
    return all;
}

static void begin(struct fixture *f)
{
    struct error err = {0};
    *f = (struct fixture){.loop = loop_create(1, &err), .arena = arena_create(MIB(4))};
    assert_true(mcp_config_read(str_of(text), NULL, NULL, f->arena, &f->config, &err));
    f->mcp = mcp_create(f->loop, &f->config,
                        &(struct mcp_options){.version = "1",
                                              .start_timeout_ms = 3000,
                                              .retry_ms = 200,
                                              .retry_max_ms = 400,
                                              .on_change = on_change,
                                              .arg = f},
                        &err);
    assert_non_null(f->mcp);
}

static void run_until(struct fixture *f, bool (*done)(struct fixture *f))
{
    int64_t end = clock_ms() + 30000;
    struct loop_timer *tick = loop_timer_create(f->loop, on_tick, f);
    loop_timer_start(tick, 10, 10);
    while (!done(f)) {
        assert_true(clock_ms() < end);
        uv_run(loop_uv(f->loop), UV_RUN_ONCE);
    }
    loop_timer_free(tick);
}

static bool is_closed(struct fixture *f)
{
    return f->closed;
}

static void finish(struct fixture *f)
{
    int64_t before = clock_ms();
    mcp_close(f->mcp, on_closed, f);
    assert_false(f->closed);
    run_until(f, is_closed);
    assert_true(clock_ms() - before < 10000); /* sleep does not read: it is told to end */
    loop_free(f->loop);
    arena_free(f->arena);
}

static void servers_that_fail(void **state)
{
    (void)state;
    static const struct {
        int server;
        const char *error;
    } expected[] = {{S_ENDS, "exited with status 0"},
                    {S_SILENT, "within 3000 ms"},
                    {S_ECHO, "error -32601"},
                    {S_MISSING, "no program 'no-such-program-x'"},
                    {S_WEB, "127.0.0.1:1"}};
    struct fixture f;
    struct mcp_server_status s;
    size_t found = 99;
    begin(&f);
    mcp_server_status(f.mcp, S_SILENT, &s);
    assert_true(s.state == MCP_STARTING && !s.failure && s.pid == 0 && s.next_try_ms == -1);
    run_until(&f, all_failed);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        mcp_server_status(f.mcp, (size_t)expected[i].server, &s);
        if (!s.failure || !strstr(s.failure->msg, expected[i].error)) {
            fail_msg("%s: %s", s.name, s.failure ? s.failure->msg : "");
        }
        assert_true(s.state == MCP_FAILED || s.state == MCP_STARTING);
    }
    mcp_server_status(f.mcp, S_OFF, &s);
    assert_true(s.state == MCP_DISABLED && s.n_restarts == 0 && !s.failure);
    assert_true(mcp_find_server(f.mcp, STR("echo"), &found) && found == S_ECHO &&
                !mcp_find_server(f.mcp, STR("x"), &found));
    assert_true(f.n_changes > 0);
    finish(&f);
}

static void never_done(void *arg, const struct mcp_result *result)
{
    (void)arg;
    (void)result;
    abort();
}

static void what_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    struct buf out;
    begin(&f);
    buf_init(&out, MIB(1));
    mcp_tools(f.mcp, NULL, NULL, &out);
    mcp_put_list(f.mcp, S_ECHO, MCP_KIND_PROMPTS, &out);
    assert_string_equal(out.data, "[][]");
    assert_int_equal(mcp_n_tools(f.mcp), 0);
    assert_int_equal(mcp_call(f.mcp, &(struct mcp_call_options){.tool = STR("t"), .done = never_done}, &err), 0);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(
        mcp_get(f.mcp, &(struct mcp_get_options){.server = S_OFF, .uri = STR("u"), .done = never_done}, &err), 0);
    assert_true(err.code == ERR_UNAVAILABLE && strstr(err.msg, "disabled"));
    mcp_call_cancel(f.mcp, 0);
    mcp_call_cancel(f.mcp, 77);
    buf_clear(&out);
    mcp_put_status(f.mcp, &out);
    struct json *tree = json_parse(buf_view(&out), 0, &err);
    assert_int_equal(json_len(tree), N_SERVERS);
    json_free(tree);
    buf_release(&out);
    finish(&f); /* while everything is starting */
}

static void closed_at_once(void **state)
{
    (void)state;
    for (int64_t ms = 0; ms <= 60; ms += 20) { /* before, while and after processes start */
        struct fixture f;
        begin(&f);
        int64_t end = clock_ms() + ms;
        while (clock_ms() < end) {
            uv_run(loop_uv(f.loop), UV_RUN_NOWAIT);
        }
        finish(&f);
    }
}

static void lines_of_a_log(void **state)
{
    (void)state;
    struct log_limit l = {0};
    uint64_t left_out = 0;
    for (int i = 0; i < LOG_LIMIT_LINES + 5; i++) {
        assert_int_equal(log_limit_take(&l, 5000 + i, &left_out), i < LOG_LIMIT_LINES);
    }
    assert_true(log_limit_take(&l, 6000, &left_out) && left_out == 5);
    assert_true(log_limit_take(&l, 6001, &left_out) && left_out == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(servers_that_fail), cmocka_unit_test(what_is_refused),
                                       cmocka_unit_test(closed_at_once), cmocka_unit_test(lines_of_a_log)};
    sys_ignore_sigpipe();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
