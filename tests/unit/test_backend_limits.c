/* The machine's limits: the loops that measure them do what they say (a read reads every byte, products depend on the
 * rounds), and what is measured are rates. No figure is expected: the machine may be busy, or emulated. */
#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_limits.h"
#include "base/array.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void each_table(void (*check)(const struct cpu_kernel_table *table))
{
    struct cpu_features features = sys_cpu_features();
    for (int i = 0; cpu__tables[i]; i++) {
        if (cpu__tables[i]->usable(&features))
            check(cpu__tables[i]);
    }
}

/* ---- loops ---- */

static void check_read(const struct cpu_kernel_table *table)
{
    size_t size = 2 * CPU_PEAK_READ_STEP;
    uint8_t *bytes = aligned_alloc(64, size);
    assert_non_null(bytes);
    memset(bytes, 0, size);
    assert_int_equal(table->peak->read(bytes, size), 0);
    for (size_t i = 0; i < size; i++) { /* no byte is left out */
        bytes[i] = 1;
        if (table->peak->read(bytes, size) == 0)
            fail_msg("%s does not read byte %zu", table->name, i);
        bytes[i] = 0;
    }
    free(bytes);
}

static void test_reads_read_everything(void **state)
{
    (void)state;
    each_table(check_read);
}

/* A loop that a compiler took apart would not depend on the number of rounds. */
static void check_loop(const char *table, const struct cpu_peak_loop *loop)
{
    assert_true(loop->macs > 0);
    assert_non_null(loop->what);
    if (loop->run(1001) != loop->run(1001))
        fail_msg("%s: %s is not repeatable", table, loop->what);
    if (loop->run(1001) == loop->run(1002) && loop->run(1003) == loop->run(1002))
        fail_msg("%s: %s does nothing", table, loop->what);
}

static void check_loops(const struct cpu_kernel_table *table)
{
    check_loop(table->name, &table->peak->int8);
    check_loop(table->name, &table->peak->int4);
    check_loop(table->name, &table->peak->f32);
}

static void test_loops_multiply(void **state)
{
    (void)state;
    each_table(check_loops);
}

static void test_every_table_has_loops(void **state)
{
    (void)state;
    for (int i = 0; cpu__tables[i]; i++)
        assert_non_null(cpu__tables[i]->peak);
}

/* ---- measuring ---- */

static void check_limits(const struct cpu_limits *l, int n_threads)
{
    assert_int_equal(l->n_threads, n_threads);
    for (int i = 0; i < CPU_LIMIT_COUNT; i++) {
        double rate = l->per_second[i];
        if (!(rate > 1e6) || !(rate < 1e16))
            fail_msg("%s: %g %s", cpu_limit_info((enum cpu_limit)i)->name, rate,
                     cpu_limit_info((enum cpu_limit)i)->unit);
        assert_non_null(l->how[i]);
    }
}

static void test_measured(void **state)
{
    struct error err = {0};
    struct cpu_limits limits;
    (void)state;
    for (int n = 1; n <= 2; n++) {
        struct cpu_backend_options o = {.n_threads = n, .spin_us = -1};
        assert_true(cpu_limits_measure(&o, &limits, &err));
        check_limits(&limits, n);
    }
    struct cpu_backend_options reference = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1, .spin_us = -1};
    assert_true(cpu_limits_measure(&reference, &limits, &err));
    check_limits(&limits, 1);
    assert_string_equal(limits.how[CPU_LIMIT_INT8], "plain C");
}

static void test_kernels_that_are_not_here(void **state)
{
    static const enum cpu_kernels families[] = {CPU_KERNELS_AVX2, CPU_KERNELS_AVX512, CPU_KERNELS_NEON,
                                                CPU_KERNELS_I8MM};
    int n_refused = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        struct cpu_backend_options o = {.kernels = families[i], .n_threads = 1, .spin_us = -1};
        struct error err = {0};
        struct cpu_limits limits;
        bool ok = cpu_limits_measure(&o, &limits, &err);
        assert_true(ok || err.code == ERR_UNSUPPORTED);
        n_refused += !ok;
    }
    assert_true(n_refused >= 2); /* those of the other processor family */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_read_everything),     cmocka_unit_test(test_loops_multiply),
        cmocka_unit_test(test_every_table_has_loops),     cmocka_unit_test(test_measured),
        cmocka_unit_test(test_kernels_that_are_not_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
