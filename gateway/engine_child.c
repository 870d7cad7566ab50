/* Two things end an incarnation, the exit of the process and the end of the socket, in either order; the next start
 * waits for both, so that never two engines of one model run. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "gateway/engine_child_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHILD_IN_BUFFER (4 * LIMIT_FRAME)

void engine_child__set_state(struct engine_child *c, enum model_state state)
{
    c->state = state;
    c->options.on_state(c->options.on_state_arg);
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

void engine_child__start_grace(struct engine_child *c)
{
    int64_t grace_ms =
        c->stopping && c->options.stop_grace_ms ? c->options.stop_grace_ms : c->options.gateway->engine_grace_ms;
    loop_timer_start(c->timer, grace_ms, 0);
}

void engine_child__give_up(struct engine_child *c, enum engine_loss loss, const struct error *why)
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
    engine_child__give_up(c, found[verdict].loss, &err);
}

/* ---- loss ---- */

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

void engine_child_refuse(struct engine_child *c, const struct error *why)
{
    waiting_jobs_clear(&c->waiting);
    c->lost = (struct engine_event){.kind = ENGINE_LOST, .error = *why};
    c->lost_pending = true;
    engine_child__wake(c);
}

static enum engine_loss classify(const struct engine_child *c, bool was_ready)
{
    return engine_loss_of(&(struct engine_end){.was_ready = was_ready,
                                               .said_fatal = c->fatal,
                                               .out_of_memory = sys_memory_oom_kills() > c->oom_kills,
                                               .signal = c->exit_signal,
                                               .given_up = c->given_up});
}

/* What it held is the system's again; the next engine finds an empty pool. */
static void finish_stop(struct engine_child *c)
{
    c->stopping = c->held = false;
    c->n_unready = 0;
    c->failure = (struct error){0};
    c->load_fraction = 0;
    while (event_inbox_next(&c->inbox)) { /* of jobs that were withdrawn */
    }
    engine_memory_clear(&c->memory);
    LOG_INFO("engine unloaded", "model=%s epoch=%u waiting=%u", c->options.name, c->epoch, c->waiting.n);
    engine_child__set_state(c, MODEL_UNLOADED);
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
    if (c->stopping) {
        buf_clear(&c->in);
        finish_stop(c);
        return;
    }
    const struct restart_policy *policy = &c->options.gateway->restart;
    bool was_ready = c->state == MODEL_READY;
    bool failed;
    buf_clear(&c->in);
    c->n_restarts++;
    c->loss = classify(c, was_ready);
    LOG_ERROR("engine lost", "model=%s epoch=%u loss=%s error=\"%s\"", c->options.name, c->epoch,
              engine_loss_info(c->loss)->name, c->failure.msg);
    c->n_unready = was_ready ? 0 : c->n_unready + 1;
    bool hopeless = !engine_loss_info(c->loss)->resumed || c->n_unready > policy->limit;
    int64_t delay = restart_after(&c->restart, policy, clock_ms(), c->productive, hopeless, rng_entropy64(), &failed);
    c->n_unready = failed ? 0 : c->n_unready;
    if (!was_ready) {
        engine_memory_forget_pages(&c->memory); /* the next one is not to fail because of them too */
    }
    if (failed || was_ready) {           /* else nothing was in flight: what waits here goes to the next one */
        waiting_jobs_clear(&c->waiting); /* their generations hear of it with the loss */
        announce_loss(c, failed);
    }
    if (failed && !c->options.tries_again) {
        c->again_ms = clock_ms() + delay;
        c->held = false;
        engine_memory_clear(&c->memory);
    } else {
        loop_timer_start(c->timer, delay, 0); /* before the callbacks: one of them may close the child */
    }
    engine_child__set_state(c, failed ? MODEL_FAILED : MODEL_RESTARTING);
    engine_child__wake(c);
}

static void finish_deferred(void *arg)
{
    struct engine_child *c = arg;
    c->finish_deferred = false;
    finish_incarnation(c);
}

/* Where nothing is left to wait for: not from inside the caller. */
static void defer_finish(struct engine_child *c)
{
    if (!c->finish_deferred) {
        c->finish_deferred = true;
        loop_defer(c->options.gateway->loop, finish_deferred, c);
    }
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct engine_child *c = handle->data;
    c->socket_open = false;
    finish_incarnation(c);
}

void engine_child__close_socket(struct engine_child *c)
{
    if (c->socket_open && !uv_is_closing((uv_handle_t *)&c->socket)) {
        uv_close((uv_handle_t *)&c->socket, on_socket_closed);
    }
}

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
    if (c->closing || c->stopping) {
        engine_child__close_socket(c);
    } else {
        engine_child__start_grace(c);
    }
}

/* ---- start ---- */

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

void engine_child_start(struct engine_child *c)
{
    struct error err = {0};
    int child_end = -1;
    watchdog_start(&c->watchdog, c->loss == LOSS_HUNG && !c->productive, clock_ms());
    c->epoch++;
    c->failure = (struct error){0};
    c->fatal = c->process_exited = c->productive = c->greeted = false;
    if (c->options.adapters) {
        adapter_set_fresh(c->options.adapters);
    }
    c->given_up = LOSS_COUNT;
    c->exit_signal = 0;
    c->oom_kills = sys_memory_oom_kills();
    c->load_fraction = 0;
    *engine_memory_watch(&c->memory) = (struct engine_watch){0};
    engine_child__set_state(c, MODEL_LOADING);
    bool ok = make_socket(c, &child_end, &err) && spawn(c, child_end, &err);
    if (child_end >= 0) {
        close(child_end);
    }
    if (ok) {
        engine_child__start_reading(c);
        loop_timer_start(c->watch_timer, WATCHDOG_POLL_MS, WATCHDOG_POLL_MS);
        LOG_INFO("engine started", "model=%s pid=%d epoch=%u", c->options.name, engine_child_pid(c), c->epoch);
        return;
    }
    c->failure = err;
    engine_child__close_socket(c);
    if (!c->socket_open && !c->process_alive) {
        defer_finish(c);
    }
}

static void on_timer(void *arg)
{
    struct engine_child *c = arg;
    if (c->process_exited) {
        engine_child__close_socket(c);
    }
    if (c->process_alive || c->socket_open) {
        kill_process(c);
        engine_child__start_grace(c); /* and again, should anything still be left then */
    } else if (!c->closing) {
        engine_child_start(c);
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
    c->options = *options;
    c->options.max_unread = options->max_unread ? options->max_unread : ENGINE_CHILD_MAX_UNREAD;
    c->state = MODEL_UNLOADED;
    c->loss = c->given_up = LOSS_COUNT;
    buf_init(&c->in, CHILD_IN_BUFFER);
    c->read_buffer = malloc(CHILD_READ_SIZE);
    c->timer = loop_timer_create(options->gateway->loop, on_timer, c);
    c->watch_timer = loop_timer_create(options->gateway->loop, on_watch, c);
    engine_child__init_port(c);
    bool ok = c->read_buffer && c->timer && c->watch_timer;
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
    engine_child__release_port(c);
    event_inbox_release(&c->inbox);
    engine_memory_release(&c->memory);
    for (int i = 0; i < c->options.n_arguments && i < LAUNCH_MAX_ARGUMENTS; i++) {
        free(c->arguments[i]);
    }
    loop_timer_free(c->timer);
    loop_timer_free(c->watch_timer);
    buf_release(&c->in);
    free(c->read_buffer);
    free(c);
}

/* The engine ends when its socket does; what does not is killed. */
static void end_incarnation(struct engine_child *c)
{
    loop_timer_stop(c->timer);
    loop_timer_stop(c->watch_timer);
    if (!c->process_alive && !c->socket_open) {
        defer_finish(c);
        return;
    }
    engine_child__close_socket(c);
    engine_child__start_grace(c);
}

void engine_child_stop(struct engine_child *c)
{
    if (c->stopping || c->closing || c->state == MODEL_UNLOADED) {
        return;
    }
    c->stopping = true;
    engine_child__set_state(c, MODEL_UNLOADING);
    end_incarnation(c);
}

void engine_child_close(struct engine_child *c, void (*on_closed)(void *arg), void *arg)
{
    c->closing = true;
    c->on_closed = on_closed;
    c->on_closed_arg = arg;
    end_incarnation(c);
}

/* ---- looking ---- */

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

uint32_t engine_child_n_waiting(const struct engine_child *c)
{
    return c->waiting.n;
}

uint32_t engine_child_n_rows(const struct engine_child *c)
{
    return c->waiting.n_rows;
}

enum engine_loss engine_child_loss(const struct engine_child *c)
{
    return c->loss;
}

int engine_child_restarts(const struct engine_child *c)
{
    return c->n_restarts;
}
