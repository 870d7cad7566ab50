/* Four threads: this one reads frames and submits; the engine's own makes steps and hands their events to the sink; one
 * writes frames to the socket; one beats the heart. The sink never waits for the writer: what the gateway has not read
 * queues up, then admission pauses, and past a hard bound the process gives up, since its gateway is stuck. */
#include "engine/process.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/sys_proc.h"
#include "base/sys_shm.h"
#include "engine/fault.h"
#include "engine/process_sandbox.h"
#include "wire/engine_watch.h"
#include "wire/frame.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE     KIB(256)
#define IN_BUFFER     (2 * LIMIT_FRAME + MIB(1))
#define JOB_MAX_SIZE  LIMIT_REQUEST_ARENA
#define OUT_MAX_ITEMS 65536
#define OUT_PAUSE     MIB(8)   /* unsent bytes at which nothing new is admitted ... */
#define OUT_RESUME    MIB(4)   /* ... until so many are left */
#define OUT_MAX       MIB(256) /* the gateway does not read at all */

struct out_item {
    char *data; /* owned; NULL: the last one, the socket is shut down behind it */
    size_t size;
};

struct process {
    const struct engine_process_options *options;
    struct engine *engine;
    struct sandbox_state sandbox;
    struct shm pool, seals, watch_memory;
    struct engine_watch *watch; /* NULL: nobody watches */
    struct queue *out;          /* of struct out_item */
    atomic_size_t out_size;
    atomic_bool paused, stop;
    pthread_t writer, heartbeat;
    bool writer_started, heartbeat_started;
    struct fault *fault; /* NULL: none */
    struct buf late;     /* a frame that a fault holds back */
    struct error fatal;  /* once `broken`: the device failed */
    atomic_bool broken;
    struct buf in;
    struct arena *arena;
    struct job_assembly *parts;
};

/* ---- watch words ---- */

static void *beat(void *arg)
{
    struct process *p = arg;
    sys_name_thread("heartbeat");
    while (!atomic_load(&p->stop)) {
        atomic_fetch_add(&p->watch->heartbeats, 1);
        clock_sleep_ms(ENGINE_HEARTBEAT_MS);
    }
    return NULL;
}

/* Before anything that takes long: also an engine that stops while it loads is noticed. */
static bool start_heartbeat(struct process *p, struct error *err)
{
    int rc = p->watch ? pthread_create(&p->heartbeat, NULL, beat, p) : 0;
    p->heartbeat_started = p->watch && rc == 0;
    return rc == 0 ||
           error_set(err, ERR_NO_MEMORY, "The heartbeat of the engine process could not be started: %s.", strerror(rc));
}

/* ---- writing ---- */

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* While loading, before there is a writer: whole frames straight to the socket. */
static void write_now(struct process *p, const struct buf *frames)
{
    if (!frames->failed && !write_all(p->options->socket_fd, frames->data, frames->len)) {
        LOG_WARN("gateway is gone", NULL); /* the reader finds the same and ends */
    }
}

static void *write_loop(void *arg)
{
    struct process *p = arg;
    struct out_item item;
    bool broken = false;
    sys_name_thread("writer");
    while (queue_wait(p->out, &item, -1)) {
        if (!item.data) {
            shutdown(p->options->socket_fd, SHUT_RDWR);
            continue;
        }
        broken = broken || !write_all(p->options->socket_fd, item.data, item.size);
        free(item.data);
        size_t left = atomic_fetch_sub(&p->out_size, item.size) - item.size;
        if (left < OUT_RESUME && atomic_exchange(&p->paused, false)) {
            engine_pause(p->engine, false);
        }
    }
    return NULL;
}

/* The engine's thread cannot be told to wait, and what it made cannot be dropped: a gap would be a lie. */
static void give_up(const char *why)
{
    LOG_ERROR("gateway does not read", "reason=\"%s\"", why);
    _exit(error_info(ERR_OVERLOADED)->exit_status);
}

static void send_item(struct process *p, struct out_item item)
{
    size_t size = atomic_fetch_add(&p->out_size, item.size) + item.size;
    if (size > OUT_PAUSE && !atomic_exchange(&p->paused, true)) {
        engine_pause(p->engine, true);
    }
    if (size > OUT_MAX) {
        give_up("too many unsent bytes");
    }
    if (!queue_push(p->out, &item)) {
        if (!queue_closed(p->out)) {
            give_up("too many unsent frames");
        }
        free(item.data);
    }
}

static void send_frames(struct process *p, struct buf *frames)
{
    struct out_item item;
    item.data = buf_take(frames, &item.size);
    if (item.data) {
        send_item(p, item);
    }
}

static void put_events(struct process *p, const struct engine_event *events, size_t n, struct buf *frames)
{
    struct error err = {0};
    buf_init(frames, OUT_MAX);
    if (!frame_put_events(frames, p->options->epoch, events, n, &err)) {
        give_up(err.msg);
    }
}

static bool has_tokens(const struct engine_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].kind == ENGINE_TOKENS) {
            return true;
        }
    }
    return false;
}

/* Test builds: frames with tokens get lost and the like. What is late goes behind the next one. */
static void send_faulty(struct process *p, struct buf *frames, bool with_tokens)
{
    struct buf late = p->late, copy;
    buf_init(&p->late, OUT_MAX);
    switch (with_tokens ? fault_frame(p->fault) : FAULT_FRAME_NONE) {
    case FAULT_FRAME_LOST:
        buf_clear(frames);
        break;
    case FAULT_FRAME_DUP:
        buf_init(&copy, OUT_MAX);
        buf_append(&copy, buf_view(frames));
        send_frames(p, &copy);
        break;
    case FAULT_FRAME_LATE:
        p->late = *frames;
        buf_init(frames, OUT_MAX);
        break;
    case FAULT_FRAME_CORRUPT:
        frames->data[frames->len - 1] ^= 1;
        break;
    case FAULT_FRAME_NONE:
        break;
    }
    send_frames(p, frames);
    send_frames(p, &late);
    buf_release(frames);
}

/* The engine's thread. */
static void take_events(void *arg, const struct engine_event *events, size_t n)
{
    struct process *p = arg;
    struct buf frames;
    put_events(p, events, n, &frames);
    if (p->fault) {
        send_faulty(p, &frames, has_tokens(events, n));
    } else {
        send_frames(p, &frames);
    }
}

static void send_failed(struct process *p, uint64_t job, const struct error *error)
{
    struct engine_event e = {.kind = ENGINE_FAILED, .job = job, .error = *error, .stop_id = -1};
    struct buf frames;
    put_events(p, &e, 1, &frames);
    send_frames(p, &frames);
}

/* The engine's thread, or the one that reads adapters. */
static void take_adapted(void *arg, uint32_t number, const struct error *error)
{
    struct process *p = arg;
    struct adapter_done done = {.number = number, .error = *error};
    struct buf frames;
    struct error err = {0};
    buf_init(&frames, KIB(4));
    if (!frame_put_adapter_done(&frames, p->options->epoch, &done, &err)) {
        give_up(err.msg);
    }
    send_frames(p, &frames);
    buf_release(&frames);
}

static void send_fatal(struct process *p, const struct error *fatal)
{
    struct buf frames;
    struct error err = {0};
    LOG_ERROR("engine cannot go on", "error=\"%s\"", fatal->msg);
    buf_init(&frames, KIB(4));
    if (frame_put_fatal(&frames, p->options->epoch, fatal, &err)) {
        if (p->writer_started) {
            send_frames(p, &frames);
        } else {
            write_now(p, &frames);
        }
    }
    buf_release(&frames);
}

/* ---- loading ---- */

static void take_progress(void *arg, float fraction)
{
    struct process *p = arg;
    struct buf frames;
    struct error err = {0};
    buf_init(&frames, KIB(1));
    if (frame_put_loading(&frames, p->options->epoch, fraction, &err)) {
        write_now(p, &frames);
    }
    buf_release(&frames);
}

static bool attach_memory(struct process *p, struct error *err)
{
    const struct engine_process_options *o = p->options;
    if (o->pool_fd >= 0 && !shm_attach(o->pool_fd, o->engine.pool_size, &p->pool, err)) {
        return error_wrap(err, "KV pool");
    }
    if (o->seals_fd >= 0 && o->seals_size && !shm_attach(o->seals_fd, o->seals_size, &p->seals, err)) {
        return error_wrap(err, "seals of KV pages");
    }
    if (o->watch_fd >= 0 && !shm_attach(o->watch_fd, sizeof(struct engine_watch), &p->watch_memory, err)) {
        return error_wrap(err, "watch words");
    }
    p->watch = p->watch_memory.data;
    return true;
}

static void discard(void *arg, size_t offset, size_t size)
{
    struct process *p = arg;
    shm_discard(&p->pool, offset, size);
}

static bool confine(struct process *p, struct error *err)
{
    if (!p->options->sandbox) {
        snprintf(p->sandbox.text, sizeof p->sandbox.text, "off");
        return true;
    }
    return process_sandbox(&p->options->engine, &p->sandbox, err);
}

static bool load(struct process *p, struct error *err)
{
    struct engine_options o = p->options->engine;
    if (!attach_memory(p, err) || !fault_create(p->options->fault, &p->fault, err) || !confine(p, err) ||
        !start_heartbeat(p, err)) { /* the first thread comes after the sandbox */
        return false;
    }
    fault_start(p->fault);
    o.fault = p->fault;
    o.pool = p->pool.data ? p->pool.data : o.pool;
    o.seals = p->seals.data ? p->seals.data : o.seals;
    o.seals_size = p->seals.data ? p->seals.size : o.seals_size;
    o.discard = p->pool.data ? discard : NULL;
    o.discard_arg = p;
    o.progress = take_progress;
    o.progress_arg = p;
    p->arena = arena_create(2 * JOB_MAX_SIZE);
    p->parts = job_assembly_create(JOB_MAX_SIZE);
    p->out = queue_create(sizeof(struct out_item), OUT_MAX_ITEMS);
    if (!p->arena || !p->parts || !p->out) {
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the engine process.");
    }
    p->engine = engine_create(&o, err);
    return p->engine != NULL;
}

static bool say_hello(struct process *p, struct error *err)
{
    struct buf frames;
    struct engine_info info = *engine_info(p->engine);
    snprintf(info.sandbox, sizeof info.sandbox, "%s", p->sandbox.text);
    buf_init(&frames, KIB(4));
    bool ok = frame_put_hello(&frames, p->options->epoch, &info, err);
    if (ok) {
        write_now(p, &frames);
    }
    buf_release(&frames);
    return ok;
}

/* The engine's thread, which ends: the writer sends why, then shuts the socket down, which ends the reader. */
static void on_fatal(void *arg, const struct error *why)
{
    struct process *p = arg;
    p->fatal = *why;
    atomic_store(&p->broken, true);
    send_fatal(p, why);
    send_item(p, (struct out_item){.data = NULL});
}

static bool start(struct process *p, struct error *err)
{
    int rc;
    if (!say_hello(p, err)) {
        return false;
    }
    rc = pthread_create(&p->writer, NULL, write_loop, p);
    p->writer_started = rc == 0;
    if (rc != 0) {
        return error_set(err, ERR_NO_MEMORY, "The writer of the engine process could not be started: %s.",
                         strerror(rc));
    }
    engine_on_fatal(p->engine, on_fatal, p);
    engine_set_watch(p->engine, p->watch);
    engine_prepare_constraints(p->engine);
    return engine_start(p->engine, take_events, p, err);
}

/* ---- reading ---- */

static bool take_job(struct process *p, const struct frame *f, struct error *err)
{
    struct job job = {0};
    struct error refused = {0};
    arena_clear(p->arena);
    int rc = frame_get_job(f, p->parts, p->arena, &job, &refused);
    if (rc == 0) {
        return true;
    }
    if (rc < 0 && refused.code == ERR_PROTOCOL) {
        *err = refused;
        return false;
    }
    if (rc < 0 || !engine_submit(p->engine, &job, &refused)) {
        send_failed(p, job.id, &refused);
    }
    return true;
}

static bool take_cancel(struct process *p, const struct frame *f, struct error *err)
{
    uint64_t job;
    uint32_t choice;
    if (!frame_get_cancel(f, &job, &choice, err)) {
        return false;
    }
    engine_cancel(p->engine, job, choice);
    return true;
}

static bool take_pool_limit(struct process *p, const struct frame *f, struct error *err)
{
    struct pool_limit limit;
    if (!frame_get_pool_limit(f, &limit, err)) {
        return false;
    }
    engine_limit_pool(p->engine, limit.size, limit.urgent);
    return true;
}

static bool take_adapter(struct process *p, const struct frame *f, struct error *err)
{
    struct adapter_order order;
    struct error refused = {0};
    if (!frame_get_adapter(f, &order, err)) {
        return false;
    }
    if (!engine_adapt(p->engine, &order, take_adapted, p, &refused)) {
        take_adapted(p, order.number, &refused);
    }
    return true;
}

/* The engine's thread: everything before is in the queue already. */
static void on_drained(void *arg)
{
    send_item(arg, (struct out_item){.data = NULL});
}

static bool take_frame(struct process *p, const struct frame *f, struct error *err)
{
    if (f->epoch != p->options->epoch) {
        return true;
    }
    switch (f->type) {
    case FRAME_SUBMIT_PART:
    case FRAME_SUBMIT:
        return take_job(p, f, err);
    case FRAME_CANCEL:
        return take_cancel(p, f, err);
    case FRAME_DRAIN:
        engine_drain(p->engine, on_drained, p);
        return true;
    case FRAME_CLEAR_CACHE:
        engine_clear_cache(p->engine);
        return true;
    case FRAME_POOL_LIMIT:
        return take_pool_limit(p, f, err);
    case FRAME_ADAPTER:
        return take_adapter(p, f, err);
    default:
        return error_set(err, ERR_PROTOCOL, "The gateway sent a frame of type %d, which only an engine sends.",
                         (int)f->type);
    }
}

static bool take_bytes(struct process *p, struct error *err)
{
    size_t used = 0, consumed = 0;
    struct frame f;
    int rc;
    while ((rc = frame_parse(str_slice(buf_view(&p->in), used, p->in.len), &f, &consumed, err)) == 1) {
        if (!take_frame(p, &f, err)) {
            return false;
        }
        used += consumed;
    }
    buf_drop_front(&p->in, used);
    return rc == 0;
}

/* A thread that sleeps in read is woken whenever the gateway takes bytes of the other direction, once a step, since the
 * socket then has room to write; one that sleeps in poll is not. It is the kernels' processor that it would run on. */
static void wait_for_bytes(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
}

/* Until the socket ends (true) or something on it is wrong. */
static bool read_loop(struct process *p, struct error *err)
{
    for (;;) {
        size_t before = p->in.len;
        char *to = buf_extend(&p->in, READ_SIZE);
        if (!to) {
            return buf_ok(&p->in, "The queue of frames from the gateway", err);
        }
        wait_for_bytes(p->options->socket_fd);
        ssize_t n = read(p->options->socket_fd, to, READ_SIZE);
        buf_truncate(&p->in, before + (n > 0 ? (size_t)n : 0));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return true;
        }
        if (!take_bytes(p, err)) {
            return false;
        }
    }
}

/* ---- life ---- */

/* The gateway ended before this process asked to end with it; its end of the socket closed first. */
static bool is_orphan(int socket_fd)
{
    struct pollfd p = {.fd = socket_fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void release(struct process *p, bool flush)
{
    struct out_item item;
    atomic_store(&p->stop, true);
    if (!flush) {
        shutdown(p->options->socket_fd, SHUT_RDWR); /* nobody reads: the writer must not wait for it */
    }
    if (p->heartbeat_started) {
        pthread_join(p->heartbeat, NULL);
    }
    if (p->out) {
        queue_close(p->out); /* the writer sends what is there and ends; a sink's push fails from now on */
    }
    if (p->writer_started) {
        pthread_join(p->writer, NULL);
    }
    engine_free(p->engine);
    while (p->out && queue_pop(p->out, &item)) {
        free(item.data);
    }
    queue_free(p->out);
    job_assembly_free(p->parts);
    arena_free(p->arena);
    buf_release(&p->in);
    shm_release(&p->pool);
    shm_release(&p->seals);
    shm_release(&p->watch_memory);
    buf_release(&p->late);
    fault_free(p->fault);
}

/* What a broken device would do when it is put away nobody knows: the process ends as it is, once its last words are
 * out. */
static void leave(struct process *p)
{
    queue_close(p->out);
    pthread_join(p->writer, NULL);
    engine_stop(p->engine); /* it has left its loop */
    _exit(error_info(p->fatal.code)->exit_status);
}

int engine_process_run(const struct engine_process_options *options)
{
    struct error err = {0};
    struct process p = {.options = options, .pool = {.fd = -1}, .seals = {.fd = -1}, .watch_memory = {.fd = -1}};
    sys_ignore_sigpipe();
    sys_die_with_parent();
    if (is_orphan(options->socket_fd)) {
        return 0;
    }
    sys_oom_prefer_me();
    buf_init(&p.in, IN_BUFFER);
    buf_init(&p.late, OUT_MAX);
    bool ok = load(&p, &err) && start(&p, &err) && read_loop(&p, &err);
    if (atomic_load(&p.broken)) {
        leave(&p);
    }
    if (!ok) {
        send_fatal(&p, &err);
    }
    release(&p, !ok);
    return ok ? 0 : error_info(err.code)->exit_status;
}
