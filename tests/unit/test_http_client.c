/* The HTTP client against the server of tests/support/http_server.h, and against canned bytes for what that server
 * would never say. */
#include "http/client.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_proc.h"
#include "tests/support/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a client and what its calls have come to ---- */

struct bench {
    uv_loop_t loop;
    struct http_client *client;
    int port;
    int n_open; /* calls without on_done; the loop runs until there is none */
};

struct outcome {
    struct bench *b;
    struct http_call *call;
    int n_headers_called, n_pieces, n_done;
    int status;
    struct error err; /* code NONE: the reply came whole */
    struct buf body;
    char header[64]; /* of the reply's field X-Good or Location */
    int64_t started_ns, first_ns, last_ns;
    const char *cancel_at;            /* "headers" or "data": itself */
    struct outcome *cancels, *starts; /* in its first on_data */
    char start_path[64];
    uint64_t max_reply;
};

static void bench_start(struct bench *b, int port)
{
    struct error err = {0};
    *b = (struct bench){.port = port};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    b->client = http_client_create(&b->loop, &(struct http_client_options){.user_agent = "test/1"}, &err);
    assert_non_null(b->client);
}

static void bench_stop(struct bench *b)
{
    http_client_free(b->client);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0); /* no handle is left */
}

static void get(struct bench *b, struct outcome *o, const char *path);

static void end_outcome(struct outcome *o)
{
    o->call = NULL;
    o->b->n_open--;
}

static void cancel(struct outcome *o)
{
    http_call_cancel(o->call);
    end_outcome(o);
}

static void on_headers(void *arg, const struct http_reply *reply)
{
    struct outcome *o = arg;
    struct str location = http_reply_header(reply, "LOCATION"), good = http_reply_header(reply, "x-good");
    struct str shown = location.ptr ? location : good;
    o->n_headers_called++;
    o->status = reply->status;
    assert_int_equal(o->n_pieces, 0);
    snprintf(o->header, sizeof o->header, STR_FMT, STR_ARG(shown));
    if (o->cancel_at && strcmp(o->cancel_at, "headers") == 0) {
        cancel(o);
    }
}

static void on_data(void *arg, const struct http_reply *reply, struct str piece)
{
    struct outcome *o = arg;
    assert_int_equal(o->n_headers_called, 1);
    assert_true(reply->received_ns >= o->last_ns);
    o->first_ns = o->n_pieces++ ? o->first_ns : reply->received_ns;
    o->last_ns = reply->received_ns;
    buf_append(&o->body, piece);
    if (o->n_pieces == 1 && o->cancels) {
        cancel(o->cancels);
    }
    if (o->n_pieces == 1 && o->starts) {
        get(o->b, o->starts, o->start_path);
    }
    if (o->cancel_at && strcmp(o->cancel_at, "data") == 0) {
        cancel(o);
    }
}

static void on_done(void *arg, const struct http_reply *reply, const struct error *err)
{
    struct outcome *o = arg;
    o->n_done++;
    o->status = reply->status;
    o->err = err ? *err : (struct error){0};
    o->started_ns = reply->started_ns;
    if (reply->body.len) {
        buf_append(&o->body, reply->body);
    }
    end_outcome(o);
}

static void start(struct bench *b, struct outcome *o, struct http_call_options options)
{
    struct error err = {0};
    char url[256];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", b->port, options.url);
    options.url = url;
    options.events = (struct http_call_events){on_headers, on_data, on_done, o};
    options.max_reply = options.max_reply ? options.max_reply : o->max_reply;
    o->b = b;
    buf_init(&o->body, SIZE_MAX);
    b->n_open++;
    o->call = http_call_start(b->client, &options, &err);
    if (!o->call) {
        fail_msg("%s", err.msg);
    }
}

static void get(struct bench *b, struct outcome *o, const char *path)
{
    start(b, o, (struct http_call_options){.url = path});
}

static void run_all(struct bench *b)
{
    while (b->n_open > 0) {
        uv_run(&b->loop, UV_RUN_ONCE);
    }
}

static void expect(struct outcome *o, int status, enum error_code code, const char *text)
{
    if (o->err.code != code || o->status != status || !strstr(o->err.msg, code ? text : "")) {
        fail_msg("status %d, %s: '%s', not %d, %s '%s'", o->status, error_info(o->err.code)->name, o->err.msg, status,
                 error_info(code)->name, text);
    }
    assert_int_equal(o->n_done, 1);
    if (!code && text) {
        assert_string_equal(o->body.data ? o->body.data : "", text);
    }
    buf_release(&o->body);
}

/* ---- against the server ---- */

static int with_server(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    server_start(f, (struct http_server_options){0});
    *state = f;
    return 0;
}

static int without_server(void **state)
{
    struct fixture *f = *state;
    server_stop(f);
    free(f);
    return 0;
}

static void replies_come_whole(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o[5] = {{0}};
    bench_start(&b, f->port);
    get(&b, &o[0], "/a%20b?q=1#fragment");
    start(&b, &o[1], (struct http_call_options){.url = "/echo", .method = "POST", .body = STR("hello\0you")});
    start(&b, &o[2], (struct http_call_options){.url = "/echo", .method = "PUT"});
    start(&b, &o[3], (struct http_call_options){.url = "/info", .method = "DELETE"});
    start(&b, &o[4], (struct http_call_options){.url = "/info", .method = "HEAD"});
    run_all(&b);
    assert_int_equal(o[1].body.len, 9);
    expect(&o[0], 200, ERR_NONE, "GET /a b q=1");
    expect(&o[1], 200, ERR_NONE, "hello");
    expect(&o[2], 200, ERR_NONE, "");
    expect(&o[3], 200, ERR_NONE, "DELETE /info ");
    expect(&o[4], 200, ERR_NONE, "");
    bench_stop(&b);
}

static void headers_and_statuses(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o[3] = {{0}};
    const struct http_header refused = {STR("X-Refuse"), STR("1")};
    bench_start(&b, f->port);
    get(&b, &o[0], "/headers");
    get(&b, &o[1], "/nothing");
    start(&b, &o[2], (struct http_call_options){.url = "/info", .headers = &refused, .n_headers = 1});
    run_all(&b);
    assert_string_equal(o[0].header, "a\tb \xc3\xa9");
    assert_int_equal(o[1].n_headers_called, 1);
    assert_int_equal(o[1].n_pieces, 0);
    expect(&o[0], 201, ERR_NONE, "made");
    expect(&o[1], 204, ERR_NONE, "");
    expect(&o[2], 200, ERR_NONE, "GET /info ");
    bench_stop(&b);
}

static void a_body_is_collected_when_nobody_takes_it(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o = {.b = NULL};
    struct error err = {0};
    char url[64];
    bench_start(&b, f->port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/stream?n=50&size=1000", f->port);
    o.b = &b;
    buf_init(&o.body, SIZE_MAX);
    b.n_open = 1;
    struct http_call_options options = {.url = url, .events = {.on_done = on_done, .arg = &o}};
    assert_non_null(http_call_start(b.client, &options, &err));
    run_all(&b);
    assert_int_equal(o.body.len, 50 * 1000 + 5);
    assert_true(str_ends(buf_view(&o.body), STR("(end)")));
    expect(&o, 200, ERR_NONE, NULL);
    bench_stop(&b);
}

static void large_bodies_go_both_ways(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome up = {0}, down = {0};
    char *big = malloc(MIB(8));
    memset(big, 'x', MIB(8));
    bench_start(&b, f->port);
    start(&b, &up, (struct http_call_options){.url = "/echo", .method = "POST", .body = {big, MIB(8)}});
    get(&b, &down, "/big?n=20000000");
    run_all(&b);
    assert_int_equal(up.body.len, MIB(8));
    assert_memory_equal(up.body.data, big, MIB(8));
    assert_int_equal(down.body.len, 20000000);
    expect(&up, 200, ERR_NONE, NULL);
    expect(&down, 200, ERR_NONE, NULL);
    free(big);
    bench_stop(&b);
}

static void a_stream_comes_in_pieces_with_their_times(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o = {0};
    bench_start(&b, f->port);
    get(&b, &o, "/stream?n=3&size=2&ms=30");
    run_all(&b);
    assert_true(o.n_pieces > 1);
    assert_true(o.started_ns > 0 && o.started_ns < o.first_ns && o.first_ns < o.last_ns);
    expect(&o, 200, ERR_NONE, "ccbbaa(end)");
    bench_stop(&b);
}

static void hundreds_of_streams_at_once(void **state)
{
    enum { N = 300 };
    struct fixture *f = *state;
    struct bench b;
    struct outcome *o = calloc(N, sizeof *o);
    bench_start(&b, f->port);
    for (int round = 0; round < 2; round++) { /* the second time on the connections of the first */
        memset(o, 0, N * sizeof *o);
        for (int i = 0; i < N; i++) {
            get(&b, &o[i], "/stream?n=4&size=1&ms=20");
        }
        run_all(&b);
        for (int i = 0; i < N; i++) {
            expect(&o[i], 200, ERR_NONE, "dcba(end)");
        }
        server_command(f, COMMAND_NONE);
        assert_in_range(f->connections, 1, N);
    }
    free(o);
    bench_stop(&b);
    assert_true(server_connections_become(f, 0));
}

static void a_connection_is_used_again(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    bench_start(&b, f->port);
    for (int i = 0; i < 5; i++) {
        struct outcome o = {0};
        get(&b, &o, "/info");
        run_all(&b);
        expect(&o, 200, ERR_NONE, "GET /info ");
    }
    server_command(f, COMMAND_NONE);
    assert_int_equal(f->connections, 1);
    bench_stop(&b);
}

static void a_cancelled_call_says_nothing_more(void **state)
{
    struct fixture *f = *state;
    static const char *const when[] = {NULL, "headers", "data"};
    struct bench b;
    int gone = f->gone;
    bench_start(&b, f->port);
    for (size_t i = 0; i < ARRAY_LEN(when); i++) {
        struct outcome o = {.cancel_at = when[i]}, beside = {0};
        int before = f->requests;
        get(&b, &beside, "/later?ms=100");
        get(&b, &o, when[i] ? "/stream?n=1000000&size=10&ms=5" : "/never");
        while (!when[i] && f->requests < before + 2) {
            uv_run(&b.loop, UV_RUN_NOWAIT);
        }
        if (!when[i]) {
            cancel(&o);
        }
        run_all(&b);
        assert_int_equal(o.n_done, 0);
        assert_int_equal(o.n_pieces, when[i] && strcmp(when[i], "data") == 0);
        expect(&beside, 200, ERR_NONE, "ms=100");
        buf_release(&o.body);
        assert_true(count_reaches(&f->gone, ++gone)); /* the server sees it */
    }
    bench_stop(&b);
}

static void calls_are_started_and_cancelled_in_callbacks(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome victim = {0}, second = {0};
    struct outcome first = {.cancels = &victim, .starts = &second, .start_path = "/info"};
    bench_start(&b, f->port);
    get(&b, &victim, "/never");
    get(&b, &first, "/stream?n=2&size=1");
    run_all(&b);
    assert_int_equal(victim.n_done, 0);
    expect(&first, 200, ERR_NONE, "ba(end)");
    expect(&second, 200, ERR_NONE, "GET /info ");
    buf_release(&victim.body);
    bench_stop(&b);
}

static void a_client_may_be_freed_with_calls_in_flight(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o[3] = {{0}};
    bench_start(&b, f->port);
    get(&b, &o[0], "/never");
    get(&b, &o[1], "/stream?n=1000000&size=10&ms=5");
    while (o[1].n_pieces == 0) {
        uv_run(&b.loop, UV_RUN_ONCE);
    }
    get(&b, &o[2], "/never"); /* has not even begun */
    bench_stop(&b);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(o[i].n_done, 0);
        buf_release(&o[i].body);
    }
}

static void time_limits(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o[4] = {{0}};
    bench_start(&b, f->port);
    start(&b, &o[0], (struct http_call_options){.url = "/never", .timeout_ms = 50});
    start(&b, &o[1], (struct http_call_options){.url = "/stream?n=1000000&size=1&ms=5", .timeout_ms = 300});
    start(&b, &o[2], (struct http_call_options){.url = "/never", .idle_timeout_s = 1});
    start(&b, &o[3], (struct http_call_options){.url = "/later?ms=100", .timeout_ms = 60000, .idle_timeout_s = 60});
    run_all(&b);
    expect(&o[0], 0, ERR_DEADLINE, "no whole reply in time");
    expect(&o[1], o[1].n_headers_called ? 200 : 0, ERR_DEADLINE, "no whole reply in time");
    expect(&o[2], 0, ERR_DEADLINE, "no whole reply in time");
    expect(&o[3], 200, ERR_NONE, "ms=100");
    bench_stop(&b);
}

static void replies_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o[5] = {{0}};
    bench_start(&b, f->port);
    start(&b, &o[4], (struct http_call_options){.url = "/big?n=1001", .max_reply = 1000, .method = "HEAD"});
    start(&b, &o[0], (struct http_call_options){.url = "/big?n=1001", .max_reply = 1000});            /* announced */
    start(&b, &o[1], (struct http_call_options){.url = "/stream?n=100&size=100", .max_reply = 1000}); /* not */
    start(&b, &o[2], (struct http_call_options){.url = "/big?n=1000", .max_reply = 1000});
    start(&b, &o[3], (struct http_call_options){.url = "/stream?n=2&size=10", .max_reply = UINT64_MAX});
    run_all(&b);
    assert_true(o[1].body.len <= 1000);
    expect(&o[0], 0, ERR_TOO_LARGE, "larger than 1000 bytes");
    expect(&o[1], 200, ERR_TOO_LARGE, "larger than 1000 bytes");
    expect(&o[2], 200, ERR_NONE, NULL);
    expect(&o[3], 200, ERR_NONE, NULL);
    expect(&o[4], 200, ERR_NONE, "");
    bench_stop(&b);
}

static void what_may_not_be_sent_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    const struct http_header cut = {STR("X-A"), STR("a\r\nX-B: secret")}, name = {STR("X A"), STR("secret")},
                             empty = {STR(""), STR("secret")};
    const struct {
        struct http_call_options options;
        const char *message;
    } cases[] = {
        {{.url = "ftp://127.0.0.1/"}, "only http:// and https://"},
        {{.url = "file:///etc/passwd"}, "only http:// and https://"},
        {{.url = "127.0.0.1/x"}, "is no URL"},
        {{.url = ""}, "is no URL"},
        {{.url = "http://"}, "is no URL"},
        {{.url = "http://a b/"}, "is no URL"},
        {{.url = "http://127.0.0.1:70000/"}, "is no URL"},
        {{.url = "http://user:secret@127.0.0.1/"}, "user name"},
        {{.url = "http://x/", .method = "GE T"}, "HTTP method"},
        {{.url = "http://x/", .method = "GET\r\nX: y"}, "HTTP method"},
        {{.url = "http://x/", .body = STR("x")}, "has no body"},
        {{.url = "http://x/", .method = "POST", .max_redirects = 1}, "redirects of a POST"},
        {{.url = "http://x/", .headers = &cut, .n_headers = 1}, "'X-A'"},
        {{.url = "http://x/", .headers = &name, .n_headers = 1}, "'X A'"},
        {{.url = "http://x/", .headers = &empty, .n_headers = 1}, "''"},
    };
    struct bench b;
    (void)f;
    bench_start(&b, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_null(http_call_start(b.client, &cases[i].options, &err));
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.msg, cases[i].message) || strstr(err.msg, "secret")) {
            fail_msg("%zu: '%s' has no '%s', or a secret", i, err.msg, cases[i].message);
        }
    }
    bench_stop(&b);
}

/* ---- against canned bytes ---- */

struct canned { /* one connection after the other: reads a head, says its bytes, closes */
    uv_thread_t thread;
    int listener, port, n;
    const char *const *replies; /* [n] */
    struct buf heads;           /* what came */
};

static void say_canned(void *arg)
{
    struct canned *s = arg;
    for (int i = 0; i < s->n; i++) {
        int fd = accept(s->listener, NULL, NULL);
        size_t from = s->heads.len;
        char block[4096];
        ssize_t n;
        while (str_find(str_slice(buf_view(&s->heads), from, s->heads.len), STR("\r\n\r\n")) == STR_NPOS &&
               (n = recv(fd, block, sizeof block, 0)) > 0) {
            buf_append_bytes(&s->heads, block, (size_t)n);
        }
        struct str reply = str_of(s->replies[i]);
        while (reply.len && (n = send(fd, reply.ptr, reply.len, MSG_NOSIGNAL)) > 0) {
            reply = str_slice(reply, (size_t)n, reply.len);
        }
        close(fd);
    }
}

static void canned_start(struct canned *s, const char *const *replies, int n)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    *s = (struct canned){.replies = replies, .n = n};
    buf_init(&s->heads, SIZE_MAX);
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, size), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &size), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(uv_thread_create(&s->thread, say_canned, s), 0);
}

static void canned_stop(struct canned *s)
{
    uv_thread_join(&s->thread);
    close(s->listener);
    buf_release(&s->heads);
}

static void odd_replies(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *text; /* of the body, or of the error */
        int status;
        enum error_code code;
    } cases[] = {
        {"", "closed without a reply", 0, ERR_PROTOCOL},
        {"what is this\r\n\r\n", "no HTTP", 0, ERR_PROTOCOL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "ended within the reply", 200, ERR_PROTOCOL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "within the reply", 200, ERR_PROTOCOL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "", 200, ERR_PROTOCOL},
        {"HTTP/1.1 200 OK\r\nContent-Le", "within the reply", 0, ERR_PROTOCOL},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", 200, ERR_NONE},
        {"HTTP/1.0 404 No\r\nX-Good: yes\r\nContent-Length: 2\r\n\r\nno", "no", 404, ERR_NONE},
        {"HTTP/1.1 100 Continue\r\nX-Bad: 1\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "1\r\n\r\nx",
         "x", 200, ERR_NONE},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Good: trailer\r\n\r\n", "x", 200,
         ERR_NONE},
        {"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 4\r\n\r\nmove", "move", 302, ERR_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct canned s;
        struct bench b;
        struct outcome o = {0};
        canned_start(&s, &cases[i].reply, 1);
        bench_start(&b, s.port);
        get(&b, &o, "/");
        run_all(&b);
        assert_int_equal(o.n_headers_called, cases[i].status != 0);
        assert_string_equal(o.header, cases[i].status == 404 ? "yes" : cases[i].status == 302 ? "/elsewhere" : "");
        expect(&o, cases[i].status, cases[i].code, cases[i].text);
        bench_stop(&b);
        canned_stop(&s);
    }
}

static char *repeated(const char *head, const char *line, int n)
{
    struct buf text;
    size_t size;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, head);
    for (int i = 0; i < n; i++) {
        buf_puts(&text, line);
    }
    buf_puts(&text, "\r\nbody");
    return buf_take(&text, &size);
}

#define LINE_1000                                                                                                  \
    "X-Long: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"         \
    "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567\r\n"

static void headers_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int n;
        enum error_code code;
    } cases[] = {
        {"X-A: b\r\n", LIMIT_HTTP_HEADER_COUNT, ERR_NONE},
        {"X-A: b\r\n", LIMIT_HTTP_HEADER_COUNT + 1, ERR_TOO_LARGE},
        {LINE_1000, 50, ERR_NONE},
        {LINE_1000, 70, ERR_TOO_LARGE},
        {"X-A: b\r\n folded\r\n", 5, ERR_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct canned s;
        struct bench b;
        struct outcome o = {0};
        char *reply = repeated("HTTP/1.1 200 OK\r\n", cases[i].line, cases[i].n);
        const char *replies[] = {reply};
        canned_start(&s, replies, 1);
        bench_start(&b, s.port);
        get(&b, &o, "/");
        run_all(&b);
        expect(&o, cases[i].code ? 0 : 200, cases[i].code, cases[i].code ? "header" : "body");
        bench_stop(&b);
        canned_stop(&s);
        free(reply);
    }
}

static void redirects_are_followed_only_when_asked(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "HTTP/1.1 301 Moved\r\nLocation: /two\r\nX-Good: first\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
        "HTTP/1.1 307 Moved\r\nLocation: /three\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Good: last\r\nConnection: close\r\n\r\nthere",
    };
    struct canned s;
    struct bench b;
    struct outcome o = {0};
    canned_start(&s, replies, 3);
    bench_start(&b, s.port);
    start(&b, &o, (struct http_call_options){.url = "/one", .max_redirects = 2});
    run_all(&b);
    assert_string_equal(o.header, "last"); /* one on_headers, of the last reply */
    assert_int_equal(o.n_headers_called, 1);
    expect(&o, 200, ERR_NONE, "there");
    bench_stop(&b);
    canned_stop(&s);

    canned_start(&s, replies, 2);
    bench_start(&b, s.port);
    memset(&o, 0, sizeof o);
    start(&b, &o, (struct http_call_options){.url = "/one", .max_redirects = 1});
    run_all(&b);
    expect(&o, 0, ERR_PROTOCOL, "too many redirects");
    bench_stop(&b);
    canned_stop(&s);
}

/* A key is for the host that it was given for. */
static void a_redirect_does_not_take_credentials_along(void **state)
{
    (void)state;
    static const char *const there[] = {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"};
    const struct http_header headers[] = {{STR("Authorization"), STR("Bearer secret")}, {STR("X-Other"), STR("1")}};
    struct canned first, second;
    struct bench b;
    struct outcome o = {0};
    char redirect[200];
    const char *const redirects[] = {redirect};
    canned_start(&second, there, 1);
    snprintf(redirect, sizeof redirect,
             "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
             second.port);
    canned_start(&first, redirects, 1);
    bench_start(&b, first.port);
    start(&b, &o, (struct http_call_options){.url = "/", .headers = headers, .n_headers = 2, .max_redirects = 1});
    run_all(&b);
    expect(&o, 200, ERR_NONE, "");
    uv_thread_join(&first.thread);
    uv_thread_join(&second.thread);
    assert_true(str_find(buf_view(&first.heads), STR("Bearer secret")) != STR_NPOS);
    assert_true(str_find(buf_view(&second.heads), STR("secret")) == STR_NPOS);
    assert_true(str_find(buf_view(&second.heads), STR("X-Other: 1")) != STR_NPOS);
    close(first.listener);
    close(second.listener);
    buf_release(&first.heads);
    buf_release(&second.heads);
    bench_stop(&b);
}

static void a_redirect_leads_to_http_only(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"};
    struct canned s;
    struct bench b;
    struct outcome o = {0};
    canned_start(&s, replies, 1);
    bench_start(&b, s.port);
    start(&b, &o, (struct http_call_options){.url = "/", .max_redirects = 5});
    run_all(&b);
    assert_null(o.body.data);
    expect(&o, 0, ERR_INVALID, "neither http nor https");
    bench_stop(&b);
    canned_stop(&s);
}

/* What goes out: our fields, and none that libcurl likes to add. */
static void the_request_as_it_is_sent(void **state)
{
    (void)state;
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    const struct http_header headers[] = {{STR("X-One"), STR("1")}, {STR("X-Empty"), STR("")}};
    struct canned s;
    struct bench b;
    struct outcome o = {0};
    char *big = malloc(MIB(2)); /* libcurl would send Expect: 100-continue */
    memset(big, '\r', MIB(2));
    memcpy(big, "\r\n\r\n", 4);
    canned_start(&s, replies, 1);
    bench_start(&b, s.port);
    start(&b, &o,
          (struct http_call_options){
              .url = "/p", .method = "POST", .headers = headers, .n_headers = 2, .body = {big, MIB(2)}});
    run_all(&b);
    uv_thread_join(&s.thread);
    struct str head = str_slice(buf_view(&s.heads), 0, str_find(buf_view(&s.heads), STR("\r\n\r\n")));
    assert_true(str_starts(head, STR("POST /p HTTP/1.1\r\nHost: 127.0.0.1:")));
    assert_true(str_find(head, STR("\r\nX-One: 1\r\nX-Empty:\r\n")) != STR_NPOS);
    assert_true(str_find(head, STR("\r\nUser-Agent: test/1\r\n")) != STR_NPOS);
    assert_true(str_find(head, STR("\r\nContent-Length: 2097152")) != STR_NPOS);
    assert_true(str_find(head, STR("Expect")) == STR_NPOS && str_find(head, STR("Content-Type")) == STR_NPOS);
    buf_release(&o.body);
    bench_stop(&b);
    close(s.listener);
    buf_release(&s.heads);
    free(big);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct canned s;
    struct bench b;
    struct outcome o = {0}, again = {0};
    canned_start(&s, NULL, 0);
    canned_stop(&s);
    bench_start(&b, s.port);
    get(&b, &o, "/");
    run_all(&b);
    get(&b, &again, "/");
    run_all(&b);
    expect(&o, 0, ERR_UNAVAILABLE, "no connection (Connection refused)");
    expect(&again, 0, ERR_UNAVAILABLE, "no connection");
    bench_stop(&b);
}

static void a_host_that_is_not_known(void **state)
{
    (void)state;
    struct bench b;
    struct outcome o = {.b = &b};
    struct error err = {0};
    bench_start(&b, 0);
    b.n_open = 1;
    struct http_call_options options = {.url = "http://no-such-host.invalid/",
                                        .events = {.on_done = on_done, .arg = &o}};
    assert_non_null(http_call_start(b.client, &options, &err));
    run_all(&b);
    expect(&o, 0, ERR_UNAVAILABLE, "no-such-host.invalid:80: the host is not known");
    bench_stop(&b);
}

/* The environment's proxy is for other machines. */
static void no_proxy_for_this_machine(void **state)
{
    struct fixture *f = *state;
    struct bench b;
    struct outcome o = {0};
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    bench_start(&b, f->port);
    get(&b, &o, "/info");
    run_all(&b);
    unsetenv("http_proxy");
    expect(&o, 200, ERR_NONE, "GET /info ");
    bench_stop(&b);
}

#define WITH_SERVER(name) cmocka_unit_test_setup_teardown(name, with_server, without_server)

int main(void)
{
    sys_ignore_sigpipe();
    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    const struct CMUnitTest tests[] = {
        WITH_SERVER(replies_come_whole),
        WITH_SERVER(headers_and_statuses),
        WITH_SERVER(a_body_is_collected_when_nobody_takes_it),
        WITH_SERVER(large_bodies_go_both_ways),
        WITH_SERVER(a_stream_comes_in_pieces_with_their_times),
        WITH_SERVER(hundreds_of_streams_at_once),
        WITH_SERVER(a_connection_is_used_again),
        WITH_SERVER(a_cancelled_call_says_nothing_more),
        WITH_SERVER(calls_are_started_and_cancelled_in_callbacks),
        WITH_SERVER(a_client_may_be_freed_with_calls_in_flight),
        WITH_SERVER(time_limits),
        WITH_SERVER(replies_are_bounded),
        WITH_SERVER(what_may_not_be_sent_is_refused_at_once),
        WITH_SERVER(no_proxy_for_this_machine),
        cmocka_unit_test(odd_replies),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(redirects_are_followed_only_when_asked),
        cmocka_unit_test(a_redirect_does_not_take_credentials_along),
        cmocka_unit_test(a_redirect_leads_to_http_only),
        cmocka_unit_test(the_request_as_it_is_sent),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(a_host_that_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
