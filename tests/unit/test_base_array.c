/* Growing arrays stay within their bounds; checked arithmetic. */
#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void reserve_doubles_up_to_max(void **state)
{
    (void)state;
    struct error err;
    int32_t *items = NULL;
    size_t cap = 0, n_moves = 0;
    for (size_t n = 0; n < 1000; n++) {
        size_t before = cap;
        assert_true(array_reserve(&items, &cap, n + 1, 1000, "ids", &err));
        assert_in_range(cap, n + 1, 1000);
        n_moves += cap != before;
        items[n] = (int32_t)n;
    }
    assert_true(n_moves <= 8);
    assert_false(array_reserve(&items, &cap, 1001, 1000, "ids", &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "ids"));
    for (size_t n = 0; n < 1000; n++) {
        assert_int_equal(items[n], n);
    }
    free(items);
}

static void small_maximum_is_kept(void **state)
{
    (void)state;
    struct error err;
    char *items = NULL;
    size_t cap = 0;
    assert_true(array_reserve(&items, &cap, 0, 3, "x", &err));
    assert_true(array_reserve(&items, &cap, 1, 3, "x", &err));
    assert_int_equal(cap, 3);
    free(items);
}

static void overflow_is_no_memory(void **state)
{
    (void)state;
    struct error err;
    uint64_t *items = NULL;
    size_t cap = 0;
    assert_false(array_reserve(&items, &cap, SIZE_MAX / 2, SIZE_MAX, "x", &err));
    assert_int_equal(err.code, ERR_NO_MEMORY);
    assert_null(items);
    assert_int_equal(cap, 0);
}

static void checked_arithmetic(void **state)
{
    (void)state;
    size_t out = 7;
    assert_false(size_mul(SIZE_MAX / 2, 3, &out));
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(size_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_true(size_mul(SIZE_MAX, 0, &out) && out == 0);
    assert_true(size_mul(0, SIZE_MAX, &out) && out == 0);
    assert_true(size_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reserve_doubles_up_to_max),
        cmocka_unit_test(small_maximum_is_kept),
        cmocka_unit_test(overflow_is_no_memory),
        cmocka_unit_test(checked_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
