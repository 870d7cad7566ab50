#include "hub/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct hub_reference parsed(const char *text)
{
    struct error err = {0};
    struct hub_reference r;
    if (!hub_reference_parse(text, &r, &err)) {
        fail_msg("%s: %s", text, err.msg);
    }
    return r;
}

static void must_fail(const char *text, const char *message)
{
    struct error err = {0};
    struct hub_reference r;
    if (hub_reference_parse(text, &r, &err)) {
        fail_msg("'%s' was taken", text);
    }
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.msg, message)) {
        fail_msg("'%s' fails with '%s', not '%s'", text, err.msg, message);
    }
}

static void paths(void **state)
{
    static const char *const texts[] = {"/models/x.gguf", "./x",   "../x",       "~/models/x", ".hidden",
                                        "models/x.gguf",  "a/b/c", "a/b/c.gguf", "a/b/c@d:e",  "/a@b:c"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(parsed(texts[i]).kind, HUB_PATH);
    }
}

static void names(void **state)
{
    (void)state;
    assert_int_equal(parsed("smollm2:135m").kind, HUB_NAME);
    assert_int_equal(parsed("qwen2.5-coder:0.5b").kind, HUB_NAME);
    assert_int_equal(parsed("model.gguf").kind, HUB_NAME);
    assert_int_equal(parsed("x").kind, HUB_NAME);
    must_fail("", "empty");
    must_fail("a:b:c", "name:tag");
    must_fail("a:", "nothing behind");
    must_fail(":b", "name:tag");
    must_fail("a b", "letters");
    must_fail("-a", "beginning");
    must_fail("a\nb", "letters");
    must_fail("a@b", "letters");
}

static void repositories(void **state)
{
    (void)state;
    struct hub_reference r = parsed("Qwen/Qwen3-0.6B");
    assert_int_equal(r.kind, HUB_REPO);
    assert_string_equal(r.repo, "Qwen/Qwen3-0.6B");
    assert_string_equal(hub_reference_revision(&r), "main");
    assert_true(!r.file[0] && !r.precision[0]);
    r = parsed("a/b@refs/pr/1:Q4_K_M");
    assert_string_equal(r.repo, "a/b");
    assert_string_equal(hub_reference_revision(&r), "refs/pr/1");
    assert_string_equal(r.precision, "Q4_K_M");
    r = parsed("a/b:sub/model-q4.gguf");
    assert_string_equal(r.file, "sub/model-q4.gguf");
    assert_true(!r.precision[0] && !r.revision[0]);
    assert_string_equal(parsed("mlx-community/x:4bit").precision, "4bit");
    assert_string_equal(parsed("a/b@v1.0").revision, "v1.0");
}

static void every_part_has_its_rule(void **state)
{
    (void)state;
    must_fail("a/", "name of the repository is empty");
    must_fail("a/b..c", "'--' or '..'");
    must_fail("a/b--c", "'--' or '..'");
    must_fail("a--b/c", "owner 'a--b'");
    must_fail("a/-b", "begins or ends");
    must_fail("a/b.", "begins or ends");
    must_fail("a/b.git", ".git");
    must_fail("a b/c", "owner 'a b' has other characters");
    must_fail("a/b\\c", "other characters");
    must_fail("\xc3\xa9/b", "other characters");
    must_fail("a/b@", "revision is empty");
    must_fail("a/b@..", "begins with '.'");
    must_fail("a/b@x/../y", "begins with '.'");
    must_fail("a/b@v1..v2", "holds '..'");
    must_fail("a/b@x//y", "empty part");
    must_fail("a/b@x/", "empty part");
    must_fail("a/b@/x", "empty part");
    must_fail("a/b@x y", "other characters");
    must_fail("a/b:", "nothing behind ':'");
    must_fail("a/b:../x.gguf", "part '..'");
    must_fail("a/b:/x.gguf", "empty part");
    must_fail("a/b:x//y.gguf", "empty part");
    must_fail("a/b:x\\y.gguf", "0x5c");
    must_fail("a/b:C:x.gguf", "0x3a");
    must_fail("a/b:model.bin", "neither a .gguf file nor a precision");
    must_fail("a/b:Q4 K", "neither");
}

static void lengths(void **state)
{
    char text[4096];
    (void)state;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    must_fail(text, "1 to 128");
    text[1] = '/';
    must_fail(text, "more than 96");
    text[HUB_REPO_MAX] = '\0';
    assert_int_equal(parsed(text).kind, HUB_REPO);
    snprintf(text, sizeof text, "a/b@%0300d", 0);
    must_fail(text, "more than 200");
    snprintf(text, sizeof text, "a/b:%0600d.gguf", 0);
    must_fail(text, "more than 512");
    snprintf(text, sizeof text, "a/b:%033d", 0);
    must_fail(text, "more than 32");
    must_fail("a/b:1/2/3/4/5/6/7/8/9.gguf", "more than 8 parts");
}

static void digests(void **state)
{
    (void)state;
    assert_true(hub_is_commit(STR("0123456789abcdef0123456789abcdef01234567")));
    assert_false(hub_is_commit(STR("0123456789ABCDEF0123456789abcdef01234567")));
    assert_false(hub_is_commit(STR("0123456789abcdef0123456789abcdef0123456")));
    assert_true(hub_is_etag(STR("0123456789abcdef0123456789abcdef01234567")));
    assert_false(hub_is_etag(STR("../../../../etc/passwd0123456789abcdef01")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),        cmocka_unit_test(names),
        cmocka_unit_test(repositories), cmocka_unit_test(every_part_has_its_rule),
        cmocka_unit_test(lengths),      cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
