#include "base/sys_cond.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>

void sys_cond_init(pthread_cond_t *cond)
{
    pthread_cond_init(cond, NULL);
}

bool sys_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ns)
{
    int64_t left = until_ns - clock_ns();
    if (left <= 0) {
        return false;
    }
    struct timespec wait = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return pthread_cond_timedwait_relative_np(cond, lock, &wait) != ETIMEDOUT;
}
