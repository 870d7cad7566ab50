/* One 64-bit word holds the operation's number and how many of its tiles are left, so that a worker which wakes up late
 * and claims with an old word fails its compare-and-swap instead of taking a tile of a newer operation.
 *
 *   ticket:  | operation (44 bits) | tiles left (20 bits) |
 *
 * Whether a tile can be claimed is seen from this word alone: a word with nothing left cannot be claimed from, whatever
 * else the caller already writes for the next operation. (With a count of tiles kept beside the word it could: between
 * the new count and the new ticket.) 44 bits do not come round: a worker would have to sleep for months between reading
 * and claiming.
 *
 * fn, arg and n_tiles are written before the ticket is published and read only with a claimed tile in hand. The caller
 * writes them again only when n_done has reached the number of tiles, so a claim pins them: they need not be atomic. */
#include "base/pool.h"

#include "base/clock.h"
#include "base/sys_cpu.h"
#include "base/sys_proc.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct worker {
    struct pool *pool;
    int index;
    pthread_t thread;
};

struct pool {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t n_done;
    void (*fn)(void *arg, int tile, int thread);
    void *arg;
    int n_tiles;
    _Alignas(64) _Atomic int n_parked;
    _Atomic bool stopping;
    _Atomic int spin_us;
    pthread_mutex_t lock;
    pthread_cond_t work;
    int n_threads;
    struct worker workers[];
};

#define SPINS_BEFORE_YIELD 2000 /* some tens of microseconds: a tile rarely lasts longer */
#define TICKET_BITS        20
#define TICKET_MAX_TILES   ((1 << TICKET_BITS) - 1)

static uint64_t ticket_op(uint64_t ticket)
{
    return ticket >> TICKET_BITS;
}

static uint32_t ticket_left(uint64_t ticket)
{
    return (uint32_t)ticket & TICKET_MAX_TILES;
}

/* Runs tiles of operation `op` until none is left. */
static void run_tiles(struct pool *p, uint64_t op, int thread)
{
    uint64_t ticket = atomic_load(&p->ticket);
    while (ticket_op(ticket) == op && ticket_left(ticket) > 0) {
        if (atomic_compare_exchange_weak(&p->ticket, &ticket, ticket - 1)) {
            p->fn(p->arg, p->n_tiles - (int)ticket_left(ticket), thread);
            atomic_fetch_add_explicit(&p->n_done, 1, memory_order_release);
            ticket = atomic_load(&p->ticket);
        }
    }
}

static uint64_t current_op(struct pool *p)
{
    return ticket_op(atomic_load(&p->ticket));
}

/* Spins, then parks, until an operation other than `seen` is there; false: the pool stops. */
static bool wait_for_op(struct pool *p, uint64_t seen)
{
    int64_t spin_ns = (int64_t)atomic_load_explicit(&p->spin_us, memory_order_relaxed) * 1000;
    int64_t until = spin_ns > 0 ? clock_ns() + spin_ns : 0;
    for (unsigned i = 0; spin_ns > 0; i++) {
        if (current_op(p) != seen || atomic_load_explicit(&p->stopping, memory_order_relaxed)) {
            break;
        }
        sys_cpu_relax();
        if (i % 64 == 63 && clock_ns() >= until) {
            break;
        }
    }
    if (current_op(p) == seen) {
        pthread_mutex_lock(&p->lock);
        atomic_fetch_add(&p->n_parked, 1);
        while (current_op(p) == seen && !atomic_load(&p->stopping)) {
            pthread_cond_wait(&p->work, &p->lock);
        }
        atomic_fetch_sub(&p->n_parked, 1);
        pthread_mutex_unlock(&p->lock);
    }
    return !atomic_load(&p->stopping);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    uint64_t seen = 0;
    sys_name_thread("tandem-kernel");
    while (wait_for_op(w->pool, seen)) {
        seen = current_op(w->pool);
        run_tiles(w->pool, seen, w->index);
    }
    return NULL;
}

struct pool *pool_create(const struct pool_options *options, struct error *err)
{
    int n = options->n_threads ? options->n_threads : sys_cpu_usable();
    if (n < 1 || n > POOL_MAX_THREADS) {
        error_set(err, ERR_INVALID, "%d threads were asked for; 1 to %d are possible.", n, POOL_MAX_THREADS);
        return NULL;
    }
    size_t size = sizeof(struct pool) + (size_t)n * sizeof(struct worker);
    struct pool *p = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, "no memory for a pool of %d threads.", n);
        return NULL;
    }
    atomic_init(&p->ticket, 0);
    atomic_init(&p->n_done, 0);
    atomic_init(&p->n_parked, 0);
    atomic_init(&p->stopping, false);
    atomic_init(&p->spin_us, options->spin_us);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->n_threads = 1;
    for (; p->n_threads < n; p->n_threads++) {
        struct worker *w = &p->workers[p->n_threads];
        *w = (struct worker){.pool = p, .index = p->n_threads};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            error_set(err, ERR_NO_MEMORY, "only %d of %d threads could be started.", p->n_threads, n);
            pool_free(p);
            return NULL;
        }
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stopping, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->n_threads; i++) {
        pthread_join(p->workers[i].thread, NULL);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

void pool_set_spin(struct pool *p, int spin_us)
{
    atomic_store_explicit(&p->spin_us, spin_us, memory_order_relaxed);
}

/* One more look in vain at what another thread is to do. */
static void pause_at(unsigned i)
{
    if (i < SPINS_BEFORE_YIELD) {
        sys_cpu_relax();
    } else {
        sched_yield(); /* the worker at the last tile may be waiting for this very core */
    }
}

void pool_await(const atomic_int *n_left)
{
    for (unsigned i = 0; atomic_load_explicit(n_left, memory_order_acquire) != 0; i++) {
        pause_at(i);
    }
}

static void run_shared(struct pool *p, void (*fn)(void *arg, int tile, int thread), void *arg, int n_tiles)
{
    uint64_t op = current_op(p) + 1;
    p->fn = fn;
    p->arg = arg;
    p->n_tiles = n_tiles;
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    atomic_store(&p->ticket, op << TICKET_BITS | (uint64_t)n_tiles);
    if (atomic_load(&p->n_parked) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    run_tiles(p, op, 0);
    for (unsigned i = 0; atomic_load_explicit(&p->n_done, memory_order_acquire) != (uint32_t)n_tiles; i++) {
        pause_at(i);
    }
}

void pool_run(struct pool *p, void (*fn)(void *arg, int tile, int thread), void *arg, int n_tiles)
{
    if (p->n_threads > 1 && n_tiles > 1 && n_tiles <= TICKET_MAX_TILES) {
        run_shared(p, fn, arg, n_tiles);
        return;
    }
    for (int tile = 0; tile < n_tiles; tile++) {
        fn(arg, tile, 0);
    }
}
