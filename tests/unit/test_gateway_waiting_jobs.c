/* Jobs that wait for an engine: their order, what removal leaves, and their time. */
#include "gateway/waiting_jobs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const int32_t prompt[] = {1, 2, 3};

static void push(struct waiting_jobs *w, uint64_t id, uint32_t timeout_ms, int64_t now_ms)
{
    struct error err = {0};
    struct job job = {.id = id,
                      .timeout_ms = timeout_ms,
                      .n_choices = 1,
                      .prompt = prompt,
                      .n_prompt = 3,
                      .max_tokens = 5,
                      .sampling = sampling_default()};
    assert_true(waiting_jobs_push(w, &job, now_ms, &err));
}

static void assert_pops(struct waiting_jobs *w, uint64_t id, uint32_t timeout_ms, int64_t now_ms)
{
    struct job *job = waiting_jobs_pop(w, now_ms);
    assert_non_null(job);
    assert_int_equal(job->id, id);
    assert_int_equal(job->timeout_ms, timeout_ms);
    assert_ptr_not_equal(job->prompt, prompt);
    assert_memory_equal(job->prompt, prompt, sizeof prompt);
    free(job);
}

static void assert_empty(struct waiting_jobs *w)
{
    assert_null(waiting_jobs_pop(w, 0));
    assert_null(w->first);
    assert_null(w->last);
    assert_int_equal(w->n, 0);
    assert_int_equal(w->size, 0);
}

static void first_in_first_out(void **state)
{
    struct waiting_jobs w = {0};
    (void)state;
    for (uint64_t id = 1; id <= 3; id++) {
        push(&w, id, 0, 100);
        assert_int_equal(w.n, id);
    }
    assert_true(w.size >= 3 * sizeof prompt);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_pops(&w, id, 0, 1000000);
    }
    assert_empty(&w);
}

/* The first, one in the middle, the last, and one that is not there; what is pushed after it comes last. */
static void removal_keeps_the_rest_in_order(void **state)
{
    (void)state;
    for (uint64_t removed = 1; removed <= 4; removed++) {
        struct waiting_jobs w = {0};
        for (uint64_t id = 1; id <= 3; id++) {
            push(&w, id, 0, 0);
        }
        waiting_jobs_remove(&w, removed);
        push(&w, 9, 0, 0);
        for (uint64_t id = 1; id <= 3; id++) {
            if (id != removed) {
                assert_pops(&w, id, 0, 0);
            }
        }
        assert_pops(&w, 9, 0, 0);
        assert_empty(&w);
    }
}

static void waiting_takes_its_time_from_a_job(void **state)
{
    struct waiting_jobs w = {0};
    (void)state;
    push(&w, 1, 500, 1000);
    push(&w, 2, 500, 1000);
    push(&w, 3, 0, 1000);
    assert_pops(&w, 1, 300, 1200);
    assert_pops(&w, 2, 1, 1500); /* 0 would mean: no limit */
    assert_pops(&w, 3, 0, 1500);
    assert_empty(&w);
}

/* So that an engine can say how long a job has waited in all. */
static void waiting_is_counted(void **state)
{
    struct waiting_jobs w = {0};
    (void)state;
    push(&w, 1, 0, 1000);
    push(&w, 2, 0, 1400);
    struct job *first = waiting_jobs_pop(&w, 1500), *second = waiting_jobs_pop(&w, 1390);
    assert_int_equal(first->waited_us, 500000);
    assert_int_equal(second->waited_us, 0); /* never less than nothing */
    free(first);
    free(second);
}

static void clearing_frees_all(void **state)
{
    struct waiting_jobs w = {0};
    (void)state;
    push(&w, 1, 0, 0);
    push(&w, 2, 7, 0);
    waiting_jobs_clear(&w);
    assert_empty(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_in_first_out),
        cmocka_unit_test(removal_keeps_the_rest_in_order),
        cmocka_unit_test(waiting_takes_its_time_from_a_job),
        cmocka_unit_test(waiting_is_counted),
        cmocka_unit_test(clearing_frees_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
