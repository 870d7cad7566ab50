/* The states of a connection; see server_internal.h for the drawing. Every function that may end the connection leaves
 * it in CONNECTION_CLOSED with its memory intact until the transport's `closed`. */
#include "http/server_internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LINGER_MS      3000   /* how long a client may take to read a last reply */
#define LINGER_BYTES   MIB(1) /* beyond max_body: what a client may still send into the void */
#define HANGUP_POLL_MS 250    /* while reading is paused */
#define STREAM_ROUND   16     /* pulls of one stream before others get their turn */
#define OUT_MAX        (2 * (LIMIT_HTTP_REPLY + KIB(64))) /* a reply, or an unusually large pull behind other output */

static bool is_running(const struct connection *c)
{
    return c->state == CONNECTION_RUN || c->state == CONNECTION_STREAM;
}

static size_t unsent(const struct connection *c)
{
    return c->out.len + transport_unsent(&c->io);
}

bool connection__idle(const struct connection *c)
{
    return c->state == CONNECTION_READ && c->in.len == 0 && !(c->exchange && http_parser_started(&c->exchange->parser));
}

/* ---- end ---- */

static void close_now(struct connection *c, bool reset)
{
    if (c->state == CONNECTION_CLOSED) {
        return;
    }
    c->state = CONNECTION_CLOSED;
    server__forget(c);
    if (reset) {
        transport_reset(&c->io);
    } else {
        transport_close(&c->io);
    }
}

static void end(struct connection *c, bool reset)
{
    bool running = is_running(c);
    close_now(c, reset);
    if (running) {
        exchange__gone(c);
    } else {
        exchange__free(c->exchange);
        c->exchange = NULL;
    }
}

void connection__lost(struct connection *c)
{
    end(c, false);
}

static void on_closed(void *owner)
{
    struct connection *c = owner;
    buf_release(&c->in);
    buf_release(&c->out);
    server__closed(c);
}

/* ---- reading ---- */

static void refuse(struct connection *c, const struct error *err, uint64_t *counter)
{
    *counter += 1;
    exchange__refuse(c, err);
}

static void on_head(struct connection *c)
{
    const struct http_server_options *o = &c->server->options;
    const struct http_request *r = &c->exchange->parser.request;
    struct error err = {0};
    c->exchange->head_ms = server__now(c->server);
    exchange__opened(c->exchange);
    if (o->head_check && !o->head_check(c->exchange, o->arg, &err)) {
        exchange__refuse(c, &err);
        return;
    }
    const struct http_sink *sink = &c->exchange->sink;
    if (!http_parser_limit(&c->exchange->parser, sink->take ? sink->max_body : o->limits.max_body, &err)) {
        refuse(c, &err, &c->server->stats.parse_errors);
    } else if (r->expect_continue && (r->chunked || r->content_length)) {
        buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}

static void on_body(struct connection *c, struct str piece)
{
    struct http_exchange *x = c->exchange;
    struct error err = {0};
    x->n_body += piece.len;
    if (x->sink.take) {
        if (!x->sink.take(x->sink.arg, piece, &err)) {
            exchange__refuse(c, &err);
        }
        return;
    }
    buf_append(&x->body, piece);
    if (!buf_ok(&x->body, "the body", &err)) {
        exchange__refuse(c, &err);
    }
}

static void on_request(struct connection *c)
{
    c->state = CONNECTION_RUN;
    c->server->stats.requests++;
    c->exchange->handled = true;
    c->server->options.handler(c->exchange, c->server->options.arg);
}

static bool begin_request(struct connection *c)
{
    if (!c->exchange && !(c->exchange = exchange__create(c))) {
        connection__lost(c);
        return false;
    }
    return true;
}

/* Takes bytes off *input up to the end of one request, which goes to the handler. */
static void parse(struct connection *c, struct str *input)
{
    if (input->len == 0 || !begin_request(c)) {
        return;
    }
    int64_t now = server__now(c->server);
    c->exchange->last_byte_ms = now;
    while (c->state == CONNECTION_READ) {
        struct str piece = {0};
        struct error err = {0};
        switch (http_parser_next(&c->exchange->parser, input, &piece, &err)) {
        case HTTP_PARSE_HEAD:
            on_head(c);
            break;
        case HTTP_PARSE_BODY:
            on_body(c, piece);
            break;
        case HTTP_PARSE_END:
            on_request(c);
            break;
        case HTTP_PARSE_ERROR:
            refuse(c, &err, &c->server->stats.parse_errors);
            break;
        default:
            if (c->exchange->first_byte_ms == 0 && http_parser_started(&c->exchange->parser)) {
                c->exchange->first_byte_ms = now;
            }
            return;
        }
    }
}

static void refuse_plain_text(struct connection *c)
{
    struct error err = {0};
    error_set(&err, ERR_INVALID, "This port speaks TLS, and plain HTTP came; use https.");
    refuse(c, &err, &c->server->stats.parse_errors);
}

static void received(void *owner, struct str bytes)
{
    struct connection *c = owner;
    c->server->stats.bytes_in += bytes.len;
    if (c->state == CONNECTION_READ && transport_is_misdirected(&c->io)) {
        refuse_plain_text(c);
    }
    if (c->state == CONNECTION_LINGER) {
        c->n_drained += bytes.len;
        if (c->n_drained > c->server->options.limits.max_body + LINGER_BYTES) {
            connection__lost(c);
        }
        return;
    }
    if (c->state == CONNECTION_READ && c->in.len == 0) {
        parse(c, &bytes);
    }
    if (c->state != CONNECTION_CLOSED) {
        buf_append(&c->in, bytes);
        if (c->in.failed) { /* memory: a gap in the stream would be read as another request */
            connection__lost(c);
        }
        connection__advance(c);
    }
}

static void ended(void *owner, bool broken)
{
    struct connection *c = owner;
    c->server->stats.tls_failures += broken && transport_is_handshaking(&c->io);
    if (c->state == CONNECTION_FLUSH && !broken) {
        c->peer_ended = c->close_after = true; /* it may still read the reply, which is complete */
        return;
    }
    connection__lost(c);
}

/* The next request, from what came while the last one ran. */
static void parse_waiting(struct connection *c)
{
    struct str input = buf_view(&c->in);
    size_t before = input.len;
    parse(c, &input);
    buf_drop_front(&c->in, before - input.len);
    if (c->in.len == 0) {
        buf_release(&c->in); /* pipelining is rare, and idle connections are many */
    }
}

/* ---- writing ---- */

static void sample_progress(struct connection *c, int64_t now)
{
    uint64_t taken = transport_taken(&c->io);
    if (taken != c->progress_taken || unsent(c) == 0) {
        c->progress_taken = taken;
        c->progress_ms = now;
    }
}

static bool flush(struct connection *c)
{
    size_t before = c->out.len;
    bool ok = transport_write(&c->io, &c->out);
    c->server->stats.bytes_out += before - c->out.len; /* all or nothing was taken */
    return ok;
}

static void written(void *owner, bool ok)
{
    struct connection *c = owner;
    if (ok) {
        connection__advance(c);
    } else {
        connection__lost(c);
    }
}

/* All of a reply is written. */
static void finish_reply(struct connection *c)
{
    int64_t now = server__now(c->server);
    c->idle_since_ms = now;
    if (!c->close_after && !c->server->stopping) {
        c->state = CONNECTION_READ;
    } else if (c->cut || c->peer_ended) {
        end(c, c->cut);
    } else {
        c->state = CONNECTION_LINGER;
        c->linger_until_ms = now + LINGER_MS;
        buf_release(&c->in);
        transport_shutdown(&c->io);
    }
}

static bool can_pull(const struct connection *c)
{
    return c->state == CONNECTION_STREAM && (c->exchange->want_pull || c->exchange->headers_only) &&
           unsent(c) < LIMIT_HTTP_OUT_BUFFER;
}

/* One step; false: nothing more can be done now. */
static bool step(struct connection *c)
{
    if (can_pull(c)) {
        exchange__pull(c);
    }
    if (c->state == CONNECTION_CLOSED) {
        return false;
    }
    if (!flush(c)) {
        connection__lost(c);
        return false;
    }
    if (c->state == CONNECTION_FLUSH && unsent(c) == 0) {
        finish_reply(c);
    }
    if (c->state == CONNECTION_READ && c->in.len) {
        parse_waiting(c);
        return c->state != CONNECTION_READ || c->out.len; /* a request came out of it, or a 100 */
    }
    return can_pull(c);
}

static bool is_paused(const struct connection *c)
{
    return c->state == CONNECTION_READ && c->exchange && c->exchange->paused_ms;
}

static bool wants_bytes(const struct connection *c)
{
    return !c->peer_ended && !is_paused(c) &&
           (c->state == CONNECTION_READ || c->state == CONNECTION_LINGER || c->in.len < CONNECTION_IN);
}

void connection__advance(struct connection *c)
{
    int budget = STREAM_ROUND;
    while (c->state != CONNECTION_CLOSED && step(c)) {
        if (--budget == 0) {
            server__ready(c);
            break;
        }
    }
    if (c->state != CONNECTION_CLOSED) {
        transport_read(&c->io, wants_bytes(c));
        connection__check(c, server__now(c->server));
    }
}

/* ---- limits in time ---- */

static int64_t after(int64_t since_ms, int64_t timeout_ms) /* a negative time-out never ends */
{
    return timeout_ms < 0 ? NEVER : since_ms + timeout_ms;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A body may pause for body_timeout_ms, and needs no more than that and the time that the minimum rate allows: else a
 * byte now and then would hold a connection for ever. Only bytes of the body count, not the chunks' lines. */
static int64_t slow_body_expiry(const struct http_limits *l, const struct http_exchange *x)
{
    if (l->body_timeout_ms < 0 || l->min_body_rate < 0) {
        return NEVER;
    }
    return x->head_ms + l->body_timeout_ms + (int64_t)x->n_body * 1000 / l->min_body_rate;
}

static int64_t request_expiry(const struct http_limits *l, const struct http_exchange *x)
{
    return x->parser.has_head ? earlier(after(x->last_byte_ms, l->body_timeout_ms), slow_body_expiry(l, x))
                              : after(x->first_byte_ms, l->header_timeout_ms);
}

/* When the connection has waited too long in its state. */
static int64_t expiry(const struct connection *c)
{
    const struct http_limits *l = &c->server->options.limits;
    const struct http_exchange *x = c->exchange;
    if (transport_is_handshaking(&c->io)) {
        return after(c->idle_since_ms, l->header_timeout_ms);
    }
    switch (c->state) {
    case CONNECTION_READ:
        if (is_paused(c)) {
            return NEVER;
        }
        return x && http_parser_started(&x->parser) ? request_expiry(l, x)
                                                    : after(c->idle_since_ms, l->idle_timeout_ms);
    case CONNECTION_STREAM:
    case CONNECTION_FLUSH:
        return unsent(c) ? after(c->progress_ms, l->stall_timeout_ms) : NEVER;
    case CONNECTION_LINGER:
        return c->linger_until_ms;
    default:
        return NEVER;
    }
}

static void say_late(const struct connection *c, int64_t now, struct error *err)
{
    const struct http_limits *l = &c->server->options.limits;
    const struct http_exchange *x = c->exchange;
    if (!x->parser.has_head) {
        error_set(err, ERR_TIMEOUT, "The request did not arrive in time: its head may take %lld ms.",
                  (long long)l->header_timeout_ms);
    } else if (after(x->last_byte_ms, l->body_timeout_ms) <= now) {
        error_set(err, ERR_TIMEOUT, "The request did not arrive in time: no byte of its body came for %lld ms.",
                  (long long)l->body_timeout_ms);
    } else {
        error_set(err, ERR_TIMEOUT,
                  "The request did not arrive in time: its body may take %lld ms, and a second more for every %lld "
                  "bytes; %llu came.",
                  (long long)l->body_timeout_ms, (long long)l->min_body_rate, (unsigned long long)x->n_body);
    }
}

static void expire(struct connection *c, int64_t now)
{
    struct error err = {0};
    bool handshaking = transport_is_handshaking(&c->io);
    if (!handshaking && c->state == CONNECTION_READ && !connection__idle(c)) {
        say_late(c, now, &err);
        refuse(c, &err, &c->server->stats.timeouts);
        server__ready(c);
        return;
    }
    bool stalled = !handshaking && c->state != CONNECTION_LINGER && c->state != CONNECTION_READ;
    c->server->stats.timeouts += stalled || handshaking;
    c->server->stats.tls_failures += handshaking;
    end(c, stalled);
}

static int64_t keepalive_due(const struct connection *c)
{
    const struct http_exchange *x = c->exchange;
    bool quiet = c->state == CONNECTION_STREAM && x->source.keepalive_ms > 0 && unsent(c) == 0;
    return quiet ? c->quiet_since_ms + x->source.keepalive_ms : NEVER;
}

/* When to look next: at the expiry; while bytes wait to be taken, often enough to see that some were; while reading is
 * paused, often enough to see that the peer is gone. */
static int64_t next_look(const struct connection *c, int64_t now)
{
    int64_t at = earlier(expiry(c), keepalive_due(c));
    int64_t stall = c->server->options.limits.stall_timeout_ms;
    if ((c->state == CONNECTION_STREAM || c->state == CONNECTION_FLUSH) && unsent(c) && stall >= 0) {
        at = earlier(at, now + stall / 4 + 1);
    }
    if ((is_running(c) || is_paused(c)) && !c->io.reading) {
        at = earlier(at, now + HANGUP_POLL_MS);
    }
    return at;
}

void connection__check(struct connection *c, int64_t now)
{
    if (c->state == CONNECTION_CLOSED) {
        return;
    }
    sample_progress(c, now);
    if ((is_running(c) || is_paused(c)) && !c->io.reading && transport_hung_up(&c->io)) {
        connection__lost(c);
    } else if (expiry(c) <= now) {
        expire(c, now);
    } else if (keepalive_due(c) <= now) {
        exchange__keepalive(c);
        server__ready(c);
    }
    if (c->state != CONNECTION_CLOSED) {
        server__look_at(c->server, next_look(c, now));
    }
}

/* ---- beginning ---- */

static void read_address(struct connection *c, int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t size = sizeof a;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&a;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&a;
    bool known = getpeername(fd, (struct sockaddr *)(void *)&a, &size) == 0;
    if (known && a.ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, c->address, sizeof c->address);
    } else if (known && a.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6->sin6_addr, c->address, sizeof c->address);
    } else {
        snprintf(c->address, sizeof c->address, "%s", known ? "unix" : "unknown"); /* unknown: it has left already */
    }
}

static const struct transport_events events = {
    .received = received, .ended = ended, .written = written, .closed = on_closed};

static bool open_stream(struct connection *c, const struct arrival *a)
{
    struct http_server *s = c->server;
    transport_init(&c->io, s->loop, a->is_tcp, (struct str){s->received, sizeof s->received}, &events, c);
    c->is_secure = a->is_tcp && s->tls;
    return (!c->is_secure || transport_secure(&c->io, s->tls)) && transport_open(&c->io, a->fd);
}

void connection__open(struct http_server *s, const struct arrival *a)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        close(a->fd);
        return;
    }
    c->server = s;
    c->refused = a->refusal != NULL;
    c->client = a->client;
    read_address(c, a->fd);
    c->idle_since_ms = c->progress_ms = server__now(s);
    buf_init(&c->in, CONNECTION_IN + sizeof s->received);
    buf_init(&c->out, OUT_MAX);
    c->next = s->connections;
    if (c->next) {
        c->next->previous = c;
    }
    s->connections = c;
    *(c->refused ? &s->n_refused : &s->n_open) += 1;
    s->stats.connections += !c->refused;
    if (!open_stream(c, a)) {
        close(a->fd);
        connection__lost(c);
        return;
    }
    if (a->refusal) {
        exchange__refuse(c, a->refusal);
    }
    connection__advance(c);
}
