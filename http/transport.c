#include "http/transport.h"

#include "base/limits.h"

#include <poll.h>

#define KEPT_BUFFER \
    KIB(64) /* a larger buffer is given back once it is empty: most connections are idle most of the time */
#define MAX_ANSWERS KIB(16) /* bytes of TLS's own messages behind a write in flight */

void transport_init(struct transport *t, uv_loop_t *loop, bool is_tcp, struct str scratch,
                    const struct transport_events *events, void *owner)
{
    *t = (struct transport){.is_tcp = is_tcp, .scratch = scratch, .events = events, .owner = owner};
    if (is_tcp) {
        uv_tcp_init(loop, &t->uv.tcp); /* cannot fail without a descriptor */
    } else {
        uv_pipe_init(loop, &t->uv.pipe, 0);
    }
    t->uv.handle.data = t;
    buf_init(&t->busy, SIZE_MAX);
}

bool transport_secure(struct transport *t, struct tls_context *context)
{
    t->tls = tls_create(context);
    return t->tls != NULL;
}

bool transport_open(struct transport *t, int fd)
{
    if (!t->is_tcp) {
        return uv_pipe_open(&t->uv.pipe, fd) == 0;
    }
    if (uv_tcp_open(&t->uv.tcp, fd) != 0) {
        return false;
    }
    uv_tcp_nodelay(&t->uv.tcp, 1); /* tokens are small, and each counts */
    return true;
}

/* ---- writing ---- */

static void empty(struct buf *b)
{
    if (b->cap > KEPT_BUFFER) {
        buf_release(b);
    } else {
        buf_clear(b);
    }
}

static bool send_records(struct transport *t);

static void on_write(uv_write_t *request, int status)
{
    struct transport *t = request->data;
    t->writing = false;
    empty(&t->busy);
    if (status == UV_ECANCELED || t->closing) {
        return;
    }
    bool ok = status == 0 && send_records(t);
    if (!ok || !t->writing) {
        t->events->written(t->owner, ok);
    }
}

/* The rest of *out becomes the write in flight; *out gets the empty buffer of the one before. */
static bool write_later(struct transport *t, struct buf *out, size_t from)
{
    struct buf spare = t->busy;
    spare.max = out->max;
    t->busy = *out;
    *out = spare;
    uv_buf_t rest = uv_buf_init(t->busy.data + from, (unsigned)(t->busy.len - from));
    t->write.data = t;
    t->writing = true;
    return uv_write(&t->write, &t->uv.stream, &rest, 1, on_write) == 0;
}

static bool send_all(struct transport *t, struct buf *out)
{
    if (t->writing || out->len == 0) {
        return true;
    }
    uv_buf_t all = uv_buf_init(out->data, (unsigned)out->len);
    int n = uv_try_write(&t->uv.stream, &all, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return false;
    }
    t->submitted += out->len;
    if (n == (int)out->len) {
        empty(out);
        return true;
    }
    return write_later(t, out, n > 0 ? (size_t)n : 0);
}

/* What TLS has written: records, the handshake's messages, alerts. While a write is in flight only answers to what the
 * peer sends come to it, and a peer that sends and does not read may not make us keep them all. */
static bool send_records(struct transport *t)
{
    if (!t->tls) {
        return true;
    }
    struct buf *records = tls_out(t->tls);
    return !records->failed && !(t->writing && records->len > MAX_ANSWERS) && send_all(t, records);
}

bool transport_write(struct transport *t, struct buf *out)
{
    if (out->failed) {
        return false;
    }
    if (t->writing || out->len == 0 || transport_is_handshaking(t)) {
        return true;
    }
    if (!t->tls) {
        return send_all(t, out);
    }
    bool ok = tls_write(t->tls, buf_view(out));
    empty(out);
    return ok && send_records(t);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* the peer's end of stream, or the time limit, ends it in any case */
}

/* A last record says that the stream is complete. When it cannot be sent, the peer sees that it is not. */
static void say_end(struct transport *t)
{
    if (t->tls) {
        tls_end(t->tls);
        (void)send_records(t);
    }
}

void transport_shutdown(struct transport *t)
{
    say_end(t);
    uv_shutdown(&t->shutdown, &t->uv.stream, on_shutdown);
}

/* ---- reading ---- */

/* Records lie in the first half of the scratch memory, and what they hold goes to the second. One read gives at most so
 * much more than its own size as a record that was incomplete before it. */
static size_t room_for_records(const struct transport *t)
{
    return t->scratch.len / 2;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct transport *t = handle->data;
    (void)suggested;
    *out = uv_buf_init((char *)t->scratch.ptr, (unsigned)(t->tls ? room_for_records(t) : t->scratch.len));
}

static void end_of_stream(struct transport *t, bool is_broken)
{
    transport_read(t, false);
    t->events->ended(t->owner, is_broken);
}

/* A handshake begins with the record type 22, and a request with a letter. */
static bool is_plain_text(struct str bytes)
{
    unsigned char c = (unsigned char)bytes.ptr[0];
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static void on_records(struct transport *t, struct str records)
{
    char *room = (char *)t->scratch.ptr + room_for_records(t);
    bool was_handshaking = transport_is_handshaking(t);
    enum tls_result result;
    size_t n;
    tls_arrived(t->tls, records);
    while ((result = tls_read(t->tls, room, t->scratch.len - room_for_records(t), &n)) == TLS_BYTES) {
        t->events->received(t->owner, (struct str){room, n});
        if (t->closing) {
            return;
        }
    }
    bool sent = send_records(t); /* alerts too */
    if (result != TLS_MORE || !sent) {
        end_of_stream(t, result != TLS_END);
    } else if (was_handshaking && !transport_is_handshaking(t) && !t->writing) {
        t->events->written(t->owner, true);
    }
}

static void on_bytes(struct transport *t, struct str bytes)
{
    if (t->tls && !t->has_spoken && is_plain_text(bytes)) {
        tls_free(t->tls);
        t->tls = NULL;
        t->misdirected = true;
    }
    t->has_spoken = true;
    if (t->tls) {
        on_records(t, bytes);
    } else {
        t->events->received(t->owner, bytes);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct transport *t = stream->data;
    if (n > 0) {
        on_bytes(t, (struct str){bytes->base, (size_t)n});
    } else if (n < 0) {
        bool is_cut = t->tls && t->has_spoken; /* no close_notify */
        end_of_stream(t, n != UV_EOF || is_cut);
    }
}

void transport_read(struct transport *t, bool on)
{
    if (on == t->reading) {
        return;
    }
    t->reading = on;
    if (on) {
        uv_read_start(&t->uv.stream, on_alloc, on_read); /* fails only on a closing stream */
    } else {
        uv_read_stop(&t->uv.stream);
    }
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct transport *t = handle->data;
    buf_release(&t->busy);
    tls_free(t->tls);
    t->tls = NULL;
    t->events->closed(t->owner);
}

void transport_close(struct transport *t)
{
    t->closing = true;
    if (!t->writing) {
        say_end(t);
    }
    uv_close(&t->uv.handle, on_closed);
}

void transport_reset(struct transport *t)
{
    t->closing = true;
    if (!t->is_tcp || uv_tcp_close_reset(&t->uv.tcp, on_closed) != 0) {
        uv_close(&t->uv.handle, on_closed);
    }
}

/* ---- state ---- */

size_t transport_unsent(const struct transport *t)
{
    return uv_stream_get_write_queue_size(&t->uv.stream) + (t->tls ? tls_out(t->tls)->len : 0);
}

uint64_t transport_taken(const struct transport *t)
{
    return t->submitted - uv_stream_get_write_queue_size(&t->uv.stream);
}

bool transport_is_handshaking(const struct transport *t)
{
    return t->tls && !tls_ready(t->tls);
}

bool transport_is_misdirected(const struct transport *t)
{
    return t->misdirected;
}

bool transport_hung_up(const struct transport *t)
{
    uv_os_fd_t fd;
    if (uv_fileno(&t->uv.handle, &fd) != 0) {
        return true;
    }
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}
