/* The request parser with its n-th allocation failing, for every n: NO_MEMORY or the right request, never part of one.
 * The allocator is replaced for the whole program; with sanitizers, which bring their own, it is skipped. */
#include "http/parser.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Long enough that every buffer grows more than once. */
#define LONG  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef%C3%A9"
#define FIELD "A: " LONG LONG LONG "\r\n"

static const struct str request = STR(
    "POST /" LONG LONG LONG "?q=" LONG " HTTP/1.1\r\nHost: x\r\n" FIELD FIELD FIELD FIELD FIELD FIELD FIELD FIELD FIELD
    "Transfer-Encoding: chunked\r\n\r\n5;" LONG LONG LONG "\r\nhello\r\n0\r\nB: " LONG LONG LONG "\r\n\r\n");

/* The events, with NO_MEMORY as the only error; true when nothing was left to fail. */
static bool parse_once(long n)
{
    struct http_parser p;
    struct error err = {0};
    struct str input = request, piece;
    size_t body = 0;
    bool had_head = false;
    enum http_parse what;
    n_allocations = 0;
    fail_at = n;
    http_parser_init(&p, 100);
    do {
        what = http_parser_next(&p, &input, &piece, &err);
        had_head |= what == HTTP_PARSE_HEAD;
        body += what == HTTP_PARSE_BODY ? piece.len : 0;
    } while (what == HTTP_PARSE_HEAD || what == HTTP_PARSE_BODY);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (what == HTTP_PARSE_ERROR) {
        assert_int_equal(err.code, ERR_NO_MEMORY);
        assert_false(all_done);
    } else {
        assert_int_equal(what, HTTP_PARSE_END);
        assert_true(had_head);
        assert_int_equal(body, 5);
        assert_int_equal(input.len, 0);
        assert_int_equal(p.request.n_headers, 11);
        assert_true(str_ends(p.request.path, STR("\xc3\xa9")));
    }
    http_parser_release(&p);
    return all_done;
}

static void test_every_allocation(void **state)
{
    (void)state;
    long n = 0;
    if (!CAN_FAIL) {
        skip();
    }
    while (!parse_once(n)) {
        n++;
    }
    assert_in_range(n, 6, 1000); /* five buffers and arrays, some of which grow */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
