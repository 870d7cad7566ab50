/* HTTP/1.1 client over libcurl on a libuv loop: many requests at once, none of which blocks. It owns connections (kept
 * and used again), TLS, time-outs and limits; it knows nothing of APIs.
 *
 *     struct http_client *c = http_client_create(loop, &(struct http_client_options){.user_agent = "x/1"}, err);
 *     struct http_call *call = http_call_start(c, &(struct http_call_options){
 *         .method = "POST", .url = "http://127.0.0.1:8000/v1/completions", .headers = h, .n_headers = 1, .body = json,
 *         .events = {.on_data = take, .on_done = done, .arg = me}}, err);
 *     ... the loop runs: on_headers once, on_data for each piece of the body, on_done once; or http_call_cancel(call)
 *     http_client_free(c);
 *
 * A call ends with exactly one on_done, with http_call_cancel, or with http_client_free; its handle is dead from then
 * on (in on_done already), and nothing is called for it afterwards. No callback is called from inside
 * http_call_start. In a callback everything may be called but http_client_free.
 *
 * Only http and https; no user names in URLs, no cookies, no .netrc, no compression. Certificates are always checked.
 * Proxies are those of the environment (http_proxy, https_proxy, all_proxy, no_proxy), never for this machine itself
 * (localhost, 127.0.0.0/8, ::1). HTTP/1.1 only, so that each request has a connection of its own and one stream's time
 * does not depend on another's.
 *
 * Threads: everything on the loop's thread; names are resolved on threads of libcurl. The program must ignore SIGPIPE
 * (sys_ignore_sigpipe). */
#ifndef TANDEM_HTTP_CLIENT_H
#define TANDEM_HTTP_CLIENT_H

#include "http/message.h"

#include <uv.h>

struct http_client;
struct http_call; /* one request and its reply */

struct http_client_options { /* copied */
    const char *user_agent;  /* NULL: none is sent */
    const char *ca_file;     /* PEM, instead of the system's certificates; NULL: the system's */
};

struct http_reply {
    int status;                        /* 200 ... 599; 0 when the call failed before a head came */
    const struct http_header *headers; /* [n_headers] of the final reply, without those of redirects before it */
    size_t n_headers;
    struct str body; /* complete, when there is no on_data; only in on_done */
    /* By clock_ns. received: when the socket had these bytes for us, not when they were looked at. */
    int64_t started_ns;  /* http_call_start */
    int64_t received_ns; /* in on_headers and on_data: the bytes at hand; in on_done: the last ones */
};

/* Everything in a reply is a view, valid until the callback returns. */
struct http_call_events {
    void (*on_headers)(void *arg, const struct http_reply *reply); /* the final head is complete; may be NULL */
    /* A piece of the body, whatever the status. NULL: the body is collected. */
    void (*on_data)(void *arg, const struct http_reply *reply, struct str piece);
    /* err NULL: the reply came whole, whatever its status. Else what failed: UNAVAILABLE (no connection), DEADLINE (a
     * time-out), TOO_LARGE (max_reply, headers), FORBIDDEN (certificate), PROTOCOL (broken off, or no HTTP), NO_MEMORY,
     * INVALID (a redirect to what is neither http nor https). */
    void (*on_done)(void *arg, const struct http_reply *reply, const struct error *err);
    void *arg;
};

struct http_call_options {             /* copied, but for the body */
    const char *method;                /* GET (NULL), HEAD, POST, PUT, PATCH, DELETE, OPTIONS */
    const char *url;                   /* a fragment is not sent */
    const struct http_header *headers; /* [n_headers]; Host, Content-Length and such are the client's business */
    size_t n_headers;
    /* Sent when ptr is not NULL, and with POST, PUT and PATCH in any case. The caller's: valid until the call has
     * ended.
     */
    struct str body;
    int64_t connect_timeout_ms; /* name, connection and TLS; 0: 10 s */
    int64_t timeout_ms;         /* from start to the last byte; 0: none */
    int64_t idle_timeout_s;     /* without a byte; 0: none */
    uint64_t max_reply;         /* bytes of the body; 0: LIMIT_HTTP_REPLY */
    int max_redirects;          /* 0: a redirect is a reply like others. For GET and HEAD only; credentials stay with
                                 * the first host */
    struct http_call_events events;
};

/* The loop must outlive the client and run once more after http_client_free, which leaves closing handles to it. */
NODISCARD struct http_client *http_client_create(uv_loop_t *loop, const struct http_client_options *options,
                                                 struct error *err);
void http_client_free(struct http_client *c); /* calls in flight end without a callback; NULL is fine */

/* INVALID names what is wrong with the URL, the method or a header; NO_MEMORY. Everything else is for on_done. */
NODISCARD struct http_call *http_call_start(struct http_client *c, const struct http_call_options *options,
                                            struct error *err);
void http_call_cancel(struct http_call *call); /* closes its connection */

/* First field of that name (case-insensitive), or {NULL, 0}. */
struct str http_reply_header(const struct http_reply *reply, const char *name);

#endif
