/* The limits of the control groups (v1 and v2) that hold this process; Linux only. A process is bound by its own group
 * and by every group above it, so all of them are read. Any thread. */
#ifndef TANDEM_BASE_SYS_CGROUP_H
#define TANDEM_BASE_SYS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup_limits {
    bool has_memory;
    uint64_t memory_limit;     /* bytes; the least of all groups */
    uint64_t memory_available; /* bytes that the tightest group leaves; page cache that can be dropped counts as free */
    int n_cpus;                /* CPU quota, rounded up; 0: none */
};

/* mount: where control groups are mounted ("/sys/fs/cgroup"); membership: the process's list ("/proc/self/cgroup"). */
struct cgroup_limits sys_cgroup_limits(const char *mount, const char *membership);

#define CGROUP_MOUNT      "/sys/fs/cgroup"
#define CGROUP_MEMBERSHIP "/proc/self/cgroup"

#endif
