/* The engine in this process behind its port: the events that come through the loop are those of the engine, jobs can
 * be cancelled and refused, and the port can be closed at any moment, with work running and events not taken. On a
 * random model, as it is and with scripted answers. */
#include "lib/local_port.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "tests/support/engine_run.h"
#include "wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE_MS 120000

struct fixture {
    struct temp_dir dir;
    char *model, *script;
    struct engine_options options;
    struct loop *loop;
    struct loop_timer *timer;
    struct local_port *port;
    struct toy_log *log; /* what came through the port */
    uint32_t wanted;     /* jobs to end before the loop stops */
    uint64_t wanted_events;
    int64_t give_up_ms;
    bool gave_up;
    struct error failure; /* of the last job that failed */
    int n_descriptors;
};

/* ---- driving ---- */

static bool is_enough(const struct fixture *f)
{
    return f->wanted ? atomic_load(&f->log->n_jobs_ended) >= f->wanted : f->log->n_events >= f->wanted_events;
}

static void on_wake(void *arg)
{
    struct fixture *f = arg;
    struct engine_port *port = local_port_port(f->port);
    const struct engine_event *e;
    while ((e = port->ops->next(port))) {
        if (e->kind == ENGINE_FAILED) {
            f->failure = e->error;
        }
        toy_sink(f->log, e, 1);
    }
    if (is_enough(f)) {
        loop_stop(f->loop);
    }
}

static void on_timer(void *arg)
{
    struct fixture *f = arg;
    f->gave_up = clock_ms() > f->give_up_ms;
    if (f->gave_up) {
        loop_stop(f->loop);
    }
}

static void run_loop(struct fixture *f, uint32_t n_jobs, uint64_t n_events)
{
    f->wanted = n_jobs;
    f->wanted_events = n_events;
    f->give_up_ms = clock_ms() + PATIENCE_MS;
    f->gave_up = false;
    if (!is_enough(f)) {
        loop_run(f->loop);
    }
    if (f->gave_up || f->log->wrong) {
        fail_msg("%u jobs ended, %d events; %s", atomic_load(&f->log->n_jobs_ended), (int)f->log->n_events,
                 f->log->wrong ? f->log->wrong : "too late");
    }
}

/* Until so many jobs have ended in all. */
static void run_until_ended(struct fixture *f, uint32_t n_jobs)
{
    run_loop(f, n_jobs, 0);
}

static void run_until_events(struct fixture *f, uint64_t n_events)
{
    run_loop(f, 0, n_events);
}

static struct engine *make_engine(struct fixture *f)
{
    struct error err = {0};
    struct engine *engine = engine_create(&f->options, &err);
    if (!engine) {
        fail_msg("%s", err.msg);
    }
    return engine;
}

/* Without a script the model itself answers. */
static void set_script(struct fixture *f, const char *script)
{
    struct error err = {0};
    assert_true(file_write_atomic(f->script, str_of(script), &err));
    f->options.script_path = f->script;
}

static void open_port(struct fixture *f)
{
    struct error err = {0};
    f->port = local_port_create(f->loop, make_engine(f), &err);
    if (!f->port) {
        fail_msg("%s", err.msg);
    }
    local_port_port(f->port)->wake = on_wake;
    local_port_port(f->port)->wake_arg = f;
}

static void close_port(struct fixture *f)
{
    local_port_free(f->port);
    f->port = NULL;
}

static int32_t prompt[64];

static struct job make_job(uint64_t id, uint32_t n_prompt, uint32_t max_tokens)
{
    for (int i = 0; i < 64; i++) {
        prompt[i] = 'a' + i % 20;
    }
    return (struct job){.id = id,
                        .n_choices = 1,
                        .seed = id,
                        .prompt = prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = max_tokens,
                        .flags = JOB_IGNORE_EOS,
                        .sampling = sampling_default()};
}

static bool submit(struct fixture *f, const struct job *job, struct error *err)
{
    struct engine_port *port = local_port_port(f->port);
    f->log->jobs[job->id].n_choices = job->n_choices;
    return port->ops->submit(port, job, err);
}

static void must_submit(struct fixture *f, const struct job *job)
{
    struct error err = {0};
    if (!submit(f, job, &err)) {
        fail_msg("job %d: %s", (int)job->id, err.msg);
    }
}

static void cancel(struct fixture *f, uint64_t job, uint32_t choice)
{
    struct engine_port *port = local_port_port(f->port);
    port->ops->cancel(port, job, choice);
}

/* ---- fixture ---- */

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    f->n_descriptors = sys_open_descriptors();
    temp_dir_make(&f->dir);
    f->model = engine_random_model(&f->dir, "llama-plain");
    f->script = temp_dir_file(&f->dir, "script.json");
    f->options = engine_options_default();
    f->options.model_path = f->model;
    f->options.pool_size = 1 << 22;
    f->options.backend.cpu.n_threads = 1;
    f->loop = loop_create(1, &err);
    assert_non_null(f->loop);
    f->timer = loop_timer_create(f->loop, on_timer, f);
    loop_timer_start(f->timer, 50, 50);
    f->log = calloc(1, sizeof *f->log);
    toy_log_init(f->log);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int n_descriptors = f->n_descriptors;
    local_port_free(f->port);
    loop_timer_free(f->timer);
    loop_free(f->loop);
    toy_log_release(f->log);
    free(f->log);
    free(f->model);
    free(f->script);
    temp_dir_remove(&f->dir);
    free(f);
    return n_descriptors >= 0 && sys_open_descriptors() != n_descriptors;
}

/* The first loop of a program opens descriptors that stay. */
static int warm_up(void **state)
{
    struct error err = {0};
    (void)state;
    struct loop *loop = loop_create(1, &err);
    loop_free(loop);
    return loop == NULL;
}

/* ---- events ---- */

#define N_EQUAL 12

static struct job varied_job(uint64_t id)
{
    struct job job = make_job(id, 1 + (uint32_t)id * 5 % 60, 1 + (uint32_t)id * 7 % 40);
    job.n_choices = id % 4 == 0 ? 3 : 1;
    job.flags = (id % 2 ? 0 : (uint32_t)JOB_IGNORE_EOS) | (id % 3 ? 0 : (uint32_t)JOB_PROMPT_LOGPROBS) | JOB_LOGPROBS |
                JOB_DIGEST | (id % 5 ? 0 : (uint32_t)JOB_PROGRESS);
    job.n_top = (uint32_t)id % 6;
    job.n_prompt_top = id % 3 ? 0 : 2;
    return job;
}

/* The same jobs, at the same engine without a port. */
static struct engine_run run_directly(struct fixture *f)
{
    struct engine_run run;
    engine_run_start(&run, make_engine(f));
    for (uint64_t id = 0; id < N_EQUAL; id++) {
        struct job job = varied_job(id);
        engine_run_submit(&run, &job);
    }
    engine_run_wait(&run, N_EQUAL);
    engine_run_close(&run);
    return run;
}

static void events_are_those_of_the_engine(void **state)
{
    struct fixture *f = *state;
    struct engine_run direct = run_directly(f);
    open_port(f);
    for (uint64_t id = 0; id < N_EQUAL; id++) {
        struct job job = varied_job(id);
        must_submit(f, &job);
    }
    run_until_ended(f, N_EQUAL);
    for (uint64_t id = 0; id < N_EQUAL; id++) {
        assert_true(f->log->jobs[id].choices[0].n > 0);
        assert_int_equal(f->log->jobs[id].n_started, 1);
        if (!toy_same(&f->log->jobs[id], &direct.log->jobs[id], varied_job(id).n_choices)) {
            fail_msg("job %d differs", (int)id);
        }
    }
    close_port(f);
    engine_run_release(&direct);
}

static void a_scripted_answer_comes_whole(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "Hello.";
    set_script(f, "{\"default\": {\"text\": \"Hello.\"}}");
    open_port(f);
    struct job job = make_job(1, 10, 40);
    job.flags = 0;
    must_submit(f, &job);
    run_until_ended(f, 1);
    const struct toy_choice *c = &f->log->jobs[1].choices[0];
    assert_int_equal(c->finish, FINISH_STOP);
    assert_int_equal(c->n, sizeof text); /* the last is the end of text */
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        assert_int_equal(c->ids[i], text[i]);
    }
}

static void the_engine_is_described(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    struct engine_port *port = local_port_port(f->port);
    const struct engine_info *info = port->ops->info(port);
    assert_non_null(info);
    assert_int_equal(info->n_vocab, 320);
    assert_true(info->n_context >= 64);
    const struct engine_event *e;
    while ((e = port->ops->next(port))) { /* without a job it has only statistics */
        assert_int_equal(e->kind, ENGINE_STATS);
    }
}

static void a_failure_keeps_its_error(void **state)
{
    struct fixture *f = *state;
    set_script(f, "{\"default\": {\"text\": \"abc\", \"then\": \"fail\"}}");
    open_port(f);
    struct job job = make_job(1, 10, 40);
    must_submit(f, &job);
    run_until_ended(f, 1);
    assert_int_equal(f->log->jobs[1].failed, ERR_BAD_NUMBERS);
    assert_int_equal(f->failure.code, ERR_BAD_NUMBERS);
    assert_true(strlen(f->failure.msg) > 10);
}

/* ---- refusals ---- */

static void jobs_that_cannot_run_are_refused_at_once(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_port(f);
    struct job job = make_job(1, 10, LIMIT_CONTEXT - 10);
    assert_false(submit(f, &job, &err));
    assert_int_equal(err.code, ERR_CONTEXT_EXCEEDED);
    job = make_job(2, 1, 10);
    int32_t outside = 100000;
    job.prompt = &outside;
    err = (struct error){0};
    assert_false(submit(f, &job, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

static void a_full_queue_is_overloaded(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\", \"delay_ms\": 5}}");
    f->options.max_sequences = 1;
    f->options.max_waiting = 2;
    open_port(f);
    uint64_t id = 0;
    while (id < 10) {
        struct job job = make_job(id, 10, 40);
        if (!submit(f, &job, &err)) {
            break;
        }
        id++;
    }
    assert_in_range(id, 2, 4); /* one of them may run by now, and end */
    assert_int_equal(err.code, ERR_OVERLOADED);
    run_until_ended(f, (uint32_t)id);
    struct job job = make_job(id, 10, 2);
    must_submit(f, &job);
    run_until_ended(f, (uint32_t)id + 1);
}

/* ---- cancellation ---- */

static void a_running_job_is_cancelled(void **state)
{
    struct fixture *f = *state;
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\", \"delay_ms\": 20}}");
    f->options.max_sequences = 1; /* the second waits */
    open_port(f);
    struct job job = make_job(1, 10, 100), waiting = make_job(2, 10, 100), last = make_job(3, 10, 2);
    must_submit(f, &job);
    must_submit(f, &waiting);
    run_until_events(f, 3);
    cancel(f, 77, WIRE_ALL_CHOICES); /* unknown */
    cancel(f, 1, WIRE_ALL_CHOICES);
    cancel(f, 2, WIRE_ALL_CHOICES);
    cancel(f, 1, WIRE_ALL_CHOICES);
    must_submit(f, &last);
    run_until_ended(f, 3);
    assert_int_equal(f->log->jobs[1].choices[0].finish, FINISH_CANCELLED);
    assert_true(f->log->jobs[1].choices[0].n < 100);
    assert_int_equal(f->log->jobs[2].choices[0].finish, FINISH_CANCELLED);
    assert_int_equal(f->log->jobs[2].choices[0].n, 0);
    assert_int_equal(f->log->jobs[3].choices[0].finish, FINISH_LENGTH);
}

static void one_choice_is_cancelled(void **state)
{
    struct fixture *f = *state;
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\", \"delay_ms\": 10}}");
    open_port(f);
    struct job job = make_job(1, 10, 50);
    job.n_choices = 2;
    must_submit(f, &job);
    run_until_events(f, 3);
    cancel(f, 1, 1);
    run_until_ended(f, 1);
    assert_int_equal(f->log->jobs[1].choices[0].finish, FINISH_LENGTH);
    assert_int_equal(f->log->jobs[1].choices[0].n, 50);
    assert_int_equal(f->log->jobs[1].choices[1].finish, FINISH_CANCELLED);
}

/* ---- closing ---- */

static void close_at_once(void **state)
{
    struct fixture *f = *state;
    open_port(f);
    close_port(f);
    local_port_free(NULL);
}

static void close_while_jobs_run(void **state)
{
    struct fixture *f = *state;
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\", \"delay_ms\": 5}}");
    open_port(f);
    for (uint64_t id = 0; id < 8; id++) {
        struct job job = make_job(id, 10, 100);
        must_submit(f, &job);
    }
    run_until_events(f, 10);
    close_port(f);
    assert_int_equal(atomic_load(&f->log->n_jobs_ended), 0);
}

static void close_with_events_that_nobody_took(void **state)
{
    struct fixture *f = *state;
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\", \"delay_ms\": 1}}");
    open_port(f);
    struct job job = make_job(1, 10, 100);
    must_submit(f, &job);
    clock_sleep_ms(50);
    close_port(f);
    assert_int_equal(f->log->n_events, 0);
}

/* ---- a loop that is behind ---- */

#define N_MANY     110
#define MANY_TOKEN 50 /* with N_MANY more frames than wait for the loop */

static void start_many(struct fixture *f)
{
    set_script(f, "{\"default\": {\"text\": \"ab\", \"then\": \"length\"}}");
    f->options.max_sequences = 1;
    open_port(f);
    for (uint64_t id = 0; id < N_MANY; id++) {
        struct job job = make_job(id, 4, MANY_TOKEN);
        must_submit(f, &job);
    }
    clock_sleep_ms(300); /* to let the engine come as far as it can */
}

static void nothing_is_lost_when_the_loop_is_behind(void **state)
{
    struct fixture *f = *state;
    start_many(f);
    run_until_ended(f, N_MANY);
    for (uint64_t id = 0; id < N_MANY; id++) {
        const struct toy_choice *c = &f->log->jobs[id].choices[0];
        assert_int_equal(c->finish, FINISH_LENGTH);
        assert_int_equal(c->n, MANY_TOKEN);
        for (uint32_t i = 0; i < c->n; i++) {
            assert_int_equal(c->ids[i], i % 2 ? 'b' : 'a');
        }
    }
}

static void close_while_the_engine_waits_for_the_loop(void **state)
{
    struct fixture *f = *state;
    start_many(f);
    close_port(f);
    assert_int_equal(f->log->n_events, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_are_those_of_the_engine),
        TEST(a_scripted_answer_comes_whole),
        TEST(the_engine_is_described),
        TEST(a_failure_keeps_its_error),
        TEST(jobs_that_cannot_run_are_refused_at_once),
        TEST(a_full_queue_is_overloaded),
        TEST(a_running_job_is_cancelled),
        TEST(one_choice_is_cancelled),
        TEST(close_at_once),
        TEST(close_while_jobs_run),
        TEST(close_with_events_that_nobody_took),
        TEST(nothing_is_lost_when_the_loop_is_behind),
        TEST(close_while_the_engine_waits_for_the_loop),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
