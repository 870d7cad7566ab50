/* A `post` is one message on its way and the stream of its answer, over as many connections as it takes. The stream
 * that listens is a post without a message. All are in one list, bounded by the session's limit of requests. */
#include "mcp/http_stream.h"

#include "base/limits.h"
#include "base/log.h"
#include "mcp/exchange.h"
#include "mcp/http_fields.h"
#include "mcp/http_text.h"
#include "mcp/rpc.h"

#include <stdlib.h>
#include <string.h>

#define DELETE_TIMEOUT_MS 2000
#define RETRY_MS          1000 /* until the server says how long */
#define RETRY_MAX_MS      60000
#define RESUME_TRIES      5 /* in a row, without an event */
#define MAX_POSTS         (2 * LIMIT_MCP_PENDING)

struct http_stream {
    struct transport base;
    struct loop *loop;
    struct http_client *http;
    const struct mcp_server_config *config;
    const struct mcp_revision *revision; /* NULL: not known yet */
    char *session;                       /* NULL: none */
    struct post *posts;
    size_t n_posts;
    bool broken;
};

struct post {
    struct http_stream *stream;
    struct post *prev, *next;
    struct exchange *exchange; /* NULL: waiting for the timer */
    struct loop_timer *timer;
    uint64_t id; /* of the request; 0: none */
    bool listens;
    bool gets;   /* this connection is a GET */
    bool begins; /* it is initialize, whose reply gives the session */
    int tries;
    int64_t retry_ms;
    char *last_id; /* NULL: none */
};

static struct http_stream *stream_of(struct transport *t)
{
    return (struct http_stream *)(void *)t;
}

/* ---- posts ---- */

static void post_free(struct post *p)
{
    struct http_stream *s = p->stream;
    *(p->prev ? &p->prev->next : &s->posts) = p->next;
    if (p->next) {
        p->next->prev = p->prev;
    }
    s->n_posts--;
    if (p->exchange) {
        exchange_cancel(p->exchange);
    }
    loop_timer_free(p->timer);
    free(p->last_id);
    free(p);
}

static void unanswered(struct http_stream *s, uint64_t id, const struct error *why)
{
    if (id && !s->base.closing) {
        s->base.events.on_unanswered(s->base.events.arg, id, why);
    }
}

static bool is_waiting(const struct http_stream *s, uint64_t id)
{
    return id && !s->base.closing && s->base.events.is_waiting(s->base.events.arg, id);
}

static void break_off(struct http_stream *s, const struct error *why)
{
    if (!s->broken) {
        s->broken = true;
        if (!s->base.closing) {
            s->base.events.on_closed(s->base.events.arg, why);
        }
    }
}

/* ---- header fields ---- */

static void add_session_fields(const struct http_stream *s, struct http_fields *f)
{
    if (s->session) {
        http_fields_add(f, "Mcp-Session-Id", str_of(s->session));
    }
    if (s->revision && s->revision->header) {
        http_fields_add(f, "MCP-Protocol-Version", str_of(s->revision->name));
    }
}

/* Before the revision is known, the first message tells which one is tried. */
static void add_message_fields(const struct http_stream *s, const struct outgoing *m, struct http_fields *f)
{
    bool modern = s->revision ? s->revision->modern : m->method && strcmp(m->method, "server/discover") == 0;
    add_session_fields(s, f);
    http_fields_add(f, "Content-Type", STR("application/json"));
    http_fields_add(f, "Accept", STR("application/json, text/event-stream"));
    if (!modern || !m->method) {
        return;
    }
    if (!s->revision) {
        http_fields_add(f, "MCP-Protocol-Version", str_of(mcp_revision_newest(true)->name));
    }
    http_fields_add(f, "Mcp-Method", str_of(m->method));
    if (m->name.ptr) {
        http_fields_add_encoded(f, "Mcp-Name", m->name);
    }
    for (size_t i = 0; i < m->headers.n; i++) {
        http_fields_add_encoded(f, m->headers.items[i].name, str_of(m->headers.items[i].value));
    }
}

static bool start(struct post *p, const char *method, struct str body, struct http_fields *f, struct error *err);

/* ---- streams that listen, or go on ---- */

static bool start_get(struct post *p, struct error *err)
{
    struct http_fields f;
    p->gets = true;
    http_fields_init(&f, p->stream->config->headers);
    add_session_fields(p->stream, &f);
    http_fields_add(&f, "Accept", STR("text/event-stream"));
    if (p->last_id && p->last_id[0]) {
        http_fields_add(&f, "Last-Event-ID", str_of(p->last_id));
    }
    bool ok = start(p, "GET", (struct str){NULL, 0}, &f, err);
    http_fields_release(&f);
    return ok;
}

static void fail_post(struct post *p, const struct error *why)
{
    struct http_stream *s = p->stream;
    uint64_t id = p->id;
    post_free(p);
    unanswered(s, id, why);
}

static void on_retry(void *arg)
{
    struct post *p = arg;
    struct error err = {0};
    if (!start_get(p, &err)) {
        fail_post(p, &err);
    }
}

static bool keep_last_id(struct post *p, struct str id)
{
    char *copy = id.len ? strndup(id.ptr, id.len) : NULL;
    if (copy) {
        free(p->last_id);
        p->last_id = copy;
    }
    return copy || !id.len;
}

/* Waits as long as the server asked for, or longer each time in vain. False: it is given up. */
static bool try_again(struct post *p, const struct exchange_end *end)
{
    int64_t delay = end->is_stream && end->retry_ms >= 0 ? end->retry_ms : p->retry_ms;
    if (p->tries++ >= RESUME_TRIES && !p->listens) {
        return false;
    }
    p->retry_ms = p->retry_ms * 2 < RETRY_MAX_MS ? p->retry_ms * 2 : RETRY_MAX_MS;
    delay = delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS;
    p->timer = p->timer ? p->timer : loop_timer_create(p->stream->loop, on_retry, p);
    if (p->timer) {
        loop_timer_start(p->timer, delay, 0);
    }
    return p->timer != NULL;
}

static void end_listening(struct post *p, const struct exchange_end *end)
{
    struct http_stream *s = p->stream;
    if (end->status == 404 && s->session) {
        struct error why = {0};
        error_set(&why, ERR_UNAVAILABLE, "the server has ended the session.");
        post_free(p);
        break_off(s, &why);
    } else if ((end->status >= 400 && end->status < 500) || !try_again(p, end)) {
        post_free(p); /* it has no such stream */
    } else if (end->error && !s->base.closing) {
        s->base.events.on_unanswered(s->base.events.arg, 0, end->error);
    }
}

/* ---- answers ---- */

/* A JSON-RPC error with our id is an answer, whatever the status. */
static bool is_answer(const struct exchange_end *end, uint64_t id)
{
    struct error ignored;
    struct rpc_message m;
    struct json *tree = end->body.len ? rpc_parse(end->body, &ignored) : NULL;
    bool yes = tree && rpc_read(tree, 0, &m, &ignored) && m.kind == RPC_ERROR && m.call == id && id;
    json_free(tree);
    return yes;
}

static void end_with_status(struct post *p, const struct exchange_end *end)
{
    struct http_stream *s = p->stream;
    struct error why = {0};
    uint64_t id = p->id;
    if (end->status == 404 && s->session && !p->gets) {
        error_set(&why, ERR_UNAVAILABLE, "the server has ended the session.");
        post_free(p);
        break_off(s, &why);
        return;
    }
    post_free(p);
    if (is_answer(end, id) && !s->base.closing) {
        s->base.events.on_message(s->base.events.arg, end->body);
        return;
    }
    exchange_status_error(end->status, end->body, &why);
    unanswered(s, id, &why);
}

static void end_with_body(struct post *p, const struct exchange_end *end)
{
    struct http_stream *s = p->stream;
    struct error why = {0};
    uint64_t id = p->id;
    post_free(p);
    if (end->body.len && http_text_is_type(end->type, STR("application/json")) && !s->base.closing) {
        s->base.events.on_message(s->base.events.arg, end->body);
    }
    if (is_waiting(s, id)) {
        error_set(&why, ERR_PROTOCOL, "the server answered with HTTP %d and no answer in it ('%.40s', %zu bytes).",
                  end->status, end->type.ptr, end->body.len);
        unanswered(s, id, &why);
    }
}

/* The connection is gone and the answer has not come: where the server gave its events ids, it may go on. */
static void resume(struct post *p, const struct exchange_end *end)
{
    struct error why = {0};
    bool may = p->last_id && p->last_id[0] && (!p->stream->revision || !p->stream->revision->modern);
    if (may && try_again(p, end)) {
        return;
    }
    if (end->error) {
        why = *end->error;
    } else {
        error_set(&why, ERR_PROTOCOL, "the server ended its stream without the answer.");
    }
    fail_post(p, &why);
}

static void on_end(void *arg, const struct exchange_end *end)
{
    struct post *p = arg;
    p->exchange = NULL;
    if (!keep_last_id(p, end->last_id)) {
        free(p->last_id);
        p->last_id = NULL;
    }
    if (p->listens) {
        end_listening(p, end);
    } else if (end->status >= 300) {
        end_with_status(p, end);
    } else if (end->is_stream || p->gets) {
        if (is_waiting(p->stream, p->id)) {
            resume(p, end);
        } else {
            post_free(p);
        }
    } else if (end->error) {
        fail_post(p, end->error);
    } else {
        end_with_body(p, end);
    }
}

static void on_event(void *arg, const struct sse_incoming *event)
{
    struct post *p = arg;
    struct http_stream *s = p->stream;
    p->tries = 0;
    p->retry_ms = RETRY_MS;
    if (event->data.len && str_eq(event->name, STR("message")) && !s->base.closing) {
        s->base.events.on_message(s->base.events.arg, event->data);
    }
}

static void on_head(void *arg, const struct http_reply *reply)
{
    struct post *p = arg;
    struct http_stream *s = p->stream;
    struct str id = http_reply_header(reply, "mcp-session-id");
    if (p->begins && reply->status == 200 && !s->session && http_text_is_session(id)) {
        s->session = strndup(id.ptr, id.len);
    }
    if (p->listens && p->tries > 0 && reply->status == 200 && !p->last_id && !s->base.closing) {
        s->base.events.on_missed(s->base.events.arg);
    }
}

static bool start(struct post *p, const char *method, struct str body, struct http_fields *f, struct error *err)
{
    struct http_stream *s = p->stream;
    struct exchange_options options = {
        .method = method, .url = s->config->url, .headers = f->items, .n_headers = f->n, .body = body};
    struct exchange_events events = {on_head, on_event, on_end, p};
    if (f->failed) {
        return error_set(err, ERR_NO_MEMORY, "no memory for the header of a request, or it is too large.");
    }
    p->exchange = exchange_start(s->http, s->loop, &options, &events, err);
    return p->exchange != NULL;
}

static struct post *post_create(struct http_stream *s)
{
    struct post *p = s->n_posts < MAX_POSTS ? calloc(1, sizeof *p) : NULL;
    if (p) {
        p->stream = s;
        p->retry_ms = RETRY_MS;
        p->next = s->posts;
        if (p->next) {
            p->next->prev = p;
        }
        s->posts = p;
        s->n_posts++;
    }
    return p;
}

/* ---- the transport ---- */

static bool stream_send(struct transport *t, const struct outgoing *m, struct error *err)
{
    struct http_stream *s = stream_of(t);
    struct http_fields f;
    if (s->broken || t->closing) {
        return error_set(err, ERR_UNAVAILABLE, "the server has ended the session.");
    }
    struct post *p = post_create(s);
    if (!p) {
        return error_set(err, ERR_OVERLOADED, "too many messages are on their way to the server.");
    }
    p->id = m->id;
    p->begins = m->method && strcmp(m->method, "initialize") == 0;
    http_fields_init(&f, s->config->headers);
    add_message_fields(s, m, &f);
    bool ok = start(p, "POST", m->text, &f, err);
    http_fields_release(&f);
    if (!ok) {
        post_free(p);
    }
    return ok;
}

static void stream_cancel(struct transport *t, uint64_t id)
{
    struct http_stream *s = stream_of(t);
    for (struct post *p = s->posts, *next; id && p; p = next) {
        next = p->next;
        if (p->id == id) {
            post_free(p);
        }
    }
}

static void stream_established(struct transport *t, const struct mcp_revision *revision)
{
    struct http_stream *s = stream_of(t);
    struct error err = {0};
    s->revision = revision;
    if (revision->modern) {
        return;
    }
    struct post *p = post_create(s);
    if (!p) {
        return;
    }
    p->listens = true;
    if (!start_get(p, &err)) {
        LOG_WARN("mcp server cannot be listened to", "server=%s error=\"%s\"", s->config->name, err.msg);
        post_free(p);
    }
}

static void gone(void *arg)
{
    struct http_stream *s = arg;
    struct transport_events events = s->base.events;
    free(s->session);
    free(s);
    events.on_gone(events.arg);
}

static void on_farewell(void *arg, const struct exchange_end *end)
{
    (void)end;
    gone(arg);
}

/* Ends the session at the server; false: there is none, or it cannot be. */
static bool say_farewell(struct http_stream *s)
{
    struct http_fields f;
    struct error err = {0};
    if (!s->session || s->broken) {
        return false;
    }
    http_fields_init(&f, s->config->headers);
    add_session_fields(s, &f);
    struct exchange_options options = {.method = "DELETE",
                                       .url = s->config->url,
                                       .headers = f.items,
                                       .n_headers = f.n,
                                       .timeout_ms = DELETE_TIMEOUT_MS};
    struct exchange_events events = {NULL, NULL, on_farewell, s};
    bool ok = !f.failed && exchange_start(s->http, s->loop, &options, &events, &err);
    http_fields_release(&f);
    return ok;
}

static void stream_close(struct transport *t, bool force)
{
    struct http_stream *s = stream_of(t);
    (void)force;
    while (s->posts) {
        post_free(s->posts);
    }
    if (!say_farewell(s)) {
        loop_defer(s->loop, gone, s);
    }
}

static const struct transport_ops stream_ops = {stream_send, stream_cancel, stream_established, stream_close};

/* What closes it before this comes is deferred later, so s is still there. */
static void announce(void *arg)
{
    struct http_stream *s = arg;
    if (!s->base.closing) {
        s->base.events.on_open(s->base.events.arg);
    }
}

struct transport *http_stream_create(struct loop *loop, struct http_client *http,
                                     const struct mcp_server_config *config, const struct transport_events *events,
                                     struct error *err)
{
    struct http_stream *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, "no memory for a server.");
        return NULL;
    }
    s->base = (struct transport){.ops = &stream_ops, .events = *events};
    s->loop = loop;
    s->http = http;
    s->config = config;
    loop_defer(loop, announce, s);
    return &s->base;
}
