/* Memory figures move with what the process does. */
#include "base/sys_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

static void available_is_within_total(void **state)
{
    (void)state;
    struct sys_memory m = sys_memory();
    assert_true(m.total >= (uint64_t)16 << 20);
    assert_true(m.available > 0 && m.available <= m.total);
}

static void resident_grows_with_use(void **state)
{
    (void)state;
    size_t size = (size_t)64 << 20;
    uint64_t before = sys_memory_resident();
    assert_true(before > 0);
    volatile char *data = malloc(size);
    for (size_t i = 0; i < size; i += 1024) {
        data[i] = 1;
    }
    uint64_t after = sys_memory_resident();
    assert_true(after >= before + size / 2);
    free((char *)data);
}

static void descriptors_are_counted(void **state)
{
    (void)state;
    int before = sys_open_descriptors(), ends[2];
    assert_true(before >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(sys_open_descriptors(), before + 2);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(sys_open_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(available_is_within_total),
        cmocka_unit_test(resident_grows_with_use),
        cmocka_unit_test(descriptors_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
