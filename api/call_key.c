/* Requests and their API keys: the check at the door, the limits of a key, and what replies say about both. */
#include "api/batch/batch.h"

#include "base/clock.h"

#include <stdio.h>

#define PREFLIGHT_TAG     UINT64_MAX /* no key's id */
#define PREFLIGHT_SECONDS "600"      /* browsers ask again after it; a changed list is felt soon enough */

/* ---- at the door ---- */

static void count(struct app *a, enum access_refusal why)
{
    struct metrics_access_now *counts = &a->access_counts;
    uint64_t *const counters[ACCESS_N_REFUSALS] = {[ACCESS_NO_KEY] = &counts->no_key,
                                                   [ACCESS_BAD_KEY] = &counts->bad_key,
                                                   [ACCESS_BAD_HOST] = &counts->bad_host,
                                                   [ACCESS_BAD_ORIGIN] = &counts->bad_origin};
    ++*counters[why];
}

static void add_cors_headers(struct http_exchange *x, const struct access_verdict *v)
{
    if (v->varies) {
        http_add_header(x, "Vary", STR("Origin"));
    }
    if (v->allow_origin.len) {
        http_add_header(x, "Access-Control-Allow-Origin", v->allow_origin);
    }
    if (v->allow_origin.len && !v->preflight) {
        http_add_header(x, "Access-Control-Expose-Headers", str_of(access_exposed));
    }
}

size_t api__max_body(const struct app *a)
{
    size_t most = a->options.limits.max_body;
    return most ? most : LIMIT_HTTP_BODY;
}

static bool is_upload(const struct http_request *head)
{
    return str_eq(head->method, STR("POST")) && str_eq(head->path, STR(FILES_ROUTE));
}

/* What nobody may send is refused as that, whoever sends it: the limit is no secret, and a key would not help. */
static bool is_too_large(const struct app *a, const struct http_request *head, struct error *err)
{
    size_t most = api__max_body(a);
    if (is_upload(head) || head->content_length <= most) {
        return false;
    }
    error_set(err, ERR_TOO_LARGE, "The body must have at most %zu bytes.", most);
    return true;
}

bool api__check_access(struct http_exchange *x, void *app, struct error *err)
{
    struct app *a = app;
    struct access_verdict v;
    access_check(a->access, http_request_of(x), http_is_local(x), &v);
    add_cors_headers(x, &v);
    if (v.refusal != ACCESS_OK) {
        count(a, v.refusal);
        if (v.error.code == ERR_UNAUTHENTICATED && is_too_large(a, http_request_of(x), err)) {
            return false;
        }
        if (v.authenticate) {
            http_add_header(x, "WWW-Authenticate", str_of(v.authenticate));
        }
        *err = v.error;
        return false;
    }
    api__record_key(x, api_keys_name(a->options.keys, v.key));
    http_set_tag(x, v.preflight ? PREFLIGHT_TAG : v.key);
    return v.preflight || !is_upload(http_request_of(x)) || api__file_begin(a, x, err);
}

bool api__answer_preflight(struct http_exchange *x)
{
    if (http_tag(x) != PREFLIGHT_TAG) {
        return false;
    }
    const struct http_request *head = http_request_of(x);
    http_add_header(x, "Access-Control-Allow-Methods", str_of(access_methods));
    http_add_header(x, "Access-Control-Allow-Headers", access_headers(head));
    http_add_header(x, "Access-Control-Max-Age", STR(PREFLIGHT_SECONDS));
    if (str_eq_nocase(http_header_get(head, "access-control-request-private-network"), STR("true"))) {
        http_add_header(x, "Access-Control-Allow-Private-Network", STR("true"));
    }
    http_reply(x, 204, NULL, STR(""));
    return true;
}

uint64_t api__key_of(const struct http_exchange *x)
{
    uint64_t tag = http_tag(x);
    return tag == PREFLIGHT_TAG ? 0 : tag;
}

/* ---- headers ---- */

/* As OpenAI writes durations: "120ms", "8.64s", "6m0s". */
static void write_duration(int64_t ms, char *out, size_t size)
{
    if (ms < 1000) {
        snprintf(out, size, "%lldms", (long long)ms);
    } else if (ms < 60000) {
        snprintf(out, size, "%.10gs", (double)ms / 1000);
    } else {
        snprintf(out, size, "%lldm%llds", (long long)ms / 60000, (long long)ms / 1000 % 60);
    }
}

static void add_limit(struct http_exchange *x, const char *what, int64_t limit, int64_t left, int64_t reset_ms)
{
    char name[64], text[48];
    if (limit == 0) {
        return;
    }
    snprintf(name, sizeof name, "x-ratelimit-limit-%s", what);
    snprintf(text, sizeof text, "%lld", (long long)limit);
    http_add_header(x, name, str_of(text));
    snprintf(name, sizeof name, "x-ratelimit-remaining-%s", what);
    snprintf(text, sizeof text, "%lld", (long long)left);
    http_add_header(x, name, str_of(text));
    snprintf(name, sizeof name, "x-ratelimit-reset-%s", what);
    write_duration(reset_ms, text, sizeof text);
    http_add_header(x, name, str_of(text));
}

static void add_limits(struct app *a, struct http_exchange *x, uint64_t key)
{
    struct api_key_usage u;
    if (api_keys_usage(a->options.keys, key, clock_ms(), &u)) {
        add_limit(x, "requests", u.requests.limit, u.requests.left, u.requests.reset_ms);
        add_limit(x, "tokens", u.tokens.limit, u.tokens.left, u.tokens.reset_ms);
    }
}

void api__key_headers(const struct call *c)
{
    add_limits(c->app, c->x, api__key_of(c->x)); /* c->key counts it, which one that only reads another's does not */
}

/* The official clients read both: that in milliseconds, and whether to send it again at all. */
static void refuse(struct http_exchange *x, const struct api_key_refusal *why)
{
    char text[32];
    if (why->retry_ms >= 0) {
        snprintf(text, sizeof text, "%lld", (long long)why->retry_ms);
        http_add_header(x, "Retry-After-Ms", str_of(text));
    } else {
        http_add_header(x, "X-Should-Retry", STR("false"));
    }
    api__reply_error_after(x, &why->error, why->retry_ms);
}

/* ---- limits ---- */

bool api__key_begin(struct app *a, struct http_exchange *x, uint64_t key)
{
    struct api_key_refusal why_not = {0};
    if (api_keys_begin(a->options.keys, key, clock_ms(), &why_not)) {
        return true;
    }
    add_limits(a, x, key);
    refuse(x, &why_not);
    return false;
}

static uint64_t prompt_tokens(const struct call *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->request.n_jobs; i++) {
        n += c->request.jobs[i].n_prompt;
    }
    return n;
}

bool api__key_take_tokens(struct call *c)
{
    struct api_key_refusal why_not = {0};
    if (api_keys_take_tokens(c->app->options.keys, c->key, prompt_tokens(c), clock_ms(), &why_not)) {
        c->charged = true;
        return true;
    }
    if (api__early_error(c, &why_not.error)) {
        return false;
    }
    api__call_headers(c);
    refuse(c->x, &why_not);
    api__call_free(c);
    return false;
}

void api__key_give_back_tokens(struct call *c)
{
    if (c->charged) {
        c->charged = false;
        api_keys_give_back(c->app->options.keys, c->key, prompt_tokens(c), clock_ms());
    }
}

void api__key_end(struct call *c)
{
    api_keys_end(c->app->options.keys, c->key);
}
