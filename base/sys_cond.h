/* Condition variables that wait by the monotonic clock: a jump of the wall clock neither ends nor lengthens a wait. */
#ifndef TANDEM_BASE_SYS_COND_H
#define TANDEM_BASE_SYS_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void sys_cond_init(pthread_cond_t *cond);

/* Waits until it is signalled or clock_ns() reaches until_ns; false: the time is over. May wake without reason. */
bool sys_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ns);

#endif
