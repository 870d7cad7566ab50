/* What the HTTP server tells its API of exchanges: each is opened once and finished once, whatever became of it, and
 * what was added when it was opened is on every reply. */
#include "base/clock.h"
#include "base/sys_proc.h"
#include "tests/support/http_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>

#define HOST     "Host: x\r\n"
#define MAX_ENDS 16

static struct ends {
    pthread_mutex_t lock;
    int n_opened, n_finished, n_without_head, n_contexts_lost;
    struct {
        int status;
        bool complete, refused;
        enum error_code code;
        char address[64];
    } items[MAX_ENDS]; /* [n_finished] */
} ends = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void opened(struct http_exchange *x, const struct http_request *head, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ends.lock);
    http_set_context(x, &ends.items[ends.n_opened++ % MAX_ENDS]);
    ends.n_without_head += head == NULL;
    pthread_mutex_unlock(&ends.lock);
    http_add_header(x, "X-Number", STR("seven"));
}

static void finished(struct http_exchange *x, const struct http_end *end, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ends.lock);
    int i = ends.n_finished % MAX_ENDS;
    ends.n_contexts_lost += http_context(x) != &ends.items[i];
    ends.items[i].status = end->status;
    ends.items[i].complete = end->complete;
    ends.items[i].refused = end->refusal != NULL;
    ends.items[i].code = end->refusal ? end->refusal->code : ERR_NONE;
    snprintf(ends.items[i].address, sizeof ends.items[i].address, "%s", http_client_address(x));
    ends.n_finished++;
    pthread_mutex_unlock(&ends.lock);
}

static int n_finished(void)
{
    pthread_mutex_lock(&ends.lock);
    int n = ends.n_finished;
    pthread_mutex_unlock(&ends.lock);
    return n;
}

static void start(struct fixture *f, struct http_server_options options)
{
    ends.n_opened = ends.n_finished = ends.n_without_head = ends.n_contexts_lost = 0;
    options.opened = opened;
    options.finished = finished;
    server_start(f, options);
}

static void expect_answer(struct raw_client *c, int status)
{
    struct http_answer a;
    client_answer(c, false, &a);
    assert_int_equal(a.status, status);
    assert_true(answer_has(&a, "X-Number: seven"));
    answer_release(&a);
}

/* The i-th to end; waits for it. */
static void expect_end(int i, int status, bool complete, enum error_code code)
{
    for (int tries = 0; n_finished() <= i && tries < 2000; tries++) {
        clock_sleep_ms(10);
    }
    assert_true(n_finished() > i);
    assert_int_equal(ends.items[i].status, status);
    assert_int_equal(ends.items[i].complete, complete);
    assert_int_equal(ends.items[i].refused, code != ERR_NONE);
    assert_int_equal(ends.items[i].code, code);
    assert_string_equal(ends.items[i].address, "127.0.0.1");
}

static void exchange(struct fixture *f, const char *request, int status)
{
    struct raw_client c;
    client_connect(&c, f->port);
    client_send_text(&c, request);
    expect_answer(&c, status);
    client_close(&c);
}

static void test_replies(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_server_options){.limits.max_body = 100, .head_check = server_head_check});
    exchange(&f, "GET /info HTTP/1.1\r\n" HOST "\r\n", 200);
    expect_end(0, 200, true, ERR_NONE);
    exchange(&f, "GET /huge HTTP/1.1\r\n" HOST "\r\n", 500); /* the server's own reply in place of the handler's */
    expect_end(1, 500, true, ERR_NONE);
    exchange(&f, "GET /stream?n=3&ms=0 HTTP/1.1\r\n" HOST "\r\n", 200);
    expect_end(2, 200, true, ERR_NONE);
    assert_int_equal(ends.n_without_head, 0);
    exchange(&f, "NO GOOD LINE\r\n\r\n", 400);
    expect_end(3, 400, true, ERR_INVALID);
    assert_int_equal(ends.n_without_head, 1);
    exchange(&f, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n", 413);
    expect_end(4, 413, true, ERR_TOO_LARGE);
    exchange(&f, "GET /info HTTP/1.1\r\n" HOST "X-Refuse: 1\r\n\r\n", 403);
    expect_end(5, 403, true, ERR_FORBIDDEN);
    exchange(&f, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400);
    expect_end(6, 400, true, ERR_INVALID);
    assert_int_equal(ends.n_without_head, 1); /* the last one's head had come */
    server_stop(&f);
    assert_int_equal(ends.n_opened, 7);
    assert_int_equal(ends.n_finished, 7);
    assert_int_equal(ends.n_contexts_lost, 0);
}

static void test_broken_off(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client c;
    struct http_answer a;
    start(&f, (struct http_server_options){0});
    client_connect(&c, f.port); /* the source gives up */
    client_send_text(&c, "GET /stream?n=1&ms=0&abort=1 HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&c, false, &a);
    assert_false(a.complete);
    answer_release(&a);
    client_close(&c);
    expect_end(0, 200, false, ERR_NONE);
    client_connect(&c, f.port); /* the client leaves while the handler works */
    client_send_text(&c, "GET /never HTTP/1.1\r\n" HOST "\r\n");
    assert_true(count_reaches(&f.requests, 2));
    client_close(&c);
    expect_end(1, 0, false, ERR_NONE);
    client_connect(&c, f.port); /* and before its body is complete */
    client_send_text(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nhalf");
    while (true) {
        pthread_mutex_lock(&ends.lock);
        bool seen = ends.n_opened == 3;
        pthread_mutex_unlock(&ends.lock);
        if (seen) {
            break;
        }
        clock_sleep_ms(1);
    }
    client_close(&c);
    expect_end(2, 0, false, ERR_NONE);
    client_connect(&c, f.port); /* what never becomes a request is none */
    client_send_text(&c, "GET /half HTT");
    client_close(&c);
    server_stop(&f);
    assert_int_equal(ends.n_finished, 3);
}

static void test_one_too_many(void **state)
{
    (void)state;
    struct fixture f;
    struct raw_client first;
    start(&f, (struct http_server_options){.limits.max_connections = 1});
    client_connect(&first, f.port);
    client_send_text(&first, "GET /1 HTTP/1.1\r\n" HOST "\r\n");
    expect_answer(&first, 200);
    expect_end(0, 200, true, ERR_NONE);
    struct raw_client second;
    client_connect(&second, f.port);
    expect_answer(&second, 503);
    expect_end(1, 503, true, ERR_UNAVAILABLE);
    assert_int_equal(ends.n_without_head, 1);
    client_close(&second);
    client_close(&first);
    server_stop(&f);
}

int main(void)
{
    sys_ignore_sigpipe();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_broken_off),
        cmocka_unit_test(test_one_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
