/* The memory that an engine works in and does not own, so that it outlives the process: the KV pool, the seals that say
 * what its pages hold (engine/kv_seal.h), and the words of the watchdog. All of it is passed on to the next engine.
 * The loop's thread. */
#ifndef TANDEM_GATEWAY_ENGINE_MEMORY_H
#define TANDEM_GATEWAY_ENGINE_MEMORY_H

#include "base/sys_shm.h"
#include "wire/engine_watch.h"

struct engine_memory {
    struct shm pool, seals, watch;
};

/* On failure it is released. */
NODISCARD bool engine_memory_create(struct engine_memory *m, size_t pool_size, struct error *err);
void engine_memory_release(struct engine_memory *m); /* fine when zeroed */

struct engine_watch *engine_memory_watch(struct engine_memory *m);
/* The next engine finds no pages that it may adopt: the last one may have failed because of them. */
void engine_memory_forget_pages(struct engine_memory *m);
/* Nobody uses it: its contents go, and their memory with them (on macOS: the contents alone). */
void engine_memory_clear(struct engine_memory *m);

#endif
