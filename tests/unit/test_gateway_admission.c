/* Who is refused: by places, by the predicted wait; what throughput is measured; how the pool's limit moves. */
#include "gateway/admission.h"
#include "gateway/pool_limit.h"
#include "pipeline/deadlines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the predicted wait ---- */

static void waits(void **state)
{
    (void)state;
    struct admission_view v = {.ready = true, .rate = 100, .tokens_each = 50, .n_free = 3};
    assert_int_equal(admission_wait_ms(&v), 0);
    v.n_before = 2;
    v.tokens_before = 100;
    assert_int_equal(admission_wait_ms(&v), 0); /* there is room for it too */
    v.n_before = 6;
    v.tokens_before = 600; /* half of them find room: 300 tokens, and one that runs must end */
    assert_int_equal(admission_wait_ms(&v), 3500);
    v.n_free = 0;
    assert_int_equal(admission_wait_ms(&v), 6500);
    v.n_before = 0;
    v.tokens_before = 0;
    assert_int_equal(admission_wait_ms(&v), 500);
    v.n_running = 4;
    assert_int_equal(admission_service_ms(&v), 2000); /* four share it */
    v.rate = 0;
    assert_int_equal(admission_service_ms(&v), 0);
    assert_int_equal(admission_wait_ms(&v), 0); /* nobody knows */
    v.rate = 100;
    v.ready = false;
    assert_int_equal(admission_wait_ms(&v), 0);
}

/* ---- throughput ---- */

/* Ten prompts a second of 40 tokens, 30 computed and 10 cached, with answers of 20 tokens. */
static struct engine_stats after(uint64_t seconds)
{
    return (struct engine_stats){.step_ns = seconds * 1000000000,
                                 .steps = seconds * 50,
                                 .rows_prefill = seconds * 300,
                                 .cached_tokens = seconds * 100,
                                 .generated_tokens = seconds * 200,
                                 .jobs_admitted = seconds * 10,
                                 .jobs_finished = seconds * 10};
}

static void assert_near(double value, double expected)
{
    assert_true(value > 0.99 * expected && value < 1.01 * expected);
}

static void throughput_is_of_the_last_seconds(void **state)
{
    (void)state;
    struct throughput t = {0};
    struct engine_stats s = after(0);
    throughput_note(&t, &s);
    assert_false(throughput_known(&t));
    assert_true(throughput_rate(&t) == 0);
    for (uint64_t i = 1; i <= 100; i++) {
        s = after(i);
        throughput_note(&t, &s);
    }
    assert_true(throughput_known(&t));
    assert_near(throughput_rate(&t), 600);
    assert_near(throughput_prompt(&t), 40);
    assert_near(throughput_output(&t), 20);
    assert_near(throughput_step(&t), 0.02);
    throughput_lost(&t); /* the next engine begins with 0, and may be ahead of what the last one had said */
    s = after(1000);
    throughput_note(&t, &s);
    assert_near(throughput_rate(&t), 600);
    for (int i = 0; i < 100; i++) { /* twice as slow now */
        s.step_ns += 2000000000;
        s.generated_tokens += 600;
        throughput_note(&t, &s);
    }
    assert_near(throughput_rate(&t), 300);
    s = after(1); /* an engine that nobody said was lost */
    throughput_note(&t, &s);
    assert_near(throughput_rate(&t), 300);
}

/* ---- admission ---- */

struct fixture {
    struct engine_port port;
    struct pipeline *pipeline;
    struct admission *admission;
};

static void open_admission(struct fixture *f, struct admission_options options)
{
    struct error err = {0};
    struct pipeline_options p = {.port = &f->port};
    f->pipeline = pipeline_create(&p, &err);
    options.pipeline = f->pipeline;
    options.model = "m";
    f->admission = admission_create(&options, &err);
    assert_non_null(f->admission);
}

static void close_admission(struct fixture *f)
{
    admission_free(f->admission);
    pipeline_free(f->pipeline);
}

static void learn(struct fixture *f, bool starved)
{
    for (uint64_t i = 0; i <= 10; i++) {
        struct engine_stats s = after(i);
        s.starved = starved;
        admission_note_stats(f->admission, &s);
    }
}

static void places_run_out(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct error err = {0};
    struct admission_request one = {.n_jobs = 1};
    open_admission(&f, (struct admission_options){.max_waiting = 3, .max_sequences = 2});
    for (int i = 0; i < 3; i++) { /* no engine: nobody can start */
        assert_false(admission_full(f.admission, 0, &err));
        assert_true(admission_enter(f.admission, &one, &err));
    }
    assert_true(admission_full(f.admission, 0, &err));
    assert_false(admission_enter(f.admission, &one, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_non_null(strstr(err.msg, "loading and 3 requests"));
    assert_true(err.retry_after_s >= 1);
    admission_note_ready(f.admission, true);
    assert_true(admission_full(f.admission, 2, &err)); /* two that are being read would take what is free */
    assert_true(admission_enter(f.admission, &one, &err));
    assert_true(admission_enter(f.admission, &one, &err));
    assert_false(admission_enter(f.admission, &one, &err));
    learn(&f, true);
    admission_leave(f.admission, 2);
    assert_false(admission_enter(f.admission, &one, &err)); /* the pool is full: what is free is no place */
    admission_leave(f.admission, 1);
    assert_true(admission_enter(f.admission, &one, &err));
    assert_int_equal(admission_status(f.admission).n_refused_full, 5);
    close_admission(&f);
}

/* Sixty tokens each, 600 a second: ten a second. */
static void waits_that_are_too_long(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct error err = {0};
    struct admission_request many = {.n_jobs = 20}, hasty = {.n_jobs = 1, .timeout_ms = 2000},
                             patient = {.n_jobs = 1, .timeout_ms = 9000}, plain = {.n_jobs = 1};
    open_admission(&f, (struct admission_options){.max_waiting = 100, .max_sequences = 2, .queue_timeout_ms = 4000});
    admission_note_ready(f.admission, true);
    assert_true(admission_enter(f.admission, &many, &err));
    assert_true(admission_enter(f.admission, &hasty, &err)); /* nothing is known yet */
    learn(&f, true);
    assert_in_range(admission_status(f.admission).wait_ms, 2100, 2300);
    assert_false(admission_enter(f.admission, &hasty, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_non_null(strstr(err.msg, "'timeout'"));
    assert_int_equal(err.retry_after_s, 1);
    assert_true(admission_enter(f.admission, &patient, &err));
    assert_true(admission_enter(f.admission, &many, &err));
    assert_false(admission_enter(f.admission, &plain, &err)); /* the server's own limit */
    assert_non_null(strstr(err.msg, "--queue-timeout-ms"));
    assert_int_equal(admission_status(f.admission).n_refused_late, 2);
    admission_leave(f.admission, 42);
    hasty.timeout_ms = 10;
    learn(&f, false);
    assert_true(admission_enter(f.admission, &hasty, &err)); /* nobody is before it: it may try */
    close_admission(&f);
}

/* Who was let in and was late makes it more careful, until enough have ended in time. */
static void caution_is_learned(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct error err = {0};
    uint64_t n_late[GEN_LIMIT_COUNT] = {0};
    struct admission_request many = {.n_jobs = 20}, one = {.n_jobs = 1, .timeout_ms = 4000};
    open_admission(&f, (struct admission_options){.max_waiting = 100, .max_sequences = 2, .n_late = n_late});
    admission_note_ready(f.admission, true);
    learn(&f, true);
    assert_true(admission_enter(f.admission, &many, &err));
    assert_true(admission_enter(f.admission, &one, &err));
    n_late[GEN_LIMIT_TOTAL] = 8;
    assert_false(admission_enter(f.admission, &one, &err));
    struct engine_stats s = after(10);
    s.starved = true;
    for (int i = 0; i < 100; i++) {
        s.jobs_finished += 10;
        s.jobs_admitted += 10;
        s.step_ns += 1000000000;
        s.rows_prefill += 400;
        s.generated_tokens += 200;
        admission_note_stats(f.admission, &s);
    }
    assert_true(admission_enter(f.admission, &one, &err));
    close_admission(&f);
}

/* ---- the pool's limit ---- */

static void pools_shrink_and_grow(void **state)
{
    (void)state;
    struct pool_limit_state s;
    pool_limit_init(&s, 1600);
    int64_t now = 1000000;
    assert_false(pool_limit_update(&s, PRESSURE_NONE, 800, now));
    assert_true(pool_limit_update(&s, PRESSURE_WARN, 800, now)); /* below what it holds */
    assert_int_equal(s.limit, 600);
    assert_false(s.urgent);
    assert_false(pool_limit_update(&s, PRESSURE_WARN, 800, now + 500));    /* it is on its way */
    assert_true(pool_limit_update(&s, PRESSURE_CRITICAL, 600, now + 600)); /* this does not wait */
    assert_int_equal(s.limit, 300);
    assert_true(s.urgent);
    assert_false(pool_limit_update(&s, PRESSURE_CRITICAL, 300, now + 700));
    for (int i = 1; i < 20; i++) {
        (void)pool_limit_update(&s, PRESSURE_CRITICAL, 100, now + 600 + i * 2000);
    }
    assert_int_equal(s.limit, 100); /* a sixteenth */
    now += 600 + 19 * 2000;
    assert_false(pool_limit_update(&s, PRESSURE_NONE, 100, now + 1000));
    size_t before = s.limit;
    int n = 0;
    for (int64_t at = now + 5000; s.limit < s.size; at += 500) {
        if (pool_limit_update(&s, PRESSURE_NONE, 100, at)) {
            assert_true(s.limit > before && s.limit <= before + 200 && !s.urgent);
            before = s.limit;
            n++;
        }
        assert_true(at < now + 60000);
    }
    assert_int_equal(n, 8);
    assert_false(pool_limit_update(&s, PRESSURE_NONE, 100, now + 100000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits),
        cmocka_unit_test(throughput_is_of_the_last_seconds),
        cmocka_unit_test(places_run_out),
        cmocka_unit_test(waits_that_are_too_long),
        cmocka_unit_test(caution_is_learned),
        cmocka_unit_test(pools_shrink_and_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
