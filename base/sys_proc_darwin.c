#include "base/sys_proc.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/event.h>
#include <sys/qos.h>
#include <unistd.h>

/* macOS has no parent-death signal: a thread waits for the parent's exit, as kqueue reports it. */
static void *watch_parent(void *arg)
{
    pid_t parent = *(pid_t *)arg;
    struct kevent event;
    free(arg);
    sys_name_thread("parent");
    int queue = kqueue();
    EV_SET(&event, parent, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT, 0, NULL);
    if (queue < 0) {
        return NULL;
    }
    if (kevent(queue, &event, 1, NULL, 0, NULL) != 0 && errno != ESRCH) {
        close(queue);
        return NULL; /* it still ends with its socket */
    }
    /* One that has another parent by now has lost it before the queue knew of it. */
    while (getppid() == parent && kevent(queue, NULL, 0, &event, 1, NULL) < 0 && errno == EINTR) {
    }
    kill(getpid(), SIGKILL);
    return NULL;
}

void sys_die_with_parent(void)
{
    pthread_t thread;
    pid_t *parent = malloc(sizeof *parent);
    if (!parent) {
        return;
    }
    *parent = getppid();
    if (*parent > 1 && pthread_create(&thread, NULL, watch_parent, parent) == 0) {
        pthread_detach(thread);
    } else {
        free(parent);
    }
}

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
