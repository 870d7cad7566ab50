#define _GNU_SOURCE
#include "base/sys_cpu.h"

#include "base/sys_cgroup.h"

#include <sched.h>
#include <unistd.h>

static int affinity_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return CPU_COUNT(&set);
    }
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int sys_cpu_usable(void)
{
    int n = affinity_count(), quota = sys_cgroup_limits(CGROUP_MOUNT, CGROUP_MEMBERSHIP).n_cpus;
    n = quota > 0 && quota < n ? quota : n;
    return n < 1 ? 1 : n;
}
