/* API keys: what a file and the environment may hold, what is refused and how it is said (never with a part of a key),
 * which key opens, how limits fill and empty, and what a reload keeps. */
#include "gateway/api_keys.h"

#include "base/array.h"
#include "base/hash.h"
#include "base/log.h"
#include "tests/support/temp_dir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ALICE  "sk-alice-0123456789abcdef"
#define BOB    "sk-bob-0123456789abcdefgh"
#define SECRET "sk-SECRETSECRETSECRET"

static int setup(void **state)
{
    log_set_level(LOG_LEVEL_ERROR);
    *state = api_keys_create();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    api_keys_free(*state);
    return 0;
}

static bool read_text(struct api_keys *k, const char *json, struct error *err)
{
    char *text = strdup(json);
    size_t size = strlen(json);
    bool ok = api_keys_read_text(k, text, size, "keys.json", err);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(text[i], 0); /* wiped, whatever came of it */
    }
    free(text);
    return ok;
}

static void read_ok(struct api_keys *k, const char *json)
{
    struct error err = {0};
    if (!read_text(k, json, &err)) {
        fail_msg("%s", err.msg);
    }
}

static void set_list(struct api_keys *k, const char *list)
{
    struct error err = {0};
    char text[200];
    snprintf(text, sizeof text, "%s", list);
    assert_true(api_keys_set_list(k, text, &err));
    for (size_t i = 0; list[i]; i++) {
        assert_int_equal(text[i], 0);
    }
}

static uint64_t id_of(const struct api_keys *k, const char *key)
{
    return api_keys_check(k, str_of(key));
}

/* ---- which key ---- */

static void keys_of_the_environment(void **state)
{
    struct api_keys *k = *state;
    struct error err = {0};
    set_list(k, ALICE);
    assert_string_equal(api_keys_name(k, id_of(k, ALICE)), "env");
    set_list(k, ALICE ", " BOB);
    assert_int_equal(api_keys_n(k), 2);
    assert_string_equal(api_keys_name(k, id_of(k, ALICE)), "env-1");
    assert_string_equal(api_keys_name(k, id_of(k, BOB)), "env-2");
    static const char *const bad[] = {"",     ",",           ALICE ",",   "two words",
                                      "a\tb", "caf\xc3\xa9", "sha256:12", ALICE "," ALICE};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char text[200];
        snprintf(text, sizeof text, "%s", bad[i]);
        assert_false(api_keys_set_list(k, text, &err));
        assert_null(strstr(err.msg, "alice-0"));
    }
    assert_int_equal(api_keys_n(k), 2); /* as before */
}

static void the_right_key_opens(void **state)
{
    struct api_keys *k = *state;
    char json[400], hex[2 * SHA256_SIZE + 1];
    struct sha256 digest = sha256_of(BOB, strlen(BOB));
    sha256_hex(&digest, hex);
    snprintf(json, sizeof json, "[{\"name\":\"alice\",\"key\":\"" ALICE "\"},{\"name\":\"bob\",\"key\":\"sha256:%s\"}]",
             hex);
    read_ok(k, json);
    assert_string_equal(api_keys_name(k, id_of(k, ALICE)), "alice");
    assert_string_equal(api_keys_name(k, id_of(k, BOB)), "bob");
    assert_int_not_equal(id_of(k, ALICE), id_of(k, BOB));
    static const char *const wrong[] = {
        "", " ", "alice", ALICE "x", "sk-alice-0123456789abcde", "SK-ALICE-0123456789ABCDEF"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(id_of(k, wrong[i]), 0);
    }
    snprintf(json, sizeof json, "sha256:%s", hex);
    assert_int_equal(id_of(k, json), 0); /* the digest is no key */
    assert_string_equal(api_keys_name(k, 0), "");
}

/* ---- the file ---- */

static const struct {
    const char *json, *message; /* a part of it */
} refused[] = {
    {"", "JSON"},
    {"{}", "an array of 1 to"},
    {"[]", "an array of 1 to"},
    {"[1]", "expected an object, but got integer"},
    {"[{\"key\":\"" SECRET "\"}]", "'name': expected"},
    {"[{\"name\":\"\",\"key\":\"" SECRET "\"}]", "'name': expected"},
    {"[{\"name\":\"a b\",\"key\":\"" SECRET "\"}]", "'name': expected"},
    {"[{\"name\":7,\"key\":\"" SECRET "\"}]", "'name': expected"},
    {"[{\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\",\"key\":\"" SECRET "\"}]",
     "'name': expected 1 to 63"},
    {"[{\"name\":\"a\"}]", "'a' has no 'key'"},
    {"[{\"name\":\"a\",\"key\":1}]", "'a': 'key': expected a string, but got integer"},
    {"[{\"name\":\"a\",\"key\":\"\"}]", "'a': 'key': a key must have 1 to 1024"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET " x\"}]", "'a': 'key': a key must have"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\\u0000\"}]", "'a': 'key': a key must have"},
    {"[{\"name\":\"a\",\"key\":\"sha256:0123\"}]", "64 hexadecimal digits"},
    {"[{\"name\":\"a\",\"key\":\"sha256:zz86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"}]",
     "64 hexadecimal digits"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\",\"rpm\":1}]", "'a': 'rpm' is none of"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\",\"max_concurrent\":0}]", "'max_concurrent': expected an integer from 1"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\",\"tokens_per_minute\":1.5}]", "'tokens_per_minute': expected"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\",\"requests_per_minute\":null}]", "'requests_per_minute': expected"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\"},\n{\"name\":\"a\",\"key\":\"other-key-other-key\"}]",
     "two keys have the name 'a'"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\"},\n{\"name\":\"b\",\"key\":\"" SECRET "\"}]",
     "'a' and 'b' are the same key"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\"},\n{\"name\":\"b\",\"key\":\"\"}]", "line 2"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\",\"key\":\"x\"}]", "key"},
    {"[{\"name\":\"a\",\"key\":\"" SECRET "\"}]]", ""},
};

static void bad_files(void **state)
{
    struct api_keys *k = *state;
    read_ok(k, "[{\"name\":\"alice\",\"key\":\"" ALICE "\"}]");
    uint64_t alice = id_of(k, ALICE);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct error err = {0};
        if (read_text(k, refused[i].json, &err)) {
            fail_msg("taken: %s", refused[i].json);
        }
        if (!strstr(err.msg, refused[i].message) || !strstr(err.msg, "keys.json") || strstr(err.msg, "SECRET")) {
            fail_msg("%s\n%s", refused[i].json, err.msg);
        }
        assert_int_equal(id_of(k, ALICE), alice);
        assert_int_equal(api_keys_n(k), 1);
    }
}

static void files(void **state)
{
    struct api_keys *k = *state;
    struct error err = {0};
    struct temp_dir dir;
    temp_dir_make(&dir);
    char *path = temp_dir_file(&dir, "keys.json");
    assert_false(api_keys_read_file(k, path, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, path));
    assert_false(api_keys_read_file(k, dir.path, &err));
    assert_non_null(strstr(err.msg, "not a regular file"));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    static const char text[] = "[{\"name\": \"alice\", \"key\": \"" ALICE "\"}]\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_true(api_keys_read_file(k, path, &err));
    assert_string_equal(api_keys_name(k, id_of(k, ALICE)), "alice");
    assert_int_equal(ftruncate(fd, 2 << 20), 0);
    assert_false(api_keys_read_file(k, path, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    close(fd);
    free(path);
    temp_dir_remove(&dir);
}

static void both_sources(void **state)
{
    struct api_keys *k = *state;
    struct error err = {0};
    set_list(k, BOB);
    read_ok(k, "[{\"name\":\"alice\",\"key\":\"" ALICE "\"}]");
    assert_int_equal(api_keys_n(k), 2);
    assert_false(read_text(k, "[{\"name\":\"bob\",\"key\":\"" BOB "\"}]", &err));
    assert_false(read_text(k, "[{\"name\":\"env\",\"key\":\"" ALICE "\"}]", &err));
    read_ok(k, "[{\"name\":\"alice\",\"key\":\"another-key-another-key\"}]");
    assert_string_equal(api_keys_name(k, id_of(k, BOB)), "env");
    assert_int_equal(id_of(k, ALICE), 0);
}

/* ---- limits ---- */

#define LIMITED                                                                                                        \
    "[{\"name\":\"a\",\"key\":\"" ALICE "\",\"requests_per_minute\":6,\"tokens_per_minute\":600,\"max_concurrent\":2}" \
    "]"

static void requests_by_the_minute(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    read_ok(k, LIMITED);
    uint64_t a = id_of(k, ALICE);
    for (int i = 0; i < 6; i++) {
        assert_true(api_keys_begin(k, a, 1000, &why));
        api_keys_end(k, a);
    }
    assert_false(api_keys_begin(k, a, 1000, &why));
    assert_int_equal(why.error.code, ERR_RATE_LIMITED);
    assert_non_null(strstr(why.error.msg, "'a' on requests_per_minute: limit 6"));
    assert_in_range(why.retry_ms, 10000, 10001); /* one in ten seconds */
    assert_false(api_keys_begin(k, a, 1000 + 9999, &why));
    assert_true(api_keys_begin(k, a, 1000 + why.retry_ms + 9999, &why));
    api_keys_end(k, a);
    struct api_key_usage u;
    assert_true(api_keys_usage(k, a, 1000000, &u)); /* full again, and not fuller */
    assert_int_equal(u.requests.limit, 6);
    assert_int_equal(u.requests.left, 6);
    assert_int_equal(u.requests.reset_ms, 0);
    assert_int_equal(u.n_requests, 7);
    assert_int_equal(u.n_refused[API_KEY_REQUESTS], 2);
}

static void requests_at_once(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    read_ok(k, LIMITED);
    uint64_t a = id_of(k, ALICE);
    assert_true(api_keys_begin(k, a, 0, &why));
    assert_true(api_keys_begin(k, a, 0, &why));
    assert_false(api_keys_begin(k, a, 0, &why));
    assert_non_null(strstr(why.error.msg, "max_concurrent: limit 2"));
    assert_true(why.retry_ms > 0);
    api_keys_end(k, a);
    assert_true(api_keys_begin(k, a, 0, &why));
    struct api_key_usage u;
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.n_running, 2);
    assert_int_equal(u.requests.left, 3); /* the refused one took nothing */
}

static void tokens_by_the_minute(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    struct api_key_usage u;
    read_ok(k, LIMITED);
    uint64_t a = id_of(k, ALICE);
    assert_false(api_keys_take_tokens(k, a, 601, 0, &why));
    assert_int_equal(why.retry_ms, -1);
    assert_true(api_keys_take_tokens(k, a, 500, 0, &why));
    assert_false(api_keys_take_tokens(k, a, 200, 0, &why));
    assert_in_range(why.retry_ms, 10000, 10001); /* 100 are missing, ten come in a second */
    assert_non_null(strstr(why.error.msg, "tokens_per_minute: limit 600, requested 200"));
    api_keys_charge(k, a, 0, 400, 0); /* overdrawn by 300 */
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.tokens.left, 0);
    assert_in_range(u.tokens.reset_ms, 90000, 90001);
    assert_false(api_keys_take_tokens(k, a, 1, 30000, &why));
    assert_true(api_keys_take_tokens(k, a, 1, 30200, &why));
    api_keys_give_back(k, a, 1, 30200);
    assert_true(api_keys_usage(k, a, 30200, &u));
    assert_int_equal(u.n_prompt_tokens, 500);
    assert_int_equal(u.n_generated_tokens, 400);
    assert_int_equal(u.n_refused[API_KEY_TOKENS], 3);
}

static void without_limits(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    struct api_key_usage u;
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" ALICE "\"}]");
    uint64_t a = id_of(k, ALICE);
    for (int i = 0; i < 1000; i++) {
        assert_true(api_keys_begin(k, a, 0, &why) && api_keys_take_tokens(k, a, 1000000, 0, &why));
    }
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.requests.limit, 0);
    assert_int_equal(u.tokens.limit, 0);
    assert_int_equal(u.n_running, 1000);
    assert_true(api_keys_begin(NULL, 0, 0, &why) && api_keys_take_tokens(NULL, 0, 1, 0, &why)); /* no keys at all */
    assert_false(api_keys_usage(NULL, 0, 0, &u));
    assert_int_equal(api_keys_count(NULL), 0);
}

/* ---- reading again ---- */

static void what_is_used_stays_used(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    struct api_key_usage u;
    read_ok(k, LIMITED);
    uint64_t a = id_of(k, ALICE);
    assert_true(api_keys_begin(k, a, 0, &why) && api_keys_begin(k, a, 0, &why));
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" BOB "\",\"requests_per_minute\":5}]"); /* another secret and limit */
    assert_int_equal(id_of(k, ALICE), 0);
    assert_int_equal(id_of(k, BOB), a);
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.requests.left, 4);
    assert_int_equal(u.n_running, 2);
    assert_int_equal(u.max_concurrent, 0);
    assert_int_equal(u.tokens.limit, 0);
    read_ok(k, LIMITED);
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.tokens.left, 600); /* a limit that is new begins full */
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" ALICE "\",\"requests_per_minute\":2}]");
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.requests.left, 2);
}

static void a_removed_key(void **state)
{
    struct api_keys *k = *state;
    struct api_key_refusal why = {0};
    struct api_key_usage u;
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" ALICE "\"},{\"name\":\"b\",\"key\":\"" BOB "\"}]");
    uint64_t a = id_of(k, ALICE), b = id_of(k, BOB);
    assert_true(api_keys_begin(k, a, 0, &why));
    read_ok(k, "[{\"name\":\"b\",\"key\":\"" BOB "\"}]");
    assert_int_equal(id_of(k, ALICE), 0);
    assert_int_equal(api_keys_n(k), 1);
    assert_int_equal(api_keys_count(k), 2);
    api_keys_charge(k, a, 0, 10, 0); /* what runs under it is counted to its end */
    assert_true(api_keys_usage(k, a, 0, &u));
    assert_int_equal(u.n_generated_tokens, 10);
    api_keys_end(k, a);
    assert_false(api_keys_usage(k, a, 0, &u));
    assert_int_equal(api_keys_count(k), 1);
    assert_int_equal(id_of(k, BOB), b);
    api_keys_charge(k, a, 0, 10, 0);
    api_keys_end(k, a); /* nothing is left to count */
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" ALICE "\"}]");
    assert_int_not_equal(id_of(k, ALICE), a);
}

static void salts(void **state)
{
    struct api_keys *k = *state;
    read_ok(k, "[{\"name\":\"a\",\"key\":\"" ALICE "\"},{\"name\":\"b\",\"key\":\"" BOB "\"}]");
    uint64_t a = id_of(k, ALICE), b = id_of(k, BOB), salt = api_keys_salt(k, a, 0);
    assert_int_not_equal(salt, 0);
    assert_int_not_equal(salt, api_keys_salt(k, b, 0));
    assert_int_not_equal(salt, api_keys_salt(k, a, 1));
    assert_int_not_equal(api_keys_salt(k, a, 1), api_keys_salt(k, b, 1));
    assert_int_equal(api_keys_salt_of_name(k, STR("a"), 0), salt);
    assert_int_equal(api_keys_salt_of_name(k, STR("b"), 1), api_keys_salt(k, b, 1));
    read_ok(k, "[{\"name\":\"other\",\"key\":\"" ALICE "\"}]");
    assert_int_not_equal(api_keys_salt_of_name(k, STR("a"), 0), salt); /* gone */
    assert_int_not_equal(api_keys_salt_of_name(k, STR("a"), 0), api_keys_salt_of_name(k, STR("b"), 0));
    assert_int_equal(api_keys_salt(k, id_of(k, ALICE), 0), salt); /* it is the key's, whatever its name */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_of_the_environment),
        TEST(the_right_key_opens),
        TEST(bad_files),
        TEST(files),
        TEST(both_sources),
        TEST(requests_by_the_minute),
        TEST(requests_at_once),
        TEST(tokens_by_the_minute),
        TEST(without_limits),
        TEST(what_is_used_stays_used),
        TEST(a_removed_key),
        TEST(salts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
