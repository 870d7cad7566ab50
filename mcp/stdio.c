/* What has to close before the transport is gone: the process and three pipes. What makes it broken: the end of its
 * output and its exit, whichever comes first; the other one is waited for a moment, since it says more, or since bytes
 * may still be there. */
#include "mcp/stdio.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "mcp/lines.h"
#include "mcp/log_limit.h"
#include "mcp/policy.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define READ_SIZE   KIB(64)
#define SETTLE_MS   1000
#define STDERR_LINE KIB(4)
#define PATH_SIZE   4096
#define ENV_ARENA   MIB(2)

extern char **environ;

enum pipe { PIPE_IN, PIPE_OUT, PIPE_ERR, N_PIPES };

struct stdio {
    struct transport base;
    struct loop *loop;
    const struct mcp_server_config *config;
    uv_process_t process;
    uv_pipe_t pipes[N_PIPES];
    int n_open; /* handles that have not closed */
    struct loop_timer *timer;
    struct lines out, err;
    struct log_limit log;
    size_t unsent;
    int pid; /* 0: not started, or ended */
    bool spawned, exited, out_ended, broken, deferred;
    bool told; /* SIGTERM was sent */
    struct error why;
    char read_buffer[READ_SIZE];
};

static struct stdio *stdio_of(struct transport *t)
{
    return (struct stdio *)(void *)t;
}

/* ---- its end ---- */

static void finish(struct stdio *s)
{
    if (s->n_open > 0 || s->deferred || !s->base.closing) {
        return;
    }
    struct transport_events events = s->base.events;
    loop_timer_free(s->timer);
    lines_release(&s->out);
    lines_release(&s->err);
    free(s);
    events.on_gone(events.arg);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct stdio *s = handle->data;
    s->n_open--;
    finish(s);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_handle_closed);
    }
}

static void close_pipes(struct stdio *s)
{
    for (int i = 0; i < N_PIPES; i++) {
        close_handle((uv_handle_t *)&s->pipes[i]);
    }
}

/* The group has the number of its first process. */
static void signal_group(const struct stdio *s, int number)
{
    if (s->pid > 0) {
        uv_kill(-s->pid, number);
    }
}

static void break_off(struct stdio *s)
{
    if (!s->broken) {
        s->broken = true;
        loop_timer_stop(s->timer);
        if (!s->base.closing) {
            s->base.events.on_closed(s->base.events.arg, &s->why);
        }
    }
}

static void describe_exit(struct stdio *s, int64_t status, int number)
{
    if (number) {
        error_set(&s->why, ERR_UNAVAILABLE, "the server's process was ended by signal %d (%s).", number,
                  strsignal(number));
    } else {
        error_set(&s->why, ERR_UNAVAILABLE, "the server's process exited with status %lld.", (long long)status);
    }
}

static void on_exit_process(uv_process_t *process, int64_t status, int number)
{
    struct stdio *s = process->data;
    signal_group(s, SIGKILL); /* what it has left behind */
    s->exited = true;
    s->pid = 0;
    describe_exit(s, status, number);
    LOG_INFO("mcp server exited", "server=%s status=%lld signal=%d", s->config->name, (long long)status, number);
    close_handle((uv_handle_t *)process);
    if (s->base.closing) {
        close_pipes(s);
    } else if (s->out_ended) {
        break_off(s);
    } else {
        loop_timer_start(s->timer, SETTLE_MS, 0);
    }
}

static void on_timer(void *arg)
{
    struct stdio *s = arg;
    if (!s->base.closing) {
        break_off(s);
        return;
    }
    signal_group(s, s->told ? SIGKILL : SIGTERM);
    s->told = true;
    loop_timer_start(s->timer, STDIO_GRACE_MS, 0);
}

static void stdio_close(struct transport *t, bool force)
{
    struct stdio *s = stdio_of(t);
    loop_timer_stop(s->timer);
    close_handle((uv_handle_t *)&s->pipes[PIPE_IN]);
    if (!s->spawned || s->exited) {
        if (s->n_open > 0) {
            close_pipes(s);
        }
        return;
    }
    s->told = force;
    if (force) {
        signal_group(s, SIGKILL);
    }
    loop_timer_start(s->timer, STDIO_GRACE_MS, 0);
}

/* ---- reading ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct stdio *s = handle->data;
    (void)suggested;
    *out = uv_buf_init(s->read_buffer, sizeof s->read_buffer);
}

static void take_output(struct stdio *s, struct str bytes)
{
    struct str line;
    enum lines_read what;
    while (!s->broken && !s->base.closing && (what = lines_next(&s->out, &bytes, &line)) != LINES_MORE) {
        if (what == LINES_LINE) {
            s->base.events.on_message(s->base.events.arg, line);
        } else {
            error_set(&s->why, what == LINES_NO_MEMORY ? ERR_NO_MEMORY : ERR_TOO_LARGE,
                      what == LINES_NO_MEMORY ? "no memory for a message of the server."
                                              : "the server sent a message of more than %zu bytes.",
                      LIMIT_MCP_MESSAGE);
            break_off(s);
        }
    }
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct stdio *s = stream->data;
    if (n > 0) {
        take_output(s, (struct str){bytes->base, (size_t)n});
    } else if (n < 0) {
        s->out_ended = true;
        uv_read_stop(stream);
        if (s->exited && !s->base.closing) {
            break_off(s);
        } else if (!s->base.closing) {
            error_set(&s->why, ERR_UNAVAILABLE, "the server closed its output.");
            loop_timer_start(s->timer, SETTLE_MS, 0);
        }
    }
}

static void log_line(struct stdio *s, struct str line)
{
    uint64_t left_out = 0;
    if (log_limit_take(&s->log, clock_ms(), &left_out)) {
        log_limit_write(LOG_LEVEL_INFO, "mcp server says", s->config->name, line, left_out);
    }
}

static void on_error_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct stdio *s = stream->data;
    struct str rest = {bytes->base, n > 0 ? (size_t)n : 0}, line;
    enum lines_read what;
    while ((what = lines_next(&s->err, &rest, &line)) != LINES_MORE) {
        if (what == LINES_LINE) {
            log_line(s, line);
        }
    }
    if (n < 0) {
        uv_read_stop(stream);
    }
}

/* ---- writing ---- */

struct writing {
    uv_write_t uv;
    size_t len;
    char bytes[];
};

static void on_written(uv_write_t *uv, int status)
{
    struct writing *w = uv->data;
    struct stdio *s = uv->handle->data;
    (void)status; /* a broken pipe is seen at the other two */
    s->unsent -= w->len;
    free(w);
}

static bool stdio_send(struct transport *t, const struct outgoing *m, struct error *err)
{
    struct stdio *s = stdio_of(t);
    if (s->broken || s->exited || t->closing || !s->spawned) {
        return error_set(err, ERR_UNAVAILABLE, "the server's process has ended.");
    }
    if (s->unsent + m->text.len > LIMIT_MCP_UNSENT) {
        return error_set(err, ERR_OVERLOADED, "the server does not read what it is sent.");
    }
    struct writing *w = malloc(sizeof *w + m->text.len + 1);
    if (!w) {
        return error_set(err, ERR_NO_MEMORY, "no memory for a message to a server.");
    }
    memcpy(w->bytes, m->text.ptr, m->text.len);
    w->bytes[m->text.len] = '\n';
    w->len = m->text.len + 1;
    w->uv.data = w;
    uv_buf_t bytes = uv_buf_init(w->bytes, (unsigned)w->len);
    int rc = uv_write(&w->uv, (uv_stream_t *)&s->pipes[PIPE_IN], &bytes, 1, on_written);
    if (rc != 0) {
        free(w);
        return error_set(err, ERR_UNAVAILABLE, "the server could not be written to: %s.", uv_strerror(rc));
    }
    s->unsent += w->len;
    return true;
}

static void stdio_cancel(struct transport *t, uint64_t id)
{
    (void)t;
    (void)id; /* the session has told the server */
}

static void stdio_established(struct transport *t, const struct mcp_revision *revision)
{
    (void)t;
    (void)revision;
}

/* ---- start ---- */

static const struct transport_ops stdio_ops = {stdio_send, stdio_cancel, stdio_established, stdio_close};

static void announce(void *arg)
{
    struct stdio *s = arg;
    s->deferred = false;
    if (s->base.closing) {
        finish(s);
    } else if (s->spawned) {
        s->base.events.on_open(s->base.events.arg);
    } else {
        break_off(s);
    }
}

/* The PATH that the server itself will see. */
static const char *search_path(const struct mcp_server_config *config)
{
    for (size_t i = 0; i < config->env.n; i++) {
        if (strcmp(config->env.items[i].name, "PATH") == 0) {
            return config->env.items[i].value;
        }
    }
    return getenv("PATH");
}

static void spawn(struct stdio *s, char *program, char **words, char **environment)
{
    const unsigned from_us = UV_CREATE_PIPE | UV_READABLE_PIPE, to_us = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    uv_stdio_container_t stdio[N_PIPES] = {
        {.flags = (uv_stdio_flags)from_us}, {.flags = (uv_stdio_flags)to_us}, {.flags = (uv_stdio_flags)to_us}};
    for (int i = 0; i < N_PIPES; i++) {
        uv_pipe_init(loop_uv(s->loop), &s->pipes[i], 0);
        s->pipes[i].data = s;
        stdio[i].data.stream = (uv_stream_t *)&s->pipes[i];
    }
    uv_process_options_t options = {.file = program,
                                    .args = words,
                                    .env = environment,
                                    .cwd = s->config->cwd,
                                    .stdio = stdio,
                                    .stdio_count = N_PIPES,
                                    .flags = UV_PROCESS_DETACHED, /* a group of its own */
                                    .exit_cb = on_exit_process};
    s->process.data = s;
    s->n_open = N_PIPES + 1;
    int rc = uv_spawn(loop_uv(s->loop), &s->process, &options);
    s->spawned = rc == 0;
    if (rc != 0) {
        error_set(&s->why, ERR_UNAVAILABLE, "the server's program could not be started: %s.", uv_strerror(rc));
        close_handle((uv_handle_t *)&s->process);
        return;
    }
    s->pid = s->process.pid;
    uv_read_start((uv_stream_t *)&s->pipes[PIPE_OUT], on_allocate, on_output);
    uv_read_start((uv_stream_t *)&s->pipes[PIPE_ERR], on_allocate, on_error_output);
    LOG_INFO("mcp server started", "server=%s pid=%d", s->config->name, s->pid);
}

static bool prepare(struct stdio *s, struct arena *arena, struct error *err)
{
    char program[PATH_SIZE];
    const struct mcp_server_config *c = s->config;
    if (!policy_find_program(c->command, search_path(c), program, sizeof program, err)) {
        return false;
    }
    char **words = arena_alloc_array(arena, c->args.n + 2, sizeof *words);
    char **environment = policy_environment((const char *const *)environ, c->env, arena);
    if (!words || !environment) {
        return arena_full(arena, "the environment of a server", err);
    }
    words[0] = program;
    for (size_t i = 0; i < c->args.n; i++) {
        words[i + 1] = (char *)c->args.items[i];
    }
    spawn(s, program, words, environment);
    return true;
}

struct transport *stdio_create(struct loop *loop, const struct mcp_server_config *config,
                               const struct transport_events *events, struct error *err)
{
    struct stdio *s = calloc(1, sizeof *s);
    struct arena *arena = arena_create(ENV_ARENA);
    struct loop_timer *timer = s ? loop_timer_create(loop, on_timer, s) : NULL;
    bool ok = s && arena && timer;
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, "no memory for a server.");
    } else {
        s->base = (struct transport){.ops = &stdio_ops, .events = *events};
        s->loop = loop;
        s->config = config;
        s->timer = timer;
        lines_init(&s->out, LIMIT_MCP_MESSAGE);
        lines_init(&s->err, STDERR_LINE);
        ok = prepare(s, arena, err);
    }
    arena_free(arena);
    if (!ok) {
        loop_timer_free(timer);
        free(s);
        return NULL;
    }
    s->deferred = true;
    loop_defer(loop, announce, s);
    return &s->base;
}

int stdio_pid(const struct transport *t)
{
    return ((const struct stdio *)(const void *)t)->pid;
}
