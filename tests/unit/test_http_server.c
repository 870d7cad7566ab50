/* The HTTP server over real sockets: requests and replies, and its limits in time and number. */
#include "base/array.h"
#include "base/clock.h"
#include "base/sys_proc.h"
#include "tests/support/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define HOST "Host: x\r\n"

/* ---- requests and replies ---- */

static void test_keep_alive(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body.data, "hello");
    assert_true(str_starts(buf_view(&a.head), STR("HTTP/1.1 200 OK\r\nDate: ")));
    assert_true(answer_has(&a, " GMT\r\nContent-Type: text/plain\r\nContent-Length: 5"));
    assert_false(answer_has(&a, "Connection:"));
    answer_release(&a);
    client_send_text(&c, "GET /a/../x%20y?q=1 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 200, "GET /x y q=1");
    client_send_text(&c, "GET /nothing HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 204);
    assert_false(answer_has(&a, "Content-"));
    answer_release(&a);
    client_send_text(&c, "GET /last HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    client_answer(&c, false, &a);
    assert_true(answer_has(&a, "\r\nConnection: close"));
    answer_release(&a);
    client_expect_end(&c);
    client_close(&c);
    assert_true(server_connections_become(&f, 0));
    server_stop(&f);
    assert_int_equal(f.requests, 4);
}

static void test_bytewise(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct str request = STR("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                             "3\r\nabc\r\n00a;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n");
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    for (size_t i = 0; i < request.len; i++) {
        client_send(&c, str_slice(request, i, i + 1));
    }
    client_expect(&c, 200, "abc0123456789");
    client_close(&c);
    server_stop(&f);
}

static void test_pipeline_order(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /later?ms=300 HTTP/1.1\r\n" HOST "\r\n"
                         "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab"
                         "GET /stream?n=2&size=3&ms=10 HTTP/1.1\r\n" HOST "\r\n"
                         "GET /later?ms=1 HTTP/1.1\r\n" HOST "\r\n"
                         "BAD\r\n");
    assert_true(count_reaches(&f.requests, 1));
    clock_sleep_ms(30);
    assert_int_equal(f.requests, 1); /* the next is handed over when the reply before is complete */
    client_expect(&c, 200, "ms=300");
    client_expect(&c, 200, "ab");
    client_expect(&c, 200, "bbbaaa(end)");
    client_expect(&c, 200, "ms=1");
    client_expect(&c, 400, NULL);
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
}

/* More requests than are answered in one turn, and more bytes than may wait. */
static void test_long_pipeline(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct buf all;
    enum { N = 2000 };
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    buf_init(&all, MIB(1));
    buf_puts(&all, "GET /later?ms=30 HTTP/1.1\r\n" HOST "\r\n");
    for (int i = 0; i < N; i++) {
        buf_printf(&all, "GET /%d HTTP/1.1\r\n" HOST "X-Fill: ................................\r\n\r\n", i);
    }
    client_send(&c, buf_view(&all));
    client_expect(&c, 200, "ms=30");
    for (int i = 0; i < N; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, "GET /%d ", i);
        client_expect(&c, 200, expected);
    }
    buf_release(&all);
    client_close(&c);
    server_stop(&f);
}

static void test_expect(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    server_start(&f, (struct http_server_options){
                         .limits.max_body = 100, .head_check = server_head_check, .error_body = server_error_body});
    client_connect(&c, f.port);
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&c, 100, NULL);
    client_send_text(&c, "abc");
    client_expect(&c, 200, "abc");
    client_send_text(&c, "GET / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n"); /* no body to wait for */
    client_expect(&c, 200, "GET / ");
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&c, 100, NULL);
    client_send_text(&c, "64\r\n");
    for (int i = 0; i < 10; i++) {
        client_send_text(&c, "0123456789");
    }
    client_send_text(&c, "\r\n1\r\n");
    client_expect(&c, 413, "TOO_LARGE with head");
    client_expect_end(&c);
    client_close(&c);

    static const struct {
        const char *request;
        int status;
        const char *body;
    } refused[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 101\r\nExpect: 100-continue\r\n\r\n", 413, "TOO_LARGE with head"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\nX-Refuse: 1\r\nExpect: 100-continue\r\n\r\n", 403,
         "FORBIDDEN with head"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\nExpect: tea\r\n\r\n", 417, "EXPECTATION"},
    };
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        client_connect(&c, f.port);
        client_send_text(&c, refused[i].request);
        client_expect(&c, refused[i].status, refused[i].body);
        client_expect_end(&c);
        client_close(&c);
    }
    server_stop(&f);
    assert_int_equal(f.requests, 2);
}

/* What the check adds goes with any reply; what it leaves is there for the handler, request by request. */
static void test_head_check(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){.head_check = server_head_check});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /tag HTTP/1.1\r\n" HOST "A: 1\r\nB: 1\r\n\r\nGET /tag HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    assert_true(str_eq(buf_view(&a.body), STR("3")));
    assert_true(answer_has(&a, "X-Checked: tcp"));
    answer_release(&a);
    client_expect(&c, 200, "1");
    client_send_text(&c, "GET /tag HTTP/1.1\r\n" HOST "X-Refuse: 1\r\n\r\n");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 403);
    assert_true(answer_has(&a, "X-Checked: tcp"));
    answer_release(&a);
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
}

static void test_head(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "HEAD /big?n=1000 HTTP/1.1\r\n" HOST "\r\nHEAD /stream?n=5 HTTP/1.1\r\n" HOST "\r\n"
                         "GET /x HTTP/1.1\r\n" HOST "\r\nHEAD /%zz HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, true, &a);
    assert_int_equal(a.status, 200);
    assert_true(answer_has(&a, "Content-Length: 1000"));
    answer_release(&a);
    client_answer(&c, true, &a);
    assert_true(answer_has(&a, "Transfer-Encoding: chunked"));
    answer_release(&a);
    assert_int_equal(f.gone, 1); /* how the source learns that it will not be pulled */
    assert_int_equal(f.pulls, 0);
    client_expect(&c, 200, "GET /x ");
    client_answer(&c, true, &a);
    assert_int_equal(a.status, 400);
    answer_release(&a);
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
}

static void test_http_1_0(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx");
    client_answer(&c, false, &a);
    assert_true(answer_has(&a, "Connection: keep-alive"));
    answer_release(&a);
    client_send_text(&c, "GET /stream?n=3&size=2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client_answer(&c, false, &a);
    assert_true(answer_has(&a, "Connection: close"));
    assert_false(answer_has(&a, "Transfer-Encoding"));
    assert_string_equal(a.body.data, "ccbbaa(end)");
    answer_release(&a);
    client_close(&c);
    client_connect(&c, f.port);
    client_send_text(&c, "GET / HTTP/1.0\r\n\r\n");
    client_expect(&c, 200, "GET / ");
    client_expect_end(&c);
    client_close(&c);
    server_stop(&f);
}

static void test_reply_headers(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    server_start(&f, (struct http_server_options){0});
    client_connect(&c, f.port);
    client_send_text(&c, "GET /headers HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    assert_int_equal(a.status, 201);
    assert_string_equal(a.body.data, "made");
    assert_true(answer_has(&a, "\r\nX-Good: a\tb \xc3\xa9"));
    static const char *const absent[] = {"X-Split", "Forged", "X-Nul",        "X Bad",
                                         "999",     "hunked", "Content-Type", "\r\n: "};
    for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
        assert_false(answer_has(&a, absent[i]));
    }
    answer_release(&a);
    client_close(&c);
    server_stop(&f);
}

static void test_errors(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    static char long_line[LIMIT_HTTP_LINE + 100], long_field[LIMIT_HTTP_HEADERS + 100];
    memset(long_line, 'a', sizeof long_line - 1);
    memset(long_field, 'a', sizeof long_field - 1);
    memcpy(long_line, "GET /", 5);
    memcpy(long_field, "GET / HTTP/1.1\r\nA: ", 19);
    const struct {
        const char *request;
        int status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {long_line, 414},
        {long_field, 431},
    };
    server_start(&f, (struct http_server_options){.error_body = server_error_body});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        client_connect(&c, f.port);
        client_send_text(&c, cases[i].request);
        client_expect(&c, cases[i].status, NULL);
        client_expect_end(&c);
        client_close(&c);
    }
    client_connect(&c, f.port); /* not the client's fault, but an error reply all the same */
    client_send_text(&c, "GET /huge HTTP/1.1\r\n" HOST "\r\nGET /ok HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&c, 500, "INTERNAL with head");
    client_expect(&c, 200, "GET /ok ");
    client_close(&c);
    server_stop(&f);
}

/* A client that goes on sending sees the reply all the same: no reset overtakes it. */
static void test_reply_to_large_upload(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    char *bytes = calloc(1, MIB(4));
    server_start(&f, (struct http_server_options){.limits.max_body = MIB(4)});
    for (int i = 0; i < 5; i++) {
        client_connect(&c, f.port);
        client_send_text(&c, "POST / HTTP/1.1\r\n" HOST "Content-Length: 4194305\r\n\r\n");
        client_send(&c, (struct str){bytes, MIB(4)});
        clock_sleep_ms(20);
        client_expect(&c, 413, NULL);
        client_expect_end(&c);
        client_close(&c);
    }
    free(bytes);
    server_stop(&f);
}

/* ---- limits in time and number ---- */

static void test_timeouts(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client head, body, idle, blank;
    server_start(&f, (struct http_server_options){.limits.header_timeout_ms = 500,
                                                  .limits.body_timeout_ms = 800,
                                                  .limits.idle_timeout_ms = 1200,
                                                  .error_body = server_error_body});
    int64_t began = clock_ms();
    client_connect(&head, f.port);
    client_connect(&body, f.port);
    client_connect(&idle, f.port);
    client_connect(&blank, f.port);
    client_send_text(&head, "GET / HTTP/1.1\r\n");
    client_send_text(&body, "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel");
    client_send_text(&idle, "GET / HTTP/1.1\r\n" HOST "\r\n");
    client_send_text(&blank, "\r\n"); /* no request has begun */
    client_expect(&head, 408, "TIMEOUT");
    assert_in_range(clock_ms() - began, 490, 4000);
    client_expect_end(&head);
    client_expect(&body, 408, "TIMEOUT with head");
    client_expect_end(&body);
    client_expect(&idle, 200, NULL);
    client_expect_end(&idle);
    assert_true(clock_ms() - began >= 1190);
    client_expect_end(&blank);
    assert_true(server_connections_become(&f, 0));
    assert_int_equal(f.timeouts, 2);
    client_close(&head);
    client_close(&body);
    client_close(&idle);
    client_close(&blank);
    server_stop(&f);
}

static void test_too_many_connections(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client first, second, third;
    server_start(&f, (struct http_server_options){.limits.max_connections = 2, .error_body = server_error_body});
    client_connect(&first, f.port);
    client_connect(&second, f.port);
    client_send_text(&first, "GET /1 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&first, 200, "GET /1 ");
    client_send_text(&second, "GET /2 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&second, 200, "GET /2 ");
    client_connect(&third, f.port);
    client_send_text(&third, "GET /3 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&third, 503, "UNAVAILABLE");
    client_expect_end(&third);
    client_close(&third);
    client_close(&second);
    assert_true(server_connections_become(&f, 1));
    client_connect(&third, f.port);
    client_send_text(&third, "GET /3 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&third, 200, "GET /3 ");
    client_close(&third);
    client_close(&first);
    server_stop(&f);
}

/* Of one address; whoever is refused counts for nothing, and unix sockets have no addresses. */
static void test_too_many_connections_of_a_client(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client first, second, third;
    server_start(&f, (struct http_server_options){.limits.max_client_connections = 2});
    client_connect(&first, f.port);
    client_connect(&second, f.port);
    client_send_text(&second, "GET /2 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&second, 200, "GET /2 ");
    for (int i = 0; i < 3; i++) {
        struct http_answer a;
        client_connect(&third, f.port);
        client_answer(&third, false, &a);
        assert_int_equal(a.status, 429);
        assert_true(answer_has(&a, "Retry-After: 1"));
        assert_non_null(strstr(a.body.data, "at most 2;"));
        answer_release(&a);
        client_expect_end(&third);
        client_close(&third);
    }
    client_close(&second);
    assert_true(server_connections_become(&f, 1));
    assert_int_equal(f.refused, 3);
    client_connect(&third, f.port);
    client_send_text(&third, "GET /3 HTTP/1.1\r\n" HOST "\r\n");
    client_expect(&third, 200, "GET /3 ");
    client_close(&third);
    client_close(&first);
    server_stop(&f);
}

/* By default this machine's own clients are not counted. */
static void test_connections_of_loopback(void **state)
{
    (void)state;
    struct fixture f;
    static struct raw_client clients[LIMIT_HTTP_CLIENT + 1];
    server_start(&f, (struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        client_connect(&clients[i], f.port);
    }
    assert_true(server_connections_become(&f, LIMIT_HTTP_CLIENT + 1));
    assert_int_equal(f.refused, 0);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        client_close(&clients[i]);
    }
    server_stop(&f);
}

static bool has_answer(const struct raw_client *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* A byte now and then keeps a connection no longer than the minimum rate allows. */
static void test_slow_body(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client sized, chunked, good;
    server_start(&f, (struct http_server_options){.limits.body_timeout_ms = 1200, .limits.min_body_rate = 1000});
    client_connect(&sized, f.port);
    client_connect(&chunked, f.port);
    client_connect(&good, f.port);
    client_send_text(&sized, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5000\r\n\r\n");
    client_send_text(&chunked, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    client_send_text(&good, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 20000\r\n\r\n");
    int64_t began = clock_ms();
    for (int n = 0; n < 200 || !has_answer(&sized) || !has_answer(&chunked); n++) {
        (void)client_try_send(&sized, STR("b"));
        (void)client_try_send(&chunked, STR("1;comment=0123456789012345678901\r\nb\r\n"));
        if (n < 200) { /* 100 bytes earn 100 ms: later than the others, and in time */
            client_send_text(&good, "01234567890123456789012345678901234567890123456789"
                                    "01234567890123456789012345678901234567890123456789");
        }
        clock_sleep_ms(10);
        assert_true(clock_ms() - began < 10000);
    }
    assert_true(clock_ms() - began >= 1190);
    client_expect(&good, 200, NULL);
    struct raw_client *slow[] = {&sized, &chunked};
    for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
        client_expect(slow[i], 408, NULL);
        client_close(slow[i]);
    }
    client_close(&good);
    server_command(&f, COMMAND_NONE);
    assert_int_equal(f.timeouts, 2);
    server_stop(&f);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Without descriptors the server waits instead of spinning; the client is served once there are some again. */
static void test_out_of_descriptors(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct rlimit before, low;
    server_start(&f, (struct http_server_options){0});
    client_socket(&c);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)c.fd + 1; /* descriptors are given out lowest first: all below are taken */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    client_connect_socket(&c, f.port);
    client_send_text(&c, "GET /x HTTP/1.1\r\n" HOST "\r\n");
    double cpu = cpu_seconds();
    clock_sleep_ms(400);
    cpu = cpu_seconds() - cpu;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(cpu < 0.1);
    assert_int_equal(f.requests, 0);
    client_expect(&c, 200, "GET /x ");
    client_close(&c);
    server_stop(&f);
}

int main(void)
{
    sys_ignore_sigpipe();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_bytewise),
        cmocka_unit_test(test_pipeline_order),
        cmocka_unit_test(test_long_pipeline),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_head_check),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_http_1_0),
        cmocka_unit_test(test_reply_headers),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_reply_to_large_upload),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_too_many_connections_of_a_client),
        cmocka_unit_test(test_connections_of_loopback),
        cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
