/* A process gives up what it does not need, for good: nothing of this can be undone, and threads started later have no
 * more than the one that called. What the system cannot do is left out and said, never an error: the struct that comes
 * back names what is in force.
 *
 *     struct sandbox_profile profile = {.read = paths, .n_read = n, .write = &cache, .n_write = 1, .max_files = 256};
 *     struct sandbox_state state;
 *     sandbox_enter(&profile, &state);      before the first thread is started and the first hostile byte is read
 *     LOG_INFO("sandbox", "in_force=\"%s\" missing=\"%s\"", state.text, state.missing);
 *
 * Descriptors that are open keep working, whatever they are: sockets, shared memory, files; so does all that a process
 * does to itself: memory, threads, timers, signals to its own threads.
 *
 * Linux, in this order: limits (RLIMIT_*), no_new_privs, Landlock (files, TCP, signals, abstract sockets; as far as the
 * kernel's ABI goes), seccomp (system calls, which fail with EPERM). macOS: limits, then a sandbox profile. */
#ifndef TANDEM_BASE_SYS_SANDBOX_H
#define TANDEM_BASE_SYS_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sandbox_profile {
    /* Files and folders with all below them that may be read, besides the system's libraries and what the system says
     * of itself and of this process (/proc/self, /sys/devices/system ...). Links are followed; paths that are not there
     * are left out. */
    const char *const *read; /* [n_read] */
    size_t n_read;
    const char *const *write; /* [n_write] folders in which files may also be made, written and removed */
    size_t n_write;
    bool read_all; /* any file may be read */
    /* What drivers want: device files, sockets within this machine, code made at run time, modes of files. */
    bool devices;
    bool start_programs;    /* which are confined the same way */
    uint32_t max_processes; /* of this user, on Linux threads of all his processes: for users with one service only;
                               0: as it is */
    uint32_t max_files;     /* open descriptors; 0: as it is */
    uint64_t max_memory;    /* bytes of private memory, touched or not (Linux); 0: as it is */
};

#define SANDBOX_TEXT 96

struct sandbox_state {
    bool files;              /* only what the profile names is read or written */
    bool network;            /* no connections, neither made nor taken */
    bool calls;              /* system calls are filtered */
    int landlock;            /* its ABI on Linux; 0: none */
    char text[SANDBOX_TEXT]; /* what is in force: "limits, no-new-privileges, landlock 7, seccomp"; or "nothing" */
    char missing[160];       /* what is not, and why: "no Landlock (Operation not supported)"; or "" */
};

void sandbox_enter(const struct sandbox_profile *profile, struct sandbox_state *state);

#endif
