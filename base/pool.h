/* Kernel thread pool: runs the tiles of one operation. Tiles are claimed by an atomic counter, so a preempted thread
 * does not stall the rest; who computes a tile never affects its bits. The calling thread works too: a pool of n
 * threads starts n - 1. Workers spin briefly for the next operation, then park. One caller at a time. */
#ifndef TANDEM_BASE_POOL_H
#define TANDEM_BASE_POOL_H

#include "base/error.h"

#include <stdatomic.h>

struct pool;

struct pool_options {
    int n_threads; /* including the caller; 1 to POOL_MAX_THREADS; 0: as many as sys_cpu_usable() */
    int spin_us;   /* how long an idle worker spins before it parks; 0: never; default set by POOL_DEFAULT_SPIN_US */
};

#define POOL_MAX_THREADS     256
#define POOL_DEFAULT_SPIN_US 50

NODISCARD struct pool *pool_create(const struct pool_options *options, struct error *err);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
void pool_set_spin(struct pool *p, int spin_us);

/* Calls fn(arg, tile, thread) for every tile in [0, n_tiles), returns when all are done. thread in [0, pool_threads())
 * names scratch memory. fn must not call pool_run. n_tiles 0 does nothing. More than 2^20 - 1
 * tiles run on the calling thread alone: cut the work coarser. */
void pool_run(struct pool *p, void (*fn)(void *arg, int tile, int thread), void *arg, int n_tiles);

/* Within a tile: returns when *n_left is 0, and sees what was written before it became so (release). Tiles are begun in
 * ascending order, so a tile may wait for what lower ones make, as long as those wait for nothing. */
void pool_await(const atomic_int *n_left);

#endif
