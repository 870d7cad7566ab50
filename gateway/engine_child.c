/* One incarnation of the engine is one epoch: a socket pair, a process and the bytes between them. Two things end it,
 * the exit of the process and the end of the socket, in either order; the next start waits for both, so that never two
 * engines of one model run. */
#include "gateway/engine_child.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "gateway/engine_launch.h"
#include "gateway/restart.h"
#include "gateway/waiting_jobs.h"
#include "gateway/watchdog.h"
#include "pipeline/event_inbox.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define CHILD_IN_BUFFER (4 * LIMIT_FRAME)
#define CHILD_READ_SIZE KIB(256)

struct engine_child {
    struct engine_port port; /* first: the port is the child */
    struct engine_child_options options;
    char *arguments[LAUNCH_MAX_ARGUMENTS];
    struct engine_memory memory;

    enum model_state state;
    uint32_t epoch;
    float load_fraction;
    struct error failure; /* why it is not ready */
    struct engine_info info;
    bool has_info;
    int n_restarts;
    struct restart restart;
    enum engine_loss loss; /* the last one; LOSS_COUNT: none yet */

    uv_process_t process;
    uv_pipe_t socket;
    bool process_alive, socket_open; /* handles in use until their close callback ran */
    bool process_exited;
    int exit_signal;
    uint64_t oom_kills; /* that the system had counted when it was started */
    struct watchdog watchdog;
    struct loop_timer *watch_timer;
    struct buf in;
    char *read_buffer; /* [CHILD_READ_SIZE] */
    struct event_inbox inbox;
    struct engine_event lost;
    bool lost_pending;
    bool productive;              /* it has given tokens */
    bool fatal;                   /* it said itself that it cannot go on */
    enum engine_loss given_up;    /* why what it still says is not read; LOSS_COUNT: it is */
    bool clear_cache;             /* asked for while no engine could hear it */
    struct pool_limit pool_limit; /* size 0: none was ever set */

    struct waiting_jobs waiting;
    struct engine_event late;          /* of a job whose time was over before an engine had it */
    struct loop_timer *deadline_timer; /* of the jobs that wait */
    struct loop_timer *timer;          /* while something of an incarnation is left: grace; else backoff */
    bool closing, finish_deferred;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

static void start(void *arg);

/* ---- state ---- */

static void set_state(struct engine_child *c, enum model_state state)
{
    c->state = state;
    c->options.on_state(c->options.on_state_arg);
}

static void wake(struct engine_child *c)
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

/* Sends the frames in `frames` and releases it. */
static bool send_frames(struct engine_child *c, struct buf *frames, struct error *err)
{
    struct write *w = NULL;
    bool ok = false;
    if (!buf_ok(frames, "frames to the engine", err)) {
        goto out;
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->socket) + frames->len > c->options.max_unread) {
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

static bool send_job(struct engine_child *c, const struct job *job, struct error *err)
{
    struct buf frames;
    buf_init(&frames, c->options.max_unread);
    if (!frame_put_job(&frames, c->epoch, job, err)) {
        buf_release(&frames);
        return false;
    }
    return send_frames(c, &frames, err);
}

/* ---- jobs that wait for the engine ---- */

/* The time of those that wait runs: wakes the port when the first of them is late. */
static void watch_deadlines(struct engine_child *c)
{
    int64_t at = waiting_jobs_deadline(&c->waiting), now = clock_ms();
    if (at != INT64_MAX) {
        /* Never at once: what nobody has taken yet must not keep the loop in its timers. */
        loop_timer_start(c->deadline_timer, at > now ? at - now : 1, 0);
    }
}

/* Half of what may be queued for an engine: the rest is for what comes right after its HELLO. */
static bool push_waiting(struct engine_child *c, const struct job *job, struct error *err)
{
    if (waiting_jobs_size_of(job) > c->options.max_unread / 2 - c->waiting.size) {
        return error_set(err, ERR_OVERLOADED,
                         "the model is loading and the requests that wait for it hold %zu bytes. Try again later.",
                         c->waiting.size);
    }
    if (c->waiting.n >= c->options.max_waiting) {
        return error_set(err, ERR_OVERLOADED,
                         "the model is loading and %u requests wait for it already. Try again later.", c->waiting.n);
    }
    if (!waiting_jobs_push(&c->waiting, job, clock_ms(), err)) {
        return false;
    }
    watch_deadlines(c);
    return true;
}

static const struct engine_event *late_event(struct engine_child *c)
{
    struct job *job = waiting_jobs_expire(&c->waiting, clock_ms());
    if (!job) {
        return NULL;
    }
    c->late = (struct engine_event){.kind = ENGINE_FAILED, .job = job->id, .stop_id = -1};
    error_set(&c->late.error, ERR_DEADLINE,
              "The request waited %u ms for the model to load, all its time ('timeout', --timeout-ms).",
              job->timeout_ms);
    free(job);
    return &c->late;
}

static void on_deadline(void *arg)
{
    struct engine_child *c = arg;
    wake(c);
    watch_deadlines(c);
}

/* What was accepted while the engine loaded is sent in the order it came. When that fails the whole incarnation is
 * given up: the jobs get its ENGINE_LOST. */
static bool send_waiting(struct engine_child *c, struct error *err)
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

static bool port_submit(struct engine_port *p, const struct job *job, struct error *err)
{
    struct engine_child *c = child_of(p);
    switch (c->state) {
    case MODEL_READY:
        return send_job(c, job, err);
    case MODEL_LOADING:
    case MODEL_RESTARTING:
        return push_waiting(c, job, err);
    case MODEL_FAILED:
        break;
    }
    return error_set(err, ERR_UNAVAILABLE, "the engine of this model has failed: %s", c->failure.msg);
}

static void port_cancel(struct engine_port *p, uint64_t job, uint32_t choice)
{
    struct engine_child *c = child_of(p);
    if (c->state == MODEL_READY) {
        struct buf frames;
        struct error ignored = {0}; /* the engine is being lost: nothing is left to cancel */
        buf_init(&frames, KIB(1));
        if (frame_put_cancel(&frames, c->epoch, job, choice, &ignored)) {
            (void)!send_frames(c, &frames, &ignored);
        } else {
            buf_release(&frames);
        }
        return;
    }
    if (choice == WIRE_ALL_CHOICES) {
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
    return event ? event : late_event(c);
}

static const struct engine_info *port_info(const struct engine_port *p)
{
    return engine_child_info(child_of(p));
}

/* ---- giving it up ---- */

static void kill_process(struct engine_child *c)
{
    if (!c->process_alive || c->process_exited) {
        return;
    }
    int rc = uv_process_kill(&c->process, SIGKILL);
    if (rc != 0) {
        LOG_ERROR("engine cannot be killed", "model=%s pid=%d error=\"%s\"", c->options.name, engine_child_pid(c),
                  uv_strerror(rc));
    }
}

/* The time in which what is left of an incarnation may end by itself; then on_timer ends it. */
static void start_grace(struct engine_child *c)
{
    loop_timer_start(c->timer, c->options.gateway->engine_grace_ms, 0);
}

/* The engine cannot be trusted any more: its process ends, and the exit does the rest. */
static void give_up(struct engine_child *c, enum engine_loss loss, const struct error *why)
{
    if (c->given_up == LOSS_COUNT) {
        c->given_up = loss;
    }
    if (!c->failure.msg[0]) {
        c->failure = *why;
    }
    LOG_ERROR("engine is given up", "model=%s pid=%d loss=%s error=\"%s\"", c->options.name, engine_child_pid(c),
              engine_loss_info(loss)->name, why->msg);
    kill_process(c);
}

static void on_watch(void *arg)
{
    static const struct {
        enum engine_loss loss;
        const char *what;
    } found[] = {[WATCHDOG_STOPPED] = {LOSS_STOPPED, "the engine process did not run any more"},
                 [WATCHDOG_HUNG] = {LOSS_HUNG, "a step of the engine did not come to its end"}};
    struct engine_child *c = arg;
    struct error err = {0};
    enum watchdog_verdict verdict =
        watchdog_look(&c->watchdog, engine_memory_watch(&c->memory), &c->options.gateway->watchdog, clock_ms());
    if (verdict == WATCHDOG_ALIVE || c->process_exited || c->given_up != LOSS_COUNT) {
        return;
    }
    error_set(&err, ERR_ENGINE_LOST, "%s for %lld ms.", found[verdict].what,
              (long long)watchdog_silence_ms(&c->watchdog, verdict));
    give_up(c, found[verdict].loss, &err);
}

/* A consumer found events that cannot be: a gap in its tokens. */
static void port_distrust(struct engine_port *p, const struct error *why)
{
    struct engine_child *c = child_of(p);
    if (c->process_alive && !c->process_exited) {
        give_up(c, LOSS_PROTOCOL, why);
    }
}

static const struct engine_port_ops port_ops = {port_submit, port_cancel, port_next, port_info, port_distrust};

/* ---- frames from the engine ---- */

static bool send_clear_cache(struct engine_child *c, struct error *err)
{
    struct buf frames;
    buf_init(&frames, KIB(1));
    if (!frame_put_empty(&frames, c->epoch, FRAME_CLEAR_CACHE, err)) {
        buf_release(&frames);
        return false;
    }
    return send_frames(c, &frames, err);
}

/* Of an engine that is not ready: it hears of it with its HELLO. */
static bool send_pool_limit(struct engine_child *c, struct error *err)
{
    struct buf frames;
    if (c->pool_limit.size == 0) {
        return true;
    }
    buf_init(&frames, KIB(1));
    if (!frame_put_pool_limit(&frames, c->epoch, &c->pool_limit, err)) {
        buf_release(&frames);
        return false;
    }
    return send_frames(c, &frames, err);
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
    if (c->clear_cache && !send_clear_cache(c, err)) {
        return false;
    }
    c->clear_cache = false;
    if (!send_pool_limit(c, err)) {
        return false;
    }
    set_state(c, MODEL_READY);
    return send_waiting(c, err);
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
        start_grace(c); /* it exits by itself, or on_timer makes it */
        return frame_get_fatal(f, &c->failure, err);
    case FRAME_EVENTS:
        if (!event_inbox_load(&c->inbox, f, err)) {
            return false;
        }
        wake(c);
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
        give_up(c, LOSS_PROTOCOL, &err);
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

static void finish_incarnation(struct engine_child *c);

static void on_socket_closed(uv_handle_t *handle)
{
    struct engine_child *c = handle->data;
    c->socket_open = false;
    finish_incarnation(c);
}

static void close_socket(struct engine_child *c)
{
    if (c->socket_open && !uv_is_closing((uv_handle_t *)&c->socket)) {
        uv_close((uv_handle_t *)&c->socket, on_socket_closed);
    }
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
            give_up(c, LOSS_PROTOCOL, &err);
            return;
        }
        take_bytes(c);
    } else if (n < 0) {
        close_socket(c);
        if (!c->process_exited && !c->closing) {
            start_grace(c); /* on_timer kills what does not exit by itself */
        }
    }
}

/* ---- start, loss, restart ---- */

static void describe_exit(struct engine_child *c, int64_t status, int signal)
{
    if (c->failure.msg[0]) {
        return; /* it said why itself, or it was given up */
    }
    if (signal) {
        error_set(&c->failure, ERR_ENGINE_LOST, "the engine process was ended by signal %d (%s).", signal,
                  strsignal(signal));
    } else {
        error_set(&c->failure, ERR_ENGINE_LOST, "the engine process exited with status %lld.", (long long)status);
    }
}

static void on_process_closed(uv_handle_t *handle)
{
    struct engine_child *c = handle->data;
    c->process_alive = false;
    finish_incarnation(c);
}

static void on_exit_process(uv_process_t *process, int64_t status, int signal)
{
    struct engine_child *c = process->data;
    c->process_exited = true;
    c->exit_signal = signal;
    loop_timer_stop(c->watch_timer);
    describe_exit(c, status, signal);
    uv_close((uv_handle_t *)process, on_process_closed);
    /* Bytes it wrote before it ended are still in the socket; on_read sees its end after them. Should somebody else
     * hold the other end open, on_timer closes ours. */
    if (c->closing) {
        close_socket(c);
    } else {
        start_grace(c);
    }
}

static void on_timer(void *arg)
{
    struct engine_child *c = arg;
    if (c->process_exited) {
        close_socket(c);
    }
    if (c->process_alive || c->socket_open) {
        kill_process(c);
        start_grace(c); /* and again, should anything still be left then */
    } else if (!c->closing) {
        start(c);
    }
}

/* ENGINE_LOST when another engine is on its way; else UNAVAILABLE, and nothing is to be submitted again. */
static void announce_loss(struct engine_child *c, bool failed)
{
    while (event_inbox_next(&c->inbox)) { /* what nobody took is lost too */
    }
    c->lost = (struct engine_event){.kind = ENGINE_LOST};
    if (failed) {
        error_set(&c->lost.error, ERR_UNAVAILABLE, "the engine of this model has failed: %s", c->failure.msg);
    } else {
        error_set(&c->lost.error, ERR_ENGINE_LOST, "The engine was lost while it worked on this request: %s",
                  c->failure.msg);
    }
    c->lost_pending = true;
}

static enum engine_loss classify(const struct engine_child *c, bool was_ready)
{
    return engine_loss_of(&(struct engine_end){.was_ready = was_ready,
                                               .said_fatal = c->fatal,
                                               .out_of_memory = sys_memory_oom_kills() > c->oom_kills,
                                               .signal = c->exit_signal,
                                               .given_up = c->given_up});
}

/* The last of process and socket is gone. */
static void finish_incarnation(struct engine_child *c)
{
    if (c->process_alive || c->socket_open || c->finish_deferred) {
        return;
    }
    loop_timer_stop(c->timer);
    if (c->closing) {
        c->on_closed(c->on_closed_arg); /* may free c */
        return;
    }
    bool was_ready = c->state == MODEL_READY;
    bool failed;
    buf_clear(&c->in);
    c->n_restarts++;
    c->loss = classify(c, was_ready);
    LOG_ERROR("engine lost", "model=%s epoch=%u loss=%s error=\"%s\"", c->options.name, c->epoch,
              engine_loss_info(c->loss)->name, c->failure.msg);
    int64_t delay = restart_after(&c->restart, &c->options.gateway->restart, clock_ms(), c->productive,
                                  !engine_loss_info(c->loss)->resumed, rng_entropy64(), &failed);
    if (!was_ready) {
        engine_memory_forget_pages(&c->memory); /* the next one is not to fail because of them too */
    }
    if (failed || was_ready) {           /* else nothing was in flight: what waits here goes to the next one */
        waiting_jobs_clear(&c->waiting); /* their generations hear of it with the loss */
        announce_loss(c, failed);
    }
    loop_timer_start(c->timer, delay, 0); /* before the callbacks: one of them may close the child */
    set_state(c, failed ? MODEL_FAILED : MODEL_RESTARTING);
    wake(c);
}

static void finish_deferred(void *arg)
{
    struct engine_child *c = arg;
    c->finish_deferred = false;
    finish_incarnation(c);
}

/* A close-on-exec socket pair; the child's end is passed on explicitly. */
static bool make_socket(struct engine_child *c, int *child_end, struct error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        return error_set(err, ERR_IO, "a socket to the engine could not be made: %s.", strerror(errno));
    }
    sys_close_on_exec(ends[0], true);
    sys_close_on_exec(ends[1], true);
    uv_pipe_init(loop_uv(c->options.gateway->loop), &c->socket, 0);
    c->socket.data = c;
    c->socket_open = true;
    int rc = uv_pipe_open(&c->socket, ends[0]);
    if (rc != 0) {
        close(ends[0]);
        close(ends[1]);
        return error_set(err, ERR_IO, "a socket to the engine could not be opened: %s.", uv_strerror(rc));
    }
    *child_end = ends[1];
    return true;
}

static bool spawn(struct engine_child *c, int child_end, struct error *err)
{
    struct engine_launch launch = {.program = c->options.gateway->program,
                                   .arguments = (const char *const *)c->arguments,
                                   .memory = &c->memory,
                                   .socket_fd = child_end,
                                   .epoch = c->epoch,
                                   .on_exit = on_exit_process};
    c->process.data = c;
    bool ok = engine_launch(loop_uv(c->options.gateway->loop), &c->process, &launch, &c->process_alive, err);
    if (!ok && c->process_alive) { /* the handle must be closed all the same */
        c->process_exited = true;
        uv_close((uv_handle_t *)&c->process, on_process_closed);
    }
    return ok;
}

static void start(void *arg)
{
    struct engine_child *c = arg;
    struct error err = {0};
    int child_end = -1;
    c->epoch++;
    c->failure = (struct error){0};
    c->fatal = c->process_exited = c->productive = false;
    c->given_up = LOSS_COUNT;
    c->exit_signal = 0;
    c->oom_kills = sys_memory_oom_kills();
    c->load_fraction = 0;
    *engine_memory_watch(&c->memory) = (struct engine_watch){0};
    watchdog_start(&c->watchdog, clock_ms());
    set_state(c, MODEL_LOADING);
    bool ok = make_socket(c, &child_end, &err) && spawn(c, child_end, &err);
    if (child_end >= 0) {
        close(child_end);
    }
    if (ok) {
        uv_read_start((uv_stream_t *)&c->socket, on_alloc, on_read);
        loop_timer_start(c->watch_timer, WATCHDOG_POLL_MS, WATCHDOG_POLL_MS);
        LOG_INFO("engine started", "model=%s pid=%d epoch=%u", c->options.name, engine_child_pid(c), c->epoch);
        return;
    }
    c->failure = err;
    close_socket(c);
    if (!c->socket_open && !c->process_alive) {
        c->finish_deferred = true;
        loop_defer(c->options.gateway->loop, finish_deferred, c);
    }
}

/* ---- life ---- */

static bool copy_arguments(struct engine_child *c, struct error *err)
{
    if (c->options.n_arguments >= LAUNCH_MAX_ARGUMENTS) {
        return error_set(err, ERR_INVALID, "an engine takes at most %d arguments.", LAUNCH_MAX_ARGUMENTS - 1);
    }
    for (int i = 0; i < c->options.n_arguments; i++) {
        c->arguments[i] = strdup(c->options.arguments[i]);
        if (!c->arguments[i]) {
            return error_set(err, ERR_NO_MEMORY, "no memory for the arguments of an engine.");
        }
    }
    return true;
}

struct engine_child *engine_child_create(const struct engine_child_options *options, struct error *err)
{
    struct engine_child *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, ERR_NO_MEMORY, "no memory for an engine.");
        return NULL;
    }
    c->port.ops = &port_ops;
    c->options = *options;
    c->options.max_unread = options->max_unread ? options->max_unread : ENGINE_CHILD_MAX_UNREAD;
    c->state = MODEL_LOADING;
    c->loss = c->given_up = LOSS_COUNT;
    buf_init(&c->in, CHILD_IN_BUFFER);
    c->read_buffer = malloc(CHILD_READ_SIZE);
    c->timer = loop_timer_create(options->gateway->loop, on_timer, c);
    c->deadline_timer = loop_timer_create(options->gateway->loop, on_deadline, c);
    c->watch_timer = loop_timer_create(options->gateway->loop, on_watch, c);
    bool ok = c->read_buffer && c->timer && c->deadline_timer && c->watch_timer;
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "no memory for an engine.");
    }
    if (!ok || !copy_arguments(c, err) || !event_inbox_init(&c->inbox, err) ||
        !engine_memory_create(&c->memory, options->pool_size, err)) {
        engine_child_free(c);
        return NULL;
    }
    return c;
}

void engine_child_free(struct engine_child *c)
{
    if (!c) {
        return;
    }
    waiting_jobs_clear(&c->waiting);
    event_inbox_release(&c->inbox);
    engine_memory_release(&c->memory);
    for (int i = 0; i < c->options.n_arguments && i < LAUNCH_MAX_ARGUMENTS; i++) {
        free(c->arguments[i]);
    }
    loop_timer_free(c->timer);
    loop_timer_free(c->deadline_timer);
    loop_timer_free(c->watch_timer);
    buf_release(&c->in);
    free(c->read_buffer);
    free(c);
}

void engine_child_start(struct engine_child *c)
{
    start(c);
}

void engine_child_close(struct engine_child *c, void (*on_closed)(void *arg), void *arg)
{
    c->closing = true;
    c->on_closed = on_closed;
    c->on_closed_arg = arg;
    loop_timer_stop(c->timer);
    loop_timer_stop(c->watch_timer);
    if (!c->process_alive && !c->socket_open) {
        if (!c->finish_deferred) {
            c->finish_deferred = true;
            loop_defer(c->options.gateway->loop, finish_deferred, c);
        }
        return;
    }
    close_socket(c); /* the engine ends when its socket does */
    start_grace(c);
}

struct engine_port *engine_child_port(struct engine_child *c)
{
    return &c->port;
}

enum model_state engine_child_state(const struct engine_child *c)
{
    return c->state;
}

float engine_child_load_fraction(const struct engine_child *c)
{
    return c->load_fraction;
}

const struct error *engine_child_failure(const struct engine_child *c)
{
    return &c->failure;
}

const struct engine_info *engine_child_info(const struct engine_child *c)
{
    return c->has_info ? &c->info : NULL;
}

int engine_child_pid(const struct engine_child *c)
{
    return c->process_alive && !c->process_exited ? (int)c->process.pid : 0;
}

enum engine_loss engine_child_loss(const struct engine_child *c)
{
    return c->loss;
}

int engine_child_restarts(const struct engine_child *c)
{
    return c->n_restarts;
}

void engine_child_limit_pool(struct engine_child *c, const struct pool_limit *limit)
{
    struct error ignored = {0}; /* it does not read, or is being lost: the next one gets it */
    c->pool_limit = *limit;
    if (c->state == MODEL_READY) {
        (void)!send_pool_limit(c, &ignored);
    }
}

/* The next engine would find on disk what was to be cleared. */
bool engine_child_clear_cache(struct engine_child *c)
{
    struct error ignored = {0};
    c->clear_cache = c->state != MODEL_READY || !send_clear_cache(c, &ignored);
    return !c->clear_cache;
}
