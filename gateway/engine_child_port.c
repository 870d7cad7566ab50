#include "gateway/engine_child_internal.h"

#include "base/clock.h"

#include <stdlib.h>

#define ORDER_SIZE KIB(8) /* of a frame for an adapter, at most: its path is the most of it */

void engine_child__wake(struct engine_child *c)
{
    if (c->port.wake) {
        c->port.wake(c->port.wake_arg);
    }
}

/* ---- writing ---- */

struct write {
    uv_write_t uv;
    char *data;
};

static void on_written(uv_write_t *uv, int status)
{
    struct write *w = uv->data;
    (void)status; /* a broken socket also ends the reading side, which handles it */
    free(w->data);
    free(w);
}

/* Sends the frames in `frames` and releases it; put: whether they could be put there. max_unread: with what it has not
 * read yet. */
static bool send_within(struct engine_child *c, struct buf *frames, bool put, size_t max_unread, struct error *err)
{
    struct write *w = NULL;
    bool ok = false;
    if (!put || !buf_ok(frames, "frames to the engine", err)) {
        goto out;
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->socket) + frames->len > max_unread) {
        error_set(err, ERR_OVERLOADED, "the engine does not keep up with the requests sent to it. Try again later.");
        goto out;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, ERR_NO_MEMORY, "no memory to send a request to the engine.");
        goto out;
    }
    w->uv.data = w;
    size_t size;
    w->data = buf_take(frames, &size);
    uv_buf_t bytes = uv_buf_init(w->data, (unsigned)size);
    int rc = uv_write(&w->uv, (uv_stream_t *)&c->socket, &bytes, 1, on_written);
    if (rc != 0) {
        free(w->data);
        free(w);
        error_set(err, ERR_UNAVAILABLE, "the engine cannot be reached: %s.", uv_strerror(rc));
        goto out;
    }
    ok = true;
out:
    buf_release(frames);
    return ok;
}

static bool send_frames(struct engine_child *c, struct buf *frames, bool put, struct error *err)
{
    return send_within(c, frames, put, c->options.max_unread, err);
}

static bool send_job(struct engine_child *c, const struct job *job, struct error *err)
{
    struct buf frames;
    buf_init(&frames, c->options.max_unread);
    return send_frames(c, &frames, frame_put_job(&frames, c->epoch, job, err), err);
}

static bool send_cancel(struct engine_child *c, uint64_t job, uint32_t choice, struct error *err)
{
    struct buf frames;
    buf_init(&frames, KIB(1));
    return send_frames(c, &frames, frame_put_cancel(&frames, c->epoch, job, choice, err), err);
}

static bool send_clear_cache(struct engine_child *c, struct error *err)
{
    struct buf frames;
    buf_init(&frames, KIB(1));
    return send_frames(c, &frames, frame_put_empty(&frames, c->epoch, FRAME_CLEAR_CACHE, err), err);
}

static bool send_pool_limit(struct engine_child *c, struct error *err)
{
    struct buf frames;
    buf_init(&frames, KIB(1));
    return send_frames(c, &frames, frame_put_pool_limit(&frames, c->epoch, &c->pool_limit, err), err);
}

bool engine_child__send_settings(struct engine_child *c, struct error *err)
{
    if (c->clear_cache && !send_clear_cache(c, err)) {
        return false;
    }
    c->clear_cache = false;
    return c->pool_limit.size == 0 || send_pool_limit(c, err);
}

/* It has room of its own, whatever requests wait: nobody would send it later, and there is one at a time. */
bool engine_child__send_adapter(struct engine_child *c, struct error *err)
{
    struct adapter_order order;
    struct buf frames;
    if (!c->options.adapters || !adapter_set_next(c->options.adapters, &order)) {
        return true;
    }
    buf_init(&frames, ORDER_SIZE);
    bool put = frame_put_adapter(&frames, c->epoch, &order, err);
    bool ok = send_within(c, &frames, put, c->options.max_unread + ORDER_SIZE, err);
    if (!ok) {
        adapter_set_take_back(c->options.adapters);
    }
    return ok;
}

/* ---- jobs that wait for the engine ---- */

/* Half of what may be queued for an engine: the rest is for what comes right after its HELLO. */
static bool push_waiting(struct engine_child *c, const struct job *job, struct error *err)
{
    if (waiting_jobs_size_of(job) > c->options.max_unread / 2 - c->waiting.size) {
        return error_set(err, ERR_OVERLOADED,
                         "the model is loading and the requests that wait for it hold %zu bytes. Try again later.",
                         c->waiting.size);
    }
    uint32_t n_requests = c->waiting.n - c->waiting.n_rows;
    if (n_requests >= c->options.max_waiting) {
        return error_set(err, ERR_OVERLOADED,
                         "the model is loading and %u requests wait for it already. Try again later.", n_requests);
    }
    if (!waiting_jobs_push(&c->waiting, job, clock_ms(), err)) {
        return false;
    }
    if (c->options.on_wait) {
        c->options.on_wait(c->options.on_state_arg);
    }
    return true;
}

bool engine_child__send_waiting(struct engine_child *c, struct error *err)
{
    struct job *job;
    bool ok = true;
    while (ok && (job = waiting_jobs_pop(&c->waiting, clock_ms()))) {
        ok = send_job(c, job, err);
        free(job);
    }
    return ok;
}

/* ---- port ---- */

static struct engine_child *child_of(const struct engine_port *p)
{
    return (struct engine_child *)p;
}

/* An engine whose end is being waited for takes nothing more: what comes now hears of the loss with all else. */
static bool takes_jobs(const struct engine_child *c)
{
    return !c->held && c->socket_open && !uv_is_closing((const uv_handle_t *)&c->socket);
}

static bool port_submit(struct engine_port *p, const struct job *job, struct error *err)
{
    struct engine_child *c = child_of(p);
    switch (c->state) {
    case MODEL_READY:
        return takes_jobs(c) ? send_job(c, job, err) : push_waiting(c, job, err);
    case MODEL_UNLOADED:
    case MODEL_LOADING:
    case MODEL_RESTARTING:
    case MODEL_UNLOADING:
        return push_waiting(c, job, err);
    case MODEL_FAILED:
        if (!c->options.tries_again && clock_ms() >= c->again_ms) {
            return push_waiting(c, job, err);
        }
        break;
    }
    return error_set(err, ERR_UNAVAILABLE, "the engine of this model has failed: %s", c->failure.msg);
}

static void port_cancel(struct engine_port *p, uint64_t job, uint32_t choice)
{
    struct engine_child *c = child_of(p);
    if (c->state == MODEL_READY) {
        struct error ignored = {0}; /* the engine is being lost: nothing is left to cancel */
        (void)!send_cancel(c, job, choice, &ignored);
    }
    if (choice == WIRE_ALL_CHOICES) { /* while it is held it may be either's */
        waiting_jobs_remove(&c->waiting, job);
    }
}

static const struct engine_event *port_next(struct engine_port *p)
{
    struct engine_child *c = child_of(p);
    const struct engine_event *event = event_inbox_next(&c->inbox);
    c->productive = c->productive || (event && event->kind == ENGINE_TOKENS);
    if (!event && c->lost_pending) {
        c->lost_pending = false;
        event = &c->lost;
    }
    return event;
}

static const struct engine_info *port_info(const struct engine_port *p)
{
    return engine_child_info(child_of(p));
}

/* A consumer found events that cannot be: a gap in its tokens. */
static void port_distrust(struct engine_port *p, const struct error *why)
{
    struct engine_child *c = child_of(p);
    if (c->process_alive && !c->process_exited) {
        engine_child__give_up(c, LOSS_PROTOCOL, why);
    }
}

static const struct engine_port_ops port_ops = {port_submit, port_cancel, port_next, port_info, port_distrust};

void engine_child__init_port(struct engine_child *c)
{
    c->port.ops = &port_ops;
}

void engine_child__release_port(struct engine_child *c)
{
    waiting_jobs_clear(&c->waiting);
}

struct engine_port *engine_child_port(struct engine_child *c)
{
    return &c->port;
}

/* ---- what else it is told ---- */

void engine_child_hold(struct engine_child *c, bool held)
{
    struct error err = {0};
    c->held = held;
    if (c->state == MODEL_READY && takes_jobs(c) && !engine_child__send_waiting(c, &err)) {
        engine_child__give_up(c, LOSS_PROTOCOL, &err);
    }
}

void engine_child_limit_pool(struct engine_child *c, const struct pool_limit *limit)
{
    struct error ignored = {0}; /* it does not read, or is being lost: the next one gets it */
    c->pool_limit = *limit;
    if (c->state == MODEL_READY) {
        (void)!send_pool_limit(c, &ignored);
    }
}

void engine_child_adapters_changed(struct engine_child *c)
{
    struct error ignored = {0}; /* it is being lost: the next one gets it */
    if (c->greeted && c->socket_open && !uv_is_closing((const uv_handle_t *)&c->socket)) {
        (void)!engine_child__send_adapter(c, &ignored);
    }
}

/* The next engine would find on disk what was to be cleared. */
bool engine_child_clear_cache(struct engine_child *c)
{
    struct error ignored = {0};
    c->clear_cache = c->state != MODEL_READY || !send_clear_cache(c, &ignored);
    return !c->clear_cache;
}
