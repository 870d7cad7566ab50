#include "api/request_record.h"

#include "api/api_internal.h"
#include "api/generate.h"
#include "base/array.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>

static struct request_record *record_of(const struct http_exchange *x)
{
    return http_context(x);
}

/* ---- names ---- */

static void make_id(char *out, size_t size)
{
    uint64_t random[2];
    rng_entropy(random, sizeof random);
    snprintf(out, size, "req_%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
}

static void take_id(struct request_record *r, const struct http_request *head)
{
    struct str given = head ? http_header_only(head, "x-request-id") : (struct str){0};
    if (request_id_valid(given)) {
        snprintf(r->id, sizeof r->id, STR_FMT, STR_ARG(given));
    } else {
        make_id(r->id, sizeof r->id);
    }
}

static void random_bytes(uint8_t *out, size_t n)
{
    static const uint8_t none[TRACE_ID_SIZE]; /* an id is never all 0 */
    do {
        rng_entropy(out, n);
    } while (memcmp(out, none, n) == 0);
}

/* The client's trace goes on, or a new one begins. */
static void take_trace(struct request_record *r, const struct http_request *head)
{
    const struct otlp *otlp = r->app->options.otlp;
    buf_init(&r->trace_state, TRACESTATE_MAX);
    r->has_parent = head && trace_context_of(head, &r->trace, &r->trace_state);
    if (r->has_parent) {
        memcpy(r->parent_id, r->trace.span_id, SPAN_ID_SIZE);
    } else if (otlp) {
        random_bytes(r->trace.trace_id, TRACE_ID_SIZE);
        r->trace.sampled = otlp_samples(otlp, r->trace.trace_id);
    }
    if (otlp && r->trace.sampled) {
        random_bytes(r->trace.span_id, SPAN_ID_SIZE);
    }
}

/* Names from a table, so that no client puts text of its own into logs and metrics of others. */
static const char *known_method(struct str method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(method, str_of(names[i]))) {
            return names[i];
        }
    }
    return "_OTHER";
}

/* ---- life ---- */

void api__opened(struct http_exchange *x, const struct http_request *head, void *arg)
{
    struct request_record *r = calloc(1, sizeof *r);
    if (!r) {
        return;
    }
    r->app = arg;
    r->begun_us = clock_us();
    r->begun_wall_ns = clock_wall_ns();
    r->method = head ? known_method(head->method) : "";
    r->route = head ? api__find_route(head) : NULL;
    r->http_minor = head ? head->minor_version : -1;
    r->is_secure = http_is_secure(x);
    take_id(r, head);
    take_trace(r, head);
    http_set_context(x, r);
    http_add_header(x, "X-Request-Id", str_of(r->id));
    if (head && api__speaks_anthropic(head)) {
        http_add_header(x, "Request-Id", str_of(r->id));
    }
}

void api__finished(struct http_exchange *x, const struct http_end *end, void *arg)
{
    struct request_record *r = record_of(x);
    (void)arg;
    if (!r) {
        return;
    }
    if (end->refusal) {
        r->error = end->refusal->code;
    }
    api__log_request(r, end, http_client_address(x));
    api__export_request(r, end, http_client_address(x));
    buf_release(&r->trace_state);
    free(r->tool_calls);
    free(r);
}

/* ---- what is learned on the way ---- */

const char *api__request_id(const struct http_exchange *x)
{
    return record_of(x) ? record_of(x)->id : "";
}

void api__record_error(struct http_exchange *x, enum error_code code)
{
    if (record_of(x)) {
        record_of(x)->error = code;
    }
}

void api__record_key(struct http_exchange *x, const char *key_name)
{
    struct request_record *r = record_of(x);
    if (r && key_name[0]) {
        snprintf(r->key_name, sizeof r->key_name, "%s", key_name);
    }
}

static void copy(char *out, size_t size, struct str text)
{
    size_t n = utf8_cut(text, size - 1);
    memcpy(out, text.ptr ? text.ptr : "", n);
    out[n] = '\0';
}

static void copy_request(struct request_record *r, const struct gen_request *request)
{
    r->is_generation = true;
    r->chat = request->input == GEN_CHAT;
    r->stream = request->stream;
    r->has_seed = request->has_seed;
    r->seed = request->seed;
    r->max_tokens = request->max_tokens;
    r->n = request->n;
    r->sampling = request->sampling;
    memcpy(r->object_id, request->id, sizeof r->object_id);
}

void api__record_call(const struct call *c)
{
    struct request_record *r = c->x ? record_of(c->x) : NULL;
    if (!r) {
        return;
    }
    api__record_key(c->x, c->key_name);
    const char *served = c->model ? api__call_served_name(c) : "";
    bool named = c->request.model.len && !str_eq(c->request.model, STR("default"));
    copy(r->served_model, sizeof r->served_model, str_of(served));
    copy(r->model, sizeof r->model, named ? c->request.model : str_of(served));
    if (c->request.id[0]) {
        copy_request(r, &c->request);
    }
}

void api__record_generation(const struct gen_reply *reply)
{
    struct request_record *r = record_of(reply->call->x);
    struct gen_status status;
    struct error err;
    if (!r) {
        return;
    }
    api__record_call(reply->call);
    generation_status(reply->generation, clock_us(), &status);
    r->has_generation = true;
    r->received_us = reply_request(reply)->received_us;
    r->usage = status.usage;
    r->timings = status.timings;
    r->n_engine_losses = status.n_engine_losses;
    r->finish = generation_finish(reply->generation);
    r->error = generation_failed(reply->generation, &err) ? err.code : ERR_NONE;
    if (r->app->options.log_content) {
        api__log_texts(r, reply_request(reply), generation_text(reply->generation));
    }
}

/* Calls before the request began are of an earlier reader of the same answer. */
void api__record_event(const struct gen_reply *reply, const struct gen_event *e)
{
    struct request_record *r = record_of(reply->call->x);
    struct error ignored = {0};
    if (e->kind != GEN_RESULT || !r || !r->app->options.otlp || !r->trace.sampled || e->call.sent_us < r->begun_us ||
        !array_reserve(&r->tool_calls, &r->cap_tool_calls, r->n_tool_calls + 1, RECORD_MAX_TOOL_CALLS, "tool calls",
                       &ignored)) {
        return;
    }
    struct record_tool_call *c = &r->tool_calls[r->n_tool_calls++];
    *c = (struct record_tool_call){.sent_us = e->call.sent_us, .took_us = e->call.took_us, .failed = e->is_error};
    copy(c->server, sizeof c->server, e->call.server);
    copy(c->name, sizeof c->name, e->call.own_name);
    copy(c->id, sizeof c->id, e->call.id);
}

/* ---- how it ended ---- */

const char *request_outcome_name(enum request_outcome outcome)
{
    static const char *const names[] = {"completed", "cancelled", "refused", "failed"};
    return names[outcome];
}

enum request_outcome api__outcome(const struct request_record *r, const struct http_end *end)
{
    int status = r->error ? error_info(r->error)->http_status : end->status;
    bool no_room = status == 503 && r->usage.completion_tokens == 0 && r->n_engine_losses == 0;
    if (!end->complete || r->finish == FINISH_CANCELLED) {
        return OUTCOME_CANCELLED;
    }
    if (end->refusal || (status >= 400 && (status < 500 || no_room))) {
        return OUTCOME_REFUSED;
    }
    return status >= 500 ? OUTCOME_FAILED : OUTCOME_COMPLETED;
}
