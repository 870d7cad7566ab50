/* The reader of parts with its n-th allocation failing, for every n: an error or the right parts, never something else.
 * The allocator is replaced for the whole program; with sanitizers, which bring their own, it is skipped. */
#include "http/multipart.h"
#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LONG "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct str body =
    STR("--b\r\nContent-Disposition: form-data; name=\"" LONG LONG "\"; filename=\"" LONG "\"\r\n\r\nab\r\n--b--\r\n");

/* True when nothing was left to fail. */
static bool read_once(long n)
{
    struct multipart m;
    struct error err = {0};
    struct str input = body, data;
    enum multipart_next what;
    char boundary[MULTIPART_BOUNDARY_MAX + 1];
    size_t n_data = 0, n_parts = 0;
    n_allocations = 0;
    fail_at = n;
    if (!multipart_boundary(STR("multipart/form-data; boundary=b"), boundary, &err)) {
        fail_at = -1;
        return false;
    }
    multipart_init(&m, boundary);
    do {
        what = multipart_next(&m, &input, &data, &err);
        n_parts += what == MULTIPART_PART;
        n_data += what == MULTIPART_DATA ? data.len : 0;
    } while (what != MULTIPART_MORE && what != MULTIPART_ERROR);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (what == MULTIPART_ERROR) {
        assert_false(all_done);
        assert_true(err.code != ERR_NONE && n_parts == 0);
    } else {
        assert_true(multipart_ended(&m) && n_parts == 1 && n_data == 2);
        assert_int_equal(m.name.len, 2 * strlen(LONG));
        assert_int_equal(m.filename.len, strlen(LONG));
    }
    multipart_release(&m);
    return all_done;
}

static void test_every_allocation(void **state)
{
    (void)state;
    long n = 0;
    if (!CAN_FAIL) {
        skip();
    }
    while (!read_once(n)) {
        n++;
    }
    assert_in_range(n, 4, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
