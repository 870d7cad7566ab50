/* libcurl's multi handle tells us which sockets to watch and when to call it again; libuv watches and calls. libcurl
 * may not be entered from its own callbacks, so what a caller starts or cancels in one waits until libcurl has
 * returned (settle). on_done is called outside of libcurl, where everything is possible. */
#include "http/client_internal.h"

#include "base/clock.h"
#include "base/limits.h"

#include <assert.h>
#include <stdlib.h>

struct watch { /* a socket that libcurl has asked to watch */
    uv_poll_t poll;
    struct http_client *client;
    curl_socket_t fd;
};

/* ---- the list of calls ---- */

static void link_call(struct http_client *c, struct http_call *call)
{
    call->next = c->calls;
    call->prev = NULL;
    if (c->calls) {
        c->calls->prev = call;
    }
    c->calls = call;
}

static void unlink_call(struct http_call *call)
{
    struct http_client *c = call->client;
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        c->calls = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    }
}

static void remove_call(struct http_call *call)
{
    curl_multi_remove_handle(call->client->multi, call->easy); /* fine when it was never added */
    unlink_call(call);
    client__call_free(call);
}

/* ---- what curl has finished, and what was asked for meanwhile ---- */

static void end_call(struct http_call *call, CURLcode result)
{
    struct error err = {0};
    bool failed = client__call_result(call, result, &err);
    curl_multi_remove_handle(call->client->multi, call->easy);
    unlink_call(call);
    call->events.on_done(call->events.arg, &call->reply, failed ? &err : NULL);
    client__call_free(call);
}

static void settle(struct http_client *c)
{
    if (!c->unsettled) {
        return;
    }
    c->unsettled = false;
    for (struct http_call *call = c->calls, *next; call; call = next) {
        next = call->next;
        if (call->pending == CALL_TO_CANCEL) {
            remove_call(call);
        } else if (call->pending == CALL_TO_START) {
            call->pending = CALL_RUNS;
            curl_multi_add_handle(c->multi, call->easy);
        }
    }
}

static void drive(struct http_client *c, curl_socket_t fd, int flags)
{
    int n_running, n_left;
    c->now_ns = clock_ns();
    c->in_drive = c->in_curl = true;
    curl_multi_socket_action(c->multi, fd, flags, &n_running);
    c->in_curl = false;
    settle(c);
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &n_left));) {
        char *call = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &call);
        end_call((struct http_call *)(void *)call, m->data.result); /* m is gone with the handle */
    }
    c->in_drive = false;
}

/* ---- sockets and time ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    int flags = status < 0
                    ? CURL_CSELECT_ERR
                    : (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    drive(w->client, w->fd, flags);
}

static void free_watch(uv_handle_t *handle)
{
    free(handle->data);
}

static struct watch *watch_create(struct http_client *c, curl_socket_t fd)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w) {
        return NULL;
    }
    if (uv_poll_init_socket(c->loop, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    w->poll.data = w;
    w->client = c;
    w->fd = fd;
    curl_multi_assign(c->multi, fd, w);
    return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *client, void *watch)
{
    struct watch *w = watch;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            curl_multi_assign(((struct http_client *)client)->multi, fd, NULL);
            uv_close((uv_handle_t *)&w->poll, free_watch); /* stops at once: curl closes the socket next */
        }
        return 0;
    }
    if (!w && !(w = watch_create(client, fd))) {
        return -1;
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

static void on_timer(uv_timer_t *timer)
{
    drive(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout_change(CURLM *multi, long timeout_ms, void *client)
{
    struct http_client *c = client;
    (void)multi;
    if (timeout_ms < 0) {
        return uv_timer_stop(&c->timer);
    }
    uv_update_time(c->loop); /* the loop's time may be as old as the handler that calls us has run */
    return uv_timer_start(&c->timer, on_timer, (uint64_t)timeout_ms, 0);
}

/* ---- life ---- */

struct http_client *http_client_create(uv_loop_t *loop, const struct http_client_options *options, struct error *err)
{
    struct http_client *c = calloc(1, sizeof *c);
    if (!c || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(c);
        error_set(err, ERR_NO_MEMORY, "the HTTP client could not be created.");
        return NULL;
    }
    c->loop = loop;
    c->multi = curl_multi_init();
    c->user_agent = options->user_agent ? strdup(options->user_agent) : NULL;
    c->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
    bool ok = c->multi && !c->user_agent == !options->user_agent && !c->ca_file == !options->ca_file &&
              curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timeout_change) == CURLM_OK &&
              curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK;
    if (!ok) {
        http_client_free(c);
        error_set(err, ERR_NO_MEMORY, "the HTTP client could not be created.");
        return NULL;
    }
    return c;
}

static void free_client(uv_handle_t *handle)
{
    struct http_client *c = handle->data;
    free(c->user_agent);
    free(c->ca_file);
    free(c);
    curl_global_cleanup();
}

void http_client_free(struct http_client *c)
{
    if (!c) {
        return;
    }
    assert(!c->in_drive);
    while (c->calls) {
        remove_call(c->calls);
    }
    curl_multi_cleanup(c->multi);
    uv_timer_stop(&c->timer);
    uv_close((uv_handle_t *)&c->timer, free_client);
}

struct http_call *http_call_start(struct http_client *c, const struct http_call_options *options, struct error *err)
{
    struct http_call *call = client__call_create(c, options, err);
    if (!call) {
        return NULL;
    }
    link_call(c, call);
    call->reply.started_ns = clock_ns();
    if (c->in_curl) {
        call->pending = CALL_TO_START;
        c->unsettled = true;
    } else if (curl_multi_add_handle(c->multi, call->easy) != CURLM_OK) { /* its timer begins it */
        remove_call(call);
        error_set(err, ERR_NO_MEMORY, "no memory for an HTTP request.");
        return NULL;
    }
    return call;
}

void http_call_cancel(struct http_call *call)
{
    if (call->client->in_curl) {
        call->pending = CALL_TO_CANCEL;
        call->client->unsettled = true;
    } else {
        remove_call(call);
    }
}
