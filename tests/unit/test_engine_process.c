/* The engine process in a child: frames over a socket, loading, refusal, a crash, drain, its end with the socket. */
#include "tests/support/engine_run.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_file.h"
#include "base/sys_proc.h"
#include "base/sys_shm.h"
#include "engine/process.h"
#include "wire/engine_watch.h"
#include "wire/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EPOCH 3

struct bench {
    struct temp_dir dir;
    char *model, *script;
    struct shm pool, watch;
    int fd;
    pid_t pid;
    struct buf in;
    struct arena *arena;
    struct toy_log *log;
    struct engine_info info;
    struct error fatal;
    uint32_t n_loading, n_hello;
};

static const char *const script =
    "{\"rules\": [{\"match\": \"crash\", \"text\": \"abc\", \"then\": \"crash\"},"
    "{\"match\": \"slow\", \"text\": \"abcdefgh\", \"delay_ms\": 20, \"then\": \"length\"}],"
    "\"default\": {\"text\": \"Hello.\"}}";

static void start_bench(struct bench *b, size_t pool_size, bool sandbox)
{
    struct error err = {0};
    int ends[2];
    *b = (struct bench){.fd = -1};
    temp_dir_make(&b->dir);
    b->model = engine_random_model(&b->dir, "llama-plain");
    b->script = temp_dir_file(&b->dir, "script.json");
    assert_true(file_write_atomic(b->script, str_of(script), &err));
    assert_true(shm_create(pool_size, "test-pool", &b->pool, &err));
    assert_true(shm_create(sizeof(struct engine_watch), "test-watch", &b->watch, &err));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    b->pid = fork();
    if (b->pid == 0) {
        struct engine_process_options o = {.engine = engine_options_default(),
                                           .socket_fd = ends[1],
                                           .pool_fd = dup(b->pool.fd),
                                           .watch_fd = dup(b->watch.fd),
                                           .epoch = EPOCH,
                                           .sandbox = sandbox};
        close(ends[0]);
        o.engine.model_path = b->model;
        o.engine.script_path = b->script;
        o.engine.pool_size = pool_size;
        o.engine.backend.cpu.n_threads = 1;
        _exit(engine_process_run(&o));
    }
    close(ends[1]);
    b->fd = ends[0];
    buf_init(&b->in, MIB(64));
    b->arena = arena_create(MIB(64));
    b->log = calloc(1, sizeof *b->log);
}

static void open_bench(struct bench *b, size_t pool_size)
{
    start_bench(b, pool_size, false);
}

static void each_event(void *arg, const struct engine_event *e)
{
    toy_sink(arg, e, 1);
}

static void take_frame(struct bench *b, const struct frame *f)
{
    struct error err = {0};
    float fraction;
    assert_int_equal(f->epoch, EPOCH);
    switch (f->type) {
    case FRAME_HELLO:
        assert_true(frame_get_hello(f, &b->info, &err));
        b->n_hello++;
        break;
    case FRAME_LOADING:
        assert_true(frame_get_loading(f, &fraction, &err));
        b->n_loading++;
        break;
    case FRAME_FATAL:
        assert_true(frame_get_fatal(f, &b->fatal, &err));
        break;
    case FRAME_EVENTS:
        arena_clear(b->arena);
        assert_true(frame_get_events(f, b->arena, each_event, b->log, &err));
        break;
    default:
        fail_msg("a frame of type %d", (int)f->type);
    }
}

/* Reads once; false at the socket's end. */
static bool read_some(struct bench *b)
{
    struct error err = {0};
    struct frame f;
    size_t used = 0, consumed;
    char bytes[4096];
    ssize_t n = read(b->fd, bytes, sizeof bytes);
    if (n <= 0) {
        return false;
    }
    buf_append_bytes(&b->in, bytes, (size_t)n);
    int rc;
    while ((rc = frame_parse(str_slice(buf_view(&b->in), used, b->in.len), &f, &consumed, &err)) == 1) {
        take_frame(b, &f);
        used += consumed;
    }
    assert_int_equal(rc, 0);
    buf_drop_front(&b->in, used);
    return true;
}

static void read_until_hello(struct bench *b)
{
    while (!b->n_hello) {
        assert_true(read_some(b));
    }
}

static void send_frames(struct bench *b, const struct buf *frames)
{
    assert_int_equal(write(b->fd, frames->data, frames->len), frames->len);
}

static void ask(struct bench *b, uint64_t id, const char *prompt, uint32_t max_tokens, uint32_t epoch)
{
    int32_t ids[64];
    struct error err = {0};
    struct job job = {.id = id,
                      .n_choices = 1,
                      .prompt = ids,
                      .n_prompt = (uint32_t)strlen(prompt),
                      .max_tokens = max_tokens,
                      .sampling = sampling_default()};
    struct buf frames;
    buf_init(&frames, MIB(1));
    for (uint32_t i = 0; i < job.n_prompt; i++) {
        ids[i] = (uint8_t)prompt[i];
    }
    b->log->jobs[id].n_choices = 1;
    assert_true(frame_put_job(&frames, epoch, &job, &err));
    send_frames(b, &frames);
    buf_release(&frames);
}

/* Reads until so many jobs have ended; false when the socket ended first. */
static bool read_until(struct bench *b, uint32_t n_jobs)
{
    while (atomic_load(&b->log->n_jobs_ended) < n_jobs) {
        if (!read_some(b)) {
            return false;
        }
    }
    return true;
}

/* The child's exit status, or 1000 + its signal. */
static int close_bench(struct bench *b)
{
    int status = 0;
    if (b->fd >= 0) {
        close(b->fd);
    }
    while (waitpid(b->pid, &status, 0) < 0 && errno == EINTR) {
    }
    assert_null(b->log->wrong);
    toy_log_release(b->log);
    free(b->log);
    arena_free(b->arena);
    buf_release(&b->in);
    shm_release(&b->pool);
    shm_release(&b->watch);
    free(b->model);
    free(b->script);
    temp_dir_remove(&b->dir);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void serves_until_the_socket_ends(void **state)
{
    (void)state;
    struct bench b;
    struct error err = {0};
    struct buf frames;
    open_bench(&b, MIB(4));
    read_until_hello(&b);
    assert_string_equal(b.info.arch, "llama");
    assert_int_equal(b.info.kv_size, MIB(4));
    ask(&b, 1, "hi", 50, EPOCH);
    ask(&b, 2, "of another epoch", 50, EPOCH + 1);
    ask(&b, 3, "slow", 400, EPOCH);
    ask(&b, 4, "too much", 600, EPOCH);
    while (b.log->jobs[3].choices[0].n < 3) {
        assert_true(read_some(&b));
    }
    buf_init(&frames, MIB(1));
    assert_true(frame_put_cancel(&frames, EPOCH, 3, WIRE_ALL_CHOICES, &err));
    assert_true(frame_put_empty(&frames, EPOCH, FRAME_CLEAR_CACHE, &err));
    send_frames(&b, &frames);
    buf_release(&frames);
    assert_true(read_until(&b, 3));
    assert_int_equal(b.log->jobs[1].choices[0].finish, FINISH_STOP);
    assert_int_equal(b.log->jobs[1].choices[0].n, 7);
    assert_int_equal(b.log->jobs[2].n_started, 0);
    assert_int_equal(b.log->jobs[3].choices[0].finish, FINISH_CANCELLED);
    assert_int_equal(b.log->jobs[4].failed, ERR_CONTEXT_EXCEEDED);
    const struct engine_watch *watch = b.watch.data;
    uint64_t heartbeats = atomic_load(&watch->heartbeats);
    assert_true(heartbeats > 0 && atomic_load(&watch->turns) >= 3);
    clock_sleep_ms(350);
    assert_true(atomic_load(&watch->heartbeats) > heartbeats);
    assert_int_equal(atomic_load(&watch->busy), 0);
    assert_int_equal(close_bench(&b), 0);
}

static void says_why_it_cannot_start(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 4096); /* a pool too small */
    while (read_some(&b)) {
    }
    assert_int_equal(b.n_hello, 0);
    assert_int_equal(b.fatal.code, ERR_INVALID);
    assert_int_equal(close_bench(&b), 2);
}

static void a_crash_ends_the_socket(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, MIB(4));
    read_until_hello(&b);
    ask(&b, 1, "crash", 50, EPOCH);
    assert_false(read_until(&b, 1));
    assert_true(b.log->jobs[1].choices[0].n <= 3); /* what was not written is lost with it */
    assert_int_equal(close_bench(&b), 1000 + SIGABRT);
}

static void garbage_is_fatal(void **state)
{
    (void)state;
    struct bench b;
    struct buf frames;
    open_bench(&b, MIB(4));
    read_until_hello(&b);
    buf_init(&frames, MIB(1));
    buf_puts(&frames, "GET / HTTP/1.1\r\n\r\n");
    send_frames(&b, &frames);
    buf_release(&frames);
    while (read_some(&b)) {
    }
    assert_int_equal(b.fatal.code, ERR_PROTOCOL);
    assert_int_equal(close_bench(&b), error_info(ERR_PROTOCOL)->exit_status);
}

static void drains(void **state)
{
    (void)state;
    struct bench b;
    struct error err = {0};
    struct buf frames;
    open_bench(&b, MIB(4));
    read_until_hello(&b);
    ask(&b, 1, "slow", 10, EPOCH);
    buf_init(&frames, MIB(1));
    assert_true(frame_put_empty(&frames, EPOCH, FRAME_DRAIN, &err));
    send_frames(&b, &frames);
    buf_release(&frames);
    ask(&b, 2, "late", 10, EPOCH);
    while (read_some(&b)) { /* until it closes the socket itself */
    }
    assert_int_equal(b.log->jobs[1].choices[0].n, 10);
    assert_int_equal(b.log->jobs[2].failed, ERR_UNAVAILABLE);
    assert_int_equal(close_bench(&b), 0);
}

/* What the gateway does not read queues up; admission pauses, nothing is lost, and all goes on when it reads again. */
static void a_slow_reader_pauses_admission(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, MIB(4));
    read_until_hello(&b);
    for (uint64_t i = 1; i <= 200; i++) {
        ask(&b, i, "slow", 5, EPOCH);
    }
    clock_sleep_ms(100);
    assert_true(read_until(&b, 200));
    for (uint64_t i = 1; i <= 200; i++) {
        assert_int_equal(b.log->jobs[i].choices[0].n, 5);
    }
    assert_int_equal(close_bench(&b), 0);
}

/* The same work with nothing but what it needs: shared memory, threads, the figures about itself. */
static void works_in_its_sandbox(void **state)
{
    (void)state;
    struct bench b;
    start_bench(&b, MIB(4), true);
    read_until_hello(&b);
    assert_non_null(strstr(b.info.sandbox, "limits"));
    print_message("in force: %s\n", b.info.sandbox);
    ask(&b, 1, "hi", 50, EPOCH);
    ask(&b, 2, "slow", 10, EPOCH);
    assert_true(read_until(&b, 2));
    assert_int_equal(b.log->jobs[1].choices[0].finish, FINISH_STOP);
    assert_int_equal(b.log->jobs[2].choices[0].n, 10);
    const struct engine_watch *watch = b.watch.data;
    assert_true(atomic_load(&watch->heartbeats) > 0);
    assert_int_equal(close_bench(&b), 0);
}

/* Its gateway ended between fork and exec: nobody is told, so it looks. The model is not even opened. */
static void an_orphan_ends_at_once(void **state)
{
    (void)state;
    int ends[2], status;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct engine_process_options o = {
            .engine = engine_options_default(), .socket_fd = ends[1], .pool_fd = -1, .watch_fd = -1, .epoch = EPOCH};
        close(ends[0]);
        o.engine.model_path = "/no/such/model.gguf"; /* which would be its exit status */
        sys_ignore_sigpipe();
        clock_sleep_ms(50);
        _exit(engine_process_run(&o));
    }
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_until_the_socket_ends),
        cmocka_unit_test(says_why_it_cannot_start),
        cmocka_unit_test(a_crash_ends_the_socket),
        cmocka_unit_test(garbage_is_fatal),
        cmocka_unit_test(drains),
        cmocka_unit_test(a_slow_reader_pauses_admission),
        cmocka_unit_test(works_in_its_sandbox),
        cmocka_unit_test(an_orphan_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
