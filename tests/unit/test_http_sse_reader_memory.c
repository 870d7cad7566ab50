/* The reader of server-sent events with its n-th allocation failing, for every n: NO_MEMORY or the right events, never
 * part of one. The allocator is replaced for the whole program; with sanitizers, which bring their own, it is skipped.
 */
#include "http/sse_reader.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Long enough that every buffer grows more than once. */
#define LONG  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LONGS LONG LONG LONG LONG LONG LONG LONG LONG

static const struct str stream =
    STR("event: " LONGS "\nid: " LONGS "\ndata: " LONGS "\ndata: " LONGS "\n\ndata: short\n\n");

/* The events, with NO_MEMORY as the only error; true when nothing was left to fail. */
static bool read_once(long n)
{
    struct sse_reader r;
    struct sse_incoming event;
    struct error err = {0};
    struct str input = stream;
    size_t n_events = 0;
    enum sse_read what;
    n_allocations = 0;
    fail_at = n;
    sse_reader_init(&r, 100000);
    while ((what = sse_reader_next(&r, &input, &event, &err)) == SSE_READ_EVENT) {
        assert_int_equal(event.data.len, n_events ? 5 : 2 * (sizeof LONGS - 1) + 1);
        assert_int_equal(event.name.len, n_events ? 7 : sizeof LONGS - 1);
        assert_int_equal(event.id.len, sizeof LONGS - 1);
        n_events++;
    }
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (what == SSE_READ_ERROR) {
        assert_int_equal(err.code, ERR_NO_MEMORY);
        assert_false(all_done);
    } else {
        assert_int_equal(n_events, 2);
    }
    sse_reader_release(&r);
    return all_done;
}

static void every_allocation(void **state)
{
    (void)state;
    long n = 0;
    if (!CAN_FAIL) {
        skip();
    }
    while (!read_once(n)) {
        n++;
    }
    assert_in_range(n, 4, 1000); /* four buffers, which grow */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
