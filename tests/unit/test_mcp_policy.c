/* Which programs, variables, headers and tools are allowed, and how tools of several servers are called. */
#include "mcp/policy.h"

#include "base/array.h"
#include "base/limits.h"
#include "mcp/names.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static void programs(void **state)
{
    (void)state;
    struct temp_dir dir;
    struct error err = {0};
    char path[600], found[600];
    temp_dir_make(&dir);
    char *program = temp_dir_file(&dir, "server"), *plain = temp_dir_file(&dir, "plain");
    fclose(fopen(program, "w"));
    fclose(fopen(plain, "w"));
    assert_int_equal(chmod(program, 0755), 0);
    snprintf(path, sizeof path, "/nonexistent::relative:%s", dir.path);
    assert_true(policy_find_program("server", path, found, sizeof found, &err));
    assert_string_equal(found, program);
    assert_true(policy_find_program(program, "/x", found, sizeof found, &err));
    assert_false(policy_find_program("plain", path, found, sizeof found, &err)); /* not executable */
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_false(policy_find_program(dir.path, path, found, sizeof found, &err)); /* a folder */
    assert_false(policy_find_program("server", ":.:relative", found, sizeof found, &err));
    assert_false(policy_find_program("server", path, found, 5, &err));
    assert_false(policy_find_program("../server", path, found, sizeof found, &err));
    free(program);
    free(plain);
    temp_dir_remove(&dir);
}

static bool has(char **environment, const char *entry)
{
    for (; *environment; environment++) {
        if (strcmp(*environment, entry) == 0) {
            return true;
        }
    }
    return false;
}

static void environments(void **state)
{
    (void)state;
    static const char *const ours[] = {"PATH=/bin", "SECRET=x",     "HOME=/root", "LD_PRELOAD=x.so",
                                       "LANG=C",    "TANDEM_KEY=k", "PATHX=1",    NULL};
    static const struct mcp_pair given[] = {{"HOME", "/home"}, {"TOKEN", "t=1"}};
    struct arena *arena = arena_create(MIB(1));
    char **e = policy_environment(ours, (struct mcp_pairs){given, 2}, arena);
    size_t n = 0;
    while (e[n]) {
        n++;
    }
    assert_int_equal(n, 4);
    assert_true(has(e, "PATH=/bin") && has(e, "LANG=C") && has(e, "HOME=/home") && has(e, "TOKEN=t=1"));
    arena_free(arena);
}

static void tools_allowed(void **state)
{
    (void)state;
    static const char *const allow[] = {"read_*", "list"}, *const deny[] = {"*_all", "read_secret?"};
    struct mcp_server_config open = {.name = "s"};
    struct mcp_server_config some = {.name = "s", .allow = {allow, 2}, .deny = {deny, 2}};
    struct mcp_server_config but = {.name = "s", .deny = {deny, 2}};
    assert_true(policy_allows_tool(&open, STR("anything")));
    assert_true(policy_allows_tool(&some, STR("read_file")) && policy_allows_tool(&some, STR("list")));
    assert_false(policy_allows_tool(&some, STR("write")) || policy_allows_tool(&some, STR("lists")));
    assert_false(policy_allows_tool(&some, STR("read_all")) || policy_allows_tool(&some, STR("read_secrets")));
    assert_true(policy_allows_tool(&but, STR("write")));
    assert_false(policy_allows_tool(&but, STR("write_all")));
}

/* ---- names ---- */

static void merge(struct mcp_name *names, size_t n)
{
    struct mcp_name *pointers[32], *order[32];
    for (size_t i = 0; i < n; i++) {
        pointers[i] = &names[i];
    }
    names_merge(pointers, n, order);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i].merged);
        assert_true(len > 0 && len <= LIMIT_MCP_TOOL_NAME);
        assert_int_equal(strspn(names[i].merged, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"),
                         len);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(names[i].merged, names[k].merged);
        }
    }
}

#define LONG_TOOL "0123456789_0123456789_0123456789_0123456789_0123456789_0123456789_"

static void names_of_several_servers(void **state)
{
    (void)state;
    struct mcp_name names[] = {
        {STR("a"), STR("search"), ""},      {STR("b"), STR("search"), ""},    {STR("a"), STR("only"), ""},
        {STR("a"), STR("admin.list"), ""},  {STR("b"), STR("a b/ü"), ""},     {STR("a"), STR(LONG_TOOL "1"), ""},
        {STR("a"), STR(LONG_TOOL "2"), ""}, {STR("c"), STR("a__search"), ""}, {STR("a"), STR("x.y"), ""},
        {STR("a"), STR("x y"), ""},
    };
    merge(names, ARRAY_LEN(names));
    assert_string_equal(names[1].merged, "b__search");
    assert_string_equal(names[2].merged, "only");
    assert_string_equal(names[3].merged, "a__admin_list");
    assert_string_equal(names[4].merged, "b__a_b___");
    assert_int_equal(strlen(names[5].merged), LIMIT_MCP_TOOL_NAME);
    assert_true(strncmp(names[0].merged, "a__search_", 10) == 0); /* c's tool is called what this one would be */
    assert_true(strncmp(names[8].merged, "a__x_y_", 7) == 0);
    char first[ARRAY_LEN(names)][LIMIT_MCP_TOOL_NAME + 1];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(first[i], sizeof first[i], "%s", names[i].merged);
    }
    struct mcp_name turned[ARRAY_LEN(names)];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        turned[i] = names[ARRAY_LEN(names) - 1 - i];
    }
    merge(turned, ARRAY_LEN(turned)); /* whichever order they come in */
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_string_equal(turned[ARRAY_LEN(names) - 1 - i].merged, first[i]);
    }
    names_merge(NULL, 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(programs), cmocka_unit_test(environments),
                                       cmocka_unit_test(tools_allowed), cmocka_unit_test(names_of_several_servers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
