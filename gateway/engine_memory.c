#include "gateway/engine_memory.h"

#include "base/limits.h"

#include <string.h>

#define SEALS_SHARE 64 /* a seal takes as many bytes, and few pages are smaller than 4 KiB */

bool engine_memory_create(struct engine_memory *m, size_t pool_size, struct error *err)
{
    *m = (struct engine_memory){.pool = {.fd = -1}, .seals = {.fd = -1}, .watch = {.fd = -1}};
    bool ok = shm_create(pool_size, "tandem-kv", &m->pool, err) &&
              shm_create(pool_size / SEALS_SHARE + KIB(4), "tandem-seals", &m->seals, err) &&
              shm_create(sizeof(struct engine_watch), "tandem-watch", &m->watch, err);
    if (!ok) {
        engine_memory_release(m);
    }
    return ok;
}

void engine_memory_release(struct engine_memory *m)
{
    shm_release(&m->pool);
    shm_release(&m->seals);
    shm_release(&m->watch);
}

struct engine_watch *engine_memory_watch(struct engine_memory *m)
{
    return m->watch.data;
}

void engine_memory_forget_pages(struct engine_memory *m)
{
    shm_discard(&m->seals, 0, m->seals.size);
}

void engine_memory_clear(struct engine_memory *m)
{
    shm_discard(&m->pool, 0, m->pool.size);
    shm_discard(&m->seals, 0, m->seals.size);
}
