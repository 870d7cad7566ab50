#include "base/sys_shm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool shm_attach(int fd, size_t size, struct shm *out, struct error *err)
{
    struct stat st;
    *out = (struct shm){.fd = fd, .size = size};
    if (fstat(fd, &st) != 0 || st.st_size < 0 || (size_t)st.st_size < size) {
        close(fd);
        *out = (struct shm){.fd = -1};
        return error_set(err, ERR_IO, "shared memory of %zu bytes was expected, %lld are there.", size,
                         (long long)st.st_size);
    }
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
        error_set(err, ERR_NO_MEMORY, "shared memory of %zu bytes could not be mapped: %s.", size, strerror(errno));
        close(fd);
        *out = (struct shm){.fd = -1};
        return false;
    }
    out->data = data;
    return true;
}

void shm_release(struct shm *s)
{
    if (s->data) {
        munmap(s->data, s->size);
    }
    if (s->data || s->fd > 0) {
        close(s->fd);
    }
    *s = (struct shm){.fd = -1};
}
