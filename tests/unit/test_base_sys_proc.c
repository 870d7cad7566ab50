/* What a process sets for itself and its children. */
#include "base/clock.h"
#include "base/sys_proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_on_exec(void **state)
{
    (void)state;
    int fd = dup(0);
    assert_true(sys_close_on_exec(fd, true));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_true(sys_close_on_exec(fd, false));
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    close(fd);
    assert_false(sys_close_on_exec(fd, true));
}

static void broken_pipes_are_errors(void **state)
{
    (void)state;
    int ends[2];
    sys_ignore_sigpipe();
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(write(ends[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(ends[1]);
}

static void *lowered(void *arg)
{
    sys_name_thread("a name much longer than fifteen bytes");
    sys_lower_priority();
    *(int *)arg = getpriority(PRIO_PROCESS, 0);
    return NULL;
}

static void only_the_calling_thread_is_lowered(void **state)
{
    (void)state;
    pthread_t thread;
    int before = getpriority(PRIO_PROCESS, 0), theirs = 0;
    assert_int_equal(pthread_create(&thread, NULL, lowered, &theirs), 0);
    pthread_join(thread, NULL);
    assert_true(theirs >= before);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
}

/* A child starts a grandchild, which waits, and ends: the grandchild's end of the pipe closes when it is killed. */
static void child_dies_with_its_parent(void **state)
{
    (void)state;
    int alive[2];
    assert_int_equal(pipe(alive), 0);
    pid_t child = fork();
    if (child == 0) {
        int ready[2];
        char byte = 'r';
        close(alive[0]);
        if (pipe(ready) != 0) {
            _exit(1);
        }
        if (fork() == 0) {
            sys_die_with_parent();
            sys_oom_prefer_me();
            (void)!write(ready[1], &byte, 1);
            clock_sleep_ms(60000);
            _exit(0);
        }
        (void)!read(ready[0], &byte, 1);
        _exit(0);
    }
    int status;
    close(alive[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct pollfd fd = {.fd = alive[0], .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 10000), 1);
    assert_true(fd.revents & POLLHUP);
    close(alive[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_on_exec),
        cmocka_unit_test(broken_pipes_are_errors),
        cmocka_unit_test(only_the_calling_thread_is_lowered),
        cmocka_unit_test(child_dies_with_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
