/* A session with a server that the test plays: agreement on a revision, answers and their requests, batches, progress,
 * cancelling, what the server asks, what breaks it. */
#include "mcp/session.h"

#include "base/array.h"
#include "base/json.h"
#include "tests/support/mcp_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOOLS "{\"tools\":{\"listChanged\":true}}"

struct answer {
    int n, n_progress;
    char text[ERROR_MSG_SIZE]; /* the result, or the error's message */
    enum error_code code;
    double progress;
    struct peer *peer; /* to be closed in the callback; NULL: not */
};

static void on_answer(void *arg, const struct json *result, const struct error *err)
{
    struct answer *a = arg;
    struct buf out;
    buf_init(&out, 1000);
    json_print(&out, result);
    snprintf(a->text, sizeof a->text, "%s", err ? err->msg : out.data);
    a->code = err ? err->code : ERR_NONE;
    a->n++;
    buf_release(&out);
    if (a->peer) {
        session_close(a->peer->session, true);
    }
}

static void on_progress(void *arg, double progress, double total, struct str message)
{
    struct answer *a = arg;
    (void)total;
    (void)message;
    a->progress = progress;
    a->n_progress++;
}

static uint64_t ask(struct peer *p, struct answer *a, int64_t timeout_ms)
{
    struct error err = {0};
    uint64_t id = session_request(p->session,
                                  &(struct session_request){.method = "tools/call",
                                                            .members = STR("\"name\":\"t\""),
                                                            .timeout_ms = timeout_ms,
                                                            .on_progress = on_progress,
                                                            .done = on_answer,
                                                            .arg = a},
                                  &err);
    assert_int_not_equal(id, 0);
    return id;
}

static void say(struct peer *p, const char *format, uint64_t id)
{
    char text[512];
    snprintf(text, sizeof text, format, (unsigned long long)id);
    peer_say(p, text);
}

static bool has_sent(const struct peer *p, const char *text)
{
    return p->sent.data && strstr(p->sent.data, text);
}

/* ---- the start ---- */

static void a_modern_server(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, MCP_STDIO, NULL);
    assert_true(has_sent(&p, "\"method\":\"server/discover\""));
    assert_true(has_sent(&p, "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\""));
    peer_become_ready(&p, "2026-07-28", TOOLS);
    assert_true(p.ready && session_has(p.session, MCP_TOOLS) && !session_has(p.session, MCP_PROMPTS));
    assert_string_equal(session_revision(p.session)->name, "2026-07-28");
    assert_true(
        has_sent(&p, "\"method\":\"subscriptions/listen\",\"params\":{\"notifications\":{\"toolsListChanged\":true}"));
    assert_false(has_sent(&p, "initialize"));
    peer_end(&p);
}

static void old_servers(void **state)
{
    (void)state;
    static const char *const revisions[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
    for (size_t i = 0; i < ARRAY_LEN(revisions); i++) {
        struct peer p;
        peer_start(&p, MCP_STDIO, NULL);
        peer_become_ready(&p, revisions[i], "{\"tools\":{},\"logging\":{}}");
        assert_true(p.ready);
        assert_string_equal(session_revision(p.session)->name, revisions[i]);
        assert_true(has_sent(&p, "\"protocolVersion\":\"2025-11-25\""));
        assert_true(has_sent(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\",\"params\":{}}"));
        assert_true(has_sent(&p, "logging/setLevel"));
        peer_end(&p);
    }
}

static void revisions_that_nobody_knows(void **state)
{
    (void)state;
    static const char *const answers[][2] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"x\"}}",
         "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"1999-01-01\"}}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"x\"}}",
         "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"2026-07-28\"}}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32022,\"message\":\"x\",\"data\":{\"supported\":[\"2030-"
         "01-01\"]}}}",
         NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"supportedVersions\":[\"2030-01-01\",7]}}", NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct peer p;
        peer_start(&p, MCP_STDIO, NULL);
        for (int k = 0; k < 2 && answers[i][k]; k++) {
            peer_say(&p, answers[i][k]);
        }
        assert_false(p.ready);
        assert_int_equal(p.closed.code, ERR_UNSUPPORTED);
        peer_end(&p);
    }
}

static void a_refusal_that_names_old_revisions(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, MCP_STDIO, NULL);
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32022,\"message\":\"x\",\"data\":{\"supported\":"
                 "[\"2025-06-18\"]}}}");
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{}}}");
    assert_true(p.ready);
    peer_end(&p);
}

/* Both questions are open; whichever is answered first with a yes counts, and a no waits for the other. */
static void a_server_that_is_slow(void **state)
{
    (void)state;
    for (int modern = 0; modern < 2; modern++) {
        struct peer p;
        peer_start(&p, MCP_STDIO, NULL);
        peer_run(&p, SESSION_PROBE_MS + 200);
        assert_true(has_sent(&p, "\"id\":2,\"method\":\"initialize\""));
        if (modern) {
            peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32600,\"message\":\"x\"}}");
            assert_int_equal(p.closed.code, ERR_NONE);
            peer_become_ready(&p, "2026-07-28", "{}");
        } else {
            peer_become_ready(&p, "2025-11-25", "{}");
        }
        assert_true(p.ready);
        peer_end(&p);
    }
}

static void one_revision_only(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, MCP_STDIO, "2025-03-26");
    assert_true(has_sent(&p, "\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-03-26\""));
    peer_end(&p);
    peer_start(&p, MCP_STDIO, "2026-07-28");
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"x\"}}");
    assert_int_equal(p.closed.code, ERR_NOT_IMPLEMENTED);
    assert_false(has_sent(&p, "initialize"));
    peer_end(&p);
    peer_start(&p, MCP_SSE, NULL); /* no modern server speaks that transport */
    assert_true(has_sent(&p, "\"method\":\"initialize\""));
    peer_end(&p);
}

/* ---- answers ---- */

static void answers_find_their_requests(void **state)
{
    (void)state;
    struct peer p;
    struct answer a[4] = {{0}};
    uint64_t id[4];
    peer_start(&p, MCP_STDIO, NULL);
    peer_become_ready(&p, "2025-06-18", TOOLS);
    for (int i = 0; i < 4; i++) {
        id[i] = ask(&p, &a[i], 0);
    }
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{\"n\":2}}", id[2]);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"%llu\",\"result\":{\"n\":0}}", id[0]);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"error\":{\"code\":-32602,\"message\":\"why\"}}", id[1]);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{\"n\":\"again\"}}", id[2]); /* once is enough */
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", 999);
    assert_string_equal(a[0].text, "{\"n\":0}");
    assert_string_equal(a[1].text, "the server answered with error -32602: why");
    assert_int_equal(a[1].code, ERR_INVALID);
    assert_string_equal(a[2].text, "{\"n\":2}");
    assert_true(a[0].n == 1 && a[1].n == 1 && a[2].n == 1 && a[3].n == 0);
    peer_end(&p);
    assert_int_equal(a[3].n, 0); /* closed by us: silently */
}

static void batches(void **state)
{
    (void)state;
    struct peer p;
    struct answer a = {0}, b = {0};
    peer_start(&p, MCP_STDIO, NULL);
    peer_become_ready(&p, "2025-03-26", TOOLS);
    uint64_t first = ask(&p, &a, 0);
    ask(&p, &b, 0);
    char text[400];
    snprintf(text, sizeof text,
             "[{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"},{\"jsonrpc\":\"2.0\",\"id\":%llu,"
             "\"result\":{}},7,{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"ping\"},{\"jsonrpc\":\"2.0\",\"id\":%llu,"
             "\"result\":{}}]",
             (unsigned long long)first, (unsigned long long)first + 1);
    a.peer = &p; /* closes it: the rest of the batch is not looked at */
    peer_say(&p, text);
    assert_true(a.n == 1 && b.n == 0 && p.n_changed[MCP_TOOLS] == 1);
    assert_false(has_sent(&p, "\"id\":\"q\""));
    peer_end(&p);
}

static void progress_and_time(void **state)
{
    (void)state;
    struct peer p;
    struct answer a = {0}, b = {0};
    peer_start(&p, MCP_STDIO, NULL);
    peer_become_ready(&p, "2025-06-18", TOOLS);
    uint64_t id = ask(&p, &a, 150);
    uint64_t silent = ask(&p, &b, 150);
    for (int i = 0; i < 4; i++) {
        peer_run(&p, 80);
        say(&p,
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%llu,"
            "\"progress\":2.5}}",
            id);
    }
    assert_true(a.n == 0 && a.n_progress == 4 && a.progress == 2.5);
    assert_true(b.n == 1 && b.code == ERR_DEADLINE);
    char text[100];
    snprintf(text, sizeof text, "\"notifications/cancelled\",\"params\":{\"requestId\":%llu",
             (unsigned long long)silent);
    assert_true(has_sent(&p, text) && p.n_cancelled == 1);
    peer_run(&p, 300);
    assert_true(a.n == 1 && a.code == ERR_DEADLINE);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", id); /* too late */
    assert_int_equal(a.n, 1);
    peer_end(&p);
}

static void cancelling(void **state)
{
    (void)state;
    static const struct {
        enum mcp_transport_kind kind;
        const char *revision;
        bool told;
    } cases[] = {{MCP_STDIO, "2025-06-18", true},
                 {MCP_STDIO, "2026-07-28", true},
                 {MCP_HTTP, "2025-06-18", true},
                 {MCP_HTTP, "2026-07-28", false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        struct answer a = {0};
        peer_start(&p, cases[i].kind, NULL);
        peer_become_ready(&p, cases[i].revision, "{}");
        uint64_t id = ask(&p, &a, 0);
        session_cancel(p.session, id);
        session_cancel(p.session, id);
        session_cancel(p.session, 12345);
        say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", id);
        assert_true(a.n == 0 && has_sent(&p, "notifications/cancelled") == cases[i].told && p.n_cancelled >= 1);
        peer_end(&p);
    }
}

static void a_tool_that_is_not_what_it_was(void **state)
{
    (void)state;
    struct peer p;
    struct answer a = {0};
    peer_start(&p, MCP_HTTP, NULL);
    peer_become_ready(&p, "2026-07-28", TOOLS);
    uint64_t id = ask(&p, &a, 0);
    say(&p, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"error\":{\"code\":-32020,\"message\":\"header\"}}", id);
    assert_true(a.n == 1 && p.n_changed[MCP_TOOLS] == 1);
    peer_end(&p);
}

/* ---- the server's own words ---- */

static void what_the_server_asks(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, MCP_STDIO, NULL);
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}"); /* too early */
    peer_become_ready(&p, "2025-06-18", TOOLS);
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}");
    assert_true(has_sent(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}"));
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"sampling/createMessage\",\"params\":{}}");
    assert_true(has_sent(&p, "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":{\"code\":-32601,"));
    static const char *const notifications[] = {"tools/list_changed",
                                                "resources/list_changed",
                                                "prompts/list_changed",
                                                "message",
                                                "progress",
                                                "cancelled",
                                                "unknown"};
    for (size_t i = 0; i < ARRAY_LEN(notifications); i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/%s\"}", notifications[i]);
        peer_say(&p, text);
    }
    assert_true(p.n_changed[MCP_TOOLS] == 1 && p.n_changed[MCP_RESOURCES] == 1 && p.n_changed[MCP_PROMPTS] == 1);
    assert_int_equal(p.closed.code, ERR_NONE);
    peer_end(&p);
}

/* ---- breaking ---- */

static void close_in_callback(struct peer *p)
{
    session_close(p->session, true);
}

static void what_breaks_it(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int times;
        bool breaks;
    } cases[] = {{"{\"jsonrpc\":\"2.0\",", 1, true},
                 {"[]", 1, true},
                 {"[1,2", 1, true},
                 {"a log line", 100, false},
                 {"a log line", 101, true},
                 {"{\"level\":30}", 5, false},
                 {"{}", 101, true},
                 {"", 50, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        struct answer a = {0};
        peer_start(&p, MCP_STDIO, NULL);
        peer_become_ready(&p, "2025-06-18", TOOLS);
        p.on_closing = i % 2 ? close_in_callback : NULL;
        ask(&p, &a, 0);
        for (int k = 0; k < cases[i].times; k++) {
            peer_say(&p, cases[i].text);
        }
        if (a.n != cases[i].breaks || (a.code == ERR_PROTOCOL) != cases[i].breaks) {
            fail_msg("%s: %d", cases[i].text, a.n);
        }
        assert_int_equal(p.closed.code, cases[i].breaks ? ERR_PROTOCOL : ERR_NONE);
        peer_end(&p);
    }
}

static void no_answer_to_one_request(void **state)
{
    (void)state;
    struct peer p;
    struct answer a = {0};
    struct error why = {0};
    peer_start(&p, MCP_HTTP, NULL);
    peer_become_ready(&p, "2025-06-18", TOOLS);
    uint64_t id = ask(&p, &a, 0);
    peer_say(&p, "{broken"); /* over HTTP only an answer is lost */
    assert_true(p.closed.code == ERR_NONE && p.transport.events.is_waiting(p.transport.events.arg, id));
    error_set(&why, ERR_UNAVAILABLE, "no connection.");
    p.transport.events.on_unanswered(p.transport.events.arg, id, &why);
    assert_true(a.n == 1 && a.code == ERR_UNAVAILABLE);
    assert_true(has_sent(&p, "\"method\":\"ping\"")); /* is it still there? */
    p.transport.events.on_unanswered(p.transport.events.arg, id + 1, &why);
    assert_int_equal(p.closed.code, ERR_UNAVAILABLE);
    peer_end(&p);
}

static void a_transport_that_refuses(void **state)
{
    (void)state;
    struct peer p;
    struct answer a = {0};
    struct error err = {0};
    peer_start(&p, MCP_STDIO, NULL);
    peer_become_ready(&p, "2025-06-18", TOOLS);
    p.refuses = true;
    struct session_request r = {.method = "m", .done = on_answer, .arg = &a};
    assert_int_equal(session_request(p.session, &r, &err), 0);
    assert_int_equal(err.code, ERR_OVERLOADED);
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\"}"); /* an answer that cannot be sent breaks it */
    assert_int_equal(p.closed.code, ERR_OVERLOADED);
    assert_int_equal(session_request(p.session, &r, &err), 0);
    assert_true(err.code == ERR_UNAVAILABLE && a.n == 0);
    peer_end(&p);
}

/* A server that is not told that it may begin does not. */
static void initialized_that_cannot_be_sent(void **state)
{
    (void)state;
    struct peer p;
    peer_start(&p, MCP_STDIO, "2025-06-18");
    p.refuses = true;
    peer_say(&p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{}}}");
    assert_int_equal(p.closed.code, ERR_OVERLOADED);
    assert_false(p.ready);
    peer_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_modern_server),
        cmocka_unit_test(old_servers),
        cmocka_unit_test(revisions_that_nobody_knows),
        cmocka_unit_test(a_refusal_that_names_old_revisions),
        cmocka_unit_test(a_server_that_is_slow),
        cmocka_unit_test(one_revision_only),
        cmocka_unit_test(answers_find_their_requests),
        cmocka_unit_test(batches),
        cmocka_unit_test(progress_and_time),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(a_tool_that_is_not_what_it_was),
        cmocka_unit_test(what_the_server_asks),
        cmocka_unit_test(what_breaks_it),
        cmocka_unit_test(no_answer_to_one_request),
        cmocka_unit_test(a_transport_that_refuses),
        cmocka_unit_test(initialized_that_cannot_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
