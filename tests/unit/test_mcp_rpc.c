/* JSON-RPC messages: what is one, of which kind, whose answer; batches; what is written. */
#include "mcp/rpc.h"

#include "base/array.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void messages(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int kind;      /* -1: refused */
        uint64_t call; /* of an answer */
        const char *method;
    } cases[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", RPC_REQUEST, 0, "ping"},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\",\"params\":{}}", RPC_REQUEST, 0, "ping"},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{\"a\":1}}", RPC_NOTIFICATION, 0, "n"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}", RPC_RESULT, 7, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{}}", RPC_RESULT, 7, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":-7,\"result\":{}}", RPC_RESULT, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{}}", RPC_RESULT, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32601,\"message\":\"no\"}}", RPC_ERROR, 7, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700}}", RPC_ERROR, 0, ""},
        {"{\"id\":7,\"result\":{}}", -1, 0, ""},
        {"{\"jsonrpc\":\"1.0\",\"id\":7,\"result\":{}}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":[]}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":null}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":\"no\"}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":\"x\"}}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"m\"}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", -1, 0, ""},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":[1]}", -1, 0, ""},
        {"[7]", -1, 0, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct rpc_message m;
        struct json *tree = rpc_parse(str_of(cases[i].text), &err);
        assert_non_null(tree);
        bool ok = rpc_read(tree, 0, &m, &err);
        if (ok != (cases[i].kind >= 0)) {
            fail_msg("%s: %d", cases[i].text, ok);
        }
        if (ok) {
            assert_int_equal(m.kind, cases[i].kind);
            assert_int_equal(m.call, cases[i].call);
            assert_true(str_eq(m.method.ptr ? m.method : STR(""), str_of(cases[i].method)));
        } else {
            assert_int_equal(err.code, ERR_PROTOCOL);
        }
        json_free(tree);
    }
}

static void batches(void **state)
{
    (void)state;
    struct error err = {0};
    struct rpc_message m;
    size_t n = 0;
    struct json *tree = rpc_parse(STR("[{\"jsonrpc\":\"2.0\",\"method\":\"a\"},{\"jsonrpc\":\"2.0\",\"id\":3,"
                                      "\"error\":{\"code\":5,\"message\":\"why\",\"data\":{\"x\":1}}}]"),
                                  &err);
    assert_true(rpc_count(tree, &n, &err));
    assert_int_equal(n, 2);
    assert_true(rpc_read(tree, 0, &m, &err) && m.kind == RPC_NOTIFICATION && !m.params);
    assert_true(rpc_read(tree, 1, &m, &err) && m.kind == RPC_ERROR);
    assert_true(m.code == 5 && str_eq(m.text, STR("why")) && json_int(json_get(m.data, "x")) == 1);
    json_free(tree);
    static const char *const refused[] = {"[]", "7", "\"x\"", "null"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        err = (struct error){0};
        tree = rpc_parse(str_of(refused[i]), &err);
        assert_false(rpc_count(tree, &n, &err));
        assert_int_equal(err.code, ERR_PROTOCOL);
        json_free(tree);
    }
}

static void too_much(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf text;
    buf_init(&text, SIZE_MAX);
    memset(buf_extend(&text, LIMIT_MCP_MESSAGE + 1), ' ', LIMIT_MCP_MESSAGE + 1);
    assert_null(rpc_parse(buf_view(&text), &err));
    assert_int_equal(err.code, ERR_PROTOCOL);
    buf_clear(&text);
    for (int i = 0; i < LIMIT_MCP_DEPTH + 1; i++) {
        buf_putc(&text, '[');
    }
    assert_null(rpc_parse(buf_view(&text), &err));
    buf_clear(&text);
    buf_putc(&text, '[');
    for (size_t i = 0; i < LIMIT_MCP_BATCH + 1; i++) {
        buf_puts(&text, i ? ",{}" : "{}");
    }
    buf_putc(&text, ']');
    size_t n;
    struct json *tree = rpc_parse(buf_view(&text), &err);
    assert_non_null(tree);
    assert_false(rpc_count(tree, &n, &err));
    json_free(tree);
    buf_release(&text);
}

static void writing(void **state)
{
    (void)state;
    struct buf out;
    struct error err = {0};
    buf_init(&out, 10000);
    struct json_writer w = json_writer(&out);
    rpc_begin(&w, 9, "tools/call");
    json_member_cstr(&w, "name", "x\"y");
    rpc_end(&w);
    assert_string_equal(out.data,
                        "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"tools/call\",\"params\":{\"name\":\"x\\\"y\"}}");
    buf_clear(&out);
    w = json_writer(&out);
    rpc_begin(&w, 0, "n");
    rpc_end(&w);
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{}}");
    struct json *id = json_parse(STR("[\"a\\n\",12]"), 0, &err);
    buf_clear(&out);
    rpc_answer_empty(&out, json_at(id, 0));
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"id\":\"a\\n\",\"result\":{}}");
    buf_clear(&out);
    rpc_answer_error(&out, json_at(id, 1), RPC_METHOD_NOT_FOUND, "no");
    assert_string_equal(out.data, "{\"jsonrpc\":\"2.0\",\"id\":12,\"error\":{\"code\":-32601,\"message\":\"no\"}}");
    json_free(id);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(messages), cmocka_unit_test(batches),
                                       cmocka_unit_test(too_much), cmocka_unit_test(writing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
