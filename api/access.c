#include "api/access.h"

#include "base/arena.h"
#include "http/host.h"

#include <stdlib.h>

#define OPTIONS_MEMORY KIB(256)
#define MAX_HEADERS    KIB(4) /* of Access-Control-Request-Headers */

const char access_methods[] = "GET, HEAD, POST, DELETE";
const char access_exposed[] =
    "X-Request-Id, Request-Id, X-Tandem-Ignored-Fields, X-Tandem-Widened-Schemas, Retry-After, Retry-After-Ms, "
    "X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, X-RateLimit-Limit-Tokens, "
    "X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens";

struct access {
    const struct api_keys *keys;
    struct arena *arena; /* of the lists */
    const char **hosts, **origins;
    int n_hosts, n_origins;
    bool any_origin;
};

/* ---- options ---- */

struct access *access_create(const struct api_keys *keys, struct error *err)
{
    struct access *a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NO_MEMORY, "no memory for the rules of access.");
        return NULL;
    }
    a->keys = keys;
    return a;
}

void access_free(struct access *a)
{
    if (a) {
        arena_free(a->arena);
        free(a);
    }
}

/* "scheme://host[:port]" as browsers write it: nothing behind it. */
static bool split_origin(struct str origin, struct str *scheme, struct http_host *host)
{
    size_t at = str_find(origin, STR("://"));
    if (at == STR_NPOS || at == 0) {
        return false;
    }
    struct str rest = str_slice(origin, at + 3, origin.len);
    *scheme = str_slice(origin, 0, at);
    return str_find_char(rest, '/') == STR_NPOS && str_find_char(rest, ' ') == STR_NPOS && http_host_parse(rest, host);
}

static bool check_origins(const struct access *a, const struct access_options *o, struct error *err)
{
    for (int i = 0; i < o->n_cors_origins; i++) {
        struct str origin = str_of(o->cors_origins[i]), scheme;
        struct http_host host;
        if (str_eq(origin, STR("*"))) {
            if (api_keys_n(a->keys) == 0) {
                return error_set(err, ERR_INVALID,
                                 "--cors-origin '*' lets every web page use the server, and it has no keys: name the "
                                 "origins, or give it keys.");
            }
        } else if (!split_origin(origin, &scheme, &host)) {
            return error_set(err, ERR_INVALID,
                             "--cors-origin: '%.100s' is not an origin such as https://chat.example.com or "
                             "http://localhost:3000.",
                             origin.ptr);
        }
    }
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* In small letters: neither hosts nor origins know others. */
static const char **copy_list(struct arena *arena, const char *const *items, int n)
{
    const char **copy = arena_alloc_array(arena, (size_t)n + 1, sizeof *copy);
    for (int i = 0; copy && i < n; i++) {
        char *text = arena_strdup(arena, str_of(items[i]));
        for (char *c = text; c && *c; c++) {
            *c = lower(*c);
        }
        copy[i] = text;
        if (!text) {
            return NULL;
        }
    }
    return copy;
}

bool access_configure(struct access *a, const struct access_options *o, struct error *err)
{
    if (!check_origins(a, o, err)) {
        return false;
    }
    struct arena *arena = arena_create(OPTIONS_MEMORY);
    const char **hosts = arena ? copy_list(arena, o->allowed_hosts, o->n_allowed_hosts) : NULL;
    const char **origins = hosts ? copy_list(arena, o->cors_origins, o->n_cors_origins) : NULL;
    if (!origins) {
        arena_free(arena);
        return error_set(err, ERR_NO_MEMORY, "no memory for the lists of hosts and origins.");
    }
    arena_free(a->arena);
    a->arena = arena;
    a->hosts = hosts;
    a->n_hosts = o->n_allowed_hosts;
    a->origins = origins;
    a->n_origins = o->n_cors_origins;
    a->any_origin = false;
    for (int i = 0; i < a->n_origins; i++) {
        a->any_origin |= strcmp(origins[i], "*") == 0;
    }
    return true;
}

/* ---- fields ---- */

/* The one field of that name. False: there are several, which two readers could understand in two ways. */
static bool only_field(const struct http_request *head, const char *name, struct str *value)
{
    int n = 0;
    *value = (struct str){NULL, 0};
    for (size_t i = 0; i < head->n_headers; i++) {
        if (str_eq_nocase(head->headers[i].name, str_of(name))) {
            *value = head->headers[i].value;
            n++;
        }
    }
    return n <= 1;
}

static bool refuse(struct access_verdict *out, enum access_refusal why)
{
    out->refusal = why;
    return false;
}

/* ---- Host ---- */

static bool is_allowed_host(const struct access *a, const struct http_host *host)
{
    char name[256];
    if (http_host_is_loopback(host) || http_host_is_address(host)) {
        return true;
    }
    if (host->name.len >= sizeof name) {
        return false;
    }
    for (size_t i = 0; i < host->name.len; i++) {
        name[i] = lower(host->name.ptr[i]);
    }
    for (int i = 0; i < a->n_hosts; i++) {
        if (str_match(str_of(a->hosts[i]), (struct str){name, host->name.len})) {
            return true;
        }
    }
    return false;
}

static bool check_host_text(const struct access *a, struct str text, struct access_verdict *out)
{
    struct http_host host;
    if (http_host_parse(text, &host) && is_allowed_host(a, &host)) {
        return true;
    }
    error_set(&out->error, ERR_FORBIDDEN,
              "The host '" STR_FMT "' is not one of this server's names; --allowed-host allows it.",
              STR_ARG(str_slice(text, 0, 100)));
    return refuse(out, ACCESS_BAD_HOST);
}

/* The authority of a target in absolute form; {NULL, 0}: it has none. */
static struct str target_authority(struct str target)
{
    size_t at = target.len && target.ptr[0] != '/' ? str_find(target, STR("://")) : STR_NPOS;
    if (at == STR_NPOS) {
        return (struct str){NULL, 0};
    }
    struct str rest = str_slice(target, at + 3, target.len);
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?') {
        end++;
    }
    return str_slice(rest, 0, end);
}

/* A key keeps a page of another site out by itself: it cannot send what it does not know. Browsers always send a Host;
 * HTTP/1.0 has none. */
static bool check_host(const struct access *a, const struct http_request *head, bool is_local,
                       struct access_verdict *out)
{
    struct str host = http_header_get(head, "host"), authority = target_authority(head->target);
    if (is_local || api_keys_n(a->keys)) {
        return true;
    }
    return (host.len == 0 || check_host_text(a, host, out)) &&
           (authority.len == 0 || check_host_text(a, authority, out));
}

/* ---- Origin ---- */

/* The server's own: its host and port are those of the Host field. The scheme may differ from what the server sees when
 * a proxy speaks TLS for it. */
static bool is_own_origin(const struct http_request *head, struct str origin)
{
    struct str scheme;
    struct http_host from, own;
    if (!split_origin(origin, &scheme, &from) || !http_host_parse(http_header_get(head, "host"), &own)) {
        return false;
    }
    bool tls = str_eq_nocase(scheme, STR("https"));
    int default_port = tls ? 443 : 80;
    return (tls || str_eq_nocase(scheme, STR("http"))) && str_eq_nocase(from.name, own.name) &&
           (from.port < 0 ? default_port : from.port) == (own.port < 0 ? default_port : own.port);
}

/* "null" is what sandboxed frames, local files and redirects send: anybody's. */
static bool is_listed_origin(const struct access *a, struct str origin)
{
    if (str_eq_nocase(origin, STR("null"))) {
        return false;
    }
    for (int i = 0; i < a->n_origins; i++) {
        if (str_eq_nocase(str_of(a->origins[i]), origin)) {
            return true;
        }
    }
    return a->any_origin;
}

static bool check_origin(const struct access *a, const struct http_request *head, bool is_open,
                         struct access_verdict *out)
{
    struct str origin;
    bool one = only_field(head, "origin", &origin);
    out->varies = a->n_origins > 0;
    if (!origin.ptr) {
        return true;
    }
    if (one && is_listed_origin(a, origin)) {
        out->allow_origin = origin;
        out->preflight = str_eq(head->method, STR("OPTIONS")) &&
                         http_header_get(head, "access-control-request-method").len && head->content_length == 0 &&
                         !head->chunked;
        return true;
    }
    if (is_open || (one && is_own_origin(head, origin))) {
        return true;
    }
    error_set(&out->error, ERR_FORBIDDEN,
              "Pages of the origin '" STR_FMT "' may not use this server; --cors-origin allows an origin.",
              STR_ARG(str_slice(origin, 0, 100)));
    return refuse(out, ACCESS_BAD_ORIGIN);
}

/* ---- keys ---- */

static bool no_key(struct access_verdict *out, enum access_refusal why, const char *message)
{
    bool wrong = why == ACCESS_BAD_KEY;
    out->authenticate = wrong ? "Bearer realm=\"tandem\", error=\"invalid_token\"" : "Bearer realm=\"tandem\"";
    error_set(&out->error, ERR_UNAUTHENTICATED, "%s", message);
    return refuse(out, why);
}

/* The key of "Bearer KEY"; {NULL, 0}: it is something else. */
static struct str bearer_of(struct str authorization)
{
    struct str scheme = str_slice(authorization, 0, 6), rest = str_slice(authorization, 6, authorization.len);
    bool is_bearer = str_eq_nocase(scheme, STR("bearer")) && rest.len && (rest.ptr[0] == ' ' || rest.ptr[0] == '\t');
    return is_bearer ? str_trim(rest) : (struct str){NULL, 0};
}

static bool check_key(const struct access *a, const struct http_request *head, struct access_verdict *out)
{
    struct str authorization, plain, bearer;
    if (api_keys_n(a->keys) == 0) {
        return true;
    }
    if (!only_field(head, "authorization", &authorization) || !only_field(head, "x-api-key", &plain)) {
        return no_key(out, ACCESS_BAD_KEY, "The request has several keys; send one.");
    }
    bearer = bearer_of(authorization);
    if (authorization.ptr && bearer.len == 0) {
        return no_key(out, ACCESS_BAD_KEY, "The Authorization field must be 'Bearer' and an API key.");
    }
    if (bearer.len == 0 && plain.len == 0) {
        return no_key(out, ACCESS_NO_KEY,
                      "This server needs an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.");
    }
    uint64_t of_bearer = bearer.len ? api_keys_check(a->keys, bearer) : 0;
    uint64_t of_plain = plain.len ? api_keys_check(a->keys, plain) : 0;
    if (bearer.len && plain.len && of_bearer != of_plain) {
        return no_key(out, ACCESS_BAD_KEY, "Authorization and x-api-key hold different keys; send one.");
    }
    out->key = bearer.len ? of_bearer : of_plain;
    return out->key || no_key(out, ACCESS_BAD_KEY, "The API key is not valid.");
}

/* ---- all of it ---- */

static bool is_open_route(const struct http_request *head)
{
    return (str_eq(head->method, STR("GET")) || head->is_head) &&
           (str_eq(head->path, STR("/health")) || str_eq(head->path, STR("/ready")));
}

void access_check(const struct access *a, const struct http_request *head, bool is_local, struct access_verdict *out)
{
    bool is_open = is_open_route(head);
    *out = (struct access_verdict){0};
    if ((!is_open && !check_host(a, head, is_local, out)) || !check_origin(a, head, is_open, out)) {
        return;
    }
    if (!is_open && !out->preflight && !check_key(a, head, out)) {
        return;
    }
    out->refusal = ACCESS_OK;
}

struct str access_headers(const struct http_request *head)
{
    struct str asked = http_header_get(head, "access-control-request-headers");
    return asked.len && asked.len <= MAX_HEADERS ? asked : STR("Authorization, Content-Type, X-Api-Key");
}
