/* Landlock: which files may be opened, and for what. https://docs.kernel.org/userspace-api/landlock.html
 *
 * A rule is about an inode and all below it, and keeps the inode. procfs makes another one when nobody has used a name
 * for a while, and the rule would be lost; so the descriptors of its files stay open. */
#define _GNU_SOURCE
#include "base/sys_sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* As the kernel has them on every architecture; headers of a build machine may be older. */
enum { CALL_CREATE_RULESET = 444, CALL_ADD_RULE = 445, CALL_RESTRICT_SELF = 446 };
enum { CREATE_VERSION = 1, RULE_PATH_BENEATH = 1, RESTRICT_ALL_THREADS = 8 /* ABI 8 */ };
#define ABI_KNOWN 8

struct ruleset_attr {
    uint64_t fs, net /* ABI 4 */, scoped /* ABI 6 */;
};

struct path_rule {
    uint64_t access;
    int32_t parent_fd;
} __attribute__((packed));

#define BIT(n) (UINT64_C(1) << (n))
enum {
    FS_EXECUTE,
    FS_WRITE_FILE,
    FS_READ_FILE,
    FS_READ_DIR,
    FS_REMOVE_DIR,
    FS_REMOVE_FILE,
    FS_MAKE_CHAR,
    FS_MAKE_DIR,
    FS_MAKE_REG,
    FS_MAKE_SOCK,
    FS_MAKE_FIFO,
    FS_MAKE_BLOCK,
    FS_MAKE_SYM,
    FS_REFER,
    FS_TRUNCATE,
    FS_IOCTL_DEV
};

#define PROC_MAGIC 0x9fa0

#define NET_ALL   (BIT(0) | BIT(1)) /* bind and connect TCP */
#define SCOPE_ALL (BIT(0) | BIT(1)) /* abstract unix sockets and signals stay among those in the same sandbox */

#define READ (BIT(FS_READ_FILE) | BIT(FS_READ_DIR))
#define WRITE                                                                                              \
    (BIT(FS_WRITE_FILE) | BIT(FS_REMOVE_DIR) | BIT(FS_REMOVE_FILE) | BIT(FS_MAKE_DIR) | BIT(FS_MAKE_REG) | \
     BIT(FS_REFER) | BIT(FS_TRUNCATE))
#define DEVICE  (BIT(FS_WRITE_FILE) | BIT(FS_IOCTL_DEV))
#define EXECUTE BIT(FS_EXECUTE)
/* What a rule about a file, not a folder, may say. */
#define FILE_ONLY (BIT(FS_EXECUTE) | BIT(FS_WRITE_FILE) | BIT(FS_READ_FILE) | BIT(FS_TRUNCATE) | BIT(FS_IOCTL_DEV))

/* Libraries that are loaded late (libgcc_s, modules of libcrypto), and what the system says of itself. */
static const char *const system_paths[] = {
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/pressure",
    "/proc/sys/vm",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage",
};

struct rules {
    int fd;
    uint64_t handled;
    int failed; /* errno of a rule that could not be added; 0: none */
};

static uint64_t handled_by(int abi)
{
    int n = abi >= 5 ? FS_IOCTL_DEV + 1 : abi >= 3 ? FS_TRUNCATE + 1 : abi == 2 ? FS_REFER + 1 : FS_MAKE_SYM + 1;
    return BIT(n) - 1;
}

static bool is_proc(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_MAGIC;
}

static void allow(struct rules *r, const char *path, uint64_t access)
{
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return; /* not there, or not for this user in any case */
    }
    access &= r->handled;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
        access &= FILE_ONLY;
    }
    struct path_rule rule = {.access = access, .parent_fd = fd};
    if (syscall(CALL_ADD_RULE, r->fd, RULE_PATH_BENEATH, &rule, 0) != 0) {
        r->failed = errno;
    }
    if (!is_proc(fd)) {
        close(fd);
    }
}

static void allow_all(struct rules *r, const char *const *paths, size_t n, uint64_t access)
{
    for (size_t i = 0; i < n; i++) {
        allow(r, paths[i], access);
    }
}

static void add_rules(struct rules *r, const struct sandbox_profile *p)
{
    uint64_t read = p->start_programs ? READ | EXECUTE : READ;
    allow_all(r, system_paths, sizeof system_paths / sizeof system_paths[0], read);
    allow(r, "/dev/null", BIT(FS_READ_FILE) | BIT(FS_WRITE_FILE));
    allow_all(r, p->read, p->n_read, read);
    allow_all(r, p->write, p->n_write, READ | WRITE);
    if (p->read_all) {
        allow(r, "/", read);
    }
    if (p->devices) {
        allow(r, "/dev", READ | DEVICE);
    }
}

static bool not_there(struct sandbox_state *s)
{
    sandbox__missing(s, "no Landlock (%s)", strerror(errno));
    return false;
}

static bool restrict_self(const struct sandbox_profile *p, int abi, struct sandbox_state *s)
{
    struct ruleset_attr attr = {
        .fs = handled_by(abi), .net = abi >= 4 ? NET_ALL : 0, .scoped = abi >= 6 && !p->start_programs ? SCOPE_ALL : 0};
    size_t size = abi >= 6 ? sizeof attr : abi >= 4 ? offsetof(struct ruleset_attr, scoped) : sizeof attr.fs;
    struct rules r = {.fd = (int)syscall(CALL_CREATE_RULESET, &attr, size, 0), .handled = attr.fs};
    if (r.fd < 0) {
        return not_there(s);
    }
    add_rules(&r, p);
    long rc = syscall(CALL_RESTRICT_SELF, r.fd, abi >= 8 ? RESTRICT_ALL_THREADS : 0);
    int reason = errno;
    close(r.fd);
    if (r.failed) {
        sandbox__missing(s, "not all rules of Landlock (%s)", strerror(r.failed)); /* too strict, not too lax */
    }
    errno = reason;
    return rc == 0 || not_there(s);
}

void sandbox__landlock(const struct sandbox_profile *profile, struct sandbox_state *state)
{
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, CREATE_VERSION);
    abi = abi < ABI_KNOWN ? abi : ABI_KNOWN;
    if (abi < 1) {
        not_there(state);
    } else if (restrict_self(profile, (int)abi, state)) {
        state->landlock = (int)abi;
        state->files = true;
        state->network = abi >= 4;
        sandbox__in_force(state, "landlock %d", (int)abi);
    }
}
