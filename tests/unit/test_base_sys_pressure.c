/* Memory pressure: what signs make which level, and that this system can be asked. */
#include "base/sys_pressure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void levels(void **state)
{
    (void)state;
    static const struct {
        struct pressure_signs signs;
        enum pressure_level level;
    } cases[] = {
        {{0.5, -1, -1}, PRESSURE_NONE},  {{0.5, 90, 90}, PRESSURE_NONE}, /* whatever waits, there is memory */
        {{0.2, 0, 0}, PRESSURE_NONE},    {{0.2, 15, 5}, PRESSURE_WARN},       {{0.2, 40, 25}, PRESSURE_CRITICAL},
        {{0.07, -1, -1}, PRESSURE_WARN}, {{0.02, -1, -1}, PRESSURE_CRITICAL}, {{0, 0, 0}, PRESSURE_CRITICAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(pressure_level_of(&cases[i].signs), cases[i].level);
    }
    assert_string_equal(pressure_level_name(PRESSURE_CRITICAL), "critical");
}

static void the_system_says_something(void **state)
{
    (void)state;
    struct sys_pressure *p = sys_pressure_open();
    assert_non_null(p);
    for (int i = 0; i < 3; i++) {
        assert_in_range(sys_pressure_level(p), PRESSURE_NONE, PRESSURE_CRITICAL);
    }
    assert_true(sys_pressure_fd(p) >= -1);
    sys_pressure_close(p);
    sys_pressure_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(levels), cmocka_unit_test(the_system_says_something)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
