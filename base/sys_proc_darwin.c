#include "base/sys_proc.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/qos.h>

/* macOS has no parent-death signal: an engine ends because its socket does. */
void sys_die_with_parent(void) {}

void sys_oom_prefer_me(void) {}

void sys_lower_priority(void)
{
    pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
}

void sys_name_thread(const char *name)
{
    char cut[16];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(cut);
}
