#define _GNU_SOURCE
#include "base/sys_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool shm_create(size_t size, const char *what, struct shm *out, struct error *err)
{
    *out = (struct shm){.fd = -1};
    int fd = memfd_create(what, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Nobody who is given the descriptor can shrink it beneath the one that made it, which would be a SIGBUS there. */
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        error_set(err, ERR_NO_MEMORY, "shared memory of %zu bytes (%s) could not be made: %s.", size, what,
                  strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    return shm_attach(fd, size, out, err);
}

/* Whole pages go back to the system; what remains of the range at its ends is overwritten. Through the descriptor and
 * not by madvise: user-mode emulators drop advice and report success. */
void shm_discard(struct shm *s, size_t offset, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t from = (offset + page - 1) / page * page, to = (offset + size) / page * page;
    char *data = s->data;
    if (from >= to ||
        fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) != 0) {
        memset(data + offset, 0, size);
        return;
    }
    memset(data + offset, 0, from - offset);
    memset(data + to, 0, offset + size - to);
}
