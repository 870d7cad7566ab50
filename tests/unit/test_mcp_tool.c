/* Tools as servers describe them, results as text, and texts of HTTP. */
#include "mcp/tool.h"

#include "base/array.h"
#include "mcp/content.h"
#include "mcp/http_text.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct json *parse(const char *text)
{
    struct error err = {0};
    struct json *tree = json_parse(str_of(text), 64, &err);
    if (!tree) {
        fail_msg("%s: %s", text, err.msg);
    }
    return tree;
}

static void as_openai_has_it(void **state)
{
    (void)state;
    struct json *tree =
        parse("{\"name\":\"a.b\",\"description\":\"Does \\\"it\\\"\",\"inputSchema\":{\"type\":\"object\"},"
              "\"annotations\":{\"readOnlyHint\":true,\"title\":\"T\"},\"outputSchema\":{}}");
    struct error err = {0};
    struct tool t;
    struct buf out;
    buf_init(&out, 10000);
    struct json_writer w = json_writer(&out);
    assert_true(tool_read(tree, true, &t, &err));
    assert_int_equal(t.read_only, 1);
    assert_int_equal(t.idempotent, -1);
    snprintf(t.name.merged, sizeof t.name.merged, "s__a_b");
    tool_put_openai(&t, &w);
    assert_string_equal(
        out.data, "{\"type\":\"function\",\"function\":{\"name\":\"s__a_b\",\"description\":\"Does \\\"it\\\"\","
                  "\"parameters\":{\"type\":\"object\"}},\"annotations\":{\"readOnlyHint\":true,\"title\":\"T\"}}");
    buf_release(&out);
    json_free(tree);
}

static void wrong_tools(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loose, strict; /* is it taken? */
    } cases[] = {
        {"{\"name\":\"a\",\"inputSchema\":{}}", true, true},
        {"{\"name\":\"\",\"inputSchema\":{}}", false, false},
        {"{\"inputSchema\":{}}", false, false},
        {"{\"name\":\"a\"}", false, false},
        {"{\"name\":\"a\",\"inputSchema\":[]}", false, false},
        {"7", false, false},
#define SCHEMA(text) "{\"name\":\"a\",\"inputSchema\":{\"properties\":" text "}}"
        {SCHEMA("{\"p\":{\"type\":\"string\",\"x-mcp-header\":\"P\"}}"), true, true},
        {SCHEMA("{\"x-mcp-header\":{\"type\":\"string\"}}"), true, true}, /* a parameter of that name */
        {SCHEMA("{\"o\":{\"type\":\"object\",\"properties\":{\"p\":{\"type\":\"integer\",\"x-mcp-header\":\"P\"}}}}"),
         true, true},
        {SCHEMA("{\"p\":{\"type\":\"number\",\"x-mcp-header\":\"P\"}}"), true, false},
        {SCHEMA("{\"p\":{\"type\":\"string\",\"x-mcp-header\":\"\"}}"), true, false},
        {SCHEMA("{\"p\":{\"type\":\"string\",\"x-mcp-header\":\"a b\"}}"), true, false},
        {SCHEMA("{\"p\":{\"type\":\"string\",\"x-mcp-header\":7}}"), true, false},
        {SCHEMA(
             "{\"p\":{\"type\":\"string\",\"x-mcp-header\":\"P\"},\"q\":{\"type\":\"string\",\"x-mcp-header\":\"p\"}}"),
         true, false},
        {SCHEMA("{\"p\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"x-mcp-header\":\"P\"}}}"), true, false},
        {"{\"name\":\"a\",\"inputSchema\":{\"x-mcp-header\":\"P\"}}", true, false},
        {"{\"name\":\"a\",\"inputSchema\":{\"anyOf\":[{\"x-mcp-header\":\"P\"}]}}", true, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *tree = parse(cases[i].text);
        struct error err = {0};
        struct tool t;
        if (tool_read(tree, false, &t, &err) != cases[i].loose || tool_read(tree, true, &t, &err) != cases[i].strict) {
            fail_msg("%s", cases[i].text);
        }
        json_free(tree);
    }
}

static void header_values(void **state)
{
    (void)state;
    struct json *tree = parse(SCHEMA("{\"s\":{\"type\":\"string\",\"x-mcp-header\":\"S\"},"
                                     "\"o\":{\"properties\":{\"n\":{\"type\":\"integer\",\"x-mcp-header\":\"N\"}}}}"));
    static const struct {
        const char *arguments, *s, *n; /* NULL: none */
    } cases[] = {{"{\"s\":\"x\",\"o\":{\"n\":-5}}", "x", "-5"},
                 {"{\"s\":null,\"o\":{}}", NULL, NULL},
                 {"{\"s\":true,\"o\":7}", "true", NULL},
                 {"{\"n\":1,\"o\":{\"n\":9007199254740992}}", NULL, NULL}};
    struct error err = {0};
    struct tool t;
    assert_true(tool_read(tree, true, &t, &err));
    assert_int_equal(t.n_headers, 2);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *arguments = parse(cases[i].arguments);
        const char *expected[] = {cases[i].s, cases[i].n};
        for (int k = 0; k < 2; k++) {
            struct buf out;
            buf_init(&out, 100);
            bool has = tool_header_value(&t.headers[k], arguments, &out);
            assert_int_equal(has, expected[k] != NULL);
            assert_true(!has || str_eq(buf_view(&out), str_of(expected[k])));
            buf_release(&out);
        }
        json_free(arguments);
    }
    json_free(tree);
}

/* ---- results ---- */

static void results(void **state)
{
    (void)state;
    static const struct {
        const char *result, *text; /* NULL: refused */
    } cases[] = {
        {"{\"content\":[]}", ""},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}", "a\nb"},
        {"{\"content\":[{\"type\":\"audio\",\"data\":\"AAAAAAAA\",\"mimeType\":\"audio/wav\"}]}",
         "[audio: audio/wav, 6 bytes, not shown]"},
        {"{\"content\":[{\"type\":\"resource\",\"resource\":{\"uri\":\"u:1\",\"blob\":\"AAAA\"}}]}",
         "u:1 [resource: , 3 bytes, not shown]"},
        {"{\"content\":[{\"type\":\"resource_link\",\"uri\":\"u:1\",\"name\":\"n\",\"title\":\"t\"}]}", "t: u:1"},
        {"{\"content\":[7,{\"type\":3},{\"type\":\"text\"}]}", "[: not shown]\n[: not shown]\n"},
        {"{\"structuredContent\":{\"a\":[1]}}", "{\"a\":[1]}"},
        {"{\"content\":[],\"structuredContent\":[1]}", "[1]"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"t\"}],\"structuredContent\":{}}", "t"},
        {"{\"resultType\":\"complete\",\"content\":[]}", ""},
        {"{\"resultType\":\"input_required\",\"content\":[]}", NULL},
        {"{\"resultType\":\"task\",\"content\":[]}", NULL},
        {"{\"resultType\":7,\"content\":[]}", NULL},
        {"{}", NULL},
        {"{\"content\":{}}", NULL},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"0123456789012345678901234567890123456789\xc3\xa9tail\"}]}",
         "0123456789012345678901234567890123456789\n[cut off: 40 of 46 bytes are shown]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *tree = parse(cases[i].result);
        struct error err = {0};
        struct buf out;
        buf_init(&out, 10000);
        bool ok = content_text(tree, 41, &out, &err);
        if (ok != (cases[i].text != NULL) || (ok && !str_eq(buf_view(&out), str_of(cases[i].text)))) {
            fail_msg("%s: '%s' %s", cases[i].result, out.data ? out.data : "", err.msg);
        }
        buf_release(&out);
        json_free(tree);
    }
}

/* Our own code alone: the tree is there already. */
static void results_without_memory(void **state)
{
    (void)state;
    struct json *tree = parse("{\"content\":[{\"type\":\"text\",\"text\":\"0123456789012345678901234567890123456789\"},"
                              "{\"type\":\"image\",\"data\":\"AAAA\",\"mimeType\":\"image/png\"}]}");
    bool ok = false;
    for (long n = 0; CAN_FAIL && !ok; n++) {
        struct error err = {0};
        struct buf out;
        buf_init(&out, 10000);
        n_allocations = 0;
        fail_at = n;
        ok = content_text(tree, 1000, &out, &err);
        fail_at = -1;
        assert_true(ok || err.code == ERR_NO_MEMORY);
        assert_true(!ok || str_ends(buf_view(&out), STR("789\n[image: image/png, 3 bytes, not shown]")));
        buf_release(&out);
    }
    json_free(tree);
}

static void errors_of_tools(void **state)
{
    (void)state;
    struct json *yes = parse("{\"isError\":true}"), *no = parse("{\"isError\":\"true\"}");
    assert_true(content_is_error(yes));
    assert_false(content_is_error(no));
    json_free(yes);
    json_free(no);
}

/* ---- HTTP ---- */

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *base, *reference, *joined; /* NULL: refused */
    } cases[] = {
        {"http://h:1/sse", "/messages?s=1", "http://h:1/messages?s=1"},
        {"http://h:1/a/sse?x=/y", "messages", "http://h:1/a/messages"},
        {"http://h:1", "messages", "http://h:1/messages"},
        {"http://h:1/a?b", "?c", "http://h:1/a?c"},
        {"https://h/sse", "https://h/m?next=http://x/", "https://h/m?next=http://x/"},
        {"https://h/sse", "/m?next=http://x/", "https://h/m?next=http://x/"},
        {"https://h/sse", "https://H/m", "https://H/m"},
        {"https://h/sse", "http://h/m", NULL},
        {"https://h/sse", "https://evil/m", NULL},
        {"https://h/sse", "https://h.evil/m", NULL},
        {"https://h/sse", "https://h@evil/m", NULL},
        {"https://h/sse", "//evil/m", NULL},
        {"https://h/sse", "ftp://h/m", NULL},
        {"https://h/sse", "", NULL},
        {"https://h/sse", "/a b", NULL},
        {"https://h/sse", "/a\nHost: x", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        struct error err = {0};
        buf_init(&out, 1000);
        bool ok = http_text_join(str_of(cases[i].base), str_of(cases[i].reference), &out, &err);
        if (ok != (cases[i].joined != NULL) || (ok && !str_eq(buf_view(&out), str_of(cases[i].joined)))) {
            fail_msg("%s: '%s'", cases[i].reference, out.data ? out.data : "");
        }
        buf_release(&out);
    }
}

static void encoded_values(void **state)
{
    (void)state;
    static const struct {
        struct str value;
        const char *field;
    } cases[] = {
        /* the specification's own examples */
        {STR("us-west1"), "us-west1"},
        {STR("Hello, \xe4\xb8\x96\xe7\x95\x8c"), "=?base64?SGVsbG8sIOS4lueVjA==?="},
        {STR(" padded "), "=?base64?IHBhZGRlZCA=?="},
        {STR("line1\nline2"), "=?base64?bGluZTEKbGluZTI=?="},
        {STR("=?base64?literal?="), "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="},
        {STR(""), ""},
        {STR("a b"), "a b"},
        {STR("\t"), "=?base64?CQ==?="},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        buf_init(&out, 1000);
        http_text_value(cases[i].value, &out);
        assert_true(str_eq(buf_view(&out), str_of(cases[i].field)));
        buf_release(&out);
    }
    assert_true(http_text_is_session(STR("abc-!~")));
    assert_false(http_text_is_session(STR("")) || http_text_is_session(STR("a b")) ||
                 http_text_is_session(STR("\xc3\xa9")));
    assert_true(http_text_is_type(STR("Text/Event-Stream; charset=utf-8"), STR("text/event-stream")));
    assert_false(http_text_is_type(STR("text/event-streams"), STR("text/event-stream")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_openai_has_it),
        cmocka_unit_test(wrong_tools),
        cmocka_unit_test(header_values),
        cmocka_unit_test(results),
        cmocka_unit_test(results_without_memory),
        cmocka_unit_test(errors_of_tools),
        cmocka_unit_test(addresses),
        cmocka_unit_test(encoded_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
