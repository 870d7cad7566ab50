/* Rows whose numbers are not finite: the others of the batch do not notice, the pages are forgotten, and the request is
 * computed once more on the reference kernels and gets what it would have got there. */
#include "tests/support/engine_bench.h"
#include "tests/support/engine_run.h"
#include "tests/support/model_adapter.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/queue.h"
#include "engine/fault.h"
#include "wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define N_PROMPT 70

static int32_t prompt[3][N_PROMPT];

static struct job job_of(uint64_t id, uint32_t n_prompt, uint32_t max_tokens)
{
    int32_t *ids = prompt[id % 3];
    for (uint32_t i = 0; i < N_PROMPT; i++) {
        ids[i] = 3 + (int32_t)((id % 3 * 31 + i * 7) % 40);
    }
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = ids,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS | JOB_DIGEST | JOB_LOGPROBS,
                        .sampling = sampling_default()};
}

/* ---- the scheduler hands a job out ---- */

struct handed {
    struct bad_job bad;
    const struct toy_log *log;
    uint32_t n, n_tokens_then;
    bool refuses;
};

static bool take_bad(void *arg, const struct bad_job *bad, struct error *err)
{
    struct handed *h = arg;
    h->n++;
    h->n_tokens_then = h->log->jobs[bad->job->id].choices[0].n;
    if (h->refuses) {
        return error_set(err, ERR_BAD_NUMBERS, "Not now.");
    }
    h->bad = *bad;
    return true;
}

static void run_until_idle(struct scheduler *s, const struct toy_log *log)
{
    while (!scheduler_idle(s)) {
        scheduler_step(s);
        bench_check(s, log);
    }
}

static void run_three(const struct engine_config *config, uint64_t bad_job, struct handed *handed, struct toy *toy,
                      struct toy_log **log, struct scheduler **s)
{
    *s = bench_scheduler(toy, config, (struct toy_mode){0}, log);
    handed->log = *log;
    if (bad_job) {
        scheduler_on_bad_numbers(*s, take_bad, handed);
    }
    for (uint64_t i = 1; i <= 3; i++) {
        struct job job = job_of(i, 41, 12);
        job.n_choices = i == 2 ? 2 : 1;
        bench_submit(*s, config, &job);
    }
    for (int i = 0; i < 6; i++) {
        scheduler_step(*s);
        bench_check(*s, *log);
    }
    toy->bad_job = bad_job;
    run_until_idle(*s, *log);
    toy->bad_job = 0;
}

static void close_three(struct toy *toy, struct toy_log *log, struct scheduler *s)
{
    scheduler_free(s);
    toy_release(toy);
    toy_log_release(log);
    free(log);
}

static void the_others_do_not_notice(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct handed handed = {0};
    struct toy toys[2];
    struct toy_log *well, *bad;
    struct scheduler *a, *b;
    run_three(&config, 0, &handed, &toys[0], &well, &a);
    run_three(&config, 2, &handed, &toys[1], &bad, &b);
    assert_true(toy_same(&well->jobs[1], &bad->jobs[1], 1) && toy_same(&well->jobs[3], &bad->jobs[3], 1));

    assert_int_equal(handed.n, 1);
    const struct job *job = handed.bad.job;
    assert_int_equal(job->id, 2);
    assert_int_equal(handed.bad.ended, 0);
    for (uint32_t i = 0; i < 2; i++) { /* what was sent, and no more */
        const struct toy_choice *c = &bad->jobs[2].choices[i];
        assert_true(c->n > 0 && c->n < 12 && c->finish == FINISH_NONE);
        assert_int_equal(job->accepted[i].n, c->n);
        assert_memory_equal(job->accepted[i].ids, c->ids, c->n * sizeof *c->ids);
        assert_memory_equal(c->ids, well->jobs[2].choices[i].ids, c->n * sizeof *c->ids);
    }
    assert_int_equal(handed.n_tokens_then, bad->jobs[2].choices[0].n); /* behind its events */
    assert_int_equal(bad->jobs[2].failed, ERR_NONE);
    assert_int_equal(bad->jobs[2].n_preempted, 2);
    assert_true(job->flags & JOB_NO_CACHE);
    assert_int_equal(scheduler_stats(b)->replays, 1);
    assert_int_equal(scheduler_stats(b)->replaying, 1);
    assert_int_equal(scheduler_stats(b)->jobs_finished, 2);
    free(handed.bad.job);

    struct job again = job_of(5, 41, 1); /* the prompt of job 2 */
    bench_submit(b, &config, &again);
    run_until_idle(b, bad);
    assert_int_equal(bad->jobs[5].n_cached, 0);
    again = job_of(4, 41, 1); /* that of job 1 */
    bench_submit(b, &config, &again);
    run_until_idle(b, bad);
    assert_int_equal(bad->jobs[4].n_cached, 40);
    close_three(&toys[0], well, a);
    close_three(&toys[1], bad, b);
}

static void a_refused_job_fails(void **state)
{
    (void)state;
    struct engine_config config = toy_config(600);
    struct handed handed = {.refuses = true};
    struct toy toy;
    struct toy_log *log;
    struct scheduler *s;
    run_three(&config, 2, &handed, &toy, &log, &s);
    assert_int_equal(log->jobs[2].failed, ERR_BAD_NUMBERS);
    assert_int_equal(scheduler_stats(s)->replaying, 0);
    assert_int_equal(scheduler_stats(s)->replays_failed, 1);
    assert_int_equal(scheduler_stats(s)->jobs_failed, 1);
    assert_int_equal(scheduler_stats(s)->jobs_finished, 3);
    close_three(&toy, log, s);
}

/* ---- whole engines ---- */

struct bench {
    struct temp_dir dir;
    char *model;
    struct fault *fault;
    struct engine_options options;
    struct engine_run run;
};

static int open_with(void **state, const char *model)
{
    struct bench *b = calloc(1, sizeof *b);
    temp_dir_make(&b->dir);
    b->model = engine_random_model(&b->dir, model);
    b->options = engine_options_default();
    b->options.model_path = b->model;
    b->options.pool_size = MIB(8);
    b->options.backend.cpu = (struct cpu_backend_options){.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1};
    *state = b;
    return 0;
}

static int open_bench(void **state)
{
    return open_with(state, "llama-plain");
}

static int open_states(void **state)
{
    return open_with(state, "qwen3next");
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    if (b->run.log) {
        engine_run_release(&b->run);
    }
    fault_free(b->fault);
    temp_dir_remove(&b->dir);
    free(b->model);
    free(b);
    return 0;
}

static void start(struct bench *b, const char *spec)
{
    struct error err = {0};
    if (b->run.log) {
        engine_run_release(&b->run);
    }
    fault_free(b->fault);
    assert_true(fault_create(spec, &b->fault, &err));
    b->options.fault = b->fault;
    engine_run_open(&b->run, &b->options);
}

/* Three jobs of all kinds: with choices, a scored prompt, plain. */
static void run_jobs(struct bench *b)
{
    for (uint64_t i = 1; i <= 3; i++) {
        struct job job = job_of(i, 60, 20);
        job.n_choices = i == 1 ? 3 : 1;
        job.flags |= i == 2 ? JOB_PROMPT_LOGPROBS : 0;
        engine_run_submit(&b->run, &job);
    }
    engine_run_wait(&b->run, 3);
}

static struct toy_log *take_log(struct bench *b)
{
    struct toy_log *log = b->run.log;
    engine_run_close(&b->run);
    b->run.log = NULL;
    return log;
}

static void free_log(struct toy_log *log)
{
    toy_log_release(log);
    free(log);
}

/* Kernels are the same before and after, so the bits are too. */
static void replays_are_exact(void **state)
{
    struct bench *b = *state;
    static const char *const specs[] = {"nan:step=1", "nan:step=5,row=0", "nan:step=9", "nan:step=2,row=1;nan:step=7",
                                        "nan:step=18,times=3"};
    start(b, NULL);
    run_jobs(b);
    struct toy_log *expected = take_log(b);
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        start(b, specs[i]);
        run_jobs(b);
        uint32_t n_replayed = 0;
        for (uint64_t id = 1; id <= 3; id++) {
            const struct toy_job *job = &b->run.log->jobs[id];
            if (job->failed || !toy_same(job, &expected->jobs[id], id == 1 ? 3 : 1)) {
                fail_msg("job %d differs with %s: error %d", (int)id, specs[i], (int)job->failed);
            }
            assert_true(job->n_replayed <= 1 && job->n_started == 1);
            if (job->n_replayed) {
                assert_string_equal(job->fingerprint, engine_info(b->run.engine)->fingerprint);
            }
            n_replayed += job->n_replayed;
        }
        assert_true(n_replayed >= 1);
        free_log(take_log(b));
    }
    free_log(expected);
}

/* Again not finite: that request fails, and says that it was tried; the next is well. */
static void twice_is_a_failure(void **state)
{
    struct bench *b = *state;
    struct engine_stats stats;
    start(b, "nan:always,token=77");
    struct job well = job_of(1, 30, 10), bad = job_of(2, 30, 10);
    int32_t ids[30];
    memcpy(ids, bad.prompt, sizeof ids);
    ids[20] = 77;
    bad.prompt = ids;
    engine_run_submit(&b->run, &bad);
    engine_run_submit(&b->run, &well);
    engine_run_wait(&b->run, 2);
    assert_int_equal(b->run.log->jobs[2].failed, ERR_BAD_NUMBERS);
    assert_int_equal(b->run.log->jobs[2].n_replayed, 1);
    assert_non_null(strstr(b->run.log->jobs[2].error.msg, "once more"));
    assert_int_equal(b->run.log->jobs[1].failed, ERR_NONE);
    do { /* the snapshot follows the events */
        engine_stats(b->run.engine, &stats);
    } while (stats.jobs_finished < 2);
    assert_int_equal(stats.replays, 1);
    assert_int_equal(stats.replays_failed, 1);
    assert_int_equal(stats.replaying, 0);
}

/* ---- adapters ---- */

#define N_ADAPTERS 2

struct adapted {
    char *path[N_ADAPTERS + 1]; /* [.] by number */
    struct sha256 digest[N_ADAPTERS + 1];
    struct queue *done;
};

static void take_done(void *arg, uint32_t number, const struct error *err)
{
    (void)number;
    assert_true(queue_push(arg, err));
}

static void write_adapters(struct bench *b, struct adapted *a)
{
    static const char *const names[] = {"", "one.gguf", "two.gguf"};
    *a = (struct adapted){.done = queue_create(sizeof(struct error), 1)};
    for (int i = 1; i <= N_ADAPTERS; i++) {
        a->path[i] = temp_dir_file(&b->dir, names[i]);
        a->digest[i] = random_adapter_write("llama-linear", i, a->path[i]);
    }
}

static void release_adapters(struct adapted *a)
{
    queue_free(a->done);
    for (int i = 1; i <= N_ADAPTERS; i++) {
        free(a->path[i]);
    }
}

/* Until the engine has what lies at `path` under this number. */
static void adapt(struct bench *b, const struct adapted *a, uint32_t number, int which)
{
    struct error err = {0};
    struct adapter_order order = {.number = number, .digest = a->digest[which]};
    snprintf(order.path, sizeof order.path, "%s", a->path[which]);
    assert_true(engine_adapt(b->run.engine, &order, take_done, a->done, &err));
    assert_true(queue_wait(a->done, &err, -1));
    if (err.code) {
        fail_msg("%s", err.msg);
    }
}

static void start_adapted(struct bench *b, const struct adapted *a, const char *spec)
{
    start(b, spec);
    for (uint32_t i = 1; i <= N_ADAPTERS; i++) {
        adapt(b, a, i, (int)i);
    }
}

/* One prompt: of the model, of the first adapter, of the second. */
static struct job adapted_job(const struct adapted *a, uint64_t id, uint32_t number, int which)
{
    struct job job = job_of(3, 60, 20);
    job.id = id;
    job.adapter = number;
    job.adapter_digest = a->digest[which];
    return job;
}

static void run_adapted(struct bench *b, const struct adapted *a)
{
    for (uint32_t i = 0; i <= N_ADAPTERS; i++) {
        struct job job = adapted_job(a, i + 1, i, (int)i);
        engine_run_submit(&b->run, &job);
    }
    engine_run_wait(&b->run, N_ADAPTERS + 1);
}

static bool all_differ(const struct toy_log *log)
{
    return !toy_same(&log->jobs[1], &log->jobs[2], 1) && !toy_same(&log->jobs[2], &log->jobs[3], 1) &&
           !toy_same(&log->jobs[1], &log->jobs[3], 1);
}

/* The whole batch at once, then rows of it, and twice in one run. */
static void each_is_replayed_with_its_adapter(void **state)
{
    struct bench *b = *state;
    static const char *const specs[] = {"nan:step=1", "nan:step=5", "nan:step=7,row=1;nan:step=9,row=0"};
    struct adapted a;
    write_adapters(b, &a);
    start_adapted(b, &a, NULL);
    run_adapted(b, &a);
    struct toy_log *expected = take_log(b);
    assert_true(all_differ(expected));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        uint32_t n_replayed = 0;
        start_adapted(b, &a, specs[i]);
        run_adapted(b, &a);
        for (uint64_t id = 1; id <= N_ADAPTERS + 1; id++) {
            const struct toy_job *job = &b->run.log->jobs[id];
            if (job->failed || !toy_same(job, &expected->jobs[id], 1)) {
                fail_msg("job %d differs with %s: %s", (int)id, specs[i], job->error.msg);
            }
            n_replayed += job->n_replayed;
        }
        assert_true(n_replayed >= 1);
        free_log(take_log(b));
    }
    free_log(expected);
    release_adapters(&a);
}

/* A number may have had another adapter, which the second engine still has. */
static void a_number_has_another_adapter(void **state)
{
    struct bench *b = *state;
    struct adapted a;
    write_adapters(b, &a);
    start_adapted(b, &a, NULL);
    run_adapted(b, &a);
    struct toy_log *expected = take_log(b);
    start_adapted(b, &a, "nan:step=1;nan:step=22");
    struct job job = adapted_job(&a, 4, 1, 1);
    engine_run_submit(&b->run, &job);
    engine_run_wait(&b->run, 1);
    assert_int_equal(b->run.log->jobs[4].n_replayed, 1);
    assert_true(toy_same(&b->run.log->jobs[4], &expected->jobs[2], 1));
    adapt(b, &a, 1, 2);
    for (uint64_t id = 5; id <= 7; id++) { /* one of them is in the step */
        job = adapted_job(&a, id, 1, 2);
        engine_run_submit(&b->run, &job);
        engine_run_wait(&b->run, (uint32_t)id - 3);
        assert_true(toy_same(&b->run.log->jobs[id], &expected->jobs[3], 1));
    }
    assert_int_equal(b->run.log->jobs[5].n_replayed + b->run.log->jobs[6].n_replayed + b->run.log->jobs[7].n_replayed,
                     1);
    free_log(expected);
    release_adapters(&a);
}

/* Gone, or another file by now: that request fails, and says why. */
static void an_adapter_that_cannot_be_read_again(void **state)
{
    struct bench *b = *state;
    static const char *const reasons[] = {"its adapter", "not what it was"};
    struct adapted a;
    write_adapters(b, &a);
    for (int i = 0; i < 2; i++) {
        start_adapted(b, &a, "nan:step=1,row=0");
        if (i == 0) {
            assert_int_equal(unlink(a.path[1]), 0);
        } else {
            random_adapter_write("llama-linear", 9, a.path[1]);
        }
        struct job bad = adapted_job(&a, 1, 1, 1), well = adapted_job(&a, 2, 2, 2);
        engine_run_submit(&b->run, &bad);
        engine_run_wait(&b->run, 1);
        engine_run_submit(&b->run, &well);
        engine_run_wait(&b->run, 2);
        assert_int_equal(b->run.log->jobs[1].failed, ERR_BAD_NUMBERS);
        assert_int_equal(b->run.log->jobs[1].n_replayed, 0);
        assert_non_null(strstr(b->run.log->jobs[1].error.msg, "could not be tried again"));
        assert_non_null(strstr(b->run.log->jobs[1].error.msg, reasons[i]));
        assert_int_equal(b->run.log->jobs[2].choices[0].n, 20);
        free_log(take_log(b));
        a.digest[1] = random_adapter_write("llama-linear", 1, a.path[1]);
    }
    release_adapters(&a);
}

/* The second engine goes away when nobody needs it, and comes again. */
static void it_is_put_away(void **state)
{
    struct bench *b = *state;
    b->options.replay_idle_ms = 1;
    start(b, "nan:step=1,times=1;nan:step=30,times=1");
    for (uint64_t i = 1; i <= 6; i++) {
        struct job job = job_of(i, 20, 12);
        engine_run_submit(&b->run, &job);
        engine_run_wait(&b->run, (uint32_t)i);
        clock_sleep_ms(5);
    }
    uint32_t n_replayed = 0;
    for (uint64_t i = 1; i <= 6; i++) {
        n_replayed += b->run.log->jobs[i].n_replayed;
        assert_int_equal(b->run.log->jobs[i].choices[0].n, 12);
        assert_int_equal(b->run.log->jobs[i].failed, ERR_NONE);
    }
    assert_int_equal(n_replayed, 2);
}

static void what_cannot_be_loaded_fails_alone(void **state)
{
    struct bench *b = *state;
    start(b, "nan:step=1");
    assert_int_equal(unlink(b->model), 0);
    struct job bad = job_of(1, 30, 10), well = job_of(2, 30, 10);
    engine_run_submit(&b->run, &bad);
    engine_run_wait(&b->run, 1);
    engine_run_submit(&b->run, &well);
    engine_run_wait(&b->run, 2);
    assert_int_equal(b->run.log->jobs[1].failed, ERR_BAD_NUMBERS);
    assert_non_null(strstr(b->run.log->jobs[1].error.msg, "could not be tried again"));
    assert_int_equal(b->run.log->jobs[2].choices[0].n, 10);
}

static void cancels_and_deadlines_reach_it(void **state)
{
    struct bench *b = *state;
    start(b, "nan:step=1,times=3");
    struct job cancelled = job_of(1, 30, 400), late = job_of(2, 30, 400), one = job_of(3, 30, 100);
    cancelled.n_choices = 2;
    one.n_choices = 2;
    late.timeout_ms = 120;
    engine_run_submit(&b->run, &cancelled);
    engine_cancel(b->run.engine, 1, WIRE_ALL_CHOICES); /* it may be anywhere */
    engine_run_wait(&b->run, 1);
    engine_run_submit(&b->run, &late);
    engine_run_wait(&b->run, 2);
    engine_run_submit(&b->run, &one);
    engine_cancel(b->run.engine, 3, 1);
    engine_run_wait(&b->run, 3);
    assert_int_equal(b->run.log->jobs[1].choices[0].finish, FINISH_CANCELLED);
    assert_int_equal(b->run.log->jobs[1].choices[1].finish, FINISH_CANCELLED);
    assert_true(b->run.log->jobs[2].failed == ERR_DEADLINE || b->run.log->jobs[2].choices[0].n == 400);
    assert_int_equal(b->run.log->jobs[3].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(b->run.log->jobs[3].choices[1].finish, FINISH_CANCELLED);
}

/* The pool and its seals are the first engine's alone: what it sealed is there for the next one. */
static void seals_are_left_alone(void **state)
{
    struct bench *b = *state;
    struct engine_stats stats;
    b->options.pool = aligned_alloc(4096, b->options.pool_size);
    b->options.seals = calloc(1, MIB(1));
    b->options.seals_size = MIB(1);
    start(b, "nan:step=12,row=0");
    run_jobs(b);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_int_equal(b->run.log->jobs[id].failed, ERR_NONE);
    }
    start(b, NULL);
    engine_stats(b->run.engine, &stats);
    assert_true(stats.adopted_blocks > 0);
    engine_run_release(&b->run);
    b->run.log = NULL;
    free(b->options.pool);
    free(b->options.seals);
}

static void set_true(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
}

/* An engine that drains waits for what is being replayed; one that is freed does not. */
static void draining_waits_for_it(void **state)
{
    struct bench *b = *state;
    atomic_bool idle = false;
    start(b, "nan:step=1");
    struct job job = job_of(1, 30, 40);
    engine_run_submit(&b->run, &job);
    engine_drain(b->run.engine, set_true, &idle);
    while (!atomic_load(&idle)) {
        clock_sleep_ms(1);
    }
    assert_int_equal(b->run.log->jobs[1].choices[0].n, 40);
    assert_int_equal(b->run.log->jobs[1].n_replayed, 1);

    start(b, "nan:step=1");
    job = job_of(1, 30, 400);
    engine_run_submit(&b->run, &job);
    struct engine_stats stats;
    do {
        engine_stats(b->run.engine, &stats);
    } while (stats.replaying == 0 && stats.jobs_finished == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_others_do_not_notice),
        cmocka_unit_test(a_refused_job_fails),
        cmocka_unit_test_setup_teardown(replays_are_exact, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(replays_are_exact, open_states, close_bench),
        cmocka_unit_test_setup_teardown(twice_is_a_failure, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(it_is_put_away, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(what_cannot_be_loaded_fails_alone, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(cancels_and_deadlines_reach_it, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(seals_are_left_alone, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(draining_waits_for_it, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(each_is_replayed_with_its_adapter, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(a_number_has_another_adapter, open_bench, close_bench),
        cmocka_unit_test_setup_teardown(an_adapter_that_cannot_be_read_again, open_bench, close_bench),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
