#include "base/sys_shm.h"

#include "base/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool shm_create(size_t size, const char *what, struct shm *out, struct error *err)
{
    char name[32];
    *out = (struct shm){.fd = -1};
    snprintf(name, sizeof name, "/tandem.%016llx", (unsigned long long)rng_entropy64());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) {
        shm_unlink(name);
    }
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        error_set(err, ERR_NO_MEMORY, "shared memory of %zu bytes (%s) could not be made: %s.", size, what,
                  strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    return shm_attach(fd, size, out, err);
}

/* POSIX shared memory of macOS cannot be punched: only the contents go. */
void shm_discard(struct shm *s, size_t offset, size_t size)
{
    memset((char *)s->data + offset, 0, size);
}
