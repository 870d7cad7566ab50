/* HTTP/1.1 server (RFC 9110, RFC 9112) on a libuv loop: strict parser, keep-alive, pipelining answered in order,
 * bounded chunked and sized bodies, Expect: 100-continue, HEAD, streaming replies (SSE or any), TCP over IPv4 and IPv6
 * (with TLS where it is asked for) and unix sockets. It owns connections, their limits and time-outs; it knows nothing
 * of APIs.
 *
 * Threads: everything happens on the thread of the loop. A handler must not block: it answers at once, or keeps the
 * exchange and answers later from the same thread. The program must ignore SIGPIPE (sys_ignore_sigpipe).
 *
 *     handler(x, arg):  struct str body = http_body(x);
 *                       http_reply(x, 200, "application/json", json);                    one whole reply, or
 *                       http_stream_start(x, 200, "text/event-stream", &source);         a stream that is pulled
 *
 * A stream is pulled, not pushed: the server calls source.pull when the socket can take bytes (and after
 * http_stream_wake), so that what a slow reader has not taken stays with the source, as tokens instead of as text.
 *
 * Life of an exchange. It begins when the handler is called and is over at exactly one of these; x and every view into
 * it are dead from then on:
 *   - http_reply returns (also inside the handler);
 *   - the source's pull returns HTTP_PULL_END or HTTP_PULL_ABORT;
 *   - on_gone returns: the client has left, the reader stalled, the server closes, or a stream was the answer to HEAD
 *     and its head is all that is sent. Inside on_gone, calls with x have no effect.
 * So a handler that keeps x sets on_gone before it returns; a stream ends with one END, ABORT or on_gone, never two.
 * on_gone and pull are called from the loop only, never from inside a call into the server.
 *
 * The end of the client's stream while an exchange runs means that the client has left. A client that half-closes after
 * its request is treated the same way; once the reply is complete, its rest is still sent to such a client. What a
 * client pipelines waits unread by the parser, up to LIMIT_HTTP_PIPELINE requests of 4 KiB; beyond that reading pauses,
 * and while it does only a reset or a close of both directions is noticed (within 250 ms), not a half-close. */
#ifndef TANDEM_HTTP_SERVER_H
#define TANDEM_HTTP_SERVER_H

#include "base/buf.h"
#include "http/message.h"
#include "http/tls.h"

#include <uv.h>

struct http_server;
struct http_exchange; /* one request and its reply */

struct http_end {                /* how an exchange ended */
    int status;                  /* of its reply; 0: none was begun */
    bool complete;               /* the whole reply was made; false: the client has left, or the reply was cut off */
    const struct error *refusal; /* the server itself (or head_check) refused the request: why; else NULL */
};

/* What an operator may set, also while the server runs. 0 means the default; a negative time-out means never. */
struct http_limits {
    size_t max_body;     /* default LIMIT_HTTP_BODY; a larger one is a 413 as soon as it is announced */
    size_t max_upload;   /* likewise of a body that goes to a sink; default: max_body */
    int max_connections; /* default LIMIT_HTTP_CONNECTIONS; one more is answered 503 and closed */
    /* Of one client address (an IPv6 network of 64 bits), unix sockets apart; one more is answered 429 and closed.
     * 0: LIMIT_HTTP_CLIENT, and no limit for this machine's own; negative: no limit. */
    int max_client_connections;
    int64_t header_timeout_ms; /* from the first byte of a request to its last header byte: 408; before it, for the
                                * handshake of TLS: closed; 10 s */
    int64_t body_timeout_ms;   /* without a byte of the body, and, at the minimum rate, for all of it: 408; 30 s */
    int64_t min_body_rate;     /* bytes a second: each of them adds to the time for the whole body; 1024; negative: a
                                * byte now and then is enough */
    int64_t idle_timeout_ms;   /* keep-alive without a request: closed; 75 s */
    int64_t stall_timeout_ms;  /* a reader that takes nothing of a reply: closed, on_gone; 60 s, seen up to 25% late */
};

struct http_server_options { /* copied */
    const char *const
        *listen; /* [n_listen] "127.0.0.1:8000", "[::1]:8000", "unix:/run/tandem.sock", "fd:3"; port 0: any */
    int n_listen;
    struct http_limits limits;
    struct tls_files tls; /* TCP listeners speak TLS when both are there; unix sockets never do */
    void (*handler)(struct http_exchange *x, void *arg); /* the request is complete: head and body */
    /* Called once for every exchange that will have a reply, before head_check and the handler: the head is complete,
     * or (head NULL) the server itself is about to refuse what came. It may add reply headers, which every reply then
     * has, and set the context. May be NULL. */
    void (*opened)(struct http_exchange *x, const struct http_request *head, void *arg);
    /* Called once for each of them when it is over, just before its memory goes. May be NULL. */
    void (*finished)(struct http_exchange *x, const struct http_end *end, void *arg);
    /* Called when the head is complete, before the body is read: false answers *err and closes after the reply. It may
     * add header fields, which go with whatever reply the request gets, leave a tag and give a sink (http_body_to);
     * nothing else. May be NULL. */
    bool (*head_check)(struct http_exchange *x, void *arg, struct error *err);
    /* Writes a reply body (application/json) for an error found by the server itself (400, 408, 413 ...) in the API's
     * shape. NULL: the sentence as plain text. */
    void (*error_body)(const struct http_request *head_or_null, const struct error *err, struct buf *out, void *arg);
    void *arg;
};

/* Binds and listens. IO names the address and the reason. NULL leaves nothing behind but handles that the loop closes
 * when it runs. The loop must outlive the server's on_closed. */
NODISCARD struct http_server *http_server_create(uv_loop_t *loop, const struct http_server_options *options,
                                                 struct error *err);
int http_server_port(const struct http_server *s, int listener); /* the bound TCP port; 0 for unix sockets */

/* Reads certificate and key again, for connections that come from now on; those that are open keep theirs. False: what
 * was there before stays in use. INVALID also when the server does not speak TLS. */
NODISCARD bool http_server_reload_tls(struct http_server *s, struct error *err);
/* Other limits while it runs. They hold for every connection from now on, but for max_body, which a request has that
 * began before. */
void http_server_set_limits(struct http_server *s, const struct http_limits *limits);

/* Listeners close at once, connections between requests soon; the others finish, and replies say Connection: close. */
void http_server_stop_accepting(struct http_server *s);
int http_server_connections(const struct http_server *s); /* open ones, without those that are being refused */

/* Closes everything, from the loop: every running exchange gets its on_gone; on_closed (may be NULL) runs once nothing
 * of the server is left, then it is freed. Call it once. */
void http_server_close(struct http_server *s, void (*on_closed)(void *arg), void *arg);

struct http_server_stats { /* since the start; requests: handed to the handler; timeouts: 408, handshakes of TLS that
                            * were not finished, and stalled readers; refused: connections over a limit;
                            * tls_failures: handshakes that came to nothing; bytes: within TLS */
    uint64_t connections, requests, bytes_in, bytes_out, parse_errors, timeouts, refused, tls_failures;
    int64_t tls_expires_s; /* Unix time of the certificate's end; 0: no TLS */
    uint64_t replies[10];  /* begun, by the first digit of their status; interim ones (100) not */
};
struct http_server_stats http_server_stats(const struct http_server *s);

/* ---- the request of an exchange; views live as long as the exchange ---- */
const struct http_request *http_request_of(const struct http_exchange *x);
struct str http_body(const struct http_exchange *x);
bool http_is_local(const struct http_exchange *x);        /* it came through a unix socket */
void http_set_tag(struct http_exchange *x, uint64_t tag); /* what head_check leaves for the handler; 0 at first */
uint64_t http_tag(const struct http_exchange *x);

/* Takes a body piece by piece, so that it never lies in memory whole. */
struct http_sink {
    size_t max_body; /* at most limits.max_upload */
    /* The next piece, a view. False: *err is answered, and the connection closes after it. */
    bool (*take)(void *arg, struct str piece, struct error *err);
    void (*gone)(void *arg); /* the exchange ends before the handler is called */
    void *arg;
};
/* From head_check only; copied. The handler is called when all was taken; http_body is empty then. */
void http_body_to(struct http_exchange *x, const struct http_sink *sink);
void *http_sink_arg(const struct http_exchange *x); /* NULL: its body went to none */
/* Nothing more is read for now; what is in memory already (some 64 KiB) may still come. The clock of the body's limits
 * in time stops until it goes on. */
void http_body_pause(struct http_exchange *x);
void http_body_resume(struct http_exchange *x);

/* What the API keeps of an exchange; NULL until it is set. Not touched by the server. */
void http_set_context(struct http_exchange *x, void *context);
void *http_context(const struct http_exchange *x);

/* The address of the other end: "192.0.2.7", "2001:db8::1", or "unix". */
const char *http_client_address(const struct http_exchange *x);
bool http_is_secure(const struct http_exchange *x); /* it came by TLS */

/* The client has left, or the server closes; not called after the reply is complete. Replaces an earlier one. */
void http_on_gone(struct http_exchange *x, void (*on_gone)(void *arg), void *arg);

/* ---- the reply: exactly one of http_reply or http_stream_start per exchange ---- */

/* Before the reply. CR, LF, NUL and other control characters are refused (the field is dropped); so are the fields that
 * the server writes itself (Content-Type, Content-Length, Transfer-Encoding, Connection, Date) and what exceeds 16 KiB.
 */
void http_add_header(struct http_exchange *x, const char *name, struct str value);

/* Copied; x is gone after it. content_type may be NULL. A body over LIMIT_HTTP_REPLY becomes a 500. */
void http_reply(struct http_exchange *x, int status, const char *content_type, struct str body);

enum http_pull {
    HTTP_PULL_MORE, /* appended something; call again when there is room */
    HTTP_PULL_WAIT, /* nothing more now (what was appended goes out): http_stream_wake will say */
    HTTP_PULL_END,  /* the reply is complete, whatever was appended goes out first; x is gone after it */
    HTTP_PULL_ABORT /* the reply cannot be completed: the connection is cut (no terminating chunk); x is gone after it
                     */
};

struct http_source {
    /* Appends at most about LIMIT_HTTP_OUT_BUFFER bytes; what it appends goes out as one chunk. */
    enum http_pull (*pull)(void *arg, struct buf *out);
    void *arg;
    int64_t keepalive_ms; /* after so long without a byte, `keepalive` is sent; 0: never */
    struct str keepalive; /* e.g. ": keep-alive\n\n"; static storage */
    /* Appends what is sent instead; nothing appended: `keepalive`. NULL: always that. */
    void (*write_keepalive)(void *arg, struct buf *out);
};

/* Starts a stream; the source is copied and pulled from the loop, soon. To an HTTP/1.0 client the end of the connection
 * ends the body. */
void http_stream_start(struct http_exchange *x, int status, const char *content_type, const struct http_source *source);
/* Of a stream that has begun: this one is pulled from now on. */
void http_stream_source(struct http_exchange *x, const struct http_source *source);
void http_stream_wake(struct http_exchange *x); /* the source has something; never calls pull from inside, the loop does
                                                 * soon; may be called from inside pull */

#endif
