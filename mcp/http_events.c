#include "mcp/http_events.h"

#include "base/limits.h"
#include "mcp/exchange.h"
#include "mcp/http_fields.h"
#include "mcp/http_text.h"

#include <stdlib.h>

#define ENDPOINT_MAX KIB(8)
#define MAX_POSTS    (2 * LIMIT_MCP_PENDING)

struct http_events {
    struct transport base;
    struct loop *loop;
    struct http_client *http;
    const struct mcp_server_config *config;
    const struct mcp_revision *revision;
    struct exchange *stream; /* NULL: it has ended */
    struct buf endpoint;     /* empty: not known yet */
    struct sent *sent;
    size_t n_sent;
    bool broken;
};

struct sent { /* a message on its way */
    struct http_events *owner;
    struct sent *prev, *next;
    struct exchange *exchange;
    uint64_t id;
};

static struct http_events *events_of(struct transport *t)
{
    return (struct http_events *)(void *)t;
}

static void break_off(struct http_events *s, const struct error *why)
{
    if (!s->broken) {
        s->broken = true;
        if (!s->base.closing) {
            s->base.events.on_closed(s->base.events.arg, why);
        }
    }
}

static bool start(struct http_events *s, struct exchange_options *o, bool posts, const struct exchange_events *events,
                  struct exchange **out, struct error *err)
{
    struct http_fields f;
    http_fields_init(&f, s->config->headers);
    http_fields_add(&f, "Accept", posts ? STR("application/json, text/event-stream") : STR("text/event-stream"));
    if (posts) {
        http_fields_add(&f, "Content-Type", STR("application/json"));
    }
    if (s->revision && s->revision->header) {
        http_fields_add(&f, "MCP-Protocol-Version", str_of(s->revision->name));
    }
    o->headers = f.items;
    o->n_headers = f.n;
    *out = NULL;
    if (f.failed) {
        error_set(err, ERR_NO_MEMORY, "no memory for the header of a request, or it is too large.");
    } else {
        *out = exchange_start(s->http, s->loop, o, events, err);
    }
    http_fields_release(&f);
    return *out != NULL;
}

/* ---- messages out ---- */

static void sent_free(struct sent *m)
{
    *(m->prev ? &m->prev->next : &m->owner->sent) = m->next;
    if (m->next) {
        m->next->prev = m->prev;
    }
    m->owner->n_sent--;
    if (m->exchange) {
        exchange_cancel(m->exchange);
    }
    free(m);
}

static void on_sent(void *arg, const struct exchange_end *end)
{
    struct sent *m = arg;
    struct http_events *s = m->owner;
    struct error why = {0};
    uint64_t id = m->id;
    m->exchange = NULL;
    sent_free(m);
    if (end->error) {
        why = *end->error;
    } else if (end->status >= 300) {
        exchange_status_error(end->status, end->body, &why);
    }
    if (why.code && id && !s->base.closing) {
        s->base.events.on_unanswered(s->base.events.arg, id, &why);
    }
}

static bool events_send(struct transport *t, const struct outgoing *out, struct error *err)
{
    struct http_events *s = events_of(t);
    if (s->broken || t->closing || !s->endpoint.len) {
        return error_set(err, ERR_UNAVAILABLE, "the server has ended its stream.");
    }
    struct sent *m = s->n_sent < MAX_POSTS ? calloc(1, sizeof *m) : NULL;
    if (!m) {
        return error_set(err, ERR_OVERLOADED, "too many messages are on their way to the server.");
    }
    m->owner = s;
    m->id = out->id;
    m->next = s->sent;
    if (m->next) {
        m->next->prev = m;
    }
    s->sent = m;
    s->n_sent++;
    struct exchange_options options = {.method = "POST", .url = s->endpoint.data, .body = out->text};
    /* Some servers answer here what belongs into the stream: not taken twice, so not taken. */
    bool ok = start(s, &options, true, &(struct exchange_events){NULL, NULL, on_sent, m}, &m->exchange, err);
    if (!ok) {
        sent_free(m);
    }
    return ok;
}

static void events_cancel(struct transport *t, uint64_t id)
{
    (void)t;
    (void)id; /* the session has told the server; the stream is everybody's */
}

static void events_established(struct transport *t, const struct mcp_revision *revision)
{
    events_of(t)->revision = revision;
}

/* ---- the stream ---- */

static void take_endpoint(struct http_events *s, struct str reference)
{
    struct error err = {0};
    if (s->endpoint.len) {
        return; /* it does not change */
    }
    if (http_text_join(str_of(s->config->url), str_trim(reference), &s->endpoint, &err)) {
        s->base.events.on_open(s->base.events.arg);
    } else {
        buf_clear(&s->endpoint);
        break_off(s, &err);
    }
}

static void on_event(void *arg, const struct sse_incoming *event)
{
    struct http_events *s = arg;
    if (s->base.closing || s->broken) {
        return;
    }
    if (str_eq(event->name, STR("endpoint"))) {
        take_endpoint(s, event->data);
    } else if (str_eq(event->name, STR("message")) && s->endpoint.len && event->data.len) {
        s->base.events.on_message(s->base.events.arg, event->data);
    }
}

static void on_end(void *arg, const struct exchange_end *end)
{
    struct http_events *s = arg;
    struct error why = {0};
    s->stream = NULL;
    if (end->error) {
        why = *end->error;
    } else if (end->status >= 300) {
        exchange_status_error(end->status, end->body, &why);
    } else if (!end->is_stream) {
        error_set(&why, ERR_PROTOCOL, "the server answered with no stream of events (HTTP %d).", end->status);
    } else {
        error_set(&why, ERR_UNAVAILABLE, "the server has ended its stream.");
    }
    break_off(s, &why);
}

/* ---- life ---- */

static void gone(void *arg)
{
    struct http_events *s = arg;
    struct transport_events events = s->base.events;
    buf_release(&s->endpoint);
    free(s);
    events.on_gone(events.arg);
}

static void events_close(struct transport *t, bool force)
{
    struct http_events *s = events_of(t);
    (void)force;
    while (s->sent) {
        sent_free(s->sent);
    }
    if (s->stream) {
        exchange_cancel(s->stream);
        s->stream = NULL;
    }
    loop_defer(s->loop, gone, s);
}

static const struct transport_ops events_ops = {events_send, events_cancel, events_established, events_close};

struct transport *http_events_create(struct loop *loop, struct http_client *http,
                                     const struct mcp_server_config *config, const struct transport_events *events,
                                     struct error *err)
{
    struct http_events *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "no memory for a server.");
        return NULL;
    }
    s->base = (struct transport){.ops = &events_ops, .events = *events};
    s->loop = loop;
    s->http = http;
    s->config = config;
    buf_init(&s->endpoint, ENDPOINT_MAX);
    struct exchange_options options = {.method = "GET", .url = config->url};
    if (!start(s, &options, false, &(struct exchange_events){NULL, on_event, on_end, s}, &s->stream, err)) {
        free(s);
        return NULL;
    }
    return &s->base;
}
