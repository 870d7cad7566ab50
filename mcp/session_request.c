#include "mcp/session_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EXTENSIONS 10 /* times the time-out, while there is progress */

/* ---- the list ---- */

struct pending *session__find(struct session *s, uint64_t id)
{
    struct pending *p = id ? s->pending : NULL;
    while (p && p->id != id) {
        p = p->next;
    }
    return p;
}

static void unlink_pending(struct pending *p)
{
    struct session *s = p->session;
    *(p->prev ? &p->prev->next : &s->pending) = p->next;
    if (p->next) {
        p->next->prev = p->prev;
    }
    s->n_pending--;
}

static void free_pending(struct pending *p)
{
    unlink_pending(p);
    loop_timer_free(p->timer);
    free(p);
}

void session__end_pending(struct pending *p, const struct json *result, const struct error *err)
{
    session_done done = p->done;
    void *arg = p->arg;
    free_pending(p);
    done(arg, result, err);
}

void session__drop_pending(struct session *s)
{
    while (s->pending) {
        free_pending(s->pending);
    }
}

void session__cancel_silently(struct session *s, uint64_t *id)
{
    struct pending *p = session__find(s, *id);
    if (p) {
        free_pending(p);
        transport_cancel(s->transport, *id);
    }
    *id = 0;
}

/* ---- messages out ---- */

static void put_meta(const struct session *s, struct json_writer *w, uint64_t progress_token, bool modern)
{
    if (!modern && !progress_token) {
        return;
    }
    json_key(w, "_meta");
    json_begin_object(w);
    if (progress_token) {
        json_member_uint(w, "progressToken", progress_token);
    }
    if (modern) {
        const struct mcp_revision *revision = s->revision ? s->revision : mcp_revision_newest(true);
        json_member_cstr(w, "io.modelcontextprotocol/protocolVersion", revision->name);
        json_key(w, "io.modelcontextprotocol/clientInfo");
        json_begin_object(w);
        json_member_cstr(w, "name", "tandem");
        json_member_cstr(w, "version", s->options.version);
        json_end_object(w);
        json_key(w, "io.modelcontextprotocol/clientCapabilities");
        json_begin_object(w);
        json_end_object(w);
    }
    json_end_object(w);
}

static void put_members(struct json_writer *w, struct str members)
{
    if (members.len) {
        buf_append(w->out, members);
        w->need_comma = true;
    }
}

static bool send_message(struct session *s, struct buf *text, struct outgoing *m, struct error *err)
{
    bool ok = buf_ok(text, "a message to a server", err);
    m->text = buf_view(text);
    return ok && transport_send(s->transport, m, err);
}

bool session__notify(struct session *s, const char *method, struct str members, struct error *err)
{
    struct buf text;
    struct outgoing m = {.method = method};
    buf_init(&text, LIMIT_MCP_MESSAGE);
    struct json_writer w = json_writer(&text);
    rpc_begin(&w, 0, method);
    put_members(&w, members);
    rpc_end(&w);
    bool ok = send_message(s, &text, &m, err);
    buf_release(&text);
    return ok;
}

void session__send(struct session *s, struct str text)
{
    struct error err = {0};
    struct outgoing m = {.text = text};
    if (!s->dead && !transport_send(s->transport, &m, &err)) {
        session__fail(s, &err);
    }
}

/* ---- time ---- */

static void tell_cancelled(struct session *s, uint64_t id, const char *reason)
{
    char members[128];
    struct error err = {0};
    bool by_stream = s->options.kind == MCP_HTTP && s->revision && s->revision->modern;
    snprintf(members, sizeof members, "\"requestId\":%llu,\"reason\":\"%s\"", (unsigned long long)id, reason);
    if (!by_stream && !session__notify(s, "notifications/cancelled", str_of(members), &err)) {
        LOG_WARN("mcp server could not be told", "server=%s error=\"%s\"", s->options.config->name, err.msg);
    }
    transport_cancel(s->transport, id);
}

static void on_timeout(void *arg)
{
    struct pending *p = arg;
    struct session *s = p->session;
    struct error err = {0};
    bool check = s->ready && p->id != s->check && s->heard_ms <= p->sent_ms;
    error_set(&err, ERR_DEADLINE, "the server did not answer '%s' within %lld ms.", p->method,
              (long long)p->timeout_ms);
    tell_cancelled(s, p->id, "timed out");
    session__end_pending(p, NULL, &err);
    if (check && !s->dead) { /* nothing has come since it was sent: is it still there? */
        session__check(s);
    }
}

static void extend(struct pending *p)
{
    int64_t now = clock_ms(), left = p->until_ms - now;
    if (p->timeout_ms && left > 0) {
        loop_timer_start(p->timer, left < p->timeout_ms ? left : p->timeout_ms, 0);
    }
}

static double number_of(const struct json *v)
{
    return json_type(v) == JSON_INT || json_type(v) == JSON_DOUBLE ? json_double(v) : 0;
}

void session__progress(struct session *s, const struct json *params)
{
    const struct json *token = json_get(params, "progressToken"), *message = json_get(params, "message");
    struct pending *p =
        json_type(token) == JSON_INT && json_int(token) > 0 ? session__find(s, (uint64_t)json_int(token)) : NULL;
    if (!p || !p->on_progress) {
        return;
    }
    extend(p);
    p->on_progress(p->arg, number_of(json_get(params, "progress")), number_of(json_get(params, "total")),
                   json_str(message));
}

/* ---- requests ---- */

static struct pending *create_pending(struct session *s, const struct session_request *r)
{
    struct pending *p = calloc(1, sizeof *p);
    if (!p || !(p->timer = loop_timer_create(s->options.loop, on_timeout, p))) {
        free(p);
        return NULL;
    }
    p->session = s;
    p->id = ++s->last_id;
    p->timeout_ms = r->timeout_ms;
    p->sent_ms = clock_ms();
    p->until_ms = p->sent_ms + r->timeout_ms * MAX_EXTENSIONS;
    snprintf(p->method, sizeof p->method, "%s", r->method);
    p->on_progress = r->on_progress;
    p->done = r->done;
    p->arg = r->arg;
    p->next = s->pending;
    if (p->next) {
        p->next->prev = p;
    }
    s->pending = p;
    s->n_pending++;
    return p;
}

static bool send_request(struct session *s, const struct pending *p, const struct session_request *r, struct error *err)
{
    struct buf text;
    struct outgoing m = {.id = p->id, .method = r->method, .name = r->name, .headers = r->headers};
    bool modern = s->revision ? s->revision->modern : strcmp(r->method, "server/discover") == 0;
    buf_init(&text, LIMIT_MCP_MESSAGE);
    struct json_writer w = json_writer(&text);
    rpc_begin(&w, p->id, r->method);
    put_members(&w, r->members);
    put_meta(s, &w, r->on_progress ? p->id : 0, modern);
    rpc_end(&w);
    bool ok = send_message(s, &text, &m, err);
    buf_release(&text);
    return ok;
}

uint64_t session_request(struct session *s, const struct session_request *r, struct error *err)
{
    struct pending *p = NULL;
    if (s->dead) {
        error_set(err, ERR_UNAVAILABLE, "the connection with the server is lost.");
    } else if (s->n_pending >= LIMIT_MCP_PENDING) {
        error_set(err, ERR_OVERLOADED, "%d requests wait for an answer of the server.", LIMIT_MCP_PENDING);
    } else if (!(p = create_pending(s, r))) {
        error_set(err, ERR_NO_MEMORY, "no memory for a request to a server.");
    }
    if (!p) {
        return 0;
    }
    if (!send_request(s, p, r, err)) {
        free_pending(p);
        return 0;
    }
    if (r->timeout_ms) {
        loop_timer_start(p->timer, r->timeout_ms, 0);
    }
    return p->id;
}

void session_cancel(struct session *s, uint64_t id)
{
    struct pending *p = s->dead ? NULL : session__find(s, id);
    if (p) {
        free_pending(p);
        tell_cancelled(s, id, "not wanted any more");
    }
}

/* ---- signs of life ---- */

static void on_checked(void *arg, const struct json *result, const struct error *err)
{
    struct session *s = arg;
    struct error why = {0};
    (void)result;
    s->check = 0;
    if (err && (err->code == ERR_DEADLINE || err->code == ERR_UNAVAILABLE)) {
        error_set(&why, ERR_UNAVAILABLE, "the server does not answer any more: %.150s", err->msg);
        session__fail(s, &why);
    } /* any other answer is one */
}

void session__check(struct session *s)
{
    struct error err = {0};
    if (s->check || s->dead || !s->ready) {
        return;
    }
    s->check = session_request(s,
                               &(struct session_request){.method = s->revision->modern ? "server/discover" : "ping",
                                                         .timeout_ms = SESSION_CHECK_MS,
                                                         .done = on_checked,
                                                         .arg = s},
                               &err);
    if (!s->check) {
        session__fail(s, &err);
    }
}
