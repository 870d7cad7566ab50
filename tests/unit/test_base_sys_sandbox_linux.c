/* The filter of system calls: each call that it forbids, by name; the argument checks; both generations of a thread. */
#define _GNU_SOURCE
#include "tests/support/sandbox_child.h"

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
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sandbox_state state;

/* Called with arguments that mean nothing: EPERM comes before the kernel looks at them. */
static const struct {
    const char *name;
    long number;
} calls[] = {
#define X(name) {#name, SYS_##name},
    X(ptrace) X(process_vm_readv) X(process_vm_writev) X(kcmp) X(tkill) X(bpf) X(perf_event_open) X(userfaultfd)
        X(keyctl) X(add_key) X(request_key) X(init_module) X(finit_module) X(delete_module) X(kexec_load) X(mount)
            X(umount2) X(pivot_root) X(chroot) X(unshare) X(setns) X(open_by_handle_at) X(swapon) X(sethostname)
                X(settimeofday) X(clock_settime) X(setuid) X(setgid) X(setresuid) X(setgroups) X(capset) X(personality)
                    X(execve) X(execveat) X(socket) X(connect) X(bind) X(listen) X(accept) X(accept4) X(fchmod)
                        X(fchownat) X(setxattr) X(utimensat) X(mknodat)
#undef X
                            {"io_uring_setup", 425},
    {"open_tree", 428},
    {"fsopen", 430},
    {"pidfd_open", 434},
    {"pidfd_getfd", 438},
    {"fchmodat2", 452},
};

static int call_each(void)
{
    NEEDS(calls);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        errno = 0;
        long rc = syscall(calls[i].number, -1L, -1L, -1L, -1L, -1L, -1L);
        if (rc != -1 || errno != EPERM) {
            fprintf(stderr, "%s: %ld %s\n", calls[i].name, rc, strerror(errno));
            return 1;
        }
    }
    return 0;
}

static void calls_are_refused(void **unused)
{
    (void)unused;
    struct sandbox_profile p = {0};
    sandbox_child(&p, &state, call_each);
}

static void *nothing(void *arg)
{
    return arg;
}

static int look_at_arguments(void)
{
    NEEDS(calls);
    struct rlimit limit;
    pthread_t thread;
    char c = 'x';
    EXPECT(syscall(435 /* clone3 */, NULL, 0) == -1 && errno == ENOSYS);
    EXPECT(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) == -1 && errno == EPERM);
    EXPECT(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == -1 && errno == EPERM);
    EXPECT(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    EXPECT(ioctl(2, TIOCSTI, &c) == -1 && errno == EPERM);
    EXPECT(getrlimit(RLIMIT_AS, &limit) == 0);
    EXPECT(syscall(SYS_prlimit64, getppid(), RLIMIT_AS, NULL, &limit) == -1 && errno == EPERM);
    EXPECT(kill(0, 0) == -1 && errno == EPERM);
    EXPECT(kill(-1, 0) == -1 && errno == EPERM);
    EXPECT(syscall(SYS_tgkill, getppid(), getppid(), 0) == -1 && errno == EPERM);
    EXPECT(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0);
    EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
           errno == EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(page != MAP_FAILED && mprotect(page, 4096, PROT_READ) == 0);
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EPERM);
    EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER);
    return 0;
}

static void arguments_are_looked_at(void **unused)
{
    (void)unused;
    struct sandbox_profile p = {0};
    sandbox_child(&p, &state, look_at_arguments);
}

static int use_local_sockets(void)
{
    NEEDS(calls);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT(fd >= 0);
    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tandem-test-%d", (int)getpid());
    EXPECT(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, 1) == 0);
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EPERM);
    EXPECT(socket(AF_NETLINK, SOCK_RAW, 0) == -1 && errno == EPERM);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(page != MAP_FAILED); /* code that a driver makes */
    EXPECT(open("/dev/null", O_RDWR) >= 0);
    EXPECT(fork() == -1 && errno == EPERM);
    return 0;
}

static void devices_get_local_sockets(void **unused)
{
    (void)unused;
    struct sandbox_profile p = {.devices = true, .read_all = true};
    sandbox_child(&p, &state, use_local_sockets);
}

/* Of others, /proc is closed; one's own stays open, also after a long time. */
static int look_into_proc(void)
{
    NEEDS(calls);
    char path[64], line[16];
    if (!state.files) {
        return LEFT_OUT;
    }
    snprintf(path, sizeof path, "/proc/%d/environ", (int)getppid());
    EXPECT(open(path, O_RDONLY) == -1 && errno == EACCES);
    snprintf(path, sizeof path, "/proc/%d/mem", (int)getppid());
    EXPECT(open(path, O_RDONLY) == -1 && errno == EACCES);
    for (int i = 0; i < 3; i++) {
        int fd = open("/proc/self/statm", O_RDONLY);
        EXPECT(fd >= 0 && read(fd, line, sizeof line) > 0);
        close(fd);
    }
    EXPECT(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
    return 0;
}

static void proc_is_ones_own(void **unused)
{
    (void)unused;
    struct sandbox_profile p = {0};
    sandbox_child(&p, &state, look_into_proc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_refused),
        cmocka_unit_test(arguments_are_looked_at),
        cmocka_unit_test(devices_get_local_sockets),
        cmocka_unit_test(proc_is_ones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
