/* The n-th allocation fails, for every n: a file of importance gives NO_MEMORY or what it holds. */
#include "model/importance.h"

#include "tests/support/failing_memory.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void any_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] =
        "tandem importance 1\n-1 output.weight 2 1 0.5\n0 attn_q.weight 3 1 2e-3 0\n1 ffn_down.weight 1 7\n";
    struct decoder_config config = {.n_layers = 2};
    long n = 0;
    for (; CAN_FAIL; n++) {
        struct error err = {0};
        fail_at = n;
        n_allocations = 0;
        struct importance *m = importance_parse(str_of(text), "file", &config, &err);
        fail_at = -1;
        bool read = m && importance_of(m, PART_Q, 0, 3) && importance_of(m, PART_Q, 0, 3)[1] == 2e-3f;
        importance_free(m);
        if (read)
            break;
        assert_null(m);
        assert_int_equal(err.code, ERR_NO_MEMORY);
    }
    assert_true(n >= 7 || !CAN_FAIL); /* the whole, and two for each line */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
