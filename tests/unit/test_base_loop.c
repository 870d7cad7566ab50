/* Work goes to a worker and comes back; what is deferred or timed runs on the loop; where an arena is freed. */
#include "base/loop.h"

#include "base/limits.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct loop *loop;
    struct loop_timer *timer;
    pthread_t loop_thread, worked_on;
    int n_worked, n_done, n_deferred, n_ticks, n_freed;
    bool freed_elsewhere;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    f->loop = loop_create(1, &err);
    f->loop_thread = pthread_self();
    *state = f;
    return f->loop ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    loop_free(f->loop);
    free(f);
    return 0;
}

static void work(void *arg)
{
    struct fixture *f = arg;
    f->worked_on = pthread_self();
    f->n_worked++;
}

static void done(void *arg)
{
    struct fixture *f = arg;
    assert_true(pthread_equal(pthread_self(), f->loop_thread));
    f->n_done++;
    loop_stop(f->loop);
}

static void work_is_done_elsewhere_and_ends_here(void **state)
{
    struct fixture *f = *state;
    loop_work(f->loop, work, done, f);
    loop_run(f->loop);
    assert_int_equal(f->n_worked, 1);
    assert_int_equal(f->n_done, 1);
    assert_false(pthread_equal(f->worked_on, f->loop_thread));
    assert_int_equal(loop_work_queued(f->loop), 0);
}

struct slow {
    struct fixture *f;
    pthread_mutex_t lock;
    pthread_t thread;
    int n_done;
};

static void slow_work(void *arg)
{
    struct slow *s = arg;
    pthread_mutex_lock(&s->lock); /* until the worker has done what came later */
    s->thread = pthread_self();
    pthread_mutex_unlock(&s->lock);
}

static void slow_done(void *arg)
{
    struct slow *s = arg;
    s->n_done++;
    loop_stop(s->f->loop);
}

static void slow_counted(void *arg)
{
    struct slow *s = arg;
    s->n_done++;
}

static void slow_work_keeps_no_worker(void **state)
{
    struct fixture *f = *state;
    struct slow s = {.f = f};
    pthread_mutex_init(&s.lock, NULL);
    pthread_mutex_lock(&s.lock);
    loop_work_alone(f->loop, slow_work, slow_done, &s);
    loop_work(f->loop, work, done, f);
    loop_run(f->loop);
    assert_int_equal(f->n_done, 1);
    assert_int_equal(s.n_done, 0);
    pthread_mutex_unlock(&s.lock);
    loop_run(f->loop);
    assert_int_equal(s.n_done, 1);
    assert_false(pthread_equal(s.thread, f->loop_thread));
    assert_false(pthread_equal(s.thread, f->worked_on));
    pthread_mutex_destroy(&s.lock);
}

static void a_loop_that_is_freed_waits_for_slow_work(void **state)
{
    struct fixture *f = *state;
    struct slow s = {.f = f};
    pthread_mutex_init(&s.lock, NULL);
    loop_work_alone(f->loop, slow_work, slow_counted, &s);
    loop_free(f->loop);
    f->loop = NULL;
    assert_int_equal(s.n_done, 1);
    pthread_mutex_destroy(&s.lock);
}

static void deferred(void *arg)
{
    struct fixture *f = arg;
    if (++f->n_deferred == 2) {
        loop_stop(f->loop);
    }
}

static void what_is_deferred_runs_from_the_loop(void **state)
{
    struct fixture *f = *state;
    loop_defer(f->loop, deferred, f);
    loop_defer(f->loop, deferred, f);
    assert_int_equal(f->n_deferred, 0);
    loop_run(f->loop);
    assert_int_equal(f->n_deferred, 2);
}

static void tick(void *arg)
{
    struct fixture *f = arg;
    if (++f->n_ticks == 3) {
        loop_timer_stop(f->timer);
        loop_stop(f->loop);
    }
}

static void timers_repeat_until_they_are_stopped(void **state)
{
    struct fixture *f = *state;
    f->timer = loop_timer_create(f->loop, tick, f);
    loop_timer_start(f->timer, 0, 1);
    loop_run(f->loop);
    assert_int_equal(f->n_ticks, 3);
    loop_timer_free(f->timer);
}

static void note_free(void *arg)
{
    struct fixture *f = arg;
    f->n_freed++;
    f->freed_elsewhere = !pthread_equal(pthread_self(), f->loop_thread);
}

static struct arena *arena_of(struct fixture *f, size_t size)
{
    struct arena *a = arena_create(MIB(4));
    assert_non_null(arena_alloc(a, size));
    assert_true(arena_defer(a, note_free, f));
    return a;
}

/* A small one at once; a large one by a worker, at the latest when the loop ends. */
static void large_arenas_are_freed_by_a_worker(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    loop_free_arena(f->loop, NULL);
    loop_free_arena(f->loop, arena_of(f, 100));
    assert_int_equal(f->n_freed, 1);
    assert_false(f->freed_elsewhere);
    loop_free_arena(f->loop, arena_of(f, MIB(1)));
    loop_free(f->loop);
    assert_int_equal(f->n_freed, 2);
    assert_true(f->freed_elsewhere);
    f->loop = loop_create(1, &err); /* for the teardown */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(work_is_done_elsewhere_and_ends_here),     TEST(slow_work_keeps_no_worker),
        TEST(a_loop_that_is_freed_waits_for_slow_work), TEST(what_is_deferred_runs_from_the_loop),
        TEST(timers_repeat_until_they_are_stopped),     TEST(large_arenas_are_freed_by_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
