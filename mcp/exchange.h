/* One HTTP request to a server and what comes back: server-sent events one by one, or one bounded body. Over
 * http/client.h; it adds the stream's reader, and keeps the request's body. Everything on the loop's thread.
 *
 * An exchange ends with one on_end, or with exchange_cancel; its handle is dead from then on, in on_end already. In a
 * callback everything may be called. */
#ifndef TANDEM_MCP_EXCHANGE_H
#define TANDEM_MCP_EXCHANGE_H

#include "base/loop.h"
#include "http/client.h"
#include "http/sse_reader.h"

struct exchange;

struct exchange_end {
    const struct error *error; /* NULL: the reply came whole, whatever its status */
    int status;                /* 0: none came */
    bool is_stream;            /* it was a stream of events */
    struct str type, body;     /* else: its content type, and body */
    struct str last_id;        /* of the stream; may be empty */
    int64_t retry_ms;          /* of the stream; -1: it did not say */
};

struct exchange_events {
    void (*on_head)(void *arg, const struct http_reply *reply);    /* may be NULL */
    void (*on_event)(void *arg, const struct sse_incoming *event); /* NULL: they are not looked at */
    void (*on_end)(void *arg, const struct exchange_end *end);
    void *arg;
};

struct exchange_options { /* copied */
    const char *method, *url;
    const struct http_header *headers; /* [n_headers] */
    size_t n_headers;
    struct str body;    /* {NULL,0}: none */
    int64_t timeout_ms; /* 0: none */
};

NODISCARD struct exchange *exchange_start(struct http_client *http, struct loop *loop,
                                          const struct exchange_options *options, const struct exchange_events *events,
                                          struct error *err);
void exchange_cancel(struct exchange *x); /* its connection is closed */

/* What a status of 400 or more says, with the message of a JSON-RPC error in body where there is one. False. */
bool exchange_status_error(int status, struct str body, struct error *err);

#endif
