#include "gateway/engine_child_internal.h"

#include "base/log.h"

/* Once it has its adapters: the first thing that it is asked for may want one. */
static bool go_on(struct engine_child *c, struct error *err)
{
    if (!engine_child__send_adapter(c, err)) {
        return false;
    }
    if (c->state == MODEL_READY || (c->options.adapters && c->options.adapters->under_way)) {
        return true;
    }
    if (!engine_child__send_settings(c, err)) {
        return false;
    }
    engine_child__set_state(c, MODEL_READY);
    return c->held || engine_child__send_waiting(c, err);
}

static bool take_adapter_done(struct engine_child *c, const struct frame *f, struct error *err)
{
    struct adapter_done done;
    if (!frame_get_adapter_done(f, &done, err)) {
        return false;
    }
    if (!c->options.adapters) {
        return error_set(err, ERR_PROTOCOL, "the engine speaks of adapters, and has none.");
    }
    if (done.error.code) {
        LOG_ERROR("adapter cannot be loaded", "model=%s number=%u error=\"%s\"", c->options.name, done.number,
                  done.error.msg);
    }
    if (!adapter_set_done(c->options.adapters, &done, err) || !go_on(c, err)) {
        return false;
    }
    c->options.on_adapter(c->options.on_state_arg);
    return true;
}

static bool take_hello(struct engine_child *c, const struct frame *f, struct error *err)
{
    if (!frame_get_hello(f, &c->info, err)) {
        return false;
    }
    c->has_info = true;
    c->failure = (struct error){0};
    c->load_fraction = 1;
    LOG_INFO(
        "engine ready", "model=%s pid=%d epoch=%u load_ms=%u context=%u kv_mib=%llu weights_mib=%llu backend=\"%s\"",
        c->options.name, engine_child_pid(c), c->epoch, c->info.load_ms, c->info.n_context,
        (unsigned long long)(c->info.kv_size >> 20), (unsigned long long)(c->info.weights_size >> 20), c->info.backend);
    c->greeted = true;
    return go_on(c, err);
}

static bool take_frame(struct engine_child *c, const struct frame *f, struct error *err)
{
    if (f->epoch != c->epoch) {
        return true; /* of an incarnation that is gone */
    }
    switch (f->type) {
    case FRAME_HELLO:
        return take_hello(c, f, err);
    case FRAME_LOADING:
        return frame_get_loading(f, &c->load_fraction, err);
    case FRAME_FATAL:
        c->fatal = true;
        engine_child__start_grace(c); /* it exits by itself, or is made to */
        return frame_get_fatal(f, &c->failure, err);
    case FRAME_ADAPTER_DONE:
        return take_adapter_done(c, f, err);
    case FRAME_EVENTS:
        if (!event_inbox_load(&c->inbox, f, err)) {
            return false;
        }
        engine_child__wake(c);
        return true;
    default:
        return error_set(err, ERR_PROTOCOL, "the engine sent a frame of type %d, which only a gateway sends.",
                         (int)f->type);
    }
}

/* Decodes the whole frames in c->in; nothing any more once the engine is given up. */
static void take_bytes(struct engine_child *c)
{
    struct error err = {0};
    size_t used = 0, consumed;
    struct frame frame;
    int rc = 1;
    while ((rc = frame_parse(str_slice(buf_view(&c->in), used, c->in.len), &frame, &consumed, &err)) == 1) {
        if (!take_frame(c, &frame, &err)) {
            rc = -1;
            break;
        }
        used += consumed;
    }
    if (rc < 0) {
        engine_child__give_up(c, LOSS_PROTOCOL, &err);
        used = c->in.len;
    }
    buf_drop_front(&c->in, used);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct engine_child *c = handle->data;
    (void)suggested;
    *out = uv_buf_init(c->read_buffer, CHILD_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct engine_child *c = stream->data;
    if (n > 0 && c->given_up != LOSS_COUNT) {
        return;
    }
    if (n > 0) {
        buf_append_bytes(&c->in, bytes->base, (size_t)n);
        struct error err = {0};
        if (!buf_ok(&c->in, "unread frames of the engine", &err)) {
            engine_child__give_up(c, LOSS_PROTOCOL, &err);
            return;
        }
        take_bytes(c);
    } else if (n < 0) {
        engine_child__close_socket(c);
        if (!c->process_exited && !c->closing) {
            engine_child__start_grace(c); /* what does not exit by itself is killed then */
        }
    }
}

void engine_child__start_reading(struct engine_child *c)
{
    uv_read_start((uv_stream_t *)&c->socket, on_alloc, on_read);
}
