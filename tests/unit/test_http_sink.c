/* Bodies that go piece by piece to a sink: all of them, pauses, refusals in their middle, limits of their own, and
 * clients that leave. */
#include "base/clock.h"
#include "tests/support/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HOST "Host: x\r\n"

static struct { /* what the sink has seen; the loop's thread writes */
    atomic_llong n, sum;
    atomic_int n_gone, n_pauses;
    struct http_exchange *x;
    uv_timer_t timer;
    bool has_timer;
    size_t max_body;
    long long refuse_at; /* 0: never */
    int64_t pause_ms;    /* 0: never */
} sink;

static void on_resume(uv_timer_t *timer)
{
    (void)timer;
    if (sink.x) {
        http_body_resume(sink.x);
    }
}

static bool take(void *arg, struct str piece, struct error *err)
{
    struct fixture *f = arg;
    for (size_t i = 0; i < piece.len; i++) {
        sink.sum += (unsigned char)piece.ptr[i];
    }
    sink.n += (long long)piece.len;
    if (sink.refuse_at && sink.n >= sink.refuse_at) {
        return error_set(err, ERR_UNAVAILABLE, "Enough.");
    }
    if (sink.pause_ms) {
        if (!sink.has_timer) {
            sink.has_timer = true;
            uv_timer_init(&f->loop, &sink.timer);
        }
        sink.n_pauses++;
        http_body_pause(sink.x);
        uv_timer_start(&sink.timer, on_resume, (uint64_t)sink.pause_ms, 0);
    }
    return true;
}

static void on_gone(void *arg)
{
    (void)arg;
    sink.x = NULL;
    sink.n_gone++;
    if (sink.has_timer && !uv_is_closing((uv_handle_t *)&sink.timer)) {
        uv_close((uv_handle_t *)&sink.timer, NULL);
    }
}

static struct fixture fixture;

static bool check(struct http_exchange *x, void *arg, struct error *err)
{
    (void)arg;
    (void)err;
    if (str_eq(http_request_of(x)->path, STR("/echo"))) {
        sink.x = x;
        struct http_sink s = {.max_body = sink.max_body, .take = take, .gone = on_gone, .arg = &fixture};
        http_body_to(x, &s);
    }
    return true;
}

static void start(struct http_limits limits)
{
    memset(&sink, 0, sizeof sink);
    sink.max_body = limits.max_upload;
    server_start(&fixture, (struct http_server_options){.limits = limits, .head_check = check});
}

static void send_sized(struct raw_client *c, const char *path, size_t size)
{
    char head[200], block[4096];
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", path, size);
    client_send_text(c, head);
    memset(block, 1, sizeof block);
    for (size_t sent = 0; sent < size; sent += sizeof block) {
        client_send(c, (struct str){block, size - sent < sizeof block ? size - sent : sizeof block});
    }
}

static void test_all_of_it(void **state)
{
    (void)state;
    struct raw_client c;
    start((struct http_limits){.max_body = 1000, .max_upload = MIB(2)});
    client_connect(&c, fixture.port);
    send_sized(&c, "/echo", MIB(1) + 5);
    client_expect(&c, 200, ""); /* the handler sees no body */
    assert_true(sink.n == MIB(1) + 5 && sink.sum == MIB(1) + 5);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    client_expect(&c, 200, "");
    assert_true(sink.n == MIB(1) + 8);
    client_send_text(&c, "POST /other HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n"); /* other routes have theirs */
    struct http_answer a;
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 413);
    answer_release(&a);
    client_close(&c);
    server_stop(&fixture);
    assert_int_equal(sink.n_gone, 0);
}

static void test_limit_of_its_own(void **state)
{
    (void)state;
    struct raw_client c;
    struct http_answer a;
    start((struct http_limits){.max_body = 1000, .max_upload = 5000});
    sink.max_body = 3000;
    client_connect(&c, fixture.port);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3001\r\n\r\n");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 413);
    answer_release(&a);
    client_close(&c);
    client_connect(&c, fixture.port);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nbb9\r\n");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 413);
    answer_release(&a);
    client_close(&c);
    assert_true(count_reaches(&sink.n_gone, 2));
    server_stop(&fixture);
    assert_int_equal(fixture.requests, 0);
}

static void test_pauses(void **state)
{
    (void)state;
    struct raw_client c;
    start(
        (struct http_limits){.max_body = 1000, .max_upload = MIB(2), .body_timeout_ms = 200, .min_body_rate = 1000000});
    sink.pause_ms = 60;
    client_connect(&c, fixture.port);
    send_sized(&c, "/echo", KIB(400)); /* longer than the body's own time: pauses do not count */
    client_expect(&c, 200, "");
    assert_true(sink.n == KIB(400) && sink.n_pauses >= 4);
    int before = sink.n_pauses;
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\nx");
    assert_true(count_reaches(&sink.n_pauses, before + 1));
    client_close(&c); /* while it is paused */
    assert_true(count_reaches(&sink.n_gone, 1));
    server_stop(&fixture);
}

static void test_refusal(void **state)
{
    (void)state;
    struct raw_client c;
    struct http_answer a;
    start((struct http_limits){.max_body = 1000, .max_upload = MIB(2)});
    sink.refuse_at = 5;
    client_connect(&c, fixture.port);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n12345");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 503);
    assert_true(answer_has(&a, "Connection: close"));
    answer_release(&a);
    client_close(&c);
    assert_true(count_reaches(&sink.n_gone, 1));
    server_stop(&fixture);
    assert_int_equal(fixture.requests, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it),
        cmocka_unit_test(test_limit_of_its_own),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
