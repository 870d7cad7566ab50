#include "http/transport.h"

#include "base/limits.h"

#include <poll.h>

#define KEPT_BUFFER \
    KIB(64) /* a larger buffer is given back once it is empty: most connections are idle most of the time */

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

static void on_closed(uv_handle_t *handle)
{
    struct transport *t = handle->data;
    buf_release(&t->busy);
    t->events->closed(t->owner);
}

void transport_close(struct transport *t)
{
    uv_close(&t->uv.handle, on_closed);
}

void transport_reset(struct transport *t)
{
    if (!t->is_tcp || uv_tcp_close_reset(&t->uv.tcp, on_closed) != 0) {
        uv_close(&t->uv.handle, on_closed);
    }
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct transport *t = handle->data;
    (void)suggested;
    *out = uv_buf_init((char *)t->scratch.ptr, (unsigned)t->scratch.len);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct transport *t = stream->data;
    if (n > 0) {
        t->events->received(t->owner, (struct str){bytes->base, (size_t)n});
    } else if (n < 0) {
        transport_read(t, false);
        t->events->ended(t->owner, n != UV_EOF);
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

/* ---- writing ---- */

static void empty(struct buf *b)
{
    if (b->cap > KEPT_BUFFER) {
        buf_release(b);
    } else {
        buf_clear(b);
    }
}

static void on_write(uv_write_t *request, int status)
{
    struct transport *t = request->data;
    t->writing = false;
    empty(&t->busy);
    if (status != UV_ECANCELED) { /* cancelled: it is being closed */
        t->events->written(t->owner, status == 0);
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

bool transport_write(struct transport *t, struct buf *out)
{
    if (out->failed) {
        return false;
    }
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

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* the peer's end of stream, or the time limit, ends it in any case */
}

void transport_shutdown(struct transport *t)
{
    uv_shutdown(&t->shutdown, &t->uv.stream, on_shutdown);
}

size_t transport_unsent(const struct transport *t)
{
    return uv_stream_get_write_queue_size(&t->uv.stream);
}

uint64_t transport_taken(const struct transport *t)
{
    return t->submitted - transport_unsent(t);
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
