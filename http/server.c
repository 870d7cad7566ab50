/* Life of a server: listeners, the list of connections, the one timer and the ready list. */
#include "base/clock.h"
#include "base/log.h"
#include "http/server_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ACCEPT_ROUND   64    /* connections taken before the others get their turn */
#define ACCEPT_PAUSE   100   /* ms, when descriptors or memory are used up */
#define ACCEPT_WARN_MS 10000 /* between two log lines about that */
#define MAX_REFUSED    64    /* connections that are being told so; more are just closed */

#define DEFAULT_HEADER_MS 10000
#define DEFAULT_BODY_MS   30000
#define DEFAULT_IDLE_MS   75000 /* longer than the usual client pools keep an idle connection */
#define DEFAULT_STALL_MS  60000
/* Bytes a second: slower than any line people use, and an end to those who only wait. */
#define DEFAULT_BODY_RATE 1024

int64_t server__now(const struct http_server *s)
{
    return (int64_t)uv_now(s->loop);
}

const char *server__date(struct http_server *s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    int64_t now = clock_wall_s();
    if (now != s->date_s) {
        time_t seconds = (time_t)now;
        struct tm t = {0};
        gmtime_r(&seconds, &t);
        s->date_s = now;
        snprintf(s->date, sizeof s->date, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday], t.tm_mday % 100,
                 months[t.tm_mon], (t.tm_year + 1900) % 10000, t.tm_hour % 100, t.tm_min % 100, t.tm_sec % 100);
    }
    return s->date;
}

/* ---- the ready list: first in, first out, each connection once ---- */

static void on_idle(uv_idle_t *idle);

void server__ready(struct connection *c)
{
    struct http_server *s = c->server;
    if (c->is_ready || c->state == CONNECTION_CLOSED) {
        return;
    }
    c->is_ready = true;
    c->next_ready = NULL;
    c->previous_ready = s->last_ready;
    *(s->last_ready ? &s->last_ready->next_ready : &s->first_ready) = c;
    s->last_ready = c;
    s->n_ready++;
    uv_idle_start(&s->idle, on_idle);
}

static void not_ready(struct connection *c)
{
    struct http_server *s = c->server;
    if (!c->is_ready) {
        return;
    }
    *(c->previous_ready ? &c->previous_ready->next_ready : &s->first_ready) = c->next_ready;
    *(c->next_ready ? &c->next_ready->previous_ready : &s->last_ready) = c->previous_ready;
    c->is_ready = false;
    s->n_ready--;
}

/* ---- time ---- */

static void on_timer(uv_timer_t *timer);

void server__look_at(struct http_server *s, int64_t at_ms)
{
    if (at_ms < s->timer_at_ms) {
        int64_t delay = at_ms - server__now(s);
        s->timer_at_ms = at_ms;
        uv_timer_start(&s->timer, on_timer, delay > 0 ? (uint64_t)delay : 1, 0);
    }
}

static void resume_accepting(struct http_server *s, int64_t now);

static void on_timer(uv_timer_t *timer)
{
    struct http_server *s = timer->data;
    int64_t now = server__now(s);
    s->timer_at_ms = NEVER;
    for (struct connection *c = s->connections, *next; c; c = next) {
        next = c->next; /* closing does not unlink at once, but stay on the safe side */
        connection__check(c, now);
    }
    resume_accepting(s, now);
}

/* ---- accepting ---- */

static void on_acceptable(uv_poll_t *poll, int status, int readable);

static void pause_accepting(struct http_server *s, int why)
{
    int64_t now = server__now(s);
    if (s->accept_warned_ms == 0 || now - s->accept_warned_ms >= ACCEPT_WARN_MS) {
        s->accept_warned_ms = now;
        LOG_WARN("cannot accept connections, will try again", "error=\"%s\" connections=%d", strerror(why), s->n_open);
    }
    for (int i = 0; i < s->n_listeners; i++) {
        if (s->listeners[i].open) {
            uv_poll_stop(&s->listeners[i].poll);
        }
    }
    s->accept_again_ms = now + ACCEPT_PAUSE;
    server__look_at(s, s->accept_again_ms);
}

static void resume_accepting(struct http_server *s, int64_t now)
{
    if (s->accept_again_ms > now) {
        server__look_at(s, s->accept_again_ms);
        return;
    }
    s->accept_again_ms = NEVER;
    for (int i = 0; i < s->n_listeners; i++) {
        if (s->listeners[i].open) {
            uv_poll_start(&s->listeners[i].poll, UV_READABLE, on_acceptable);
        }
    }
}

/* How many connections it may have; 0: any number. */
static int client_limit(const struct http_server *s, const struct client *who)
{
    int limit = s->options.limits.max_client_connections;
    if (who->is_unix || limit < 0) {
        return 0;
    }
    return limit > 0 ? limit : who->is_loopback ? 0 : LIMIT_HTTP_CLIENT;
}

/* Walks the connections, of which there are at most max_connections and a few: cheaper than the accept before it, until
 * they are many thousands. */
static int count_of(const struct http_server *s, const struct client *who)
{
    int n = 0;
    for (const struct connection *c = s->connections; c; c = c->next) {
        n += !c->refused && c->state != CONNECTION_CLOSED && client_equal(&c->client, who);
    }
    return n;
}

static bool is_welcome(const struct http_server *s, const struct client *who, struct error *err)
{
    int limit = client_limit(s, who);
    if (s->n_open >= s->options.limits.max_connections) {
        return error_set(err, ERR_UNAVAILABLE, "The server has too many connections, at most %d; try again later.",
                         s->options.limits.max_connections);
    }
    return limit == 0 || count_of(s, who) < limit ||
           error_set(err, ERR_OVERLOADED,
                     "This client's address has too many connections, at most %d; close some, or use them again.",
                     limit);
}

static void admit(struct server_listener *l, int fd, const struct client *who)
{
    struct http_server *s = l->server;
    struct error err = {0};
    bool welcome = is_welcome(s, who, &err);
    s->stats.refused += !welcome;
    if (!welcome && s->n_refused >= MAX_REFUSED) {
        close(fd);
        return;
    }
    connection__open(
        s, &(struct arrival){.fd = fd, .is_tcp = l->socket.is_tcp, .client = *who, .refusal = welcome ? NULL : &err});
}

static void on_acceptable(uv_poll_t *poll, int status, int readable)
{
    struct server_listener *l = poll->data;
    (void)status;
    (void)readable; /* an error shows in accept */
    for (int i = 0; i < ACCEPT_ROUND && l->open; i++) {
        int fd = -1, why = 0;
        struct client who;
        switch (listener_accept(&l->socket, &fd, &who, &why)) {
        case ACCEPT_OK:
            admit(l, fd, &who);
            break;
        case ACCEPT_NONE:
            return;
        case ACCEPT_FULL:
            pause_accepting(l->server, why);
            return;
        case ACCEPT_SKIP:
            break;
        }
    }
}

/* ---- listeners ---- */

static void finish_if_empty(struct http_server *s);

static void on_listener_closed(uv_handle_t *handle)
{
    struct server_listener *l = handle->data;
    l->handle_open = false;
    finish_if_empty(l->server);
}

static void close_listeners(struct http_server *s)
{
    for (int i = 0; i < s->n_listeners; i++) {
        struct server_listener *l = &s->listeners[i];
        if (l->open) {
            l->open = false;
            uv_close((uv_handle_t *)&l->poll, on_listener_closed);
        }
        listener_close(&l->socket);
    }
}

static bool watch_listeners(struct http_server *s, struct error *err)
{
    for (int i = 0; i < s->n_listeners; i++) {
        struct server_listener *l = &s->listeners[i];
        int status = uv_poll_init(s->loop, &l->poll, l->socket.fd);
        if (status != 0) {
            return error_set(err, ERR_IO, "cannot watch '%.100s': %s.", s->options.listen[i], uv_strerror(status));
        }
        l->poll.data = l;
        l->open = l->handle_open = true;
        uv_poll_start(&l->poll, UV_READABLE, on_acceptable);
    }
    return true;
}

static bool open_listeners(struct http_server *s, struct error *err)
{
    for (; s->n_listeners < s->options.n_listen; s->n_listeners++) {
        struct server_listener *l = &s->listeners[s->n_listeners];
        l->server = s;
        if (!listener_open(&l->socket, s->loop, s->options.listen[s->n_listeners], err)) {
            return false;
        }
    }
    return true;
}

/* ---- TLS ---- */

static bool load_tls(struct http_server *s, struct error *err)
{
    struct tls_context *fresh = tls_context_create(&(struct tls_files){s->cert_path, s->key_path}, err);
    if (!fresh) {
        return false;
    }
    tls_context_free(s->tls); /* its connections keep it */
    s->tls = fresh;
    return true;
}

static bool set_up_tls(struct http_server *s, struct error *err)
{
    const struct tls_files *files = &s->options.tls;
    if (!files->cert_path && !files->key_path) {
        return true;
    }
    if (!files->cert_path || !files->key_path) {
        return error_set(err, ERR_INVALID, "TLS needs a certificate and its key: give --tls-cert and --tls-key.");
    }
    s->cert_path = strdup(files->cert_path);
    s->key_path = strdup(files->key_path);
    s->options.tls = (struct tls_files){0}; /* the caller's memory */
    if (!s->cert_path || !s->key_path) {
        return error_set(err, ERR_NO_MEMORY, "no memory for TLS.");
    }
    return load_tls(s, err);
}

bool http_server_reload_tls(struct http_server *s, struct error *err)
{
    if (!s->tls) {
        return error_set(err, ERR_INVALID, "the server does not speak TLS; it was started without --tls-cert.");
    }
    return load_tls(s, err);
}

/* ---- life ---- */

static struct http_limits with_defaults(struct http_limits l)
{
    l.max_body = l.max_body ? l.max_body : LIMIT_HTTP_BODY;
    l.max_connections = l.max_connections ? l.max_connections : LIMIT_HTTP_CONNECTIONS;
    l.header_timeout_ms = l.header_timeout_ms ? l.header_timeout_ms : DEFAULT_HEADER_MS;
    l.body_timeout_ms = l.body_timeout_ms ? l.body_timeout_ms : DEFAULT_BODY_MS;
    l.idle_timeout_ms = l.idle_timeout_ms ? l.idle_timeout_ms : DEFAULT_IDLE_MS;
    l.stall_timeout_ms = l.stall_timeout_ms ? l.stall_timeout_ms : DEFAULT_STALL_MS;
    l.min_body_rate = l.min_body_rate ? l.min_body_rate : DEFAULT_BODY_RATE;
    return l;
}

void http_server_set_limits(struct http_server *s, const struct http_limits *limits)
{
    s->options.limits = with_defaults(*limits);
    server__look_at(s, server__now(s)); /* what has waited longer than it now may */
}

static void free_server(struct http_server *s)
{
    close_listeners(s);
    buf_release(&s->pulled);
    tls_context_free(s->tls);
    free(s->cert_path);
    free(s->key_path);
    free(s->listeners);
    free(s);
}

struct http_server *http_server_create(uv_loop_t *loop, const struct http_server_options *options, struct error *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    struct server_listener *listeners = calloc((size_t)options->n_listen + 1, sizeof *listeners);
    if (!s || !listeners) {
        free(s);
        free(listeners);
        error_set(err, ERR_NO_MEMORY, "no memory for an HTTP server.");
        return NULL;
    }
    s->loop = loop;
    s->options = *options;
    s->options.limits = with_defaults(options->limits);
    s->listeners = listeners;
    s->timer_at_ms = s->accept_again_ms = NEVER;
    buf_init(&s->pulled, LIMIT_HTTP_REPLY);
    if (!set_up_tls(s, err) || !open_listeners(s, err)) {
        free_server(s);
        return NULL;
    }
    uv_timer_init(loop, &s->timer);
    uv_idle_init(loop, &s->idle);
    s->timer.data = s->idle.data = s;
    s->n_handles = 2;
    if (!watch_listeners(s, err)) {
        http_server_close(s, NULL, NULL); /* the handles go when the loop runs */
        return NULL;
    }
    s->options.listen = NULL; /* the caller's memory */
    return s;
}

int http_server_port(const struct http_server *s, int listener)
{
    return listener >= 0 && listener < s->n_listeners ? s->listeners[listener].socket.port : 0;
}

int http_server_connections(const struct http_server *s)
{
    return s->n_open;
}

struct http_server_stats http_server_stats(const struct http_server *s)
{
    struct http_server_stats stats = s->stats;
    stats.tls_expires_s = s->tls ? tls_context_expires_s(s->tls) : 0;
    return stats;
}

void http_server_stop_accepting(struct http_server *s)
{
    if (!s->stopping) {
        s->stopping = true;
        close_listeners(s);
        uv_idle_start(&s->idle, on_idle);
    }
}

void http_server_close(struct http_server *s, void (*on_closed)(void *arg), void *arg)
{
    assert(!s->closing);
    s->stopping = s->closing = true;
    s->on_closed = on_closed;
    s->on_closed_arg = arg;
    close_listeners(s);
    uv_idle_start(&s->idle, on_idle);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http_server *s = handle->data;
    if (--s->n_handles > 0) {
        return;
    }
    if (s->on_closed) {
        s->on_closed(s->on_closed_arg);
    }
    free_server(s);
}

static void finish_if_empty(struct http_server *s)
{
    bool busy = !s->closing || s->finishing || s->connections;
    for (int i = 0; i < s->n_listeners; i++) {
        busy |= s->listeners[i].handle_open;
    }
    if (!busy) {
        s->finishing = true;
        uv_close((uv_handle_t *)&s->timer, on_handle_closed);
        uv_close((uv_handle_t *)&s->idle, on_handle_closed);
    }
}

void server__forget(struct connection *c)
{
    not_ready(c);
    *(c->refused ? &c->server->n_refused : &c->server->n_open) -= 1;
}

void server__closed(struct connection *c)
{
    struct http_server *s = c->server;
    *(c->previous ? &c->previous->next : &s->connections) = c->next;
    if (c->next) {
        c->next->previous = c->previous;
    }
    free(c);
    finish_if_empty(s);
}

/* What calls into the server have asked for and could not do themselves. */
static void on_idle(uv_idle_t *idle)
{
    struct http_server *s = idle->data;
    for (int n = s->n_ready; n > 0 && s->first_ready;
         n--) { /* those that get ready meanwhile wait for the next round */
        struct connection *c = s->first_ready;
        not_ready(c);
        connection__advance(c);
    }
    for (struct connection *c = s->connections; c && s->stopping; c = c->next) {
        if (s->closing || connection__idle(c)) {
            connection__lost(c);
        }
    }
    if (s->n_ready == 0) {
        uv_idle_stop(&s->idle);
    }
    finish_if_empty(s);
}
