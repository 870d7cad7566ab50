/* seccomp: a classic BPF program that the kernel runs before each system call. https://docs.kernel.org/userspace-api/
 * seccomp_filter.html
 *
 * It names what is forbidden, not what is allowed: libraries may find new ways to do old things, but an engine needs
 * nobody else, no network and no privilege, and those have names. The answer is EPERM, so that code which tries and can
 * do without goes on. The kernel caches the answer for calls whose arguments are not looked at (5.11), so those of the
 * inner loops cost nothing. */
#define _GNU_SOURCE
#include "base/sys_sandbox_internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH 0
#endif
#define X32_BIT 0x40000000u /* x86-64: the same calls with 32-bit pointers, under other numbers */

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

/* Numbers that the build machine's headers may not know; the same on every architecture. */
enum {
    CALL_PIDFD_SEND_SIGNAL = 424,
    CALL_IO_URING_SETUP = 425,
    CALL_IO_URING_ENTER = 426,
    CALL_IO_URING_REGISTER = 427,
    CALL_OPEN_TREE = 428,
    CALL_MOVE_MOUNT = 429,
    CALL_FSOPEN = 430,
    CALL_FSCONFIG = 431,
    CALL_FSMOUNT = 432,
    CALL_FSPICK = 433,
    CALL_PIDFD_OPEN = 434,
    CALL_CLONE3 = 435,
    CALL_PIDFD_GETFD = 438,
    CALL_PROCESS_MADVISE = 440,
    CALL_MOUNT_SETATTR = 442,
    CALL_PROCESS_MRELEASE = 448,
    CALL_FCHMODAT2 = 452,
    CALL_SETXATTRAT = 463,
    CALL_REMOVEXATTRAT = 466,
    CALL_OPEN_TREE_ATTR = 467,
    CALL_FILE_SETATTR = 469,
};

/* Always: other processes, the kernel, mounts, the machine, who one is, and the way around this filter. */
static const int forbidden[] = {
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    CALL_PROCESS_MADVISE,
    CALL_PROCESS_MRELEASE,
    CALL_PIDFD_OPEN,
    CALL_PIDFD_GETFD,
    CALL_PIDFD_SEND_SIGNAL,
    SYS_tkill,
    CALL_IO_URING_SETUP,
    CALL_IO_URING_ENTER,
    CALL_IO_URING_REGISTER,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_fanotify_init,
    SYS_lookup_dcookie,
    SYS_syslog,
    SYS_personality,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    CALL_OPEN_TREE,
    CALL_OPEN_TREE_ATTR,
    CALL_MOVE_MOUNT,
    CALL_FSOPEN,
    CALL_FSCONFIG,
    CALL_FSMOUNT,
    CALL_FSPICK,
    CALL_MOUNT_SETATTR,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_acct,
    SYS_mknodat,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_vhangup,
    SYS_nfsservctl,
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
#if defined(__x86_64__)
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_mknod,
    SYS_uselib,
    SYS__sysctl,
#endif
};

static const int programs[] = {
    SYS_execve, SYS_execveat, SYS_setsid, SYS_setpgid,
#if defined(__x86_64__)
    SYS_fork,   SYS_vfork,
#endif
};

static const int sockets[] = {SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4};

/* Landlock has no rules about these. */
static const int file_modes[] = {
    SYS_fchmod,       SYS_fchmodat,       CALL_FCHMODAT2,    SYS_fchown,      SYS_fchownat,    SYS_utimensat,
    SYS_setxattr,     SYS_lsetxattr,      SYS_fsetxattr,     CALL_SETXATTRAT, SYS_removexattr, SYS_lremovexattr,
    SYS_fremovexattr, CALL_REMOVEXATTRAT, CALL_FILE_SETATTR,
#if defined(__x86_64__)
    SYS_chmod,        SYS_chown,          SYS_lchown,        SYS_utime,       SYS_utimes,      SYS_futimesat,
#endif
};

/* ---- the program ---- */

#define MAX_CODE 512

struct program {
    struct sock_filter code[MAX_CODE];
    unsigned short n;
};

#define ALLOW  SECCOMP_RET_ALLOW
#define DENY   (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT (SECCOMP_RET_ERRNO | ENOSYS)

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (p->n < MAX_CODE) {
        p->code[p->n++] = (struct sock_filter){code, yes, no, k};
    }
}

static void load(struct program *p, size_t offset)
{
    put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The low half; both architectures are little-endian, and what is looked at has 32 bits. */
static void load_argument(struct program *p, int i)
{
    load(p, offsetof(struct seccomp_data, args) + (size_t)i * 8);
}

static void answer(struct program *p, uint32_t with)
{
    put(p, BPF_RET | BPF_K, with, 0, 0);
}

/* Goes on with the next instruction when the value loaded is this one, else behind the n that follow. */
static void if_equal(struct program *p, uint32_t value, uint8_t n)
{
    put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, n);
}

/* The same when it has any of these bits. */
static void if_any(struct program *p, uint32_t bits, uint8_t n)
{
    put(p, BPF_JMP | BPF_JSET | BPF_K, bits, 0, n);
}

static void answer_call(struct program *p, int call, uint32_t with)
{
    if_equal(p, (uint32_t)call, 1);
    answer(p, with);
}

static void forbid(struct program *p, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        answer_call(p, calls[i], DENY);
    }
}
#define FORBID(p, calls) forbid(p, calls, sizeof(calls) / sizeof(calls)[0])

/* The call is allowed when argument i is one of the values (only), or when it is none of them. Ends in an answer, as
 * each of these does: the number of the call is still what is loaded behind it. */
static void by_argument(struct program *p, int call, int i, const uint32_t *values, uint8_t n, bool only)
{
    if_equal(p, (uint32_t)call, (uint8_t)(2 + 2 * n));
    load_argument(p, i);
    for (uint8_t v = 0; v < n; v++) {
        if_equal(p, values[v], 1);
        answer(p, only ? ALLOW : DENY);
    }
    answer(p, only ? DENY : ALLOW);
}

/* Threads, and processes where programs may be started; no namespaces. The flags of clone3 lie in memory, where a
 * filter cannot look; without it, the C library takes clone. */
static void confine_clone(struct program *p, bool start_programs)
{
    const uint32_t namespaces =
        CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    answer_call(p, CALL_CLONE3, ABSENT);
    if_equal(p, SYS_clone, start_programs ? 4 : 6);
    load_argument(p, 0);
    if_any(p, namespaces, 1);
    answer(p, DENY);
    if (!start_programs) {
        if_any(p, CLONE_THREAD, 1);
        answer(p, ALLOW);
    }
    answer(p, start_programs ? ALLOW : DENY);
}

/* Signals to oneself only, and limits of oneself. */
static void confine_signals(struct program *p)
{
    const uint32_t self[] = {(uint32_t)getpid(), 0};
    by_argument(p, SYS_kill, 0, self, 1, true);
    by_argument(p, SYS_tgkill, 0, self, 1, true);
    by_argument(p, SYS_rt_sigqueueinfo, 0, self, 1, true);
    by_argument(p, SYS_rt_tgsigqueueinfo, 0, self, 1, true);
    by_argument(p, SYS_prlimit64, 0, self, 2, true);
}

/* No memory that can be written and run. */
static void confine_code(struct program *p)
{
    if_equal(p, SYS_mmap, 5);
    load_argument(p, 2);
    put(p, BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC, 0, 0);
    if_equal(p, PROT_WRITE | PROT_EXEC, 1);
    answer(p, DENY);
    answer(p, ALLOW);
    if_equal(p, SYS_mprotect, 4);
    load_argument(p, 2);
    if_any(p, PROT_EXEC, 1);
    answer(p, DENY);
    answer(p, ALLOW);
    answer_call(p, SYS_pkey_mprotect, DENY);
}

static void write_program(struct program *p, const struct sandbox_profile *profile)
{
    /* What a terminal would take for typed by its user, were it the process's standard error. */
    const uint32_t terminal[] = {TIOCSTI, 0x541C /* TIOCLINUX */, TIOCSETD};
    const uint32_t local[] = {AF_UNIX};
    load(p, offsetof(struct seccomp_data, arch));
    if_equal(p, ARCH, 1);
    put(p, BPF_JMP | BPF_JA, 1, 0, 0);
    answer(p, DENY);
    load(p, offsetof(struct seccomp_data, nr));
    if (ARCH == AUDIT_ARCH_X86_64) {
        if_any(p, X32_BIT, 1);
        answer(p, DENY);
    }
    FORBID(p, forbidden);
    confine_clone(p, profile->start_programs);
    by_argument(p, SYS_ioctl, 1, terminal, 3, false);
    by_argument(p, SYS_socket, 0, local, profile->devices ? 1 : 0, true);
    if (!profile->devices) {
        FORBID(p, sockets);
        FORBID(p, file_modes);
        confine_code(p);
    }
    if (!profile->start_programs) {
        FORBID(p, programs);
        confine_signals(p);
    }
    answer(p, ALLOW);
}

/* For all threads. Without SPEC_ALLOW, kernels before 5.16 would also switch off speculation of loads for this process,
 * which costs the kernels' speed and guards only against code that one runs for others. */
static bool install(const struct program *p)
{
    static const unsigned flags[] = {SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                                     SECCOMP_FILTER_FLAG_TSYNC};
    struct sock_fprog prog = {.len = p->n, .filter = (struct sock_filter *)p->code};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &prog) == 0) {
            return true;
        }
    }
    return false;
}

void sandbox__seccomp(const struct sandbox_profile *profile, struct sandbox_state *state)
{
    struct program p = {.n = 0};
    if (ARCH == 0) {
        sandbox__missing(state, "no seccomp (its filter is written for x86-64 and arm64)");
        return;
    }
    write_program(&p, profile);
    if (p.n >= MAX_CODE || !install(&p)) {
        sandbox__missing(state, "no seccomp (%s)", strerror(errno));
        return;
    }
    state->calls = true;
    state->network = true;
    sandbox__in_force(state, "seccomp");
}
