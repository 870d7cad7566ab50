/* What the server's files share. Who owns what:
 *
 *     http_server --listeners                    server.c: life, accepting, the one timer, the ready list
 *        |---connection (list)                   connection.c: states, reading, writing, limits in time
 *               |---transport                    transport.c: the byte stream
 *               |---http_exchange (one or none)  exchange.c: the handler's view of request and reply
 *                      |---http_parser           parser.c
 *
 * A connection is in one state:
 *
 *     READ ----request complete---> RUN ---http_reply---------> FLUSH ---all written---> READ or LINGER
 *      |                             |---http_stream_start--> STREAM --END or ABORT--> FLUSH
 *      |---refused (400, 408 ...)----------------------------> FLUSH
 *
 * and CLOSED from any of them. One request is parsed and answered at a time; what a client sends meanwhile waits as
 * bytes in `in`, up to CONNECTION_IN, and then reading pauses. So replies cannot get out of order, and a pipeline costs
 * bounded memory whatever the bodies claim.
 *
 * No recursion: calls from a handler or a source only change state and put the connection on the ready list; the loop's
 * idle phase advances it. Only connection__advance, received and check (all called from the loop) go on to handlers. */
#ifndef TANDEM_HTTP_SERVER_INTERNAL_H
#define TANDEM_HTTP_SERVER_INTERNAL_H

#include "http/listener.h"
#include "http/parser.h"
#include "http/server.h"
#include "http/transport.h"

#include <netinet/in.h>

#define CONNECTION_IN (LIMIT_HTTP_PIPELINE * KIB(4)) /* waiting bytes: that many requests of an ordinary size */
#define NEVER         INT64_MAX

enum connection_state {
    CONNECTION_READ,   /* no request, or part of one, has come */
    CONNECTION_RUN,    /* the handler has the exchange */
    CONNECTION_STREAM, /* the exchange's source is pulled */
    CONNECTION_FLUSH,  /* the reply is complete, and not all of it is written */
    CONNECTION_LINGER, /* our end of stream is sent; the peer's bytes are dropped until its end, so that no reset
                        * overtakes the reply */
    CONNECTION_CLOSED  /* only the transport's `closed` is missing */
};

struct http_exchange {
    struct connection *connection;
    struct http_parser parser;
    struct buf body;
    struct http_sink sink; /* take NULL: the body is gathered in `body` */
    uint64_t n_body;       /* bytes of it that came */
    int64_t paused_ms;     /* since then; 0: it is not */
    bool handled;          /* the handler was called */
    struct buf headers;    /* of the reply: lines with CR LF */
    int64_t first_byte_ms; /* 0: not yet */
    int64_t head_ms;       /* the head was complete */
    int64_t last_byte_ms;  /* of the request */
    uint64_t tag;          /* head_check's */
    void (*on_gone)(void *arg);
    void *on_gone_arg;
    struct http_source source;
    bool want_pull;        /* the source has not said WAIT since the last wake */
    bool chunked;          /* the stream's framing; false: its end is the connection's */
    bool headers_only;     /* a stream in answer to HEAD */
    bool opened;           /* options.opened was called, so options.finished will be */
    size_t opened_headers; /* bytes of `headers` that were there then */
    struct http_end end;
    struct error refusal; /* what end.refusal points to */
    void *context;
};

struct connection {
    struct transport io;
    struct http_server *server;
    struct connection *previous, *next;             /* all of the server */
    struct connection *previous_ready, *next_ready; /* to be advanced soon */
    bool is_ready;
    enum connection_state state;
    struct http_exchange *exchange; /* being read, run or streamed; NULL between requests */
    struct buf in;                  /* what came and was not looked at */
    struct buf out;                 /* what was not given to the transport */
    bool peer_ended;                /* the client's end of stream has come, after the reply was complete */
    bool close_after;               /* no further request */
    bool cut;                       /* the reply has no end of its own and is not complete: reset */
    bool refused;                   /* one connection too many: answered 503 or 429, not counted */
    struct client client;
    char address[INET6_ADDRSTRLEN]; /* of the other end */
    bool is_secure;                 /* TLS is spoken */
    int64_t idle_since_ms;
    int64_t progress_ms; /* the system has taken bytes of the reply, or there were none to take */
    uint64_t progress_taken;
    int64_t quiet_since_ms; /* the stream has put nothing out */
    int64_t linger_until_ms;
    uint64_t n_drained; /* bytes dropped while lingering */
};

struct server_listener {
    struct listener socket;
    struct http_server *server;
    uv_poll_t poll;
    bool open, handle_open; /* handle_open until the handle's close callback */
};

struct http_server {
    uv_loop_t *loop;
    struct http_server_options options;
    struct tls_context *tls; /* for connections to come; NULL: plain */
    char *cert_path, *key_path;
    struct server_listener *listeners; /* [n_listeners] */
    int n_listeners;
    struct connection *connections; /* also those that are closing */
    int n_open, n_refused;          /* not closing: answered normally, and refused */
    struct connection *first_ready, *last_ready;
    int n_ready;
    uv_timer_t timer; /* one for all limits in time: it wakes at the earliest, and looks at every connection */
    int64_t timer_at_ms;
    uv_idle_t idle;          /* runs while something is ready */
    int64_t accept_again_ms; /* listeners pause until then; NEVER: they do not pause */
    int64_t accept_warned_ms;
    bool stopping, closing, finishing; /* finishing: only its own two handles are left */
    int n_handles;                     /* of the timer and the idle handle, still to be closed */
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    struct http_server_stats stats;
    struct buf pulled; /* what a source appends before it is framed */
    int64_t date_s;    /* of `date` */
    char date[32];     /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    char received[KIB(64)];
};

/* ---- server.c ---- */

void server__ready(struct connection *c);                   /* connection__advance soon, from the loop */
void server__look_at(struct http_server *s, int64_t at_ms); /* connection__check of all, at the latest then */
int64_t server__now(const struct http_server *s);
const char *server__date(struct http_server *s);
void server__forget(struct connection *c); /* it is closing: no longer counted, no longer ready */
void server__closed(struct connection *c); /* it is closed: frees it */

/* ---- connection.c ---- */

struct arrival {
    int fd;
    bool is_tcp;
    struct client client;
    const struct error *refusal; /* NULL: it is welcome */
};
void connection__open(struct http_server *s, const struct arrival *arrival); /* takes fd */
void connection__advance(struct connection *c);
void connection__check(struct connection *c, int64_t now); /* limits in time; asks to be looked at again */
void connection__lost(struct connection *c);               /* on_gone, and closes; nothing when closed already */
bool connection__idle(const struct connection *c);         /* between requests */

/* ---- exchange.c ---- */

struct http_exchange *exchange__create(struct connection *c); /* NULL when memory fails */
void exchange__free(struct http_exchange *x);
void exchange__opened(struct http_exchange *x); /* tells the API, once */

/* Ends the exchange of c: on_gone, then its memory. Nothing when there is none. */
void exchange__gone(struct connection *c);

/* Answers err in the API's shape and closes after it; c is in READ, or new. */
void exchange__refuse(struct connection *c, const struct error *err);
void exchange__pull(struct connection *c);      /* one pull of the stream; may complete the reply */
void exchange__keepalive(struct connection *c); /* the source's comment */

#endif
