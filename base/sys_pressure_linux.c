/* PSI is documented in the kernel's Documentation/accounting/psi.rst, the files of a group in
 * admin-guide/cgroup-v2.rst. A trigger ("some STALL WINDOW", microseconds) is written to the pressure file, which is
 * then ready for POLLPRI when tasks have stalled so long within the window. Without privileges the window must be a
 * multiple of 2 s. */
#include "base/sys_pressure.h"

#include "base/str.h"
#include "base/sys_cgroup.h"
#include "base/sys_memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 1024
#define TRIGGER   "some 100000 2000000"
#define SYSTEM    "/proc/pressure/memory"

struct sys_pressure {
    char path[PATH_SIZE]; /* of the pressure file; empty: there is none */
    int fd;
};

/* The group of version 2 that holds this process, as a folder; false: none is to be seen. */
static bool own_group(char *out, size_t size)
{
    char line[PATH_SIZE];
    bool found = false;
    FILE *f = fopen(CGROUP_MEMBERSHIP, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        struct str path = str_trim(str_of(line));
        if (str_starts(path, STR("0::"))) {
            found =
                (size_t)snprintf(out, size, "%s" STR_FMT, CGROUP_MOUNT, STR_ARG(str_slice(path, 3, path.len))) < size;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

static void find_file(struct sys_pressure *p)
{
    char group[PATH_SIZE - 32];
    if (own_group(group, sizeof group)) {
        snprintf(p->path, sizeof p->path, "%s/memory.pressure", group);
        if (access(p->path, R_OK) == 0) {
            return;
        }
    }
    snprintf(p->path, sizeof p->path, "%s", access(SYSTEM, R_OK) == 0 ? SYSTEM : "");
}

static void drop_trigger(struct sys_pressure *p)
{
    if (p->fd >= 0) {
        close(p->fd);
    }
    p->fd = -1;
}

static void set_trigger(struct sys_pressure *p)
{
    p->fd = p->path[0] ? open(p->path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
    if (p->fd >= 0 && write(p->fd, TRIGGER, sizeof TRIGGER) < 0) { /* its 0 included */
        drop_trigger(p);
    }
}

struct sys_pressure *sys_pressure_open(void)
{
    struct sys_pressure *p = calloc(1, sizeof *p);
    if (p) {
        find_file(p);
        set_trigger(p);
    }
    return p;
}

void sys_pressure_close(struct sys_pressure *p)
{
    if (p) {
        drop_trigger(p);
        free(p);
    }
}

int sys_pressure_fd(const struct sys_pressure *p)
{
    return p->fd;
}

/* "some avg10=1.23 avg60=..." and likewise "full". */
static void read_stalls(const char *path, struct pressure_signs *signs)
{
    char line[256];
    FILE *f = path[0] ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof line, f)) {
        double value;
        if (sscanf(line, "some avg10=%lf", &value) == 1) {
            signs->some = value;
        } else if (sscanf(line, "full avg10=%lf", &value) == 1) {
            signs->full = value;
        }
    }
    if (f) {
        fclose(f);
    }
}

static double share(uint64_t available, uint64_t total)
{
    return total ? (double)available / (double)total : 1;
}

enum pressure_level sys_pressure_level(struct sys_pressure *p)
{
    struct sys_memory memory = sys_memory_of_system();
    struct cgroup_limits group = sys_cgroup_limits(CGROUP_MOUNT, CGROUP_MEMBERSHIP);
    struct pressure_signs signs = {.left = share(memory.available, memory.total), .some = -1, .full = -1};
    double left = group.has_memory ? share(group.memory_available, group.memory_limit) : 1;
    signs.left = left < signs.left ? left : signs.left;
    read_stalls(p->path, &signs);
    return pressure_level_of(&signs);
}
