#include "base/duration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void durations_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"0", 0},       {"5m", 300000}, {"1h30m", 5400000},
                 {"300ms", 300}, {"1.5s", 1500}, {"90", 90000},
                 {"-1", -1},     {"-5m", -1},    {"2m3s4ms", 123004},
                 {"0s", 0},      {"-0", 0},      {"99999999999h", DURATION_MAX_MS}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms = -7;
        assert_true(duration_parse(str_of(cases[i].text), &ms));
        assert_int_equal(ms, cases[i].ms);
    }
}

static void what_is_none_is_refused(void **state)
{
    static const char *const texts[] = {"", "-", "m", "5", "5x", "5m3", "1..5s", "--5m", "5 m", "1e3s", "nan", "+5s"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int64_t ms;
        assert_int_equal(duration_parse(str_of(texts[i]), &ms), texts[i][0] == '5' && !texts[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(durations_as_people_write_them),
                                       cmocka_unit_test(what_is_none_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
