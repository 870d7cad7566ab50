#include "tests/support/http_server.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- the handler: the loop's thread ---- */

struct job {
    struct fixture *f;
    struct http_exchange *x;
    uv_timer_t timer;
    long long n, size, interval_ms;
    bool aborts, due;
    char query[64];
};

static void free_job(uv_handle_t *handle)
{
    free(handle->data);
}

static void close_job(struct job *j)
{
    uv_close((uv_handle_t *)&j->timer, free_job);
}

static void on_gone(void *arg)
{
    struct job *j = arg;
    http_reply(j->x, 200, "text/plain", STR("nobody hears this")); /* must do nothing */
    j->f->gone++;
    close_job(j);
}

static long long param(const struct http_request *r, const char *name, long long otherwise)
{
    struct buf value;
    int64_t number = otherwise;
    buf_init(&value, 32);
    if (http_query_get(r, name, &value) && !str_to_i64(buf_view(&value), &number)) {
        number = otherwise;
    }
    buf_release(&value);
    return number;
}

static struct job *start_job(struct fixture *f, struct http_exchange *x)
{
    const struct http_request *r = http_request_of(x);
    struct job *j = calloc(1, sizeof *j);
    j->f = f;
    j->x = x;
    j->n = param(r, "n", 1);
    j->size = param(r, "size", 10);
    j->interval_ms = param(r, "ms", -1);
    j->aborts = param(r, "abort", 0);
    snprintf(j->query, sizeof j->query, STR_FMT, STR_ARG(r->query));
    uv_timer_init(&f->loop, &j->timer);
    j->timer.data = j;
    http_on_gone(x, on_gone, j);
    return j;
}

static void on_later(uv_timer_t *timer)
{
    struct job *j = timer->data;
    http_reply(j->x, 200, "text/plain", str_of(j->query));
    j->f->ended++;
    close_job(j);
}

static void on_tick(uv_timer_t *timer)
{
    struct job *j = timer->data;
    j->due = true;
    http_stream_wake(j->x);
}

static enum http_pull pull(void *arg, struct buf *out)
{
    struct job *j = arg;
    j->f->pulls++;
    if (j->interval_ms > 0 && !j->due) {
        return HTTP_PULL_WAIT;
    }
    j->due = false;
    if (j->n == 0) {
        bool aborts = j->aborts;
        j->f->ended++;
        close_job(j);
        buf_puts(out, "(end)");
        return aborts ? HTTP_PULL_ABORT : HTTP_PULL_END;
    }
    j->n--;
    char *at = buf_extend(out, (size_t)j->size);
    memset(at, 'a' + (int)(j->n % 26), (size_t)j->size);
    j->f->pulled += j->size;
    if (j->interval_ms < 0) {
        http_stream_wake(j->x);
    }
    return j->interval_ms == 0 ? HTTP_PULL_MORE : HTTP_PULL_WAIT;
}

static void answer_stream(struct fixture *f, struct http_exchange *x)
{
    struct job *j = start_job(f, x);
    struct http_source source = {.pull = pull,
                                 .arg = j,
                                 .keepalive_ms = param(http_request_of(x), "keepalive", 0),
                                 .keepalive = STR(": keep-alive\n\n")};
    if (j->interval_ms > 0) {
        uv_timer_start(&j->timer, on_tick, (uint64_t)j->interval_ms, (uint64_t)j->interval_ms);
    }
    http_stream_start(x, 200, "text/event-stream", &source);
}

static void answer_bytes(struct http_exchange *x, size_t n)
{
    char *body = calloc(1, n + 1); /* zeros, of which a reply over the limit touches none */
    http_reply(x, 200, "application/octet-stream", (struct str){body, n});
    free(body);
}

static void answer_info(struct http_exchange *x)
{
    const struct http_request *r = http_request_of(x);
    struct buf text;
    buf_init(&text, 100000);
    buf_printf(&text, "%.*s %.*s %.*s", STR_ARG(r->method), STR_ARG(r->path), STR_ARG(r->query));
    http_reply(x, 200, "text/plain", buf_view(&text));
    buf_release(&text);
}

static void answer_tag(struct http_exchange *x)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)http_tag(x));
    http_reply(x, 200, "text/plain", str_of(text));
}

static void answer_headers(struct http_exchange *x)
{
    http_add_header(x, "X-Good", STR("a\tb \xc3\xa9"));
    http_add_header(x, "X-Split", STR("a\r\nX-Forged: 1"));
    http_add_header(x, "X-Nul", STR("a\0b"));
    http_add_header(x, "X Bad", STR("a"));
    http_add_header(x, "", STR("a"));
    http_add_header(x, "Content-Length", STR("999"));
    http_add_header(x, "transfer-encoding", STR("chunked"));
    http_reply(x, 201, NULL, STR("made"));
}

static void handle(struct http_exchange *x, void *arg)
{
    struct fixture *f = arg;
    struct str path = http_request_of(x)->path;
    f->requests++;
    if (str_eq(path, STR("/echo"))) {
        http_reply(x, 200, "text/plain", http_body(x));
    } else if (str_eq(path, STR("/later"))) {
        struct job *j = start_job(f, x);
        uv_timer_start(&j->timer, on_later, (uint64_t)j->interval_ms, 0);
    } else if (str_eq(path, STR("/never"))) {
        start_job(f, x);
    } else if (str_eq(path, STR("/stream"))) {
        answer_stream(f, x);
    } else if (str_eq(path, STR("/big"))) {
        answer_bytes(x, (size_t)param(http_request_of(x), "n", 0));
    } else if (str_eq(path, STR("/huge"))) {
        answer_bytes(x, LIMIT_HTTP_REPLY + 1);
    } else if (str_eq(path, STR("/headers"))) {
        answer_headers(x);
    } else if (str_eq(path, STR("/tag"))) {
        answer_tag(x);
    } else if (str_eq(path, STR("/nothing"))) {
        http_reply(x, 204, "text/plain", STR(""));
    } else {
        answer_info(x);
    }
}

bool server_head_check(struct http_exchange *x, void *arg, struct error *err)
{
    const struct http_request *head = http_request_of(x);
    (void)arg;
    http_add_header(x, "X-Checked", http_is_local(x) ? STR("local") : STR("tcp"));
    http_set_tag(x, head->n_headers);
    return !http_header_get(head, "x-refuse").ptr || error_set(err, ERR_FORBIDDEN, "refused by the check.");
}

void server_error_body(const struct http_request *head, const struct error *err, struct buf *out, void *arg)
{
    (void)arg;
    buf_printf(out, "%s%s", error_info(err->code)->name, head ? " with head" : "");
}

/* ---- the loop's thread ---- */

static void sample(struct fixture *f)
{
    struct http_server_stats stats = http_server_stats(f->server);
    f->timeouts = (int)stats.timeouts;
    f->connections = http_server_connections(f->server);
    f->refused = (int)stats.refused;
    f->tls_failures = (int)stats.tls_failures;
}

static void on_closed(void *arg)
{
    struct fixture *f = arg;
    f->closed = true;
    uv_close((uv_handle_t *)&f->wake, NULL);
}

static void on_wake(uv_async_t *async)
{
    struct fixture *f = async->data;
    sample(f);
    switch (atomic_exchange(&f->command, COMMAND_NONE)) {
    case COMMAND_STOP_ACCEPTING:
        http_server_stop_accepting(f->server);
        break;
    case COMMAND_CLOSE:
        http_server_close(f->server, on_closed, f);
        break;
    case COMMAND_RELOAD_TLS:
        f->reloaded = http_server_reload_tls(f->server, &f->err);
        break;
    default:
        break;
    }
    uv_sem_post(&f->done);
}

static void serve(void *arg)
{
    struct fixture *f = arg;
    uv_loop_init(&f->loop);
    uv_async_init(&f->loop, &f->wake, on_wake);
    f->wake.data = f;
    f->server = http_server_create(&f->loop, &f->options, &f->err);
    f->failed = !f->server;
    if (f->server) {
        f->port = http_server_port(f->server, 0);
    } else {
        uv_close((uv_handle_t *)&f->wake, NULL);
    }
    uv_sem_post(&f->started);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&f->loop) != 0) {
        abort(); /* a handle was left */
    }
}

/* ---- the tests' side ---- */

static const char *const any_port[] = {"127.0.0.1:0"};

void server_try_start(struct fixture *f, struct http_server_options options)
{
    *f = (struct fixture){.options = options};
    f->options.handler = handle;
    f->options.arg = f;
    if (!f->options.listen) {
        f->options.listen = any_port;
        f->options.n_listen = 1;
    }
    uv_sem_init(&f->started, 0);
    uv_sem_init(&f->done, 0);
    assert_int_equal(uv_thread_create(&f->thread, serve, f), 0);
    uv_sem_wait(&f->started);
}

void server_start(struct fixture *f, struct http_server_options options)
{
    server_try_start(f, options);
    if (f->failed) {
        fail_msg("%s", f->err.msg);
    }
}

void server_command(struct fixture *f, enum command what)
{
    f->command = what;
    uv_async_send(&f->wake);
    uv_sem_wait(&f->done);
}

void server_join(struct fixture *f)
{
    uv_thread_join(&f->thread);
    uv_sem_destroy(&f->started);
    uv_sem_destroy(&f->done);
}

void server_stop(struct fixture *f)
{
    server_command(f, COMMAND_CLOSE);
    server_join(f);
    assert_true(f->closed);
}

/* Waits until *value is at least n. */
bool count_reaches(atomic_int *value, int n)
{
    for (int i = 0; i < 2000 && *value < n; i++) {
        clock_sleep_ms(10);
    }
    return *value >= n;
}

bool server_connections_become(struct fixture *f, int n)
{
    for (int i = 0; i < 2000; i++) {
        server_command(f, COMMAND_NONE);
        if (f->connections == n) {
            return true;
        }
        clock_sleep_ms(10);
    }
    return false;
}

void client_send_text(struct raw_client *c, const char *text)
{
    client_send(c, str_of(text));
}

bool answer_has(const struct http_answer *a, const char *text)
{
    return str_find(buf_view(&a->head), str_of(text)) != STR_NPOS;
}
