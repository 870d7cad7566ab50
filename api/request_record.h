/* What is known of one HTTP request while it lives, for the reply's X-Request-Id, its line in the log and its spans.
 * Every exchange has one, from its head to its end (http/server.h: opened, finished), as its context; without memory
 * for one, all functions here do nothing. The loop's thread only. */
#ifndef TANDEM_API_REQUEST_RECORD_H
#define TANDEM_API_REQUEST_RECORD_H

#include "api/app.h"
#include "http/server.h"

struct call;
struct gen_event;
struct gen_reply;
struct route;

#define RECORD_MODEL_MAX      128 /* bytes of a client's model name that are kept */
#define RECORD_TOOL_NAME_MAX  64  /* likewise of names of tools and of their servers */
#define RECORD_MAX_TOOL_CALLS 128 /* that have spans; more are not kept */

enum request_outcome {
    OUTCOME_COMPLETED, /* the reply was made, and was no error */
    OUTCOME_CANCELLED, /* the client left before it was complete, or somebody cancelled the request */
    OUTCOME_REFUSED,   /* a 4xx, or no room and no engine for it */
    OUTCOME_FAILED     /* everything else */
};

struct record_tool_call { /* of an MCP tool, made for this request */
    char server[RECORD_TOOL_NAME_MAX + 1], name[RECORD_TOOL_NAME_MAX + 1], id[48];
    int64_t sent_us, took_us;
    bool failed;
};

struct request_record {
    char id[REQUEST_ID_MAX + 1];
    struct app *app;
    const char *method;        /* static; "_OTHER" for one that no route has; "": nothing was understood */
    const struct route *route; /* NULL: none has that path */
    int http_minor;            /* of HTTP/1.x; -1: unknown */
    bool is_secure;            /* it came by TLS */
    int64_t begun_us, begun_wall_ns;
    char key_name[64]; /* "": no key */

    struct trace_context trace; /* trace id, our own span's id */
    bool has_parent;            /* the client's traceparent was valid: its span is the parent */
    uint8_t parent_id[SPAN_ID_SIZE];
    struct buf trace_state;

    bool is_generation; /* one of the routes that generate; the rest is known from here on */
    char object_id[48];
    char model[RECORD_MODEL_MAX + 1]; /* as asked; that of the served model when nothing was asked */
    char served_model[RECORD_MODEL_MAX + 1];
    bool chat, stream, has_seed;
    uint64_t seed;
    int64_t max_tokens;
    uint32_t n;
    struct sampling sampling;

    bool has_generation; /* an engine was asked */
    int64_t received_us; /* where its timings begin */
    struct gen_usage usage;
    struct gen_timings timings;
    uint64_t n_engine_losses;
    enum finish_reason finish;
    struct record_tool_call *tool_calls; /* [n_tool_calls] of a request that is traced */
    size_t n_tool_calls, cap_tool_calls;

    enum error_code error; /* ERR_NONE: none was answered */
};

/* http/server.h: opened, finished. arg: the app. */
void api__opened(struct http_exchange *x, const struct http_request *head, void *arg);
void api__finished(struct http_exchange *x, const struct http_end *end, void *arg);

const char *api__request_id(const struct http_exchange *x); /* "" without memory */
void api__record_error(struct http_exchange *x, enum error_code code);
void api__record_key(struct http_exchange *x, const char *key_name);
/* What the call asks for; no worker has it. */
void api__record_call(const struct call *c);
/* How far its generation has come; logs its texts where that is wanted. Before the exchange ends. */
void api__record_generation(const struct gen_reply *r);
/* An event that its consumer takes: of calls of MCP tools, when they were made and how they ended. */
void api__record_event(const struct gen_reply *r, const struct gen_event *e);

const char *request_outcome_name(enum request_outcome outcome);
enum request_outcome api__outcome(const struct request_record *r, const struct http_end *end);

/* ---- request_log.c, request_spans.c ---- */

void api__log_request(const struct request_record *r, const struct http_end *end, const char *client);
void api__log_texts(const struct request_record *r, const struct gen_request *request, struct str answer);
void api__export_request(const struct request_record *r, const struct http_end *end, const char *client);

#endif
