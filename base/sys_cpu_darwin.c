#include "base/sys_cpu.h"

#include <sys/sysctl.h>

static int read_int(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

/* Performance cores first: a slow core in the team makes every barrier as slow as it is. */
int sys_cpu_usable(void)
{
    int n = read_int("hw.perflevel0.logicalcpu");
    n = n > 0 ? n : read_int("hw.logicalcpu");
    return n < 1 ? 1 : n;
}
