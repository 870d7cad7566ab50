#include "base/sys_sandbox_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Private writable memory of this process; what RLIMIT_DATA counts, and the stack. */
static uint64_t data_size(void)
{
    uint64_t data = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*u %*u %*u %*u %*u %" SCNu64, &data) != 1) {
        data = 0;
    }
    if (f) {
        fclose(f);
    }
    return data * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* RLIMIT_DATA and not RLIMIT_AS: mapped weights and shared pools are bounded by what they map. Sanitizers have taken
 * terabytes already, which are never touched. */
bool sandbox__limit_memory(uint64_t size)
{
    struct rlimit limit;
    if (data_size() >= size || getrlimit(RLIMIT_DATA, &limit) != 0) {
        return false;
    }
    limit.rlim_max = limit.rlim_max < size ? limit.rlim_max : (rlim_t)size;
    limit.rlim_cur = limit.rlim_cur < limit.rlim_max ? limit.rlim_cur : limit.rlim_max;
    return setrlimit(RLIMIT_DATA, &limit) == 0;
}

void sandbox__confine(const struct sandbox_profile *profile, struct sandbox_state *state)
{
    /* Also what lets a process without privileges do the rest. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
        sandbox__in_force(state, "no-new-privileges");
    } else {
        sandbox__missing(state, "no no-new-privileges (%s)", strerror(errno));
    }
    sandbox__landlock(profile, state);
    sandbox__seccomp(profile, state); /* last: it forbids the calls that the others need */
}
