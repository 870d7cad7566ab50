/* What the environment says of the Hub, as huggingface_hub reads it. */
#include "base/sys_file.h"
#include "hub/settings.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const variables[] = {
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "XDG_CACHE_HOME",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
};

static struct hub_settings settings;
static struct error err;

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        unsetenv(variables[i]);
    }
    setenv("HOME", "/h/u", 1);
    err = (struct error){0};
    return 0;
}

static bool read_all(void)
{
    return hub_settings_read(&settings, &err) && hub_settings_read_token(&settings, &err);
}

static void must_fail(const char *name, const char *value, const char *message)
{
    setenv(name, value, 1);
    err = (struct error){0};
    assert_false(read_all());
    if (!strstr(err.msg, message)) {
        fail_msg("'%s', not '%s'", err.msg, message);
    }
    assert_null(strstr(err.msg, "secret"));
    unsetenv(name);
}

static void without_any(void **state)
{
    (void)state;
    assert_true(read_all());
    assert_string_equal(settings.endpoint, "https://huggingface.co");
    assert_string_equal(settings.cache, "/h/u/.cache/huggingface/hub");
    assert_true(!settings.token[0] && !settings.offline);
    unsetenv("HOME");
    assert_false(hub_settings_read(&settings, &err));
    assert_non_null(strstr(err.msg, "HF_HOME"));
}

static void where_the_cache_is(void **state)
{
    static const struct {
        const char *name, *value, *cache;
    } rows[] = {/* each is stronger than those before it */
                {"XDG_CACHE_HOME", "/x", "/x/huggingface/hub"},
                {"HF_HOME", "~/hf", "/h/u/hf/hub"},
                {"HUGGINGFACE_HUB_CACHE", "/old", "/old"},
                {"HF_HUB_CACHE", "~/c", "/h/u/c"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        setenv(rows[i].name, rows[i].value, 1);
        assert_true(hub_settings_read(&settings, &err));
        assert_string_equal(settings.cache, rows[i].cache);
    }
}

static void endpoints(void **state)
{
    (void)state;
    setenv("HF_ENDPOINT", "http://127.0.0.1:8000/hf//", 1);
    assert_true(hub_settings_read(&settings, &err));
    assert_string_equal(settings.endpoint, "http://127.0.0.1:8000/hf");
    must_fail("HF_ENDPOINT", "ftp://x", "neither http");
    must_fail("HF_ENDPOINT", "huggingface.co", "neither http");
}

static void offline(void **state)
{
    (void)state;
    setenv("TRANSFORMERS_OFFLINE", "YES", 1);
    assert_true(hub_settings_read(&settings, &err) && settings.offline);
    setenv("HF_HUB_OFFLINE", "", 1);
    assert_true(hub_settings_read(&settings, &err) && settings.offline);
    setenv("HF_HUB_OFFLINE", "0", 1);
    assert_true(hub_settings_read(&settings, &err) && !settings.offline);
    setenv("HF_HUB_OFFLINE", "on", 1);
    assert_true(hub_settings_read(&settings, &err) && settings.offline);
}

static void tokens(void **state)
{
    struct temp_dir dir;
    (void)state;
    temp_dir_make(&dir);
    char *file = temp_dir_file(&dir, "token");
    assert_true(file_write_atomic(file, STR("hf_file\n"), &err));
    setenv("HF_HOME", dir.path, 1);
    assert_true(read_all());
    assert_string_equal(settings.token, "hf_file");
    setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", 1);
    assert_true(read_all() && !settings.token[0]);
    setenv("HUGGING_FACE_HUB_TOKEN", "hf_old", 1);
    assert_true(read_all());
    assert_string_equal(settings.token, "hf_old");
    setenv("HF_TOKEN", " hf_new ", 1);
    assert_true(read_all());
    assert_string_equal(settings.token, "hf_new");
    must_fail("HF_TOKEN", "secret secret", "HF_TOKEN holds what is no token");
    must_fail("HF_TOKEN", "secret\r\nX: y", "HF_TOKEN holds what is no token");
    unsetenv("HUGGING_FACE_HUB_TOKEN");
    unsetenv("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    assert_true(file_write_atomic(file, STR("secret\nsecret"), &err));
    assert_false(read_all());
    err = (struct error){0};
    assert_true(hub_settings_read(&settings, &err) && !settings.token[0]); /* who only looks at the cache needs none */
    free(file);
    temp_dir_remove(&dir);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_any), TEST(where_the_cache_is), TEST(endpoints), TEST(offline), TEST(tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
