#include "lib/local_port.h"

#include "base/clock.h"
#include "base/queue.h"
#include "pipeline/event_inbox.h"

#include <stdlib.h>

#define LOCAL_EPOCH        1
#define LOCAL_QUEUE        4096 /* frames not yet taken by the loop */
#define LOCAL_FULL_WAIT_MS 1    /* the loop takes frames as fast as they can be decoded */
#define LOCAL_POOR_WAIT_MS 10   /* memory comes back, or the process ends */

struct local_frames {
    char *data; /* owned; whole frames */
    size_t size;
};

struct local_port {
    struct engine_port port; /* first: the port is this */
    struct engine *engine;
    struct queue *queue; /* of struct local_frames */
    struct loop_signal *signal;
    struct event_inbox inbox;
    struct local_frames current;
    size_t used; /* bytes of current already decoded */
};

/* False: the port is being closed, or what cannot be is too large. Without memory the engine waits for some: jobs whose
 * events were dropped would never end. */
static bool put_events(struct local_port *p, const struct engine_event *events, size_t n, struct buf *frames)
{
    struct error err = {0};
    for (;;) {
        buf_init(frames, SIZE_MAX / 2);
        if (frame_put_events(frames, LOCAL_EPOCH, events, n, &err)) {
            return true;
        }
        buf_release(frames);
        if (err.code != ERR_NO_MEMORY || queue_closed(p->queue)) {
            return false;
        }
        clock_sleep_ms(LOCAL_POOR_WAIT_MS);
    }
}

/* The step thread. */
static void take_events(void *arg, const struct engine_event *events, size_t n)
{
    struct local_port *p = arg;
    struct buf frames;
    if (!put_events(p, events, n, &frames)) {
        return;
    }
    struct local_frames item;
    item.data = buf_take(&frames, &item.size);
    while (!queue_push(p->queue, &item)) {
        if (queue_closed(p->queue)) {
            free(item.data);
            return;
        }
        clock_sleep_ms(LOCAL_FULL_WAIT_MS);
    }
    loop_signal_send(p->signal);
}

static void on_signal(void *arg)
{
    struct local_port *p = arg;
    if (p->port.wake) {
        p->port.wake(p->port.wake_arg);
    }
}

static struct local_port *local_of(const struct engine_port *p)
{
    return (struct local_port *)p;
}

static bool port_submit(struct engine_port *p, const struct job *job, struct error *err)
{
    return engine_submit(local_of(p)->engine, job, err);
}

static void port_cancel(struct engine_port *p, uint64_t job, uint32_t choice)
{
    engine_cancel(local_of(p)->engine, job, choice);
}

/* Loads the next frame of `current`, or of the next item of the queue; false when there is none. */
static bool load_next(struct local_port *p)
{
    struct frame frame;
    struct error err = {0};
    size_t consumed;
    if (p->used >= p->current.size) {
        free(p->current.data);
        p->current = (struct local_frames){0};
        p->used = 0;
        if (!queue_pop(p->queue, &p->current)) {
            return false;
        }
    }
    struct str rest = {p->current.data + p->used, p->current.size - p->used};
    if (frame_parse(rest, &frame, &consumed, &err) != 1 || !event_inbox_load(&p->inbox, &frame, &err)) {
        p->used = p->current.size; /* only a fault of our own: the rest cannot be read */
        return true;
    }
    p->used += consumed;
    return true;
}

static const struct engine_event *port_next(struct engine_port *port)
{
    struct local_port *p = local_of(port);
    const struct engine_event *event;
    while (!(event = event_inbox_next(&p->inbox))) {
        if (!load_next(p)) {
            return NULL;
        }
    }
    return event;
}

static const struct engine_info *port_info(const struct engine_port *p)
{
    return engine_info(local_of(p)->engine);
}

static const struct engine_port_ops ops = {port_submit, port_cancel, port_next, port_info, NULL};

struct local_port *local_port_create(struct loop *loop, struct engine *engine, struct error *err)
{
    struct local_port *p = calloc(1, sizeof *p);
    if (!p) {
        engine_free(engine);
        error_set(err, ERR_NO_MEMORY, "no memory for an engine in this process.");
        return NULL;
    }
    p->port.ops = &ops;
    p->engine = engine;
    p->queue = queue_create(sizeof(struct local_frames), LOCAL_QUEUE);
    p->signal = loop_signal_create(loop, on_signal, p);
    bool ok = p->queue && p->signal;
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "no memory for an engine in this process.");
    }
    if (!ok || !event_inbox_init(&p->inbox, err) || !engine_start(engine, take_events, p, err)) {
        local_port_free(p);
        return NULL;
    }
    return p;
}

void local_port_free(struct local_port *p)
{
    if (!p) {
        return;
    }
    if (p->queue) {
        queue_close(p->queue);
    }
    engine_free(p->engine); /* joins the step thread, which uses the queue and the signal */
    struct local_frames item;
    while (p->queue && queue_pop(p->queue, &item)) {
        free(item.data);
    }
    queue_free(p->queue);
    loop_signal_free(p->signal);
    event_inbox_release(&p->inbox);
    free(p->current.data);
    free(p);
}

struct engine_port *local_port_port(struct local_port *p)
{
    return &p->port;
}

bool local_port_adapt(struct local_port *p, const struct adapter_order *order,
                      void (*done)(void *arg, uint32_t number, const struct error *err), void *arg, struct error *err)
{
    return engine_adapt(p->engine, order, done, arg, err);
}
