/* A line of the membership list is "number:controllers:path"; v2's is "0::path". The path may name groups that are not
 * visible here (a container without its own namespace): levels that cannot be read are passed over, and the mount's
 * top, which is the container's own group then, is always read. */
#include "base/sys_cgroup.h"

#include "base/str.h"

#include <stdio.h>

#define PATH_SIZE 1024

static bool read_line(const char *folder, const char *name, char *out, size_t size)
{
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(out, (int)size, f);
    if (f) {
        fclose(f);
    }
    return ok;
}

static bool read_number(const char *folder, const char *name, uint64_t *out)
{
    char line[64];
    return read_line(folder, name, line, sizeof line) && str_to_u64(str_trim(str_of(line)), out);
}

/* "inactive_file 123" of memory.stat; 0 when it is not there. */
static uint64_t read_stat(const char *folder, const char *key)
{
    char path[PATH_SIZE + 64], line[128];
    uint64_t value = 0;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        struct str rest = str_trim(str_of(line)), name;
        if (str_split(&rest, ' ', &name) && str_eq(name, str_of(key)) && str_to_u64(rest, &value)) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return value;
}

/* Where memory is taken back by force, or processes are ended. The lower one of version 2 counts: beyond it whoever
 * asks for memory is held up until it is given up elsewhere. "max": no limit. */
static bool read_limit(const char *folder, bool v2, uint64_t *limit)
{
    uint64_t high;
    bool ok = read_number(folder, v2 ? "memory.max" : "memory.limit_in_bytes", limit);
    if (v2 && read_number(folder, "memory.high", &high) && (!ok || high < *limit)) {
        *limit = high;
        ok = true;
    }
    return ok;
}

static void memory_level(const char *folder, bool v2, struct cgroup_limits *out)
{
    uint64_t limit, used;
    if (!read_limit(folder, v2, &limit) ||
        !read_number(folder, v2 ? "memory.current" : "memory.usage_in_bytes", &used)) {
        return;
    }
    uint64_t cache = read_stat(folder, v2 ? "inactive_file" : "total_inactive_file");
    used = used > cache ? used - cache : 0;
    uint64_t left = limit > used ? limit - used : 0;
    if (!out->has_memory || limit < out->memory_limit) {
        out->memory_limit = limit;
    }
    if (!out->has_memory || left < out->memory_available) {
        out->memory_available = left;
    }
    out->has_memory = true;
}

static void cpu_level(const char *folder, bool v2, struct cgroup_limits *out)
{
    char line[64], other[64];
    int64_t quota, period;
    if (v2) {
        struct str rest, part;
        if (!read_line(folder, "cpu.max", line, sizeof line)) {
            return;
        }
        rest = str_trim(str_of(line));
        if (!str_split(&rest, ' ', &part) || !str_to_i64(part, &quota) || !str_to_i64(rest, &period)) {
            return; /* "max 100000" */
        }
    } else if (!read_line(folder, "cpu.cfs_quota_us", line, sizeof line) ||
               !read_line(folder, "cpu.cfs_period_us", other, sizeof other) ||
               !str_to_i64(str_trim(str_of(line)), &quota) || !str_to_i64(str_trim(str_of(other)), &period)) {
        return;
    }
    if (quota > 0 && period > 0) { /* v1 writes -1 for none */
        int64_t n = quota / period + (quota % period != 0);
        n = n > INT32_MAX ? INT32_MAX : n;
        out->n_cpus = out->n_cpus && out->n_cpus < n ? out->n_cpus : (int)n;
    }
}

/* Reads base + path and every folder above it up to base itself. */
static void walk_up(const char *base, struct str path, bool v2,
                    void (*read)(const char *, bool, struct cgroup_limits *), struct cgroup_limits *out)
{
    char folder[PATH_SIZE];
    for (;;) {
        while (path.len && path.ptr[path.len - 1] == '/') {
            path.len--;
        }
        if ((size_t)snprintf(folder, sizeof folder, "%s" STR_FMT, base, STR_ARG(path)) < sizeof folder) {
            read(folder, v2, out);
        }
        if (path.len == 0) {
            return;
        }
        while (path.len && path.ptr[path.len - 1] != '/') {
            path.len--;
        }
    }
}

static bool lists(struct str controllers, const char *name)
{
    struct str part;
    while (str_split(&controllers, ',', &part)) {
        if (str_eq(part, str_of(name))) {
            return true;
        }
    }
    return false;
}

static void read_membership(const char *mount, struct str line, struct cgroup_limits *out)
{
    struct str number, controllers;
    char base[PATH_SIZE];
    if (!str_split(&line, ':', &number) || !str_split(&line, ':', &controllers)) {
        return;
    }
    if (controllers.len == 0) {
        walk_up(mount, line, true, memory_level, out);
        walk_up(mount, line, true, cpu_level, out);
    } else if (lists(controllers, "memory")) {
        snprintf(base, sizeof base, "%s/memory", mount);
        walk_up(base, line, false, memory_level, out);
    } else if (lists(controllers, "cpu")) {
        snprintf(base, sizeof base, "%s/" STR_FMT, mount, STR_ARG(controllers)); /* "cpu,cpuacct" is a folder's name */
        walk_up(base, line, false, cpu_level, out);
    }
}

struct cgroup_limits sys_cgroup_limits(const char *mount, const char *membership)
{
    struct cgroup_limits out = {0};
    char line[PATH_SIZE];
    FILE *f = fopen(membership, "re");
    while (f && fgets(line, sizeof line, f)) {
        read_membership(mount, str_trim(str_of(line)), &out);
    }
    if (f) {
        fclose(f);
    }
    return out;
}
