/* Who may call: Host, Origin and key against the rules of docs/SECURITY.md, and every route of the table without a key.
 */
#include "api/access.h"
#include "api/api_internal.h"

#include "base/array.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEY       "sk-0123456789abcdef"
#define OTHER_KEY "sk-other-0123456789"

struct fixture {
    struct api_keys *keys;
    struct access *access;
};

static int setup(void **state)
{
    struct error err = {0};
    struct fixture *f = calloc(1, sizeof *f);
    log_set_level(LOG_LEVEL_ERROR);
    f->keys = api_keys_create();
    f->access = access_create(f->keys, &err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    access_free(f->access);
    api_keys_free(f->keys);
    free(f);
    return 0;
}

static void with_keys(struct fixture *f)
{
    struct error err = {0};
    char list[] = KEY "," OTHER_KEY;
    assert_true(api_keys_set_list(f->keys, list, &err));
}

static void configure(struct fixture *f, const char *host, const char *origin)
{
    struct error err = {0};
    const char *const hosts[] = {"other.example", host}, *const origins[] = {"https://other.example", origin};
    struct access_options o = {.allowed_hosts = hosts,
                               .n_allowed_hosts = host ? 2 : 0,
                               .cors_origins = origins,
                               .n_cors_origins = origin ? 2 : 0};
    assert_true(access_configure(f->access, &o, &err));
}

struct asked {
    const char *method, *path, *target; /* GET, /v1/models, the path */
    const char *host, *origin, *authorization, *x_api_key, *request_method;
    bool is_local;
};

static enum access_refusal ask_for(struct fixture *f, const struct asked *q, struct access_verdict *v)
{
    struct http_header headers[8];
    const struct {
        const char *name, *value;
    } fields[] = {{"Host", q->host},
                  {"Origin", q->origin},
                  {"Authorization", q->authorization},
                  {"X-Api-Key", q->x_api_key},
                  {"Access-Control-Request-Method", q->request_method}};
    struct http_request head = {.headers = headers, .minor_version = 1};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (fields[i].value) {
            headers[head.n_headers++] = (struct http_header){str_of(fields[i].name), str_of(fields[i].value)};
        }
    }
    head.method = str_of(q->method ? q->method : "GET");
    head.path = str_of(q->path ? q->path : "/v1/models");
    head.target = q->target ? str_of(q->target) : head.path;
    head.is_head = str_eq(head.method, STR("HEAD"));
    access_check(f->access, &head, q->is_local, v);
    assert_true((v->refusal == ACCESS_OK) == (v->error.code == ERR_NONE));
    return v->refusal;
}

#define ASK(...) ask_for(f, &(struct asked){__VA_ARGS__}, &v)

/* ---- Host ---- */

static void hosts_without_keys(void **state)
{
    struct fixture *f = *state;
    struct access_verdict v;
    static const char *const good[] = {"localhost:8000",   "LOCALHOST",   "127.0.0.1:1", "[::1]:8000",
                                       "192.168.1.5:8000", "a.localhost", "[fe80::1]"};
    static const char *const bad[] = {
        "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "tandem", "127.1",
        "evil.example.",     "other.example"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(ASK(.host = good[i]), ACCESS_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(ASK(.host = bad[i]), ACCESS_BAD_HOST);
        assert_int_equal(v.error.code, ERR_FORBIDDEN);
        assert_non_null(strstr(v.error.msg, "--allowed-host"));
        assert_int_equal(ASK(.host = bad[i], .is_local = true), ACCESS_OK);
        assert_int_equal(ASK(.host = bad[i], .path = "/health"), ACCESS_OK);
        assert_int_equal(ASK(.host = bad[i], .path = "/health", .method = "POST"), ACCESS_BAD_HOST);
    }
    assert_int_equal(ASK(.host = NULL), ACCESS_OK); /* HTTP/1.0 */
    assert_int_equal(ASK(.host = "localhost", .target = "http://evil.example/v1/models"), ACCESS_BAD_HOST);
    assert_int_equal(ASK(.host = "localhost", .target = "http://localhost:8000?x"), ACCESS_OK);
    configure(f, "*.Lan", NULL);
    assert_int_equal(ASK(.host = "Box.lan:8000"), ACCESS_OK);
    assert_int_equal(ASK(.host = "box.lan."), ACCESS_OK);
    assert_int_equal(ASK(.host = "other.example"), ACCESS_OK);
    assert_int_equal(ASK(.host = "lan"), ACCESS_BAD_HOST);
    with_keys(f);
    assert_int_equal(ASK(.host = "evil.example", .x_api_key = KEY), ACCESS_OK);
    assert_int_equal(ASK(.host = "evil.example"), ACCESS_NO_KEY);
}

/* ---- Origin ---- */

static void origins(void **state)
{
    struct fixture *f = *state;
    struct access_verdict v;
    assert_int_equal(ASK(.host = "localhost:8000", .origin = "http://localhost:8000", .method = "POST"), ACCESS_OK);
    assert_int_equal(v.allow_origin.len, 0); /* its own pages need nothing */
    assert_false(v.varies);
    assert_int_equal(ASK(.host = "localhost", .origin = "https://LocalHost"), ACCESS_OK);
    assert_int_equal(ASK(.host = "localhost:443", .origin = "https://localhost"), ACCESS_OK);
    static const char *const bad[] = {"http://localhost:3000",
                                      "http://127.0.0.1:8000",
                                      "https://evil.example",
                                      "null",
                                      "NULL",
                                      "",
                                      "localhost:8000",
                                      "ftp://localhost:8000",
                                      "http://localhost:8000/",
                                      "http://localhost:8000, http://localhost:8000"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(ASK(.host = "localhost:8000", .origin = bad[i]), ACCESS_BAD_ORIGIN);
        assert_int_equal(v.error.code, ERR_FORBIDDEN);
        assert_int_equal(v.allow_origin.len, 0);
        assert_int_equal(ASK(.host = "localhost:8000", .origin = bad[i], .path = "/ready"), ACCESS_OK);
        assert_int_equal(v.allow_origin.len, 0);
        assert_int_equal(ASK(.host = "localhost:8000", .origin = bad[i], .method = "OPTIONS", .request_method = "POST"),
                         ACCESS_BAD_ORIGIN);
    }
    configure(f, NULL, "app://Obsidian.md");
    assert_int_equal(ASK(.host = "localhost", .origin = "app://obsidian.md"), ACCESS_OK);
    assert_true(str_eq(v.allow_origin, STR("app://obsidian.md")) && v.varies && !v.preflight);
    assert_int_equal(ASK(.host = "localhost"), ACCESS_OK);
    assert_true(v.varies && v.allow_origin.len == 0);
    assert_int_equal(ASK(.host = "localhost", .origin = "null"), ACCESS_BAD_ORIGIN);
    assert_int_equal(ASK(.host = "localhost", .origin = "https://other.example", .method = "OPTIONS"), ACCESS_OK);
    assert_false(v.preflight); /* it does not say for what */
    assert_int_equal(
        ASK(.host = "localhost", .origin = "https://other.example", .method = "OPTIONS", .request_method = "POST"),
        ACCESS_OK);
    assert_true(v.preflight);
    with_keys(f); /* a preflight brings no key; what it is for must */
    assert_int_equal(ASK(.origin = "https://other.example", .method = "OPTIONS", .request_method = "POST"), ACCESS_OK);
    assert_true(v.preflight);
    assert_int_equal(ASK(.origin = "https://other.example", .method = "OPTIONS"), ACCESS_NO_KEY);
    assert_int_equal(ASK(.origin = "https://other.example"), ACCESS_NO_KEY);
    assert_true(v.allow_origin.len > 0); /* scripts may read the error */
    configure(f, NULL, "*");
    assert_int_equal(ASK(.origin = "https://any.example", .x_api_key = KEY), ACCESS_OK);
    assert_true(str_eq(v.allow_origin, STR("https://any.example")));
    assert_int_equal(ASK(.origin = "null", .x_api_key = KEY), ACCESS_BAD_ORIGIN);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "*", "localhost:3000", "https://a.example/", "https://a.example/path", "https://", "://a", "null", ""};
    configure(f, NULL, "https://chat.example");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = {0};
        struct access_verdict v;
        assert_false(
            access_configure(f->access, &(struct access_options){.cors_origins = &bad[i], .n_cors_origins = 1}, &err));
        assert_non_null(strstr(err.msg, "--cors-origin"));
        assert_int_equal(ASK(.host = "localhost", .origin = "https://chat.example"), ACCESS_OK); /* as before */
    }
}

/* ---- keys ---- */

static void keys(void **state)
{
    struct fixture *f = *state;
    struct access_verdict v;
    assert_int_equal(ASK(.host = "localhost", .authorization = "Bearer unused"), ACCESS_OK); /* there are none */
    assert_int_equal(v.key, 0);
    with_keys(f);
    static const struct asked good[] = {{.authorization = "Bearer " KEY},
                                        {.authorization = "bearer   " KEY},
                                        {.x_api_key = KEY},
                                        {.x_api_key = KEY, .authorization = "Bearer " KEY},
                                        {.x_api_key = KEY, .host = "evil.example", .is_local = true}};
    uint64_t id = api_keys_check(f->keys, STR(KEY));
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(ask_for(f, &good[i], &v), ACCESS_OK);
        assert_int_equal(v.key, id);
    }
    static const struct {
        struct asked asked;
        enum access_refusal refusal;
    } bad[] = {{{.host = "localhost"}, ACCESS_NO_KEY},
               {{.is_local = true}, ACCESS_NO_KEY},
               {{.authorization = "", .x_api_key = NULL}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer"}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer "}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer" KEY}, ACCESS_BAD_KEY},
               {{.authorization = "Basic " KEY}, ACCESS_BAD_KEY},
               {{.authorization = KEY}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer " KEY "x"}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer " KEY ", Bearer " KEY}, ACCESS_BAD_KEY},
               {{.authorization = "Bearer sk-0123456789abcde"}, ACCESS_BAD_KEY},
               {{.x_api_key = "Bearer " KEY}, ACCESS_BAD_KEY},
               {{.x_api_key = KEY, .authorization = "Bearer " OTHER_KEY}, ACCESS_BAD_KEY},
               {{.x_api_key = "wrong", .authorization = "Bearer " KEY}, ACCESS_BAD_KEY},
               {{.x_api_key = KEY, .authorization = "Bearer wrong"}, ACCESS_BAD_KEY},
               {{.x_api_key = KEY, .authorization = "Basic abc"}, ACCESS_BAD_KEY}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (ask_for(f, &bad[i].asked, &v) != bad[i].refusal) {
            fail_msg("bad key %zu: %d", i, v.refusal);
        }
        assert_int_equal(v.error.code, ERR_UNAUTHENTICATED);
        assert_int_equal(v.key, 0);
        assert_non_null(strstr(v.authenticate, "Bearer realm="));
        assert_null(strstr(v.error.msg, "0123456789"));
    }
}

static void two_fields(void **state)
{
    struct fixture *f = *state;
    struct access_verdict v;
    with_keys(f);
    const struct http_header headers[] = {{STR("authorization"), STR("Bearer " KEY)},
                                          {STR("Authorization"), STR("Bearer " KEY)}};
    struct http_request head = {.headers = headers, .n_headers = 2, .method = STR("GET"), .path = STR("/v1/models")};
    access_check(f->access, &head, false, &v);
    assert_int_equal(v.refusal, ACCESS_BAD_KEY);
    head.n_headers = 1;
    access_check(f->access, &head, false, &v);
    assert_int_equal(v.refusal, ACCESS_OK);
}

/* ---- the table of routes ---- */

/* A route that is added is covered without a thought; only these two are open, and to these methods alone. */
static void every_route_needs_a_key(void **state)
{
    struct fixture *f = *state;
    struct access_verdict v;
    int n_open = 0;
    with_keys(f);
    for (int i = 0; i < api__n_routes; i++) {
        const struct route *r = &api__routes[i];
        bool is_open = strcmp(r->path, "/health") == 0 || strcmp(r->path, "/ready") == 0;
        if (ASK(.method = r->method, .path = r->path) != (is_open ? ACCESS_OK : ACCESS_NO_KEY)) {
            fail_msg("%s %s: %d", r->method, r->path, v.refusal);
        }
        assert_int_equal(ASK(.method = r->method, .path = r->path, .x_api_key = KEY), ACCESS_OK);
        assert_int_equal(ASK(.method = "HEAD", .path = r->path), is_open ? ACCESS_OK : ACCESS_NO_KEY);
        assert_int_equal(ASK(.method = "OPTIONS", .path = r->path), ACCESS_NO_KEY);
        assert_int_equal(ASK(.method = "PATCH", .path = r->path), ACCESS_NO_KEY);
        n_open += is_open;
    }
    assert_int_equal(n_open, 2);
    static const char *const others[] = {"/",       "*",         "/nothing", "/health/",
                                         "/Health", "/health/x", "//health", "/v1/health"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_int_equal(ASK(.path = others[i]), ACCESS_NO_KEY);
    }
}

static void preflight_headers(void **state)
{
    (void)state;
    struct http_header field = {STR("Access-Control-Request-Headers"), STR("authorization,x-stainless-os")};
    struct http_request head = {.headers = &field, .n_headers = 1};
    assert_true(str_eq(access_headers(&head), field.value));
    head.n_headers = 0;
    assert_true(str_find(access_headers(&head), STR("Authorization")) != STR_NPOS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hosts_without_keys),      TEST(origins),           TEST(bad_options), TEST(keys), TEST(two_fields),
        TEST(every_route_needs_a_key), TEST(preflight_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
