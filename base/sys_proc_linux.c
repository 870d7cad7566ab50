#define _GNU_SOURCE
#include "base/sys_proc.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OOM_SCORE  "500" /* of 1000: clearly before a gateway at 0, without asking to be the first of all */
#define LOWER_NICE 5

void sys_die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void sys_oom_prefer_me(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, OOM_SCORE, strlen(OOM_SCORE));
        (void)n; /* a preference only */
        close(fd);
    }
}

void sys_lower_priority(void)
{
    id_t thread = (id_t)syscall(SYS_gettid);              /* on Linux a thread has its own nice value */
    if (getpriority(PRIO_PROCESS, thread) < LOWER_NICE) { /* a process that was started lower stays there */
        setpriority(PRIO_PROCESS, thread, LOWER_NICE);
    }
}

void sys_name_thread(const char *name)
{
    char cut[16];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(pthread_self(), cut);
}
