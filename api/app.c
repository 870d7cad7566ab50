/* Routing, the life of a call, error replies. */
#include "api/api_internal.h"
#include "api/batch/batch.h"
#include "api/kept/kept.h"
#include "api/mcp/mcp_api.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define CALL_REPLY_MAX   LIMIT_HTTP_REPLY
#define CALL_IGNORED_MAX KIB(2)
#define CALL_WIDENED_MAX KIB(2)
#define CLOSE_FLUSH_MS   2000 /* for last words to clients that take them */
#define CLOSE_POLL_MS    10
#define DEFAULT_RETRY_MS 1000

struct app_options app_options_default(void)
{
    return (struct app_options){
        .stream_interval_tokens = 1,
        .drop_volatile_lines = true,
        .keepalive_ms = 15000,
        .version = "",
    };
}

/* ---- replies ---- */

void api__put_ms(struct json_writer *w, const char *key, int64_t us)
{
    json_key(w, key);
    if (us < 0) {
        json_put_null(w);
    } else {
        json_put_double(w, (double)us / 1000);
    }
}

void api__reply_error_after(struct http_exchange *x, const struct error *err, int64_t retry_ms)
{
    const struct error_info *info = error_info(err->code);
    struct buf body;
    char after[32];
    api__record_error(x, err->code);
    buf_init(&body, KIB(16));
    api__write_error_for(http_request_of(x), err, api__request_id(x), &body);
    if (retry_ms >= 0) {
        snprintf(after, sizeof after, "%lld", (long long)(retry_ms + 999) / 1000);
        http_add_header(x, "Retry-After", str_of(after));
    } else if (info->http_status >= 500) {
        http_add_header(x, "x-should-retry", STR("false")); /* OpenAI's and Anthropic's clients obey it */
    }
    http_reply(x, info->http_status, "application/json", buf_view(&body));
    buf_release(&body);
}

void api__reply_error(struct http_exchange *x, const struct error *err)
{
    int64_t after_ms = err->retry_after_s > 0 ? (int64_t)err->retry_after_s * 1000 : DEFAULT_RETRY_MS;
    api__reply_error_after(x, err, error_info(err->code)->retryable ? after_ms : -1);
}

void api__reply_json(struct http_exchange *x, struct buf *json)
{
    struct error err = {0};
    if (buf_ok(json, "the reply", &err)) {
        http_reply(x, 200, "application/json", buf_view(json));
    } else {
        err.code = ERR_INTERNAL;
        api__reply_error(x, &err);
    }
    buf_release(json);
}

/* ---- calls ---- */

/* Calls use the app and its models until they are freed, so the last of them may be what the app's end waits for. */
static void finish_close(struct app *a)
{
    if (!a->server_closed || a->n_calls) {
        return;
    }
    void (*on_closed)(void *) = a->on_closed;
    void *on_closed_arg = a->on_closed_arg;
    access_free(a->access);
    api__batch_free_set(a->batches);
    api__kept_free(a->kept);
    free(a);
    on_closed(on_closed_arg);
}

void api__hold(struct app *a)
{
    a->n_calls++;
}

void api__release(struct app *a)
{
    a->n_calls--;
    finish_close(a);
}

struct call *api__call_create(struct app *a, const struct route *route, struct http_exchange *x)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c || !(c->arena = arena_create(LIMIT_REQUEST_ARENA))) {
        free(c);
        return NULL;
    }
    api__hold(a);
    c->app = a;
    c->route = route;
    c->x = x;
    c->received_us = clock_us();
    buf_init(&c->ignored, CALL_IGNORED_MAX);
    buf_init(&c->widened, CALL_WIDENED_MAX);
    buf_init(&c->reply, CALL_REPLY_MAX);
    return c;
}

void api__call_free(struct call *c)
{
    struct app *a = c->app;
    api__leave_places(c);
    api__key_end(c);
    buf_release(&c->ignored);
    buf_release(&c->widened);
    buf_release(&c->reply);
    api__call_leave_model(c);
    loop_free_arena(a->loop, c->arena);
    free(c);
    api__release(a);
}

void api__refuse(struct call *c, const struct error *err)
{
    api__key_give_back_tokens(c);
    if (api__early_error(c, err)) {
        return;
    }
    if (c->x) {
        api__call_headers(c);
        api__reply_error(c->x, err);
    }
    api__call_free(c);
}

bool api__call_waited(struct call *c, const struct error *err)
{
    if (c->x && !err) {
        return true;
    }
    if (c->x) {
        api__refuse(c, err);
    } else { /* left in the meantime */
        api__call_free(c);
    }
    return false;
}

void api__reply_call(struct call *c, int status)
{
    struct http_exchange *x = c->x;
    api__call_headers(c);
    http_reply(x, status, "application/json", buf_view(&c->reply));
    api__call_free(c);
}

void api__call_headers(struct call *c)
{
    api__record_call(c);
    if (c->ignored.len) {
        http_add_header(c->x, "X-Tandem-Ignored-Fields", buf_view(&c->ignored));
    }
    if (c->widened.len) {
        http_add_header(c->x, "X-Tandem-Widened-Schemas", buf_view(&c->widened));
    }
    api__key_headers(c);
}

/* ---- places ---- */

static bool generates(const struct route *r)
{
    return r->finish == api__generate;
}

/* Before anything of the request is read: when no model has a place left, whichever it is for. */
static bool is_full(struct app *a, struct error *err)
{
    for (size_t i = 0; i < gateway_n_models(a->gateway); i++) {
        struct served_model *m = gateway_model_at(a->gateway, i);
        if (!served_model_is_open(m) || !admission_full(served_model_admission(m), a->n_reading, err)) {
            return false;
        }
    }
    return gateway_n_models(a->gateway) > 0;
}

static void stop_reading(struct call *c)
{
    c->app->n_reading -= c->reading;
    c->reading = false;
}

static bool take_places(struct call *c)
{
    struct admission_request r = {.n_jobs = c->request.input == GEN_PROMPTS ? c->request.n_prompts : 1,
                                  .priority = c->request.priority,
                                  .timeout_ms = c->request.timeout_ms};
    c->ok = !generates(c->route) || admission_enter(served_model_admission(c->model), &r, &c->error);
    c->n_places = c->ok && generates(c->route) ? r.n_jobs : 0;
    return c->ok;
}

void api__leave_places(struct call *c)
{
    if (c->n_places) {
        admission_leave(served_model_admission(c->model), c->n_places);
        c->n_places = 0;
    }
}

static void reply_and_free(struct call *c)
{
    struct http_exchange *x = c->x;
    if (!c->ok && api__early_error(c, &c->error)) {
        return;
    }
    if (x) {
        api__call_headers(c);
        if (c->ok) {
            api__reply_json(x, &c->reply);
        } else {
            api__reply_error(x, &c->error);
        }
    }
    api__call_free(c);
}

void api__call_gone(void *arg)
{
    struct call *c = arg;
    api__record_key(c->x, c->key_name); /* nothing else: a worker may have the request */
    c->x = NULL;
}

static void worked(void *arg)
{
    struct call *c = arg;
    if (c->x && c->ok && c->route->finish) {
        c->route->finish(c);
        return;
    }
    reply_and_free(c);
}

static void work(void *arg)
{
    struct call *c = arg;
    c->ok = c->route->work(c, &c->error);
}

/* Its model's tokenizer and template are there, or *err says why not. */
static void opened(void *arg, const struct error *err)
{
    struct call *c = arg;
    if (err) {
        c->ok = false;
        c->error = *err;
    }
    c->ok = c->ok && api__call_take_adapter(c, &c->error);
    if (!c->x || !c->ok || !take_places(c)) {
        reply_and_free(c);
        return;
    }
    if (c->has_keep_alive) {
        served_model_keep_alive(c->model, c->keep_alive_ms);
    }
    c->request.api_key = c->key;
    if (c->key && c->app->options.cache_salt_per_key) {
        c->request.cache_salt = api_keys_salt(c->app->options.keys, c->key, c->request.cache_salt);
    }
    if (!api__choose_mcp(c, &c->error)) {
        c->ok = false;
        reply_and_free(c);
        return;
    }
    loop_work(c->app->loop, work, worked, c);
}

void api__call_go_on(struct call *c)
{
    if (!c->x || !c->ok) {
        reply_and_free(c);
        return;
    }
    snprintf(c->request.request_id, sizeof c->request.request_id, "%s", api__request_id(c->x));
    struct served_model *m = api__find_model(c);
    const struct app_options *o = &c->app->options;
    if (!m && o->ask_for_model && c->route->encoder) {
        m = o->ask_for_model(o->ask_arg, c->request.model, &c->error);
    }
    if (!m) {
        c->ok = c->error.code == ERR_NONE && gateway_model_missing(c->app->gateway, c->request.model, &c->error);
        reply_and_free(c);
        return;
    }
    api__call_set_model(c, m);
    bool unloads = c->route->finish == api__finish_unload && !c->adapter_name.len;
    if (unloads && !served_model_is_open(m)) { /* it is not brought for that */
        c->route->finish(c);
        return;
    }
    api__open_model(c, opened);
}

static void decoded(void *arg)
{
    struct call *c = arg;
    stop_reading(c);
    c->app->access_counts.volatile_lines += c->n_volatile;
    if (!c->x || !c->ok || !c->fetch || !c->fetch(c)) {
        api__call_go_on(c);
    }
}

void api__call_decode(struct call *c)
{
    int depth = c->rebuilt ? LIMIT_JSON_DEPTH + 8 : LIMIT_JSON_DEPTH; /* more may stand around the client's body */
    c->body = json_keep(json_parse(c->text, depth, &c->error), c->arena, "the request", &c->error);
    const struct json *kept = c->body ? api__kept_body(c) : NULL;
    c->ok = c->body && c->route->decode(c, &c->error) && (!kept || api__restore_mcp(c, kept, &c->error));
}

static void decode(void *arg)
{
    api__call_decode(arg);
}

/* `curl -d` says that what it sends is a form. So does a page of another origin, but with an Origin. */
static bool check_content_type(const struct http_request *head, struct error *err)
{
    struct str type = http_header_get(head, "content-type");
    size_t end = str_find_char(type, ';');
    struct str media = str_trim(str_slice(type, 0, end == STR_NPOS ? type.len : end));
    bool by_page = http_header_get(head, "origin").len > 0;
    return type.len == 0 || str_eq_nocase(media, STR("application/json")) ||
           (!by_page && str_eq_nocase(media, STR("application/x-www-form-urlencoded"))) ||
           error_set(err, ERR_BAD_MEDIA_TYPE, "The body must be application/json, not '" STR_FMT "'.", STR_ARG(media));
}

void api__call_start(struct app *a, const struct route *route, struct http_exchange *x, struct str rest)
{
    struct error err = {0};
    if (!gateway_accepting(a->gateway)) {
        error_set(&err, ERR_UNAVAILABLE, "the server is shutting down.");
        api__reply_error(x, &err);
        return;
    }
    if (!check_content_type(http_request_of(x), &err) || (generates(route) && is_full(a, &err))) {
        api__reply_error(x, &err);
        return;
    }
    uint64_t key = api__key_of(x);
    if (!api__key_begin(a, x, key)) {
        return;
    }
    struct call *c = api__call_create(a, route, x);
    if (!c) {
        api_keys_end(a->options.keys, key);
        error_set(&err, ERR_NO_MEMORY, "no memory for a request.");
        api__reply_error(x, &err);
        return;
    }
    c->key = key;
    snprintf(c->key_name, sizeof c->key_name, "%s", api_keys_name(a->options.keys, key));
    bool empty = route->work == api__work_nothing && http_body(x).len == 0; /* what its body may say is optional */
    c->text = empty ? STR("{}") : arena_str(c->arena, http_body(x)); /* the exchange may end while a worker reads it */
    c->rest = arena_str(c->arena, rest);
    http_on_gone(x, api__call_gone, c);
    c->reading = generates(route);
    a->n_reading += c->reading;
    loop_work_first(a->loop, decode, decoded, c);
}

/* ---- routing ---- */

/* "/v1/models/{model}" matches "/v1/models/a/b" with rest "a/b"; any other name in braces stands for one segment. */
static bool path_matches(const char *pattern, struct str path, struct str *rest)
{
    struct str p = str_of(pattern);
    size_t brace = str_find_char(p, '{');
    if (brace == STR_NPOS) {
        return str_eq(p, path);
    }
    size_t close = str_find_char(p, '}');
    struct str head = str_slice(p, 0, brace), tail = str_slice(p, close + 1, p.len);
    if (path.len <= head.len + tail.len || !str_starts(path, head) || !str_ends(path, tail)) {
        return false;
    }
    *rest = str_slice(path, head.len, path.len - tail.len);
    return str_find_char(*rest, '/') == STR_NPOS || str_eq(str_slice(p, brace, close + 1), STR("{model}"));
}

static const struct route *find_route(const struct http_request *head, struct str *rest, struct buf *allow)
{
    struct str method = head->is_head ? STR("GET") : head->method;
    for (int i = 0; i < api__n_routes; i++) {
        const struct route *r = &api__routes[i];
        if (!path_matches(r->path, head->path, rest)) {
            continue;
        }
        if (str_eq(str_of(r->method), method)) {
            return r;
        }
        buf_printf(allow, "%s%s", allow->len ? ", " : "", r->method);
    }
    return NULL;
}

const struct route *api__find_route(const struct http_request *head)
{
    struct str rest;
    struct str method = head->is_head ? STR("GET") : head->method;
    const struct route *found = NULL;
    for (int i = 0; i < api__n_routes; i++) {
        const struct route *r = &api__routes[i];
        if (path_matches(r->path, head->path, &rest)) {
            if (str_eq(str_of(r->method), method)) {
                return r;
            }
            found = found ? found : r;
        }
    }
    return found;
}

bool api__route_is_quiet(const struct route *r)
{
    return r->answer == api__health || r->answer == api__ready || r->answer == api__metrics;
}

static void reply_no_route(struct http_exchange *x, struct buf *allow)
{
    const struct http_request *head = http_request_of(x);
    struct error err = {0};
    if (allow->len) {
        http_add_header(x, "Allow", buf_view(allow));
        error_set(&err, ERR_BAD_METHOD, "'" STR_FMT "' is not allowed for " STR_FMT "; allowed: %s.",
                  STR_ARG(head->method), STR_ARG(head->path), allow->data);
    } else {
        error_set(&err, ERR_NOT_FOUND, "Unknown route: " STR_FMT " " STR_FMT ".", STR_ARG(head->method),
                  STR_ARG(head->path));
    }
    api__reply_error(x, &err);
}

static void handle(struct http_exchange *x, void *arg)
{
    struct app *a = arg;
    struct str rest = {0};
    struct buf allow;
    if (api__answer_preflight(x)) {
        return;
    }
    buf_init(&allow, KIB(1));
    const struct route *route = find_route(http_request_of(x), &rest, &allow);
    if (!route) {
        reply_no_route(x, &allow);
    } else if (route->answer) {
        route->answer(a, x, rest);
    } else {
        api__call_start(a, route, x, rest);
    }
    buf_release(&allow);
}

/* ---- life ---- */

static struct http_server_options server_options(struct app *a, const struct app_options *options)
{
    return (struct http_server_options){
        .listen = options->listen,
        .n_listen = options->n_listen,
        .limits = options->limits,
        .tls = options->tls,
        .handler = handle,
        .head_check = api__check_access,
        .error_body = api__error_body,
        .opened = api__opened,
        .finished = api__finished,
        .arg = a,
    };
}

static bool create_parts(struct app *a, const struct app_options *options, struct error *err)
{
    struct http_server_options server = server_options(a, options);
    a->access = access_create(options->keys, err);
    if (!a->access || !access_configure(a->access, &options->access, err)) {
        return false;
    }
    if (options->journal && (!(a->kept = api__kept_create(a)) || !(a->batches = api__batch_create_set(a)))) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the API server.");
    }
    a->server = http_server_create(loop_uv(a->loop), &server, err);
    return a->server != NULL;
}

struct app *app_create(const struct app_options *options, struct error *err)
{
    struct app *a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NO_MEMORY, "no memory for the API server.");
        return NULL;
    }
    a->options = *options;
    a->gateway = options->gateway;
    a->loop = gateway_loop(options->gateway);
    if (!create_parts(a, options, err)) {
        api__batch_free_set(a->batches);
        api__kept_free(a->kept);
        access_free(a->access);
        free(a);
        return NULL;
    }
    return a;
}

bool app_reload(struct app *a, const struct app_options *options, struct error *err)
{
    if (!access_configure(a->access, &options->access, err)) {
        return false;
    }
    a->options.limits = options->limits;
    a->options.keepalive_ms = options->keepalive_ms;
    a->options.stream_interval_ms = options->stream_interval_ms;
    a->options.stream_interval_tokens = options->stream_interval_tokens;
    http_server_set_limits(a->server, &options->limits);
    return true;
}

bool app_reload_tls(struct app *a, struct error *err)
{
    return !a->options.tls.cert_path || http_server_reload_tls(a->server, err);
}

void app_count_reload(struct app *a, bool ok)
{
    *(ok ? &a->access_counts.reloads : &a->access_counts.failed_reloads) += 1;
}

int app_port(const struct app *a, int listener)
{
    return http_server_port(a->server, listener);
}

void app_resume(struct app *a)
{
    if (a->kept) {
        api__kept_resume(a->kept);
        api__batch_resume(a->batches);
    }
}

void app_stop_accepting(struct app *a)
{
    if (a->kept) {
        api__kept_stop(a->kept);
        api__batch_stop(a->batches);
    }
    http_server_stop_accepting(a->server);
}

static void closed(void *arg)
{
    struct app *a = arg;
    a->server_closed = true;
    finish_close(a);
}

/* A connection ends by itself behind its last reply once the server has stopped accepting. */
static void close_when_flushed(void *arg)
{
    struct app *a = arg;
    if (http_server_connections(a->server) == 0 || clock_ms() >= a->close_until_ms) {
        loop_timer_free(a->close_timer);
        http_server_close(a->server, closed, a);
    }
}

void app_close(struct app *a, void (*on_closed)(void *arg), void *arg)
{
    a->on_closed = on_closed;
    a->on_closed_arg = arg;
    app_stop_accepting(a);
    a->close_until_ms = clock_ms() + CLOSE_FLUSH_MS;
    a->close_timer = loop_timer_create(a->loop, close_when_flushed, a);
    if (a->close_timer) {
        loop_timer_start(a->close_timer, 0, CLOSE_POLL_MS);
    } else {
        http_server_close(a->server, closed, a);
    }
}
