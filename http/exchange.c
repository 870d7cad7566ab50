/* One request and its reply. Everything here only appends to the connection's `out` and changes states; the loop
 * writes. That is why a handler may answer from inside itself, and a source may be woken from inside its pull. */
#include "base/array.h"
#include "http/percent.h"
#include "http/server_internal.h"

#include <assert.h>
#include <stdlib.h>

#define MAX_REPLY_HEADERS KIB(16)
#define KEPT_PULLED       MIB(1) /* the shared pull buffer is given back beyond this */

struct http_exchange *exchange__create(struct connection *c)
{
    struct http_exchange *x = calloc(1, sizeof *x);
    if (x) {
        x->connection = c;
        const struct http_limits *l = &c->server->options.limits;
        http_parser_init(&x->parser, l->max_upload > l->max_body ? l->max_upload : l->max_body);
        buf_init(&x->body, c->server->options.limits.max_body);
        buf_init(&x->headers, MAX_REPLY_HEADERS);
    }
    return x;
}

void exchange__opened(struct http_exchange *x)
{
    const struct http_server_options *o = &x->connection->server->options;
    if (x->opened) {
        return;
    }
    x->opened = true;
    if (o->opened) {
        o->opened(x, x->parser.has_head ? &x->parser.request : NULL, o->arg);
    }
    x->opened_headers = x->headers.len;
}

void exchange__free(struct http_exchange *x)
{
    if (x) {
        const struct http_server_options *o = &x->connection->server->options;
        if (x->opened && o->finished) {
            o->finished(x, &x->end, o->arg);
        }
        if (x->sink.gone && !x->handled) {
            x->sink.gone(x->sink.arg);
        }
        http_parser_release(&x->parser);
        buf_release(&x->body);
        buf_release(&x->headers);
        free(x);
    }
}

void exchange__gone(struct connection *c)
{
    struct http_exchange *x = c->exchange;
    c->exchange = NULL;
    if (x && x->on_gone) {
        x->on_gone(x->on_gone_arg);
    }
    exchange__free(x);
}

/* ---- request ---- */

const struct http_request *http_request_of(const struct http_exchange *x)
{
    return &x->parser.request;
}

struct str http_body(const struct http_exchange *x)
{
    return buf_view(&x->body);
}

void http_body_to(struct http_exchange *x, const struct http_sink *sink)
{
    x->sink = *sink;
}

void *http_sink_arg(const struct http_exchange *x)
{
    return x->sink.arg;
}

void http_body_pause(struct http_exchange *x)
{
    if (x->paused_ms == 0) {
        x->paused_ms = server__now(x->connection->server);
    }
}

void http_body_resume(struct http_exchange *x)
{
    if (x->paused_ms) {
        int64_t now = server__now(x->connection->server);
        x->head_ms += now - x->paused_ms;
        x->last_byte_ms = now;
        x->paused_ms = 0;
        server__ready(x->connection);
    }
}

bool http_is_local(const struct http_exchange *x)
{
    return !x->connection->io.is_tcp;
}

void http_set_tag(struct http_exchange *x, uint64_t tag)
{
    x->tag = tag;
}

uint64_t http_tag(const struct http_exchange *x)
{
    return x->tag;
}

void http_set_context(struct http_exchange *x, void *context)
{
    x->context = context;
}

void *http_context(const struct http_exchange *x)
{
    return x->context;
}

const char *http_client_address(const struct http_exchange *x)
{
    return x->connection->address;
}

bool http_is_secure(const struct http_exchange *x)
{
    return x->connection->is_secure;
}

void http_on_gone(struct http_exchange *x, void (*on_gone)(void *arg), void *arg)
{
    x->on_gone = on_gone;
    x->on_gone_arg = arg;
}

/* ---- head of a reply ---- */

static bool is_ours(struct str name) /* fields that follow from the framing */
{
    static const char *const names[] = {"connection", "content-length", "content-type", "date", "transfer-encoding"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq_nocase(name, str_of(names[i]))) {
            return true;
        }
    }
    return false;
}

void http_add_header(struct http_exchange *x, const char *name, struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return;
        }
    }
    size_t name_len = strlen(name);
    if (!is_token(str_of(name)) || is_ours(str_of(name)) ||
        name_len + value.len + 4 > x->headers.max - x->headers.len) {
        return;
    }
    buf_printf(&x->headers, "%s: ", name);
    buf_append(&x->headers, value);
    buf_puts(&x->headers, "\r\n");
}

enum framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

struct reply_head {
    int status;
    const char *content_type; /* NULL: none */
    enum framing framing;
    size_t length;
    bool try_again; /* an error that may not be there the next time */
};

static bool has_no_body(int status)
{
    return status < 200 || status == 204 || status == 304;
}

/* Writes the head and decides whether the connection goes on. x may be NULL: nothing of a request was understood. */
static void put_head(struct connection *c, const struct http_exchange *x, const struct reply_head *h)
{
    struct buf *out = &c->out;
    c->server->stats.replies[h->status / 100 % 10]++;
    c->close_after |= c->server->stopping || h->framing == FRAMING_CLOSE || !x || !x->parser.request.keep_alive;
    buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", h->status, http_status_text(h->status), server__date(c->server));
    if (h->content_type) {
        buf_printf(out, "Content-Type: %s\r\n", h->content_type);
    }
    if (h->framing == FRAMING_LENGTH) {
        buf_printf(out, "Content-Length: %zu\r\n", h->length);
    } else if (h->framing == FRAMING_CHUNKED) {
        buf_puts(out, "Transfer-Encoding: chunked\r\n");
    }
    if (h->try_again) {
        buf_puts(out, "Retry-After: 1\r\n");
    }
    if (x) {
        buf_append(out, buf_view(&x->headers));
    }
    if (c->close_after) {
        buf_puts(out, "Connection: close\r\n");
    } else if (x->parser.request.minor_version == 0) {
        buf_puts(out, "Connection: keep-alive\r\n");
    }
    buf_puts(out, "\r\n");
}

/* Nothing more of the reply will be made; the exchange's memory goes. */
static void finish(struct connection *c, bool complete)
{
    if (c->exchange) {
        c->exchange->end.complete = complete;
    }
    exchange__free(c->exchange);
    c->exchange = NULL;
    c->state = CONNECTION_FLUSH;
    server__ready(c);
}

static void reply(struct connection *c, struct reply_head head, struct str body)
{
    struct http_exchange *x = c->exchange;
    bool none = has_no_body(head.status);
    head.content_type = none ? NULL : head.content_type;
    head.framing = none ? FRAMING_NONE : FRAMING_LENGTH;
    head.length = body.len;
    if (x) {
        x->end.status = head.status;
    }
    put_head(c, x, &head);
    if (!none && !(x && x->parser.request.is_head)) {
        buf_append(&c->out, body);
    }
    finish(c, true);
}

static void reply_error(struct connection *c, const struct error *err)
{
    const struct http_server_options *o = &c->server->options;
    const struct http_exchange *x = c->exchange;
    struct buf body;
    buf_init(&body, LIMIT_HTTP_OUT_BUFFER);
    if (o->error_body) {
        o->error_body(x && x->parser.has_head ? &x->parser.request : NULL, err, &body, o->arg);
    } else {
        buf_printf(&body, "%s\n", err->msg);
    }
    const struct error_info *info = error_info(err->code);
    bool says_when = x && str_find(buf_view(&x->headers), STR("Retry-After: ")) != STR_NPOS; /* who refused knows it */
    reply(c,
          (struct reply_head){.status = info->http_status,
                              .content_type = o->error_body ? "application/json" : "text/plain; charset=utf-8",
                              .try_again = info->retryable && !says_when},
          buf_view(&body));
    buf_release(&body);
}

void exchange__refuse(struct connection *c, const struct error *err)
{
    struct http_exchange *x = c->exchange;
    c->close_after = true;
    if (!x) { /* nothing has come; without memory for it the reply has no header of the API */
        x = c->exchange = exchange__create(c);
    }
    if (x) {
        x->refusal = *err;
        x->end.refusal = &x->refusal;
        exchange__opened(x);
    }
    reply_error(c, err);
}

void http_reply(struct http_exchange *x, int status, const char *content_type, struct str body)
{
    struct connection *c = x->connection;
    if (c->exchange != x) {
        return; /* from inside on_gone */
    }
    assert(c->state == CONNECTION_RUN);
    if (body.len > LIMIT_HTTP_REPLY) {
        struct error err = {0};
        error_set(&err, ERR_INTERNAL, "The reply has %zu bytes; at most %zu can be sent in one piece.", body.len,
                  LIMIT_HTTP_REPLY);
        buf_truncate(&x->headers, x->opened_headers);
        reply_error(c, &err);
        return;
    }
    reply(c, (struct reply_head){.status = status, .content_type = content_type}, body);
}

/* ---- streams ---- */

void http_stream_start(struct http_exchange *x, int status, const char *content_type, const struct http_source *source)
{
    struct connection *c = x->connection;
    if (c->exchange != x) {
        return; /* from inside on_gone */
    }
    assert(c->state == CONNECTION_RUN);
    x->source = *source;
    x->end.status = status;
    x->want_pull = true;
    x->headers_only = x->parser.request.is_head || has_no_body(status);
    x->chunked = x->parser.request.minor_version > 0;
    enum framing framing = x->chunked ? FRAMING_CHUNKED : FRAMING_CLOSE;
    put_head(c, x,
             &(struct reply_head){.status = status,
                                  .content_type = has_no_body(status) ? NULL : content_type,
                                  .framing = has_no_body(status) ? FRAMING_NONE : framing});
    c->state = CONNECTION_STREAM;
    c->quiet_since_ms = server__now(c->server);
    server__ready(c);
}

void http_stream_source(struct http_exchange *x, const struct http_source *source)
{
    x->source = *source;
    http_stream_wake(x);
}

void http_stream_wake(struct http_exchange *x)
{
    x->want_pull = true;
    server__ready(x->connection);
}

/* A chunk's size, as printf's %zx has it; there is one to every token. */
static void put_size(struct buf *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * sizeof size];
    size_t at = sizeof text;
    do {
        text[--at] = digits[size % 16];
        size /= 16;
    } while (size);
    buf_append_bytes(out, text + at, sizeof text - at);
    buf_append(out, STR("\r\n"));
}

static void put_piece(struct connection *c, struct str piece)
{
    if (piece.len == 0) {
        return; /* an empty chunk would end the reply */
    }
    if (c->exchange->chunked) {
        put_size(&c->out, piece.len);
        buf_append(&c->out, piece);
        buf_puts(&c->out, "\r\n");
    } else {
        buf_append(&c->out, piece);
    }
    c->quiet_since_ms = server__now(c->server);
}

void exchange__keepalive(struct connection *c)
{
    const struct http_source *source = &c->exchange->source;
    struct buf text;
    buf_init(&text, KIB(1));
    if (source->write_keepalive) {
        source->write_keepalive(source->arg, &text);
    }
    put_piece(c, text.len && !text.failed ? buf_view(&text) : source->keepalive);
    buf_release(&text);
}

/* The source has said END or ABORT and may be gone: it is not touched again. */
static void end_stream(struct connection *c, bool aborted)
{
    bool chunked = c->exchange->chunked;
    if (aborted) {
        c->close_after = true;
        c->cut = !chunked; /* a missing last chunk tells the client; a mere end of stream would not */
    } else if (chunked) {
        buf_puts(&c->out, "0\r\n\r\n");
    }
    finish(c, !aborted);
}

void exchange__pull(struct connection *c)
{
    struct http_exchange *x = c->exchange;
    struct buf *piece = &c->server->pulled;
    if (x->headers_only) {
        c->state = CONNECTION_FLUSH;
        x->end.complete = true;
        exchange__gone(c);
        return;
    }
    x->want_pull = false; /* before the call: a wake from inside it counts */
    enum http_pull result = x->source.pull(x->source.arg, piece);
    bool failed = piece->failed;
    if (!failed) {
        put_piece(c, buf_view(piece));
    }
    if (piece->cap > KEPT_PULLED) {
        buf_release(piece);
    }
    buf_clear(piece);
    if (result == HTTP_PULL_END || result == HTTP_PULL_ABORT) {
        end_stream(c, failed || result == HTTP_PULL_ABORT);
    } else if (failed) {
        connection__lost(c);
    } else {
        x->want_pull |= result == HTTP_PULL_MORE;
    }
}
