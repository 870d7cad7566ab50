/* The engine's thread: submission and cancellation from many threads, bounds, idle, drain, snapshot of statistics. On
 * the toy model. */
#include "tests/support/engine_run.h"

#include "base/clock.h"
#include "wire/engine_watch.h"
#include "wire/frame.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct bench {
    struct engine_config config;
    struct toy toy;
    struct engine_run run;
};

static void open_bench(struct bench *b, const struct engine_config *config)
{
    struct error err = {0};
    *b = (struct bench){.config = *config};
    toy_init(&b->toy, &b->config);
    struct engine_parts parts = {.config = *config, .executor = &b->toy.base};
    struct engine *engine = engine__assemble(&parts, &err);
    assert_non_null(engine);
    engine_run_start(&b->run, engine);
}

static void close_bench(struct bench *b)
{
    engine_run_release(&b->run);
    toy_release(&b->toy);
}

static int32_t prompt[128];

static struct job make_job(uint64_t id, uint32_t n_prompt, uint32_t max_tokens)
{
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS,
                        .sampling = sampling_default()};
}

/* ---- many threads ---- */

#define N_THREADS 4
#define N_JOBS    1000

struct client {
    struct bench *bench;
    int index;
};

static void *submit_and_cancel(void *arg)
{
    struct client *c = arg;
    struct engine *engine = c->bench->run.engine;
    for (uint64_t i = (uint64_t)c->index; i < N_JOBS; i += N_THREADS) {
        struct job job = make_job(i, 1 + (uint32_t)i % 60, 1 + (uint32_t)i % 30);
        struct error err = {0};
        struct engine_stats stats;
        job.n_choices = i % 7 == 0 ? 3 : 1;
        c->bench->run.log->jobs[i].n_choices = job.n_choices;
        assert_true(engine_submit(engine, &job, &err));
        if (i % 3 == 0) {
            engine_cancel(engine, i, i % 2 ? WIRE_ALL_CHOICES : 0);
        }
        if (i % 50 == 0) {
            engine_clear_cache(engine);
        }
        engine_stats(engine, &stats);
        assert_true(stats.jobs_finished <= N_JOBS);
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    struct engine_config config = toy_config(120);
    struct bench b;
    struct client clients[N_THREADS];
    pthread_t threads[N_THREADS];
    struct engine_stats stats;
    open_bench(&b, &config);
    for (int i = 0; i < N_THREADS; i++) {
        clients[i] = (struct client){&b, i};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_and_cancel, &clients[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    engine_run_wait(&b.run, N_JOBS);
    do { /* the snapshot follows the events */
        engine_stats(b.run.engine, &stats);
    } while (stats.jobs_finished < N_JOBS);
    assert_int_equal(stats.jobs_finished, N_JOBS);
    assert_int_equal(stats.pages_referenced, 0);
    assert_int_equal(stats.running + stats.waiting, 0);
    engine_run_close(&b.run);
    for (uint64_t i = 0; i < N_JOBS; i++) {
        const struct toy_choice *c = &b.run.log->jobs[i].choices[0];
        assert_true(c->finish == FINISH_LENGTH || (i % 3 == 0 && c->finish == FINISH_CANCELLED));
        assert_true(c->finish != FINISH_LENGTH || c->n == 1 + i % 30);
    }
    close_bench(&b);
}

/* ---- bounds ---- */

static void refusals(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    config.test_hooks = false;
    struct bench b;
    open_bench(&b, &config);
    struct error err = {0};
    struct job job = make_job(1, 100, 101);
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_int_equal(err.code, ERR_CONTEXT_EXCEEDED);
    job = make_job(1, 10, 1);
    int32_t outside[] = {50};
    job.prompt = outside;
    job.n_prompt = 1;
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_int_equal(err.code, ERR_INVALID);
    job = make_job(1, 10, 1);
    job.kind = JOB_EMBED;
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_int_equal(err.code, ERR_NOT_IMPLEMENTED);
    job.kind = JOB_GENERATE;
    job.constraint = "x";
    job.constraint_size = 1;
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    job.constraint = NULL;
    job.constraint_size = 0;
    job.flags = JOB_DIGEST;
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_string_equal(err.param, "digest");
    close_bench(&b);
}

static void queue_is_bounded(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    struct error err = {0};
    config.max_waiting = 3;
    config.max_sequences = 1;
    open_bench(&b, &config);
    engine_pause(b.run.engine, true);
    for (uint64_t i = 1; i <= 3; i++) {
        struct job job = make_job(i, 10, 2);
        engine_run_submit(&b.run, &job);
    }
    struct job job = make_job(4, 10, 2);
    assert_false(engine_submit(b.run.engine, &job, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    engine_cancel(b.run.engine, 2, WIRE_ALL_CHOICES); /* makes room */
    engine_run_wait(&b.run, 1);
    engine_run_submit(&b.run, &job);
    engine_pause(b.run.engine, false);
    engine_run_wait(&b.run, 4);
    engine_run_close(&b.run);
    assert_int_equal(b.run.log->jobs[2].choices[0].finish, FINISH_CANCELLED);
    assert_int_equal(b.run.log->jobs[4].choices[0].finish, FINISH_LENGTH);
    close_bench(&b);
}

/* ---- idle, drain, end ---- */

static void idle_engines_wait(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    struct engine_stats stats;
    struct engine_watch watch = {0};
    struct error err = {0};
    b.config = config;
    toy_init(&b.toy, &b.config);
    struct engine_parts parts = {.config = config, .executor = &b.toy.base};
    struct engine *engine = engine__assemble(&parts, &err);
    engine_set_watch(engine, &watch);
    engine_run_start(&b.run, engine);
    struct job job = make_job(1, 10, 5);
    engine_run_submit(&b.run, &job);
    engine_run_wait(&b.run, 1);
    clock_sleep_ms(50);
    engine_stats(engine, &stats);
    assert_int_equal(stats.steps, 5);
    assert_int_equal(atomic_load(&watch.busy), 0);
    uint64_t turns = atomic_load(&watch.turns);
    assert_true(turns > 5);
    clock_sleep_ms(50);
    assert_int_equal(atomic_load(&watch.turns), turns); /* it sleeps */
    engine_run_close(&b.run);
    assert_true(b.run.log->n_stats >= 1 && b.run.log->n_stats <= 3); /* first, at a step, when idle */
    assert_int_equal(b.run.log->stats.jobs_finished, 1);
    close_bench(&b);
}

static void set_flag(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
}

static void draining_finishes_what_runs(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    struct error err = {0};
    atomic_bool idle = false;
    open_bench(&b, &config);
    b.toy.delay_ms = 1;
    for (uint64_t i = 1; i <= 20; i++) {
        struct job job = make_job(i, 10, 20);
        engine_run_submit(&b.run, &job);
    }
    engine_drain(b.run.engine, set_flag, &idle);
    struct job late = make_job(21, 10, 2);
    assert_false(engine_submit(b.run.engine, &late, &err));
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    while (!atomic_load(&idle)) {
        clock_sleep_ms(1);
    }
    assert_int_equal(atomic_load(&b.run.log->n_jobs_ended), 20);
    close_bench(&b);
}

static void freed_in_the_middle(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct bench b;
    open_bench(&b, &config);
    b.toy.delay_ms = 1;
    for (uint64_t i = 1; i <= 40; i++) {
        struct job job = make_job(i, 20, 50);
        job.n_choices = 2;
        engine_run_submit(&b.run, &job);
    }
    clock_sleep_ms(10);
    close_bench(&b); /* the address sanitizer counts what is left */
}

/* How much KV a length takes: whole pages, a window's at most. */
static void capacity(void **state)
{
    (void)state;
    struct engine_config config = toy_config(60);
    uint32_t need[KV_MAX_GROUPS] = {0}, longest = engine__longest(&config, 10000);
    engine__pages_needed(&config, 200, need);
    assert_int_equal(need[0], 50);
    assert_int_equal(need[1], (9 + 32 + 3) / 4 + 2);
    engine__pages_needed(&config, longest, need);
    assert_true(kv_geometry_fits(&config.geometry, need));
    engine__pages_needed(&config, longest + config.page_tokens, need);
    assert_false(kv_geometry_fits(&config.geometry, need));
    assert_int_equal(engine__longest(&config, 100), 100);

    struct decoder_config decoder = {.n_layers = 3,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .k_dim = 8,
                                     .v_dim = 8,
                                     .window = 32,
                                     .layer_windowed = {1, 0, 1}};
    size_t full = 1 * 2 * 16 * 2, windowed = 2 * full; /* bytes of a position */
    assert_int_equal(engine_kv_bytes(&decoder, KV_F16, 16, 32), 32 * (full + windowed));
    assert_int_equal(engine_kv_bytes(&decoder, KV_F16, 16, 16000),
                     16000 * full + (32 + ENGINE_DEFAULT_BATCH_TOKENS + 2 * 16) * windowed);
}

/* States take as much however long the text is, in slabs that are no larger than a page of them; the pool of that size
 * holds the text, and one slab less does not. */
static void capacity_with_states(void **state)
{
    (void)state;
    struct decoder_config decoder = {
        .n_layers = 48,
        .n_heads = 16,
        .n_kv_heads = 2,
        .k_dim = 256,
        .v_dim = 256,
        .delta = {.n_k_heads = 16, .n_v_heads = 32, .k_dim = 128, .v_dim = 128, .n_taps = 4}};
    size_t states = 36 * (size_t)(32 * 128 * 128 + 3 * 8192) * 4 + 64, block = 12 * 2 * 512 * 2 * 32;
    for (int i = 0; i < 48; i++) {
        decoder.layer_delta[i] = i % 4 != 3;
    }
    for (uint32_t n = 32; n <= 65536; n *= 2) {
        size_t per_slab = states / block - 1, slabs = (n / 32 + per_slab - 1) / per_slab;
        size_t held = n / 32 < STATES_HELD ? n / 32 : STATES_HELD;
        assert_int_equal(engine_kv_bytes(&decoder, KV_F16, 32, n), (held + slabs) * states);
    }
    struct engine_config config = {.geometry = {.n_groups = 2, .page_size = {states, block}, .pool_size = 6 * states},
                                   .window = {2, 0},
                                   .state = {true, false},
                                   .page_tokens = 32,
                                   .max_batch_tokens = 256};
    assert_int_equal(engine__longest(&config, 100000), 2 * (states / block - 1) * 32);
    config.geometry.pool_size = 4 * states; /* of a few blocks each has a state */
    assert_int_equal(engine__longest(&config, 100000), 3 * 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_threads),
        cmocka_unit_test(refusals),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(idle_engines_wait),
        cmocka_unit_test(draining_finishes_what_runs),
        cmocka_unit_test(freed_in_the_middle),
        cmocka_unit_test(capacity),
        cmocka_unit_test(capacity_with_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
