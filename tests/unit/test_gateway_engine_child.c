/* Engine processes as the gateway keeps them, against a program that speaks frames and misbehaves (tests/tools/
 * fake_engine.c). Every test ends with the child closed, and then neither a process nor a descriptor may be left. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "base/sys_memory.h"
#include "base/sys_proc.h"
#include "gateway/engine_child.h"
#include "wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_EVENTS 64
#define MAX_STATES 64
#define LIMIT      3     /* losses that are borne */
#define PATIENCE   60000 /* ms: nothing here takes a second but on a busy machine */
#define GRACE_MS   400
#define MAX_UNREAD MIB(32)
#define N_LARGE    (1u << 19) /* ids of a job of 2 MiB */

struct fixture {
    struct loop *loop;
    struct gateway_options gateway;
    struct engine_child *child;
    char program[4096];
    const char *arguments[2];
    enum model_state states[MAX_STATES];
    int n_states;
    struct {
        enum engine_event_kind kind;
        uint64_t job;
        int32_t first_id;
        struct error error;
    } events[MAX_EVENTS];
    int n_events, n_closed, n_waits, n_adapted;
    bool on_demand; /* somebody else starts the child */
    struct adapter_set adapters;
    bool (*until)(struct fixture *f);
    bool seen;                       /* until held at some moment; the engine may have gone on since */
    void (*then)(struct fixture *f); /* called at that moment; NULL: nothing */
    int64_t give_up_ms;
};

/* ---- driving ---- */

/* Has just now begun to hold what is waited for? */
static bool notice(struct fixture *f)
{
    if (f->seen || !f->until || !f->until(f)) {
        return false;
    }
    f->seen = true;
    if (f->then) {
        f->then(f);
    }
    return true;
}

/* Until the loop has stopped, more may happen. */
static void look(struct fixture *f)
{
    if (notice(f)) {
        loop_stop(f->loop);
    }
}

static void on_state(void *arg)
{
    struct fixture *f = arg;
    if (!f->child) {
        return;
    }
    if (f->n_states < MAX_STATES) {
        f->states[f->n_states++] = engine_child_state(f->child);
    }
    look(f);
}

static void on_wake(void *arg)
{
    struct fixture *f = arg;
    struct engine_port *port = engine_child_port(f->child);
    const struct engine_event *e;
    while ((e = port->ops->next(port))) {
        assert_true(f->n_events < MAX_EVENTS);
        f->events[f->n_events].kind = e->kind;
        f->events[f->n_events].job = e->job;
        f->events[f->n_events].first_id = e->n ? e->ids[0] : -1;
        f->events[f->n_events++].error = e->error;
    }
}

static void on_tick(void *arg)
{
    struct fixture *f = arg;
    look(f);
    if (clock_ms() > f->give_up_ms) {
        loop_stop(f->loop);
    }
}

/* Runs the loop until the condition has held, if only for a moment; false when the time is over first. */
static bool run_until(struct fixture *f, bool (*until)(struct fixture *f), int64_t limit_ms)
{
    struct loop_timer *timer = loop_timer_create(f->loop, on_tick, f);
    f->until = until;
    f->seen = false;
    f->give_up_ms = clock_ms() + limit_ms;
    if (!notice(f)) {
        loop_timer_start(timer, 0, 2);
        loop_run(f->loop);
    }
    loop_timer_free(timer);
    f->until = NULL;
    f->then = NULL;
    return f->seen;
}

static bool is_ready(struct fixture *f)
{
    return engine_child_state(f->child) == MODEL_READY;
}

static bool is_failed(struct fixture *f)
{
    return engine_child_state(f->child) == MODEL_FAILED;
}

static bool is_restarting(struct fixture *f)
{
    return engine_child_state(f->child) == MODEL_RESTARTING;
}

static bool is_loading(struct fixture *f)
{
    return engine_child_state(f->child) == MODEL_LOADING;
}

static bool three_events(struct fixture *f)
{
    return f->n_events >= 3;
}

static bool one_event(struct fixture *f)
{
    return f->n_events >= 1;
}

static bool never(struct fixture *f)
{
    (void)f;
    return false;
}

static bool is_closed(struct fixture *f)
{
    return f->n_closed > 0;
}

static void on_closed(void *arg)
{
    struct fixture *f = arg;
    f->n_closed++;
    look(f);
}

static void on_wait(void *arg)
{
    struct fixture *f = arg;
    f->n_waits++;
}

static void on_adapter(void *arg)
{
    struct fixture *f = arg;
    f->n_adapted++;
}

static bool is_unloaded(struct fixture *f)
{
    return engine_child_state(f->child) == MODEL_UNLOADED;
}

static void open_child(struct fixture *f, const char *mode, uint32_t max_waiting)
{
    struct error err = {0};
    f->arguments[0] = "--mode";
    f->arguments[1] = mode;
    struct engine_child_options options = {.gateway = &f->gateway,
                                           .arguments = f->arguments,
                                           .n_arguments = 2,
                                           .name = "fake",
                                           .pool_size = 4096,
                                           .max_unread = MAX_UNREAD,
                                           .max_waiting = max_waiting,
                                           .on_state = on_state,
                                           .on_state_arg = f,
                                           .on_wait = on_wait,
                                           .adapters = &f->adapters,
                                           .on_adapter = on_adapter,
                                           .tries_again = !f->on_demand};
    f->child = engine_child_create(&options, &err);
    if (!f->child) {
        fail_msg("engine_child_create: %s", err.msg);
    }
    struct engine_port *port = engine_child_port(f->child);
    port->wake = on_wake;
    port->wake_arg = f;
}

static void open_and_start(struct fixture *f, const char *mode)
{
    open_child(f, mode, 100);
    engine_child_start(f->child);
}

/* A loop that holds an engine cannot be freed: there is no going on after a failure. */
static void end_engine(struct fixture *f)
{
    engine_child_close(f->child, on_closed, f);
    if (!run_until(f, is_closed, PATIENCE)) {
        fprintf(stderr, "the engine does not end: state %s, process %d\n",
                model_state_name(engine_child_state(f->child)), engine_child_pid(f->child));
        abort();
    }
    run_until(f, never, 20); /* whatever was still to come must not call on_closed again */
    engine_child_free(f->child);
    f->child = NULL;
}

static void close_child(struct fixture *f)
{
    end_engine(f);
    assert_int_equal(f->n_closed, 1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static bool submit(struct fixture *f, uint64_t id, uint32_t n_prompt, struct error *err)
{
    struct engine_port *port = engine_child_port(f->child);
    int32_t *prompt = calloc(n_prompt, sizeof *prompt);
    assert_non_null(prompt);
    prompt[0] = (int32_t)id;
    struct job job = {.id = id,
                      .n_choices = 1,
                      .prompt = prompt,
                      .n_prompt = n_prompt,
                      .max_tokens = 1,
                      .sampling = sampling_default()};
    bool ok = port->ops->submit(port, &job, err);
    free(prompt);
    return ok;
}

static void must_submit(struct fixture *f, uint64_t id)
{
    struct error err = {0};
    if (!submit(f, id, 3, &err)) {
        fail_msg("job %d: %s", (int)id, err.msg);
    }
}

static void cancel(struct fixture *f, uint64_t id, uint32_t choice)
{
    struct engine_port *port = engine_child_port(f->child);
    port->ops->cancel(port, id, choice);
}

static int count_events(const struct fixture *f, enum engine_event_kind kind)
{
    int n = 0;
    for (int i = 0; i < f->n_events; i++) {
        n += f->events[i].kind == kind;
    }
    return n;
}

static void expect_echo(const struct fixture *f, int at, uint64_t job)
{
    assert_true(at < f->n_events);
    assert_int_equal(f->events[at].kind, ENGINE_TOKENS);
    assert_int_equal(f->events[at].job, job);
    assert_int_equal(f->events[at].first_id, job);
}

/* ---- fixture ---- */

static int n_descriptors; /* before each test */

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    n_descriptors = sys_open_descriptors();
    f->loop = loop_create(1, &err);
    assert_non_null(f->loop);
    assert_true(sys_self_path(f->program, sizeof f->program));
    char *slash = strrchr(f->program, '/');
    snprintf(slash, sizeof f->program - (size_t)(slash - f->program), "/fake_engine");
    f->gateway = gateway_options_default();
    f->gateway.loop = f->loop;
    f->gateway.program = f->program;
    f->gateway.restart.initial_ms = 10;
    f->gateway.restart.max_ms = 40;
    f->gateway.restart.limit = LIMIT;
    f->gateway.restart.retry_ms = 200;
    f->gateway.engine_grace_ms = GRACE_MS;
    f->gateway.watchdog.stopped_ms = PATIENCE; /* on a busy machine nobody beats for a while; test_gateway_watchdog */
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->child) { /* a test has failed */
        end_engine(f);
    }
    loop_free(f->loop);
    adapter_set_release(&f->adapters);
    free(f);
    return n_descriptors >= 0 && sys_open_descriptors() != n_descriptors;
}

/* The first child process of a program makes libuv open descriptors that stay. */
static int warm_up(void **state)
{
    setup(state);
    open_and_start(*state, "echo");
    close_child(*state);
    teardown(state);
    return 0;
}

/* ---- tests ---- */

static void waiting_jobs_go_out_in_order_after_hello(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "slow");
    assert_null(engine_child_info(f->child));
    for (uint64_t id = 1; id <= 3; id++) {
        must_submit(f, id);
    }
    assert_true(run_until(f, three_events, PATIENCE));
    assert_int_equal(f->n_events, 3);
    for (int i = 0; i < 3; i++) {
        expect_echo(f, i, (uint64_t)i + 1);
    }
    assert_int_equal(f->states[0], MODEL_LOADING);
    assert_int_equal(f->states[1], MODEL_READY);
    assert_int_equal(engine_child_info(f->child)->n_context, 100);
    assert_float_equal(engine_child_load_fraction(f->child), 1, 0);
    engine_child_clear_cache(f->child);
    close_child(f);
}

static void a_job_larger_than_a_frame_arrives_whole(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_and_start(f, "echo");
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_true(submit(f, 5, 1000000, &err));
    assert_true(run_until(f, one_event, PATIENCE));
    expect_echo(f, 0, 5);
    close_child(f);
}

static void waiting_jobs_are_bounded_and_can_be_cancelled(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_child(f, "slow", 4);
    engine_child_start(f->child);
    for (uint64_t id = 1; id <= 4; id++) {
        must_submit(f, id);
    }
    assert_false(submit(f, 5, 3, &err));
    assert_int_equal(err.code, ERR_OVERLOADED);
    cancel(f, 2, 0); /* one choice of a job that has not begun: it is told later */
    cancel(f, 99, WIRE_ALL_CHOICES);
    cancel(f, 4, WIRE_ALL_CHOICES); /* the last */
    cancel(f, 1, WIRE_ALL_CHOICES); /* the first */
    must_submit(f, 6);
    assert_true(run_until(f, three_events, PATIENCE));
    expect_echo(f, 0, 2);
    expect_echo(f, 1, 3);
    expect_echo(f, 2, 6);
    close_child(f);
}

static void waiting_jobs_are_bounded_in_bytes(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t id = 1;
    open_child(f, "slow", 1000);
    while (id < 100 && submit(f, id, N_LARGE, &err)) {
        id++;
    }
    assert_in_range(id, 4, 10); /* half of MAX_UNREAD in jobs of 2 MiB */
    assert_int_equal(err.code, ERR_OVERLOADED);
    cancel(f, 1, WIRE_ALL_CHOICES);
    assert_true(submit(f, 200, N_LARGE, &err));
    close_child(f);
}

static void submit_3(struct fixture *f)
{
    must_submit(f, 3);
}

static void an_engine_that_exits_is_restarted_then_failed_then_tried_again(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    open_and_start(f, "exit");
    must_submit(f, 1);
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_int_equal(engine_child_restarts(f->child), LIMIT + 1);
    assert_non_null(strstr(engine_child_failure(f->child)->msg, "status 7"));
    assert_int_equal(count_events(f, ENGINE_LOST), 1); /* the job waited for all of them */
    assert_int_equal(f->events[0].error.code, ERR_UNAVAILABLE);
    assert_false(submit(f, 2, 3, &err));
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    for (int i = 0; i < LIMIT; i++) {
        assert_int_equal(f->states[2 * i], MODEL_LOADING);
        assert_int_equal(f->states[2 * i + 1], MODEL_RESTARTING);
    }
    f->then = submit_3; /* waits again */
    assert_true(run_until(f, is_loading, PATIENCE));
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_int_equal(count_events(f, ENGINE_LOST), 2);
    close_child(f);
}

static void a_fatal_error_fails_at_once(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "fatal");
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_int_equal(engine_child_restarts(f->child), 1);
    assert_int_equal(engine_child_failure(f->child)->code, ERR_FORMAT);
    assert_non_null(strstr(engine_child_failure(f->child)->msg, "cheese"));
    close_child(f);
}

static void a_fatal_engine_that_stays_is_killed(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "fatal-stay");
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_non_null(strstr(engine_child_failure(f->child)->msg, "cheese"));
    close_child(f);
}

static void garbage_ends_the_engine(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "garbage");
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_int_equal(engine_child_failure(f->child)->code, ERR_PROTOCOL);
    assert_int_equal(engine_child_restarts(f->child), LIMIT + 1);
    assert_int_equal(count_events(f, ENGINE_LOST), LIMIT + 1); /* each was ready */
    close_child(f);
}

static void a_lost_engine_is_told_once_and_the_next_one_works(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "once-first");
    assert_true(run_until(f, is_ready, PATIENCE));
    int pid = engine_child_pid(f->child);
    must_submit(f, 1);
    must_submit(f, 2);
    f->then = submit_3; /* while nothing runs */
    assert_true(run_until(f, is_restarting, PATIENCE));
    assert_int_equal(f->n_events, 1);
    assert_int_equal(f->events[0].kind, ENGINE_LOST);
    assert_int_equal(f->events[0].error.code, ERR_ENGINE_LOST);
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_true(run_until(f, three_events, 300) || f->n_events == 2);
    assert_int_equal(f->n_events, 2); /* jobs 1 and 2 are not sent again */
    expect_echo(f, 1, 3);
    assert_int_equal(engine_child_restarts(f->child), 1);
    assert_int_not_equal(engine_child_pid(f->child), pid);
    assert_string_equal(engine_child_failure(f->child)->msg, "");
    close_child(f);
}

static void frames_of_another_epoch_are_not_heard(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "other-epoch");
    must_submit(f, 1);
    assert_false(run_until(f, is_ready, 400));
    assert_int_equal(f->n_events, 0);
    assert_true(is_loading(f));
    close_child(f);
}

static void an_engine_that_does_not_read_overflows_and_is_killed(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t id = 1;
    open_and_start(f, "hang");
    assert_true(run_until(f, is_ready, PATIENCE));
    while (id < 100 && submit(f, id, N_LARGE, &err)) {
        id++;
    }
    assert_in_range(id, 10, 20); /* MAX_UNREAD in jobs of 2 MiB */
    assert_int_equal(err.code, ERR_OVERLOADED);
    assert_true(is_ready(f));
    cancel(f, 1, WIRE_ALL_CHOICES);
    close_child(f);
}

static void a_closed_socket_is_a_lost_engine_though_the_process_stays(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "half");
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_true(run_until(f, is_restarting, PATIENCE));
    assert_int_equal(count_events(f, ENGINE_LOST), 1);
    close_child(f);
}

static void an_exit_is_a_lost_engine_though_its_socket_stays_open(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "lend");
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_true(run_until(f, is_restarting, PATIENCE));
    assert_int_equal(count_events(f, ENGINE_LOST), 1);
    close_child(f);
}

static void a_missing_program_fails(void **state)
{
    struct fixture *f = *state;
    f->gateway.program = "/nowhere/tandem";
    open_and_start(f, "echo");
    assert_true(run_until(f, is_failed, PATIENCE));
    assert_non_null(strstr(engine_child_failure(f->child)->msg, "could not be started"));
    close_child(f);
}

static void start_without_descriptors(struct fixture *f)
{
    struct rlimit before, none;
    int free_fd = dup(0);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)free_fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    engine_child_start(f->child);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void a_start_without_descriptors_is_tried_again(void **state)
{
    struct fixture *f = *state;
    open_child(f, "echo", 4);
    start_without_descriptors(f);
    assert_int_equal(engine_child_pid(f->child), 0);
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_int_equal(engine_child_restarts(f->child), 1);
    close_child(f);
}

static void close_after_a_start_without_descriptors(void **state)
{
    struct fixture *f = *state;
    open_child(f, "echo", 4);
    start_without_descriptors(f);
    close_child(f);
}

static void close_in_every_state(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *mode;
        bool (*until)(struct fixture *f); /* NULL: right after the start */
    } cases[] = {
        {"echo", NULL},       {"slow", is_loading},  {"echo", is_ready},         {"once", is_ready},
        {"exit", NULL},       {"exit", is_failed},   {"exit", is_restarting},    {"fatal", NULL},
        {"fatal", is_failed}, {"garbage", is_ready}, {"garbage", is_restarting},
    };
    f->gateway.restart.initial_ms = f->gateway.restart.max_ms = 30; /* time to be seen waiting */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        f->n_closed = f->n_states = f->n_events = 0;
        open_and_start(f, cases[i].mode);
        must_submit(f, 1);
        if (cases[i].until) {
            assert_true(run_until(f, cases[i].until, PATIENCE));
        }
        close_child(f);
    }
    f->n_closed = 0;
    open_child(f, "echo", 4); /* never started */
    close_child(f);
    f->n_closed = 0;
    f->gateway.program = "/nowhere/tandem";
    open_and_start(f, "echo");
    close_child(f);
}

static void too_many_arguments_are_refused(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    const char *many[200];
    for (int i = 0; i < 200; i++) {
        many[i] = "x";
    }
    struct engine_child_options options = {.gateway = &f->gateway,
                                           .arguments = many,
                                           .n_arguments = 200,
                                           .name = "fake",
                                           .pool_size = 4096,
                                           .on_state = on_state,
                                           .on_state_arg = f};
    assert_null(engine_child_create(&options, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

/* ---- adapters ---- */

static struct served_adapter *add_adapter(struct fixture *f, const char *name)
{
    struct error err = {0};
    struct adapter_facts facts = {.rank = 1};
    char path[2000];
    f->adapters.max_adapters = 8;
    memset(path, 'x', sizeof path); /* longer than a job */
    path[sizeof path - 1] = '\0';
    struct served_adapter *a = adapter_set_add(&f->adapters, str_of(name), path, &facts, &err);
    assert_non_null(a);
    return a;
}

static bool two_adapted(struct fixture *f)
{
    return f->n_adapted == 2;
}

static bool three_adapted(struct fixture *f)
{
    return f->n_adapted == 3;
}

static void an_engine_is_ready_when_it_has_its_adapters(void **state)
{
    struct fixture *f = *state;
    struct served_adapter *a = add_adapter(f, "a"), *b = add_adapter(f, "b");
    open_and_start(f, "once-first");
    assert_true(run_until(f, is_ready, PATIENCE));
    assert_true(a->loaded && b->loaded && f->n_adapted >= 1);
    must_submit(f, 1);
    assert_true(run_until(f, is_restarting, PATIENCE));
    f->n_adapted = 0;
    assert_true(run_until(f, is_ready, PATIENCE)); /* and so is the next one */
    assert_true(a->loaded && b->loaded);
    assert_true(run_until(f, two_adapted, PATIENCE));
    adapter_set_unlist(&f->adapters, a);
    engine_child_adapters_changed(f->child);
    assert_true(run_until(f, three_adapted, PATIENCE));
    assert_int_equal(f->adapters.n_drops, 1);
    close_child(f);
}

static bool has_adapted(struct fixture *f)
{
    return f->n_adapted == 1;
}

/* While so many requests wait that it is sent no more of them. */
static void orders_reach_an_engine_that_does_not_keep_up(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint64_t id = 1;
    open_and_start(f, "doze");
    assert_true(run_until(f, is_ready, PATIENCE));
    while (id < 100 && submit(f, id, N_LARGE, &err)) {
        id++;
    }
    assert_int_equal(err.code, ERR_OVERLOADED);
    err = (struct error){0};
    while (id < 100000 && submit(f, id, 100, &err)) { /* until there is no room for an order either */
        id++;
    }
    assert_int_equal(err.code, ERR_OVERLOADED);
    struct served_adapter *a = add_adapter(f, "a");
    engine_child_adapters_changed(f->child);
    assert_true(run_until(f, has_adapted, PATIENCE));
    assert_true(a->loaded);
    close_child(f);
}

/* ---- started and stopped by somebody else ---- */

static void jobs_wait_for_whoever_starts_it(void **state)
{
    struct fixture *f = *state;
    f->on_demand = true;
    open_child(f, "echo", 100);
    assert_int_equal(engine_child_state(f->child), MODEL_UNLOADED);
    must_submit(f, 1);
    must_submit(f, 2);
    assert_int_equal(f->n_waits, 2);
    assert_int_equal(engine_child_n_waiting(f->child), 2);
    engine_child_start(f->child);
    assert_true(run_until(f, is_ready, PATIENCE));
    must_submit(f, 3);
    assert_true(run_until(f, three_events, PATIENCE));
    for (int i = 0; i < 3; i++) {
        expect_echo(f, i, (uint64_t)i + 1);
    }
    assert_int_equal(f->n_waits, 2);
    close_child(f);
}

static void held_jobs_outlive_a_stop(void **state)
{
    struct fixture *f = *state;
    f->on_demand = true;
    open_and_start(f, "echo");
    assert_true(run_until(f, is_ready, PATIENCE));
    engine_child_hold(f->child, true);
    must_submit(f, 1);
    must_submit(f, 2);
    cancel(f, 1, WIRE_ALL_CHOICES);
    assert_int_equal(f->n_events, 0);
    engine_child_stop(f->child);
    assert_int_equal(engine_child_state(f->child), MODEL_UNLOADING);
    must_submit(f, 3);
    assert_true(run_until(f, is_unloaded, PATIENCE));
    assert_int_equal(engine_child_pid(f->child), 0);
    assert_int_equal(engine_child_n_waiting(f->child), 2);
    engine_child_start(f->child);
    assert_true(run_until(f, is_ready, PATIENCE));
    run_until(f, never, 20);
    assert_int_equal(f->n_events, 2);
    expect_echo(f, 0, 2);
    expect_echo(f, 1, 3);
    assert_int_equal(engine_child_restarts(f->child), 0); /* none was lost */
    close_child(f);
}

/* Its socket is gone, its process is not yet. */
static void jobs_that_come_while_it_ends_hear_of_the_loss(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "half");
    assert_true(run_until(f, is_ready, PATIENCE));
    run_until(f, never, 50);
    assert_int_equal(engine_child_state(f->child), MODEL_READY);
    must_submit(f, 1);
    assert_true(run_until(f, one_event, PATIENCE));
    assert_int_equal(f->events[0].kind, ENGINE_LOST);
    assert_int_equal(f->events[0].error.code, ERR_ENGINE_LOST);
    assert_int_equal(engine_child_n_waiting(f->child), 0);
    close_child(f);
}

/* So do those that wait when it is not held any more; nobody takes it for one that breaks the protocol. */
static void jobs_that_are_let_go_while_it_ends_hear_of_the_loss(void **state)
{
    struct fixture *f = *state;
    open_and_start(f, "half");
    assert_true(run_until(f, is_ready, PATIENCE));
    run_until(f, never, 50);
    engine_child_hold(f->child, true);
    must_submit(f, 1);
    engine_child_hold(f->child, false);
    assert_int_equal(engine_child_n_waiting(f->child), 1);
    assert_true(run_until(f, one_event, PATIENCE));
    assert_int_equal(f->events[0].kind, ENGINE_LOST);
    assert_int_equal(engine_child_loss(f->child), LOSS_SIGNAL);
    close_child(f);
}

/* Losses while it loads count in a row: loading may take longer than the time in which they are counted otherwise. */
static void one_that_is_never_ready_fails(void **state)
{
    struct fixture *f = *state;
    f->on_demand = true;
    f->gateway.restart.window_ms = -1;
    f->gateway.restart.initial_ms = f->gateway.restart.max_ms = 1;
    open_and_start(f, "exit");
    must_submit(f, 1);
    assert_true(run_until(f, is_failed, 5000));
    assert_int_equal(engine_child_restarts(f->child), LIMIT + 1);
    assert_int_equal(engine_child_n_waiting(f->child), 0);
    close_child(f);
}

static void who_is_not_held_any_more_goes_on(void **state)
{
    struct fixture *f = *state;
    f->on_demand = true;
    open_and_start(f, "echo");
    assert_true(run_until(f, is_ready, PATIENCE));
    engine_child_hold(f->child, true);
    must_submit(f, 7);
    engine_child_hold(f->child, false);
    assert_int_equal(engine_child_n_waiting(f->child), 0);
    assert_true(run_until(f, one_event, PATIENCE));
    expect_echo(f, 0, 7);
    close_child(f);
}

static void stop_while_it_loads_and_while_it_waits_to_restart(void **state)
{
    struct fixture *f = *state;
    f->on_demand = true;
    open_and_start(f, "slow");
    engine_child_stop(f->child);
    assert_true(run_until(f, is_unloaded, PATIENCE));
    close_child(f);
    f->n_closed = 0;
    f->gateway.restart.initial_ms = f->gateway.restart.max_ms = 60000;
    open_and_start(f, "exit");
    assert_true(run_until(f, is_restarting, PATIENCE));
    engine_child_stop(f->child);
    assert_true(run_until(f, is_unloaded, PATIENCE));
    close_child(f);
}

static void failed_one_refuses_and_then_waits_again(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    f->on_demand = true;
    open_and_start(f, "fatal");
    must_submit(f, 1);
    assert_true(run_until(f, is_failed, PATIENCE));
    run_until(f, one_event, PATIENCE);
    assert_int_equal(f->events[0].kind, ENGINE_LOST);
    assert_int_equal(f->events[0].error.code, ERR_UNAVAILABLE);
    assert_false(submit(f, 2, 3, &err));
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_false(run_until(f, is_loading, 300)); /* nobody starts it but who is told to */
    must_submit(f, 3);
    assert_int_equal(engine_child_n_waiting(f->child), 1);
    error_set(&err, ERR_NO_MEMORY, "there is no room.");
    engine_child_refuse(f->child, &err);
    assert_int_equal(engine_child_n_waiting(f->child), 0);
    assert_int_equal(f->n_events, 2);
    assert_int_equal(f->events[1].error.code, ERR_NO_MEMORY);
    close_child(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(waiting_jobs_go_out_in_order_after_hello),
        TEST(a_job_larger_than_a_frame_arrives_whole),
        TEST(waiting_jobs_are_bounded_and_can_be_cancelled),
        TEST(waiting_jobs_are_bounded_in_bytes),
        TEST(an_engine_that_exits_is_restarted_then_failed_then_tried_again),
        TEST(a_fatal_error_fails_at_once),
        TEST(a_fatal_engine_that_stays_is_killed),
        TEST(garbage_ends_the_engine),
        TEST(a_lost_engine_is_told_once_and_the_next_one_works),
        TEST(frames_of_another_epoch_are_not_heard),
        TEST(an_engine_that_does_not_read_overflows_and_is_killed),
        TEST(a_closed_socket_is_a_lost_engine_though_the_process_stays),
        TEST(an_exit_is_a_lost_engine_though_its_socket_stays_open),
        TEST(a_missing_program_fails),
        TEST(a_start_without_descriptors_is_tried_again),
        TEST(close_after_a_start_without_descriptors),
        TEST(close_in_every_state),
        TEST(too_many_arguments_are_refused),
        TEST(an_engine_is_ready_when_it_has_its_adapters),
        TEST(orders_reach_an_engine_that_does_not_keep_up),
        TEST(jobs_wait_for_whoever_starts_it),
        TEST(held_jobs_outlive_a_stop),
        TEST(jobs_that_come_while_it_ends_hear_of_the_loss),
        TEST(who_is_not_held_any_more_goes_on),
        TEST(jobs_that_are_let_go_while_it_ends_hear_of_the_loss),
        TEST(one_that_is_never_ready_fails),
        TEST(stop_while_it_loads_and_while_it_waits_to_restart),
        TEST(failed_one_refuses_and_then_waits_again),
    };
    sys_ignore_sigpipe();
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
