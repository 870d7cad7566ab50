/* A request as spans: the server's, and beneath it how long it waited for the engine, was prefilled and decoded, and
 * the calls of MCP tools that were made for it.
 *
 *     POST /v1/chat/completions  |-----------------------------------------|   SERVER
 *       queue                         |-----|
 *       prefill                             |--------|
 *       decode                                       |-----------------|
 *       execute_tool clock                               |---|
 *
 * Attributes by OpenTelemetry's semantic conventions for HTTP servers (1.44) and for generative AI (0.1 of their own
 * repository); what they have no name for begins with "tandem.". No text of clients but the model's name and the
 * request id: no prompt, no answer, no path (http.route has the table's), no query, no header. */
#include "api/generate.h"
#include "api/request_record.h"
#include "base/clock.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_ATTRIBUTES  40
#define TOOL_ATTRIBUTES 6
#define N_CHILDREN      3 /* beside those of tools */

struct attributes {
    struct otlp_attribute items[MAX_ATTRIBUTES];
    size_t n;
};

static void put(struct attributes *a, struct otlp_attribute attribute)
{
    if (a->n < MAX_ATTRIBUTES) {
        a->items[a->n++] = attribute;
    }
}

static void put_str(struct attributes *a, const char *key, const char *value) /* nothing when it is empty */
{
    if (value[0]) {
        put(a, (struct otlp_attribute){.key = key, .type = OTLP_STR, .text = str_of(value)});
    }
}

static void put_int(struct attributes *a, const char *key, int64_t value)
{
    put(a, (struct otlp_attribute){.key = key, .type = OTLP_INT, .number = value});
}

static void put_double(struct attributes *a, const char *key, double value)
{
    put(a, (struct otlp_attribute){.key = key, .type = OTLP_DOUBLE, .real = value});
}

/* ---- attributes ---- */

static void put_http(struct attributes *a, const struct request_record *r, const struct http_end *end,
                     const char *client)
{
    put_str(a, "http.request.method", r->method);
    put_str(a, "url.scheme", r->is_secure ? "https" : "http");
    put_str(a, "url.path", r->route && !strchr(r->route->path, '{') ? r->route->path : "");
    put_str(a, "http.route", r->route ? r->route->path : "");
    put_str(a, "client.address", client);
    if (r->http_minor >= 0) {
        put_str(a, "network.protocol.version", r->http_minor ? "1.1" : "1.0");
    }
    if (end->status) {
        put_int(a, "http.response.status_code", end->status);
    }
    put_str(a, "tandem.request.id", r->id);
    put_str(a, "tandem.key.name", r->key_name);
    put_str(a, "tandem.outcome", request_outcome_name(api__outcome(r, end)));
}

static void put_request(struct attributes *a, const struct request_record *r)
{
    put_str(a, "gen_ai.operation.name", r->chat ? "chat" : "text_completion");
    put_str(a, "gen_ai.provider.name", "tandem");
    put_str(a, "gen_ai.output.type", "text");
    put_str(a, "gen_ai.request.model", r->model);
    if (r->stream) {
        put(a, (struct otlp_attribute){.key = "gen_ai.request.stream", .type = OTLP_BOOL, .number = 1});
    }
    if (r->n != 1) {
        put_int(a, "gen_ai.request.choice.count", r->n);
    }
    if (r->has_seed) {
        put_int(a, "gen_ai.request.seed", (int64_t)r->seed);
    }
    if (r->max_tokens > 0) {
        put_int(a, "gen_ai.request.max_tokens", r->max_tokens);
    }
    put_double(a, "gen_ai.request.temperature", (double)r->sampling.temperature);
    put_double(a, "gen_ai.request.top_p", (double)r->sampling.top_p);
    if (r->sampling.top_k > 0) {
        put_int(a, "gen_ai.request.top_k", r->sampling.top_k);
    }
    put_double(a, "gen_ai.request.frequency_penalty", (double)r->sampling.frequency_penalty);
    put_double(a, "gen_ai.request.presence_penalty", (double)r->sampling.presence_penalty);
}

static void put_generation(struct attributes *a, const struct request_record *r)
{
    put_str(a, "gen_ai.response.id", r->object_id);
    put_str(a, "gen_ai.response.model", r->served_model);
    if (r->finish != FINISH_NONE) {
        put(a, (struct otlp_attribute){.key = "gen_ai.response.finish_reasons",
                                       .type = OTLP_STR_ARRAY,
                                       .text = str_of(finish_reason_name(r->finish))});
    }
    if (r->stream && r->timings.ttft_us >= 0) {
        put_double(a, "gen_ai.response.time_to_first_chunk", (double)r->timings.ttft_us * 1e-6);
    }
    put_int(a, "gen_ai.usage.input_tokens", (int64_t)r->usage.prompt_tokens);
    put_int(a, "gen_ai.usage.cache_read.input_tokens", (int64_t)r->usage.cached_tokens);
    put_int(a, "gen_ai.usage.output_tokens", (int64_t)r->usage.completion_tokens);
    put_int(a, "tandem.engine_losses", (int64_t)r->n_engine_losses);
}

static void put_error(struct attributes *a, const struct request_record *r, const struct http_end *end, char code[16])
{
    if (r->error) {
        put_str(a, "error.type", error_info(r->error)->name);
    } else if (end->status >= 500) {
        snprintf(code, 16, "%d", end->status);
        put_str(a, "error.type", code);
    }
}

/* ---- spans ---- */

static int64_t wall_ns(const struct request_record *r, int64_t at_us)
{
    return r->begun_wall_ns + (at_us - r->begun_us) * 1000;
}

static struct otlp_span *begin_child(const struct request_record *r, struct otlp_span *spans, size_t *n,
                                     const char *name)
{
    struct otlp_span *s = &spans[(*n)++];
    *s = (struct otlp_span){.name = name, .kind = OTLP_SPAN_INTERNAL, .trace_state = buf_view(&r->trace_state)};
    memcpy(s->trace_id, r->trace.trace_id, TRACE_ID_SIZE);
    memcpy(s->parent_id, r->trace.span_id, SPAN_ID_SIZE);
    rng_entropy(s->span_id, SPAN_ID_SIZE);
    return s;
}

static void add_child(const struct request_record *r, struct otlp_span *spans, size_t *n, const char *name,
                      int64_t from_us, int64_t took_us)
{
    if (took_us >= 0) {
        struct otlp_span *s = begin_child(r, spans, n, name);
        s->start_ns = wall_ns(r, from_us);
        s->end_ns = wall_ns(r, from_us + took_us);
    }
}

/* pipeline/gen_clock.h draws the line that these are parts of. */
static void add_children(const struct request_record *r, struct otlp_span *spans, size_t *n)
{
    const struct gen_timings *t = &r->timings;
    int64_t submitted_us = r->received_us + t->prepare_us;
    add_child(r, spans, n, "queue", submitted_us, t->queue_us);
    add_child(r, spans, n, "prefill", submitted_us + t->queue_us, t->prefill_us);
    add_child(r, spans, n, "decode", r->received_us + t->ttft_us, t->decode_us);
}

/* A span of a tool and what it refers to. */
struct tool_span {
    char name[RECORD_TOOL_NAME_MAX + 16];
    struct otlp_attribute attributes[TOOL_ATTRIBUTES];
};

static void add_tool_call(const struct request_record *r, const struct record_tool_call *c, struct tool_span *tool,
                          struct otlp_span *spans, size_t *n)
{
    struct attributes a = {.n = 0};
    put_str(&a, "gen_ai.operation.name", "execute_tool");
    put_str(&a, "gen_ai.tool.name", c->name);
    put_str(&a, "gen_ai.tool.call.id", c->id);
    put_str(&a, "gen_ai.tool.type", "extension"); /* made on the server's side */
    put_str(&a, "tandem.mcp.server", c->server);
    put_str(&a, "error.type", c->failed ? "tool_error" : "");
    memcpy(tool->attributes, a.items, a.n * sizeof a.items[0]);
    snprintf(tool->name, sizeof tool->name, "execute_tool %s", c->name);
    add_child(r, spans, n, tool->name, c->sent_us, c->took_us);
    spans[*n - 1].attributes = tool->attributes;
    spans[*n - 1].n_attributes = a.n;
    spans[*n - 1].failed = c->failed;
}

/* All of them, or without memory none. */
static size_t add_tool_calls(const struct request_record *r, struct tool_span *tools, struct otlp_span *spans, size_t n)
{
    for (size_t i = 0; i < r->n_tool_calls; i++) {
        add_tool_call(r, &r->tool_calls[i], &tools[i], spans, &n);
    }
    return n;
}

static void export_spans(const struct request_record *r, const struct otlp_span *given, size_t n)
{
    struct otlp_span *spans = calloc(n + r->n_tool_calls, sizeof *spans);
    struct tool_span *tools = calloc(r->n_tool_calls, sizeof *tools);
    if (spans && tools) {
        memcpy(spans, given, n * sizeof *spans);
        n = add_tool_calls(r, tools, spans, n);
    }
    otlp_add(r->app->options.otlp, spans && tools ? spans : given, n);
    free(spans);
    free(tools);
}

void api__export_request(const struct request_record *r, const struct http_end *end, const char *client)
{
    struct otlp *otlp = r->app->options.otlp;
    struct attributes a = {.n = 0};
    struct otlp_span spans[1 + N_CHILDREN];
    size_t n = 1;
    char name[64], code[16];
    if (!otlp || !r->trace.sampled || (r->route && api__route_is_quiet(r->route))) {
        return;
    }
    put_http(&a, r, end, client);
    if (r->is_generation) {
        put_request(&a, r);
    }
    if (r->has_generation) {
        put_generation(&a, r);
        add_children(r, spans, &n);
    }
    put_error(&a, r, end, code);
    snprintf(name, sizeof name, "%s%s%s", r->method[0] ? r->method : "HTTP", r->route ? " " : "",
             r->route ? r->route->path : "");
    spans[0] = (struct otlp_span){.parent_is_remote = true,
                                  .trace_state = buf_view(&r->trace_state),
                                  .name = name,
                                  .kind = OTLP_SPAN_SERVER,
                                  .start_ns = r->begun_wall_ns,
                                  .end_ns = wall_ns(r, clock_us()),
                                  .attributes = a.items,
                                  .n_attributes = a.n,
                                  .failed = api__outcome(r, end) == OUTCOME_FAILED || end->status >= 500};
    memcpy(spans[0].trace_id, r->trace.trace_id, TRACE_ID_SIZE);
    memcpy(spans[0].span_id, r->trace.span_id, SPAN_ID_SIZE);
    memcpy(spans[0].parent_id, r->parent_id, SPAN_ID_SIZE);
    if (r->n_tool_calls) {
        export_spans(r, spans, n);
    } else {
        otlp_add(otlp, spans, n);
    }
}
