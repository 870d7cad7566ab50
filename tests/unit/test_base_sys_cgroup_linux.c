/* Limits of control groups, from folders made to look like them: v1, v2, nested, hidden levels. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "base/sys_cgroup.h"
#include "base/sys_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ftw.h>
#include <unistd.h>

static char root[256], list[300];

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/tandem-cgroup-XXXXXX");
    snprintf(list, sizeof list, "%s/list", mkdtemp(root));
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *name, const char *text)
{
    char path[600];
    struct error err;
    snprintf(path, sizeof path, "%s/%s", root, name);
    *strrchr(path, '/') = '\0';
    assert_true(dir_make(path, &err));
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_true(file_write_atomic(path, str_of(text), &err));
}

static void version_2_takes_the_tightest_level(void **state)
{
    (void)state;
    put("list", "0::/a/b\n");
    put("memory.max", "max\n");
    put("a/memory.max", "1000000\n");
    put("a/memory.current", "900000\n");
    put("a/memory.stat", "anon 1\ninactive_file 300000\nactive_file 5\n");
    put("a/b/memory.max", "2000000\n");
    put("a/b/memory.current", "1800000\n");
    put("a/cpu.max", "250000 100000\n");
    put("a/b/cpu.max", "max 100000\n");
    struct cgroup_limits l = sys_cgroup_limits(root, list);
    assert_true(l.has_memory);
    assert_int_equal(l.memory_limit, 1000000);
    assert_int_equal(l.memory_available, 200000); /* b leaves least, though a's limit is lower */
    assert_int_equal(l.n_cpus, 3);
}

static void the_lower_limit_of_a_group_counts(void **state)
{
    (void)state;
    put("list", "0::/a\n");
    put("a/memory.max", "max\n");
    put("a/memory.high", "700000\n");
    put("a/memory.current", "100000\n");
    struct cgroup_limits l = sys_cgroup_limits(root, list);
    assert_true(l.has_memory);
    assert_int_equal(l.memory_limit, 700000);
    assert_int_equal(l.memory_available, 600000);
    put("a/memory.max", "500000\n");
    assert_int_equal(sys_cgroup_limits(root, list).memory_limit, 500000);
}

static void version_1(void **state)
{
    (void)state;
    put("list", "5:memory:/x\n3:cpu,cpuacct:/x\n2:cpuset:/\n0::/\n");
    put("memory/x/memory.limit_in_bytes", "5000\n");
    put("memory/x/memory.usage_in_bytes", "4000\n");
    put("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/memory.usage_in_bytes", "7000\n");
    put("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("cpu,cpuacct/x/cpu.cfs_quota_us", "100000\n");
    put("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    struct cgroup_limits l = sys_cgroup_limits(root, list);
    assert_int_equal(l.memory_limit, 5000);
    assert_int_equal(l.memory_available, 1500);
    assert_int_equal(l.n_cpus, 1);
}

static void hidden_levels_fall_back_to_the_mount(void **state)
{
    (void)state;
    put("list", "0::/docker/not/visible\n");
    put("memory.max", "700\n");
    put("memory.current", "800\n");
    put("cpu.max", "1 100000\n");
    struct cgroup_limits l = sys_cgroup_limits(root, list);
    assert_int_equal(l.memory_limit, 700);
    assert_int_equal(l.memory_available, 0);
    assert_int_equal(l.n_cpus, 1);
}

static void garbage_is_no_limit(void **state)
{
    (void)state;
    put("list", "0::/\nnonsense\n:\n1:\n\n");
    put("memory.max", "12x\n");
    put("memory.current", "\n");
    put("cpu.max", "-5 0\n");
    struct cgroup_limits l = sys_cgroup_limits(root, list);
    assert_false(l.has_memory);
    assert_int_equal(l.n_cpus, 0);
    l = sys_cgroup_limits("/no/such/folder", "/no/such/file");
    assert_false(l.has_memory);
    assert_int_equal(l.n_cpus, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(version_2_takes_the_tightest_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_lower_limit_of_a_group_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(version_1, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hidden_levels_fall_back_to_the_mount, set_up, tear_down),
        cmocka_unit_test_setup_teardown(garbage_is_no_limit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
