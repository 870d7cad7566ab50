/* Streams and clients that leave, stall or pause. */
#include "base/array.h"
#include "base/clock.h"
#include "base/sys_proc.h"
#include "tests/support/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/socket.h>

#define HOST "Host: x\r\n"

/* ---- clients that leave ---- */

static void test_client_leaves(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    server_start(&f, (struct http_server_options){0});
    static const char *const requests[] = {"GET /never HTTP/1.1\r\n" HOST "\r\n",
                                           "GET /never HTTP/1.1\r\n" HOST "\r\nGET /next HTTP/1.1\r\n" HOST "\r\n",
                                           "GET /stream?n=100&ms=1000 HTTP/1.1\r\n" HOST "\r\n"};
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        for (int how = 0; how < 3; how++) {
            client_connect(&c, f.port);
            client_send_text(&c, requests[i]);
            assert_true(count_reaches(&f.requests, n + 1));
            int64_t left_at = clock_ms();
            if (how == 0) {
                client_close(&c);
            } else if (how == 1) {
                client_reset(&c);
            } else {
                client_shutdown(&c);
            }
            assert_true(count_reaches(&f.gone, ++n));
            assert_true(clock_ms() - left_at < 1000);
            if (how == 2) {
                client_close(&c);
            }
        }
    }
    assert_true(server_connections_become(&f, 0));
    server_stop(&f);
    assert_int_equal(f.gone, n);
    assert_int_equal(f.requests, n); /* what was pipelined behind is dropped */
}

/* So much is pipelined that reading pauses: a reset is still noticed. */
static void test_client_leaves_behind_full_pipeline(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    char *junk = malloc(KIB(100));
    memset(junk, 'x', KIB(100));
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /never HTTP/1.1\r\n" HOST "\r\n");
    client_send(&c, (struct str){junk, KIB(100)});
    clock_sleep_ms(50);
    assert_int_equal(f.gone, 0);
    client_reset(&c);
    assert_true(count_reaches(&f.gone, 1));
    free(junk);
    server_stop(&f);
}

/* A client that half-closes after a complete reply still gets all of it. */
static void test_half_close_after_reply(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /big?n=20000000 HTTP/1.1\r\n" HOST "\r\n");
    assert_true(client_wait_for(&c, "\r\n\r\n"));
    client_shutdown(&c);
    client_answer(&c, false, &a);
    assert_int_equal(a.body.len, 20000000);
    answer_release(&a);
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
}

/* ---- streams ---- */

static void test_stream(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /stream?n=3&size=2 HTTP/1.1\r\n" HOST "\r\n"); /* woken from inside pull */
    client_answer(&c, false, &a);
    assert_true(answer_has(&a, "Transfer-Encoding: chunked"));
    assert_true(answer_has(&a, "Content-Type: text/event-stream"));
    assert_string_equal(a.body.data, "ccbbaa(end)");
    answer_release(&a);
    client_send_text(&c,
                     "GET /stream?n=0 HTTP/1.1\r\n" HOST "\r\nGET /stream?n=4&size=1&ms=5 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, "(end)");
    client_expect(&c, 200, "dcba(end)");
    client_send_text(&c, "GET /stream?n=300&size=100000&ms=0 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    client_answer(&c, false, &a);
    assert_true(a.complete);
    assert_int_equal(a.body.len, 300 * 100000 + 5);
    answer_release(&a);
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
    assert_int_equal(f.ended, 4);
    assert_int_equal(f.gone, 0);
}

static void test_abort(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /stream?n=2&abort=1 HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    assert_false(a.complete);
    assert_true(str_ends(buf_view(&a.body), STR("(end)"))); /* what was appended goes out first */
    answer_release(&a);
    client_close(&c);
    client_connect(&c, f.port);
    client_send_text(&c, "GET /stream?n=2&abort=1 HTTP/1.0\r\n\r\n");
    assert_true(client_was_reset(&c)); /* nothing else would tell it that this was not all */
    client_close(&c);
    server_stop(&f);
    assert_int_equal(f.ended, 2);
    assert_int_equal(f.gone, 0);
}

/* A reader that pauses costs bounded bytes, and gets everything when it goes on. */
static void test_slow_reader(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){.limits.stall_timeout_ms = 60000});
    client_socket(&c);
    client_receive_buffer(&c, 65536);
    client_connect_socket(&c, f.port);
    client_send_text(&c, "GET /stream?n=4000&size=10000&ms=0 HTTP/1.1\r\n" HOST "\r\n");
    long long pulled = -1;
    while (f.pulled != pulled || pulled == 0) { /* until it has stopped */
        pulled = f.pulled;
        clock_sleep_ms(200);
        assert_true(pulled < 20000000);
    }
    assert_true(pulled < 8000000); /* the stream's bound and what the system's socket buffers hold */
    client_answer(&c, false, &a);
    assert_int_equal(a.body.len, 40000005);
    answer_release(&a);
    client_close(&c);
    server_stop(&f);
    assert_int_equal(f.gone, 0);
}

static void test_stalled_reader(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client stream, reply, ok;
    server_start(&f, (struct http_server_options){.limits.stall_timeout_ms = 300});
    client_connect(&stream, f.port);
    client_connect(&reply, f.port);
    client_connect(&ok, f.port);
    int64_t began = clock_ms();
    client_send_text(&stream, "GET /stream?n=4000&size=10000&ms=0 HTTP/1.1\r\n" HOST "\r\n");
    client_send_text(&reply, "GET /big?n=40000000 HTTP/1.1\r\n" HOST "\r\n");
    client_send_text(&ok, "GET /stream?n=8&size=1&ms=100 HTTP/1.1\r\n" HOST "\r\n"); /* silent, but not stalled */
    assert_true(count_reaches(&f.gone, 1));
    assert_true(clock_ms() - began >= 300);
    client_expect(&ok, 200, "hgfedcba(end)");
    assert_true(server_connections_become(&f, 1));
    assert_int_equal(f.timeouts, 2);
    client_close(&stream);
    client_close(&reply);
    client_close(&ok);
    server_stop(&f);
    assert_int_equal(f.gone, 1);
}

static void test_keepalive_comments(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){.limits.stall_timeout_ms = 60});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /stream?n=1&size=1&ms=250&keepalive=40 HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    size_t n = 0;
    for (struct str rest = buf_view(&a.body); str_starts(rest, STR(": keep-alive\n\n")); n++) {
        rest = str_slice(rest, 14, rest.len);
    }
    assert_in_range(n, 2, 7);
    assert_true(str_find(buf_view(&a.body), STR("\n\na: keep-alive\n\n")) != STR_NPOS);
    assert_true(str_ends(buf_view(&a.body), STR("\n\n(end)")));
    answer_release(&a);
    client_close(&c);
    server_stop(&f);
}

int main(void)
{
    sys_ignore_sigpipe();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_client_leaves_behind_full_pipeline),
        cmocka_unit_test(test_half_close_after_reply),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_keepalive_comments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
