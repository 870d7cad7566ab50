/* What the processor detection says agrees with itself and with the system. */
#include "base/sys_cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

static void features_are_consistent(void **state)
{
    (void)state;
    struct cpu_features f = sys_cpu_features(), again = sys_cpu_features();
    assert_memory_equal(&f, &again, sizeof f);
    bool any512 = f.avx512bw || f.avx512dq || f.avx512vl || f.avx512vnni || f.avx512bf16;
    assert_true(!any512 || f.avx512f);
    assert_true(!f.avx512f || f.avx2);
    assert_false((f.avx2 || f.avx512f) && (f.neon_dotprod || f.neon_i8mm));
}

static void name_fits_its_room(void **state)
{
    (void)state;
    char name[128], small[4] = "zzz";
    assert_ptr_equal(sys_cpu_name(name, sizeof name), name);
    assert_true(strlen(name) > 0);
    sys_cpu_name(small, sizeof small);
    assert_true(strlen(small) <= 3);
}

static void usable_is_at_most_what_is_there(void **state)
{
    (void)state;
    assert_in_range(sys_cpu_usable(), 1, sysconf(_SC_NPROCESSORS_CONF));
    sys_cpu_relax();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_consistent),
        cmocka_unit_test(name_fits_its_room),
        cmocka_unit_test(usable_is_at_most_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
