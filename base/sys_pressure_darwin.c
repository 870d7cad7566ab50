/* The level that also feeds dispatch sources of memory pressure (bsd/kern/kern_memorystatus_notify.c: 1 normal, 2
 * warning, 4 critical). Reading it needs no queue and no thread; there is no descriptor, so it is asked by a timer. */
#include "base/sys_pressure.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/sysctl.h>

struct sys_pressure {
    int last; /* as the system says it */
};

struct sys_pressure *sys_pressure_open(void)
{
    return calloc(1, sizeof(struct sys_pressure));
}

void sys_pressure_close(struct sys_pressure *p)
{
    free(p);
}

int sys_pressure_fd(const struct sys_pressure *p)
{
    (void)p;
    return -1;
}

enum pressure_level sys_pressure_level(struct sys_pressure *p)
{
    int level = 1;
    size_t size = sizeof level;
    if (sysctlbyname("kern.memorystatus_vm_pressure_level", &level, &size, NULL, 0) == 0) {
        p->last = level;
    }
    return p->last >= 4 ? PRESSURE_CRITICAL : p->last >= 2 ? PRESSURE_WARN : PRESSURE_NONE;
}
