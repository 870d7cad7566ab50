#include "base/sys_memory.h"

#include "base/sys_cgroup.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct sys_memory sys_memory_of_system(void)
{
    struct sys_memory m = {0};
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        uint64_t kib;
        if (sscanf(line, "MemTotal: %" SCNu64, &kib) == 1) {
            m.total = kib << 10;
        } else if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1) {
            m.available = kib << 10;
        }
    }
    if (f) {
        fclose(f);
    }
    return m;
}

struct sys_memory sys_memory(void)
{
    struct sys_memory m = sys_memory_of_system();
    struct cgroup_limits group = sys_cgroup_limits(CGROUP_MOUNT, CGROUP_MEMBERSHIP);
    if (group.has_memory && group.memory_limit < m.total) {
        m.total = group.memory_limit;
    }
    if (group.has_memory && group.memory_available < m.available) {
        m.available = group.memory_available;
    }
    return m;
}

uint64_t sys_memory_resident(void)
{
    uint64_t size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%" SCNu64 " %" SCNu64, &size, &resident) != 2) {
        resident = 0;
    }
    if (f) {
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t sys_memory_oom_kills(void)
{
    char line[128];
    uint64_t n = 0;
    FILE *f = fopen("/proc/vmstat", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "oom_kill %" SCNu64, &n) != 1) {
    }
    if (f) {
        fclose(f);
    }
    return n;
}

int sys_open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the descriptor that reads the folder */
    while (dir && readdir(dir)) {
        n++;
    }
    if (!dir) {
        return -1;
    }
    closedir(dir);
    return n;
}

void sys_prefer_large_pages(void *p, size_t size)
{
    madvise(p, size, MADV_HUGEPAGE); /* fails where the kernel has none: nothing is lost */
}
