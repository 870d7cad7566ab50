/* Shared memory that outlives the process which uses it: the gateway creates it, the engine maps it (KV pools).
 * Anonymous: no name in the file system after creation. Pages appear when touched. */
#ifndef TANDEM_BASE_SYS_SHM_H
#define TANDEM_BASE_SYS_SHM_H

#include "base/error.h"

#include <stddef.h>

struct shm {
    int fd;     /* owned; inherited only when passed on explicitly */
    void *data; /* [size], read-write; NULL until mapped */
    size_t size;
};

NODISCARD bool shm_create(size_t size, const char *what, struct shm *out, struct error *err); /* created and mapped */
NODISCARD bool shm_attach(int fd, size_t size, struct shm *out, struct error *err); /* takes fd; checks its size */
void shm_release(struct shm *s); /* unmap and close; fine when zeroed */
void shm_discard(struct shm *s, size_t offset,
                 size_t size); /* give the pages back to the system; contents become zero */

#endif
