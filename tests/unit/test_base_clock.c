/* Clocks run forward, in the units they say. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

static void monotonic(void **state)
{
    (void)state;
    int64_t last = clock_ns();
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_ns();
        assert_true(now >= last);
        last = now;
    }
    int64_t ms = clock_ms(), ns = clock_ns();
    assert_true(ns / 1000000 - ms >= 0 && ns / 1000000 - ms < 1000);
}

static void sleeping(void **state)
{
    (void)state;
    int64_t start = clock_ns();
    clock_sleep_ms(20);
    int64_t slept = clock_ns() - start;
    assert_true(slept >= 20 * 1000000 && slept < 2000 * (int64_t)1000000);
    start = clock_ms();
    clock_sleep_ms(0);
    clock_sleep_ms(-5);
    assert_true(clock_ms() - start < 1000);
}

static void wall_clock(void **state)
{
    (void)state;
    int64_t s = clock_wall_s(), ms = clock_wall_ms(), now = (int64_t)time(NULL);
    assert_true(now - s >= 0 && now - s <= 1);
    assert_true(ms / 1000 - s >= 0 && ms / 1000 - s <= 1);
}

static void processor_time(void **state)
{
    (void)state;
    volatile uint64_t sum = 0;
    int64_t before = clock_cpu_ns();
    for (uint64_t i = 0; i < 2000000; i++) {
        sum += i;
    }
    int64_t worked = clock_cpu_ns() - before;
    assert_true(before >= 0 && worked > 0);
    before = clock_cpu_ns();
    clock_sleep_ms(50);
    assert_true(clock_cpu_ns() - before < 50 * 1000000); /* sleeping is no work */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic),
        cmocka_unit_test(sleeping),
        cmocka_unit_test(wall_clock),
        cmocka_unit_test(processor_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
