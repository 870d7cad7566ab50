/* libcurl has our body and calls us until the call has ended, so what is freed is freed later, by the loop. */
#include "mcp/exchange.h"

#include "base/array.h"
#include "mcp/http_text.h"
#include "mcp/rpc.h"

#include <stdlib.h>

struct exchange {
    struct loop *loop;
    struct http_call *call;
    struct exchange_events events;
    struct buf body, reply;
    struct sse_reader events_in;
    bool is_stream, dead;
    char type[64];
    struct error failure; /* found while reading */
};

static void free_exchange(void *arg)
{
    struct exchange *x = arg;
    buf_release(&x->body);
    buf_release(&x->reply);
    sse_reader_release(&x->events_in);
    free(x);
}

static void bury(struct exchange *x)
{
    x->dead = true;
    loop_defer(x->loop, free_exchange, x);
}

static void end(struct exchange *x, int status, const struct error *error)
{
    struct exchange_end what = {.error = error,
                                .status = status,
                                .is_stream = x->is_stream,
                                .type = str_of(x->type),
                                .body = buf_view(&x->reply),
                                .last_id = buf_view(&x->events_in.id),
                                .retry_ms = x->events_in.retry_ms};
    bury(x);
    x->events.on_end(x->events.arg, &what);
}

static void on_headers(void *arg, const struct http_reply *reply)
{
    struct exchange *x = arg;
    struct str type = http_reply_header(reply, "content-type");
    size_t n = str_find_char(type, ';');
    type = str_trim(str_slice(type, 0, n));
    memcpy(x->type, type.ptr ? type.ptr : "", type.len < sizeof x->type ? type.len : sizeof x->type - 1);
    x->is_stream = reply->status == 200 && http_text_is_type(type, STR("text/event-stream"));
    if (x->events.on_head) {
        x->events.on_head(x->events.arg, reply);
    }
}

static void give_up(struct exchange *x, const struct http_reply *reply)
{
    http_call_cancel(x->call);
    end(x, reply->status, &x->failure);
}

static void read_events(struct exchange *x, const struct http_reply *reply, struct str piece)
{
    struct sse_incoming event;
    while (!x->dead) {
        switch (sse_reader_next(&x->events_in, &piece, &event, &x->failure)) {
        case SSE_READ_MORE:
            return;
        case SSE_READ_EVENT:
            if (x->events.on_event) {
                x->events.on_event(x->events.arg, &event);
            }
            break;
        case SSE_READ_ERROR:
            give_up(x, reply);
            return;
        }
    }
}

static void on_data(void *arg, const struct http_reply *reply, struct str piece)
{
    struct exchange *x = arg;
    if (x->dead) {
        return;
    }
    if (x->is_stream) {
        read_events(x, reply, piece);
        return;
    }
    buf_append(&x->reply, piece);
    if (!buf_ok(&x->reply, "an answer of the server", &x->failure)) {
        give_up(x, reply);
    }
}

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct exchange *x = arg;
    if (!x->dead) {
        end(x, reply->status, err);
    }
}

struct exchange *exchange_start(struct http_client *http, struct loop *loop, const struct exchange_options *options,
                                const struct exchange_events *events, struct error *err)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x) {
        error_set(err, ERR_NO_MEMORY, "no memory for a request to a server.");
        return NULL;
    }
    x->loop = loop;
    x->events = *events;
    buf_init(&x->body, LIMIT_MCP_MESSAGE + 1);
    buf_init(&x->reply, LIMIT_MCP_MESSAGE);
    sse_reader_init(&x->events_in, LIMIT_MCP_MESSAGE);
    buf_append(&x->body, options->body);
    struct http_call_options call = {.method = options->method,
                                     .url = options->url,
                                     .headers = options->headers,
                                     .n_headers = options->n_headers,
                                     .body = options->body.ptr ? buf_view(&x->body) : (struct str){NULL, 0},
                                     .timeout_ms = options->timeout_ms,
                                     .max_reply = INT64_MAX,
                                     .events = {on_headers, on_data, on_done, x}};
    if (!buf_ok(&x->body, "a message to a server", err) || !(x->call = http_call_start(http, &call, err))) {
        free_exchange(x);
        return NULL;
    }
    return x;
}

void exchange_cancel(struct exchange *x)
{
    if (!x->dead) {
        http_call_cancel(x->call);
        bury(x);
    }
}

/* ---- statuses ---- */

static const struct {
    int status;
    enum error_code code;
} codes[] = {{400, ERR_INVALID},   {401, ERR_UNAUTHENTICATED}, {403, ERR_FORBIDDEN},
             {404, ERR_NOT_FOUND}, {405, ERR_BAD_METHOD},      {408, ERR_DEADLINE},
             {413, ERR_TOO_LARGE}, {429, ERR_RATE_LIMITED},    {504, ERR_DEADLINE}};

static enum error_code code_of(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].status == status) {
            return codes[i].code;
        }
    }
    return status >= 500 ? ERR_UNAVAILABLE : ERR_PROTOCOL;
}

bool exchange_status_error(int status, struct str body, struct error *err)
{
    struct error ignored;
    struct rpc_message m = {.text = {"", 0}};
    if (status == 401) {
        return error_set(err, ERR_UNAUTHENTICATED,
                         "the server wants a login (HTTP 401): OAuth is not supported, put its token into 'headers'.");
    }
    struct json *tree = body.len ? rpc_parse(body, &ignored) : NULL;
    bool has_text = tree && rpc_read(tree, 0, &m, &ignored) && m.kind == RPC_ERROR && m.text.len;
    error_set(err, code_of(status), "the server answered with HTTP %d%s%.*s.", status, has_text ? ": " : "",
              STR_ARG(str_slice(m.text, 0, has_text ? 120 : 0)));
    json_free(tree);
    return false;
}
