/* Kernel pool: every tile exactly once, whatever the threads do; nothing of an operation is touched after its run. */
#include "base/clock.h"
#include "base/pool.h"
#include "base/sys_cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TILES = 4096 };

struct work {
    int counts[MAX_TILES]; /* not atomic: a tile done twice at once is also a race that tsan sees */
    int n_tiles, n_threads;
    int slow_thread; /* sleeps in its tiles; -1: nobody */
};

static void count(void *arg, int tile, int thread)
{
    struct work *w = arg;
    if (tile < 0 || tile >= w->n_tiles || thread < 0 || thread >= w->n_threads) {
        abort();
    }
    w->counts[tile]++;
    if (thread == w->slow_thread) {
        clock_sleep_ms(1);
    }
}

static struct pool *make(int n_threads, int spin_us)
{
    struct error err;
    struct pool *p = pool_create(&(struct pool_options){.n_threads = n_threads, .spin_us = spin_us}, &err);
    assert_non_null(p);
    return p;
}

/* The work lies in memory that is freed right after: a late worker that looked at it would be found by asan. */
static void run_and_check(struct pool *p, int n_tiles, int slow_thread)
{
    struct work *w = calloc(1, sizeof *w);
    *w = (struct work){.n_tiles = n_tiles, .n_threads = pool_threads(p), .slow_thread = slow_thread};
    pool_run(p, count, w, n_tiles);
    for (int i = 0; i < MAX_TILES; i++) {
        assert_int_equal(w->counts[i], i < n_tiles);
    }
    memset(w, 0xEE, sizeof *w);
    free(w);
}

static void every_tile_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 8}, spins[] = {0, 1, POOL_DEFAULT_SPIN_US, 1000};
    for (size_t t = 0; t < 4; t++) {
        for (size_t s = 0; s < 4; s++) {
            struct pool *p = make(threads[t], spins[s]);
            assert_int_equal(pool_threads(p), threads[t]);
            for (int i = 0; i < 300; i++) {
                run_and_check(p, i % 37 == 0 ? MAX_TILES : i % 11, -1);
            }
            pool_free(p);
        }
    }
    pool_free(NULL);
}

static void slow_workers_do_not_disturb_newer_operations(void **state)
{
    (void)state;
    struct pool *p = make(4, 20);
    for (int i = 0; i < 300; i++) {
        run_and_check(p, 2 + i % 3, i % 4); /* few tiles: workers often come when all are taken */
    }
    pool_free(p);
}

struct tally {
    _Atomic int n_run, n_wrong;
    int n_tiles;
};

static void tally_tile(void *arg, int tile, int thread)
{
    struct tally *t = arg;
    (void)thread;
    atomic_fetch_add_explicit(&t->n_run, 1, memory_order_relaxed);
    if (tile < 0 || tile >= t->n_tiles) {
        atomic_fetch_add_explicit(&t->n_wrong, 1, memory_order_relaxed);
    }
}

/* Short operations and longer ones in turn, as fast as they go: between two of them the workers look at a ticket whose
 * tiles are all taken while the caller already writes down the next operation. Nobody may take a tile then. */
static void nobody_claims_between_operations(void **state)
{
    (void)state;
    struct pool *p = make(4, 1000);
    for (int i = 0; i < 300000; i++) {
        struct tally t = {.n_tiles = i % 2 ? 40 : 2};
        pool_run(p, tally_tile, &t, t.n_tiles);
        assert_int_equal(atomic_load(&t.n_run), t.n_tiles);
        assert_int_equal(atomic_load(&t.n_wrong), 0);
    }
    pool_free(p);
}

static void parking_and_changing_the_spin(void **state)
{
    (void)state;
    struct pool *p = make(3, 0);
    for (int i = 0; i < 60; i++) {
        pool_set_spin(p, i % 3 * 100);
        if (i % 2) {
            clock_sleep_ms(1); /* all are parked by now */
        }
        run_and_check(p, 7, -1);
    }
    pool_free(p);
}

static void created_and_freed_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct pool *p = make(4, i % 2 * 100);
        if (i % 3 == 0) {
            run_and_check(p, 5, -1);
        }
        pool_free(p);
    }
}

static void results_are_visible_to_the_caller(void **state)
{
    (void)state;
    struct pool *p = make(4, 50);
    struct work *w = calloc(1, sizeof *w);
    *w = (struct work){.n_tiles = 64, .n_threads = 4, .slow_thread = -1};
    for (int i = 1; i <= 5000; i++) {
        pool_run(p, count, w, 64);
        assert_true(w->counts[i % 64] == i && w->counts[63] == i);
    }
    free(w);
    pool_free(p);
}

static void count_many(void *arg, int tile, int thread)
{
    (void)tile;
    assert_int_equal(thread, 0);
    ++*(int *)arg;
}

static void odd_numbers_of_tiles(void **state)
{
    (void)state;
    struct pool *p = make(2, 50);
    int n = 0;
    pool_run(p, count_many, &n, 0);
    pool_run(p, count_many, &n, -3);
    assert_int_equal(n, 0);
    pool_run(p, count_many, &n, 1);
    pool_run(p, count_many, &n, 1 << 20); /* on the calling thread alone */
    assert_int_equal(n, 1 + (1 << 20));
    pool_free(p);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct error err;
    assert_null(pool_create(&(struct pool_options){.n_threads = -1}, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(pool_create(&(struct pool_options){.n_threads = POOL_MAX_THREADS + 1}, &err));
    struct pool *p = make(0, 0);
    assert_int_equal(pool_threads(p), sys_cpu_usable());
    pool_free(p);
}

enum { N_FIRST = 5, N_WAITING = 20 };

struct stages {
    int made[N_FIRST]; /* by the first tiles; not atomic: tsan sees who reads too early */
    atomic_int n_left; /* of the first */
    int sums[N_WAITING];
    int slow_thread;
};

static void stage(void *arg, int tile, int thread)
{
    struct stages *s = arg;
    if (tile < N_FIRST) {
        if (thread == s->slow_thread) {
            clock_sleep_ms(1);
        }
        s->made[tile] = tile + 1;
        atomic_fetch_sub_explicit(&s->n_left, 1, memory_order_release);
        return;
    }
    pool_await(&s->n_left);
    for (int i = 0; i < N_FIRST; i++) {
        s->sums[tile - N_FIRST] += s->made[i];
    }
}

static void tiles_wait_for_those_before(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 8; n_threads++) {
        struct pool *p = make(n_threads, 20);
        for (int i = 0; i < 300; i++) {
            struct stages s = {.slow_thread = i % 4 == 0 ? i / 4 % n_threads : -1};
            atomic_init(&s.n_left, N_FIRST);
            pool_run(p, stage, &s, N_FIRST + N_WAITING);
            for (int k = 0; k < N_WAITING; k++) {
                assert_int_equal(s.sums[k], N_FIRST * (N_FIRST + 1) / 2);
            }
        }
        pool_free(p);
    }
}

static void meet(void *arg, int tile, int thread)
{
    _Atomic int *arrived = arg;
    (void)tile;
    (void)thread;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 2) { /* the other tile needs the other thread */
        sys_cpu_relax();
    }
}

/* The way there and back of one operation that needs both threads. Shown, not asserted: machines that run tests are
 * busy. */
static void cost_of_a_run_on_two_threads(void **state)
{
    (void)state;
    struct pool *p = make(2, 1000);
    int64_t best = INT64_MAX;
    for (int round = 0; round < 20; round++) {
        int64_t start = clock_ns();
        for (int i = 0; i < 200; i++) {
            _Atomic int arrived = 0;
            pool_run(p, meet, &arrived, 2);
        }
        int64_t took = (clock_ns() - start) / 200;
        best = took < best ? took : best;
    }
    printf("2 tiles that need both of 2 spinning threads: %lld ns\n", (long long)best);
    pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_once),
        cmocka_unit_test(slow_workers_do_not_disturb_newer_operations),
        cmocka_unit_test(nobody_claims_between_operations),
        cmocka_unit_test(parking_and_changing_the_spin),
        cmocka_unit_test(created_and_freed_at_once),
        cmocka_unit_test(results_are_visible_to_the_caller),
        cmocka_unit_test(odd_numbers_of_tiles),
        cmocka_unit_test(tiles_wait_for_those_before),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(cost_of_a_run_on_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
