/* Bounded queue: order, bounds, closing, time-outs, many producers and consumers. */
#include "base/clock.h"
#include "base/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

static void first_in_first_out(void **state)
{
    (void)state;
    struct queue *q = queue_create(sizeof(int), 3);
    int out, next_in = 0, next_out = 0;
    for (int round = 0; round < 50; round++) { /* goes round the ring */
        int n = round % 4;
        for (int i = 0; i < n; i++) {
            assert_true(queue_push(q, &(int){next_in++}));
        }
        if (n == 3) {
            assert_false(queue_push(q, &(int){-1}));
        }
        assert_int_equal(queue_len(q), n);
        for (int i = 0; i < n; i++) {
            assert_true(queue_pop(q, &out));
            assert_int_equal(out, next_out++);
        }
        assert_false(queue_pop(q, &out));
    }
    queue_free(q);
    queue_free(NULL);
}

static void odd_sizes(void **state)
{
    (void)state;
    assert_null(queue_create(SIZE_MAX / 2, 3));
    struct queue *q = queue_create(8, 0);
    uint64_t item = 0;
    assert_false(queue_push(q, &item));
    assert_false(queue_pop(q, &item));
    queue_free(q);
}

static void time_out(void **state)
{
    (void)state;
    struct queue *q = queue_create(sizeof(int), 1);
    int out;
    int64_t start = clock_ms();
    assert_false(queue_wait(q, &out, 0));
    assert_true(clock_ms() - start < 1000);
    start = clock_ns();
    assert_false(queue_wait(q, &out, 30));
    assert_true(clock_ns() - start >= 30 * 1000000);
    assert_true(queue_push(q, &(int){5}));
    assert_true(queue_wait(q, &out, 0));
    assert_int_equal(out, 5);
    assert_true(queue_push(q, &(int){6}));
    assert_true(queue_wait(q, &out, INT64_MAX));
    queue_free(q);
}

static void *wait_for_ever(void *arg)
{
    int out;
    return queue_wait(arg, &out, -1) ? arg : NULL;
}

static void closing_wakes_waiters_and_keeps_items(void **state)
{
    (void)state;
    struct queue *q = queue_create(sizeof(int), 4);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ever, q), 0);
    }
    clock_sleep_ms(10);
    assert_false(queue_closed(q));
    queue_close(q);
    for (int i = 0; i < 3; i++) {
        void *result = q;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    queue_free(q);
    q = queue_create(sizeof(int), 4);
    int out;
    assert_true(queue_push(q, &(int){1}) && queue_push(q, &(int){2}));
    queue_close(q);
    assert_true(queue_closed(q));
    assert_false(queue_push(q, &(int){3}));
    assert_true(queue_wait(q, &out, -1) && out == 1);
    assert_true(queue_pop(q, &out) && out == 2);
    assert_false(queue_wait(q, &out, -1));
    queue_free(q);
}

enum { PRODUCERS = 3, CONSUMERS = 3, PER_PRODUCER = 5000 };

struct item {
    int producer, number;
};

static void *produce(void *arg)
{
    struct {
        struct queue *q;
        int id;
    } *p = arg;
    for (int i = 0; i < PER_PRODUCER; i++) {
        while (!queue_push(p->q, &(struct item){p->id, i})) {
            clock_sleep_ms(0);
        }
    }
    return NULL;
}

struct consumer {
    struct queue *q;
    long sum, n;
    int last[PRODUCERS];
    bool in_order;
};

static void *consume(void *arg)
{
    struct consumer *c = arg;
    struct item item;
    while (queue_wait(c->q, &item, -1)) {
        c->in_order = c->in_order && item.number > c->last[item.producer]; /* also for each of several consumers */
        c->last[item.producer] = item.number;
        c->sum += item.number;
        c->n++;
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    struct queue *q = queue_create(sizeof(struct item), 16);
    struct {
        struct queue *q;
        int id;
    } producers[PRODUCERS];
    struct consumer consumers[CONSUMERS];
    pthread_t producing[PRODUCERS], consuming[CONSUMERS];
    long sum = 0, n = 0;
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = (struct consumer){.q = q, .last = {-1, -1, -1}, .in_order = true};
        assert_int_equal(pthread_create(&consuming[i], NULL, consume, &consumers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i].q = q;
        producers[i].id = i;
        assert_int_equal(pthread_create(&producing[i], NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(producing[i], NULL);
    }
    queue_close(q);
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(consuming[i], NULL);
        assert_true(consumers[i].in_order);
        sum += consumers[i].sum;
        n += consumers[i].n;
    }
    assert_int_equal(n, PRODUCERS * PER_PRODUCER);
    assert_int_equal(sum, (long)PRODUCERS * PER_PRODUCER * (PER_PRODUCER - 1) / 2);
    queue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out), cmocka_unit_test(odd_sizes),
        cmocka_unit_test(time_out),           cmocka_unit_test(closing_wakes_waiters_and_keeps_items),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
