/* The configuration: what is read, what is refused and at which line, variables, no secret in a message; and with
 * arenas of every size. */
#include "mcp/config.h"

#include "base/array.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *lookup(void *arg, const char *name)
{
    (void)arg;
    static const char *const set[][2] = {{"HOST", "example.com"}, {"TOKEN", "s3cret"}, {"EMPTY", ""}};
    for (size_t i = 0; i < ARRAY_LEN(set); i++) {
        if (strcmp(set[i][0], name) == 0) {
            return set[i][1];
        }
    }
    return NULL;
}

static const char whole[] =
    "{\"mcpServers\": {\n"
    "  \"files\": {\"command\": \"server\", \"args\": [\"-v\", \"${HOST}\"], \"cwd\": \"/tmp\",\n"
    "    \"env\": {\"A\": \"<${TOKEN}>\", \"B\": \"${NONE:-x y}${EMPTY:-z}$5 {}\"},\n"
    "    \"allow\": [\"read_*\"], \"deny\": [\"*_all\"], \"timeout\": 5000},\n"
    "  \"web\": {\"url\": \"https://${HOST}/mcp\", \"headers\": {\"Authorization\": \"Bearer "
    "${TOKEN}\"}},\n"
    "  \"old-1\": {\"type\": \"sse\", \"url\": \"http://h/sse\", \"disabled\": true},\n"
    "  \"new_2\": {\"type\": \"streamable-http\", \"url\": \"http://h/\", \"protocol\": "
    "\"2025-06-18\"}\n"
    "}}\n";

static void assert_everything(const struct mcp_config *c)
{
    assert_int_equal(c->n, 4);
    const struct mcp_server_config *s = &c->servers[0];
    assert_string_equal(s->name, "files");
    assert_int_equal(s->kind, MCP_STDIO);
    assert_string_equal(s->command, "server");
    assert_int_equal(s->args.n, 2);
    assert_string_equal(s->args.items[1], "example.com");
    assert_string_equal(s->cwd, "/tmp");
    assert_int_equal(s->env.n, 2);
    assert_string_equal(s->env.items[0].value, "<s3cret>");
    assert_string_equal(s->env.items[1].value, "x yz$5 {}");
    assert_string_equal(s->allow.items[0], "read_*");
    assert_string_equal(s->deny.items[0], "*_all");
    assert_int_equal(s->timeout_ms, 5000);
    s = &c->servers[1];
    assert_int_equal(s->kind, MCP_HTTP_AUTO);
    assert_string_equal(s->url, "https://example.com/mcp");
    assert_string_equal(s->headers.items[0].value, "Bearer s3cret");
    assert_int_equal(s->timeout_ms, MCP_DEFAULT_TIMEOUT_MS);
    assert_true(c->servers[2].kind == MCP_SSE && c->servers[2].disabled);
    assert_true(c->servers[3].kind == MCP_HTTP && !c->servers[3].disabled);
    assert_string_equal(c->servers[3].protocol, "2025-06-18");
}

static void everything_is_read(void **state)
{
    (void)state;
    struct arena *arena = arena_create(MIB(4));
    struct error err = {0};
    struct mcp_config c;
    assert_true(mcp_config_read(str_of(whole), lookup, NULL, arena, &c, &err));
    assert_everything(&c);
    arena_free(arena);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *server, *message; /* the server's object, from line 2 on; part of the message */
    } cases[] = {
        {"{\"command\": \"s\",\n\"arg\": []}", "line 3, 'mcpServers.s.arg': there is no such member"},
        {"{\"command\": \"s\",\n\n\"args\": [1]}", "line 4, 'mcpServers.s.args': expected a string, not integer"},
        {"{\"command\": \"s\", \"args\": \"-v\"}", "expected an array of strings"},
        {"{\"command\": 1}", "expected a string"},
        {"{\"command\": \"bash\", \"args\": [\"-c\", \"x\"]}", "is a shell"},
        {"{\"command\": \"/bin/sh\"}", "is a shell"},
        {"{\"command\": \"./server\"}", "absolute path"},
        {"{\"command\": \"\"}", "absolute path"},
        {"{\"command\": \"s\", \"cwd\": \"x\"}", "absolute path"},
        {"{\"command\": \"s\", \"env\": {\"LD_PRELOAD\": \"x\"}}", "'LD_PRELOAD' may not be set"},
        {"{\"command\": \"s\", \"env\": {\"DYLD_INSERT_LIBRARIES\": \"x\"}}", "may not be set"},
        {"{\"command\": \"s\", \"env\": {\"A=B\": \"x\"}}", "no name of a variable"},
        {"{\"command\": \"s\", \"env\": {\"A\": 5}}", "'A': expected a string"},
        {"{\"command\": \"s\", \"env\": {\"A\": \"${MISSING}\"}}", "the variable 'MISSING' is not set"},
        {"{\"command\": \"s\", \"env\": {\"A\": \"${A\"}}", "without '}'"},
        {"{\"command\": \"s\", \"env\": {\"A\": \"${a b}\"}}", "name of a variable"},
        {"{\"command\": \"s\", \"env\": {\"A\": \"a\\u0000b\"}}", "NUL"},
        {"{\"command\": \"s\", \"timeout\": 0}", "milliseconds"},
        {"{\"command\": \"s\", \"timeout\": 1.5}", "milliseconds"},
        {"{\"command\": \"s\", \"disabled\": 1}", "true or false"},
        {"{\"command\": \"s\", \"protocol\": \"1.0\"}", "revision"},
        {"{\"command\": \"s\", \"type\": \"ws\"}", "expected \"stdio\""},
        {"{\"command\": \"s\", \"url\": \"http://h\"}", "'url' is for servers with a URL"},
        {"{\"command\": \"s\", \"headers\": {}}", "'headers' is for servers with a URL"},
        {"{\"url\": \"http://h\", \"args\": []}", "'args' is for servers with a command"},
        {"{\"url\": \"ftp://h\"}", "http:// or https://"},
        {"{\"url\": \"http://h\", \"headers\": {\"Host\": \"x\"}}", "client's own business"},
        {"{\"url\": \"http://h\", \"headers\": {\"X\": \"s3cret\\nY: z\"}}", "no header field has"},
        {"{\"url\": \"http://h\", \"headers\": {\"X Y\": \"z\"}}", "no name of a header field"},
        {"{\"type\": \"http\", \"command\": \"s\"}", "'url' is missing"},
        {"{\"type\": \"stdio\"}", "'command' is missing"},
        {"{}", "'command' is missing"},
        {"[]", "line 2, 'mcpServers.s': expected an object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512];
        struct arena *arena = arena_create(MIB(1));
        struct error err = {0};
        struct mcp_config c;
        snprintf(text, sizeof text, "{\"mcpServers\": {\n\"s\": %s}}", cases[i].server);
        assert_false(mcp_config_read(str_of(text), lookup, NULL, arena, &c, &err));
        if (!strstr(err.msg, cases[i].message) || strstr(err.msg, "s3cret") || err.code != ERR_INVALID) {
            fail_msg("%s: %s", cases[i].server, err.msg);
        }
        arena_free(arena);
    }
}

static void whole_files_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"servers\": {}}",
        "{\"mcpServers\": []}",
        "{\"mcpServers\": {}, \"x\": 1}",
        "{\"mcpServers\": {\"a b\": {\"command\": \"s\"}}}",
        "{\"mcpServers\": {\"\": {\"command\": \"s\"}}}",
        "{\"mcpServers\": {\"0123456789012345678901234567890123456789x\": {\"command\": \"s\"}}}",
        "{\"mcpServers\": {\"a\": {\"command\": \"s\"}, \"a\": {\"command\": \"s\"}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct arena *arena = arena_create(MIB(1));
        struct error err = {0};
        struct mcp_config c;
        if (mcp_config_read(str_of(texts[i]), lookup, NULL, arena, &c, &err) || !err.msg[0]) {
            fail_msg("%s", texts[i]);
        }
        arena_free(arena);
    }
}

/* Every allocation of our own comes out of the arena (the tree's are json-c's, which cannot do without them all). */
static void arenas_of_every_size(void **state)
{
    (void)state;
    bool ok = false;
    size_t n_refused = 0;
    for (size_t size = 0; !ok; size += 8) {
        struct arena *arena = arena_create(size);
        struct error err = {0};
        struct mcp_config c;
        ok = mcp_config_read(str_of(whole), lookup, NULL, arena, &c, &err);
        if (ok) {
            assert_everything(&c);
        } else {
            assert_int_equal(err.code, ERR_TOO_LARGE);
            n_refused++;
        }
        arena_free(arena);
    }
    assert_in_range(n_refused, 50, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_is_read), cmocka_unit_test(refusals),
                                       cmocka_unit_test(whole_files_refused), cmocka_unit_test(arenas_of_every_size)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
