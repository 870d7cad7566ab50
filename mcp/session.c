/* Messages in, and the two ways to the end: broken (session__fail) and closed. Both stop everything at once; the
 * memory goes when the transport is gone, which is never from inside of a callback that we are in. */
#include "mcp/session_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "mcp/http_events.h"
#include "mcp/http_stream.h"
#include "mcp/stdio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NOISE 100 /* messages that are none, of a process that writes its log where it should not */

static void stop(struct session *s, bool force)
{
    s->dead = true;
    loop_timer_stop(s->probe_timer);
    loop_timer_stop(s->start_timer);
    loop_timer_stop(s->listen_timer);
    transport_close(s->transport, force);
}

void session__fail(struct session *s, const struct error *why)
{
    struct error copy = *why;
    if (s->dead) {
        return;
    }
    LOG_WARN("mcp session broken", "server=%s error=\"%s\"", s->options.config->name, copy.msg);
    s->died_of_probe = s->discover && !s->heard_ms && s->options.kind == MCP_STDIO;
    stop(s, true);
    while (s->pending && !s->closed_by_us) {
        session__end_pending(s->pending, NULL, &copy);
    }
    if (!s->closed_by_us) {
        s->options.events.on_closed(s->options.events.arg, &copy);
    }
}

void session_close(struct session *s, bool force)
{
    s->closed_by_us = true;
    session__drop_pending(s);
    if (!s->dead) {
        stop(s, force);
    }
}

/* ---- messages ---- */

static void take_answer(struct session *s, const struct rpc_message *m)
{
    struct pending *p = session__find(s, m->call);
    struct error err = {0};
    if (!p) {
        return; /* of what was cancelled, or timed out */
    }
    s->answer = m;
    if (m->kind == RPC_RESULT) {
        session__end_pending(p, m->result, NULL);
        s->answer = NULL;
        return;
    }
    error_set(&err, m->code == RPC_METHOD_NOT_FOUND ? ERR_NOT_IMPLEMENTED : ERR_INVALID,
              "the server answered with error %lld: %.*s", (long long)m->code, STR_ARG(str_slice(m->text, 0, 150)));
    bool stale = m->code == RPC_HEADER_MISMATCH && s->ready; /* a tool's schema is not what we think */
    session__end_pending(p, NULL, &err);
    s->answer = NULL;
    if (stale && !s->dead) {
        s->options.events.on_changed(s->options.events.arg, MCP_TOOLS);
    }
}

/* Something that is no message: a process that logs where it should not. */
static void take_noise(struct session *s, struct str text)
{
    uint64_t left_out = 0;
    struct error err = {0};
    if (log_limit_take(&s->log, clock_ms(), &left_out)) {
        log_limit_write(LOG_LEVEL_WARN, "mcp server sent what is no message", s->options.config->name,
                        str_slice(text, 0, 200), left_out);
    }
    if (++s->n_noise > MAX_NOISE) {
        error_set(&err, ERR_PROTOCOL, "the server sent more than %d lines that are no messages.", MAX_NOISE);
        session__fail(s, &err);
    }
}

static void take_one(struct session *s, const struct json *tree, size_t i, struct str text)
{
    struct rpc_message m;
    struct error err = {0};
    if (!rpc_read(tree, i, &m, &err)) {
        take_noise(s, text);
    } else if (m.kind == RPC_REQUEST) {
        session__request_of_peer(s, &m);
    } else if (m.kind == RPC_NOTIFICATION) {
        session__notification(s, &m);
    } else {
        take_answer(s, &m);
    }
}

static void on_message(void *arg, struct str text)
{
    struct session *s = arg;
    struct error err = {0};
    size_t n = 0;
    if (s->dead) {
        return;
    }
    s->heard_ms = clock_ms();
    text = str_trim(text);
    if (!text.len || (text.ptr[0] != '{' && text.ptr[0] != '[')) {
        take_noise(s, text);
        return;
    }
    struct json *tree = rpc_parse(text, &err);
    if (!tree || !rpc_count(tree, &n, &err)) {
        /* Over HTTP only this answer is lost: the exchange sees that it has not come. */
        if (s->options.kind == MCP_STDIO) {
            session__fail(s, &err);
        } else {
            take_noise(s, text);
        }
        n = 0;
    }
    for (size_t i = 0; i < n && !s->dead; i++) {
        take_one(s, tree, i, text);
    }
    json_free(tree);
}

/* ---- the transport's other events ---- */

static void on_open(void *arg)
{
    session__start(arg);
}

static bool is_waiting(void *arg, uint64_t id)
{
    struct session *s = arg;
    return !s->dead && session__find(s, id);
}

static void on_unanswered(void *arg, uint64_t id, const struct error *why)
{
    struct session *s = arg;
    struct pending *p = s->dead ? NULL : session__find(s, id);
    bool lost = (p || !id) && s->ready && why->code == ERR_UNAVAILABLE && (!id || id != s->check);
    if (p) {
        session__end_pending(p, NULL, why);
    }
    if (lost && !s->dead) {
        session__check(s);
    }
}

static void on_missed(void *arg)
{
    session__missed(arg);
}

static void on_closed(void *arg, const struct error *why)
{
    session__fail(arg, why);
}

static void free_session(struct session *s)
{
    loop_timer_free(s->probe_timer);
    loop_timer_free(s->start_timer);
    loop_timer_free(s->listen_timer);
    free(s);
}

static void on_gone(void *arg)
{
    struct session *s = arg;
    struct session_events events = s->options.events;
    session__drop_pending(s);
    free_session(s);
    events.on_gone(events.arg);
}

/* ---- life ---- */

static struct transport *connect_to(struct session *s, struct error *err)
{
    const struct session_options *o = &s->options;
    const struct transport_events events = {on_open,   on_message, is_waiting, on_unanswered,
                                            on_missed, on_closed,  on_gone,    s};
    if (o->connect) {
        return o->connect(o->connect_arg, &events, err);
    }
    switch (o->kind) {
    case MCP_STDIO:
        return stdio_create(o->loop, o->config, &events, err);
    case MCP_SSE:
        return http_events_create(o->loop, o->http, o->config, &events, err);
    default:
        return http_stream_create(o->loop, o->http, o->config, &events, err);
    }
}

struct session *session_create(const struct session_options *options, struct error *err)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "no memory for a session with a server.");
        return NULL;
    }
    s->options = *options;
    if (!session__prepare_start(s)) {
        error_set(err, ERR_NO_MEMORY, "no memory for a session with a server.");
    } else {
        s->transport = connect_to(s, err);
    }
    if (!s->transport) {
        free_session(s);
        return NULL;
    }
    loop_timer_start(s->start_timer, options->start_timeout_ms, 0);
    return s;
}

const struct mcp_revision *session_revision(const struct session *s)
{
    return s->ready ? s->revision : NULL;
}

bool session_has(const struct session *s, enum mcp_list which)
{
    return s->has[which];
}

int session_pid(const struct session *s)
{
    return s->options.kind == MCP_STDIO && !s->options.connect ? stdio_pid(s->transport) : 0;
}

const char *session_server(const struct session *s)
{
    return s->server;
}

bool session_died_of_probe(const struct session *s)
{
    return s->died_of_probe;
}
