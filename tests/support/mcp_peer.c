#include "tests/support/mcp_peer.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static bool peer_send(struct transport *t, const struct outgoing *m, struct error *err)
{
    struct peer *p = (struct peer *)(void *)t;
    if (p->refuses) {
        return error_set(err, ERR_OVERLOADED, "the peer does not read.");
    }
    buf_append(&p->sent, m->text);
    buf_putc(&p->sent, '\n');
    return true;
}

static void peer_cancel(struct transport *t, uint64_t id)
{
    (void)id;
    ((struct peer *)(void *)t)->n_cancelled++;
}

static void peer_established(struct transport *t, const struct mcp_revision *revision)
{
    (void)t;
    (void)revision;
}

static void tell_gone(void *arg)
{
    struct peer *p = arg;
    p->transport.events.on_gone(p->transport.events.arg);
}

static void peer_close(struct transport *t, bool force)
{
    struct peer *p = (struct peer *)(void *)t;
    p->forced = force;
    loop_defer(p->loop, tell_gone, p);
}

static const struct transport_ops ops = {peer_send, peer_cancel, peer_established, peer_close};

static struct transport *connect_peer(void *arg, const struct transport_events *events, struct error *err)
{
    struct peer *p = arg;
    (void)err;
    p->transport = (struct transport){.ops = &ops, .events = *events};
    return &p->transport;
}

static void on_ready(void *arg)
{
    ((struct peer *)arg)->ready = true;
}

static void on_changed(void *arg, enum mcp_list which)
{
    ((struct peer *)arg)->n_changed[which]++;
}

static void on_closed(void *arg, const struct error *why)
{
    struct peer *p = arg;
    p->closed = *why;
    if (p->on_closing) {
        p->on_closing(p);
    }
}

static void on_gone(void *arg)
{
    struct peer *p = arg;
    p->gone = true;
    p->session = NULL;
}

void peer_start(struct peer *p, enum mcp_transport_kind kind, const char *protocol)
{
    struct error err = {0};
    *p = (struct peer){.config = {.name = "peer", .kind = kind, .protocol = protocol}};
    buf_init(&p->sent, MIB(16));
    p->loop = loop_create(1, &err);
    struct session_options options = {.loop = p->loop,
                                      .config = &p->config,
                                      .kind = kind,
                                      .version = "1",
                                      .start_timeout_ms = 60000,
                                      .events = {on_ready, on_changed, on_closed, on_gone, p},
                                      .connect = connect_peer,
                                      .connect_arg = p};
    p->session = p->loop ? session_create(&options, &err) : NULL;
    if (!p->session) {
        abort();
    }
    p->transport.events.on_open(p->transport.events.arg);
}

void peer_say(struct peer *p, const char *text)
{
    if (!p->transport.closing) { /* as every transport does */
        p->transport.events.on_message(p->transport.events.arg, str_of(text));
    }
}

void peer_become_ready(struct peer *p, const char *revision, const char *capabilities)
{
    char text[1024];
    if (mcp_revision_find(str_of(revision))->modern) {
        snprintf(text, sizeof text,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"supportedVersions\":[\"%s\"],\"capabilities\":%s}}",
                 revision, capabilities);
        peer_say(p, text);
        return;
    }
    peer_say(p, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"no\"}}");
    snprintf(text, sizeof text,
             "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"%s\",\"capabilities\":%s}}", revision,
             capabilities);
    peer_say(p, text);
}

static void stop(void *arg)
{
    loop_stop(arg);
}

void peer_run(struct peer *p, int64_t ms)
{
    struct loop_timer *t = loop_timer_create(p->loop, stop, p->loop);
    loop_timer_start(t, ms, 0);
    loop_run(p->loop);
    loop_timer_free(t);
}

void peer_end(struct peer *p)
{
    if (p->session) {
        session_close(p->session, false);
    }
    while (p->session) {
        uv_run(loop_uv(p->loop), UV_RUN_ONCE);
    }
    loop_free(p->loop);
    buf_release(&p->sent);
}
