/* The engine process in a child: frames over a socket, loading, refusal, a crash, drain, its end with the socket; and
 * one that is killed, whose pages another goes on with. */
#include "tests/support/engine_run.h"
#include "tests/support/vocab_file.h"

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
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define EPOCH 3

struct bench {
    struct temp_dir dir;
    char *model, *script;
    struct shm pool, watch, seals;
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

/* What is told to an engine beside the bench's memory. */
struct spawn_options {
    size_t pool_size; /* the shared memory may be larger */
    bool sandbox;
    const char *fault;
    const char *seals_kv_type; /* with seals: a real engine, with K and V of this type; NULL: a script, and no seals */
};

static void set_options(const struct bench *b, const struct spawn_options *options, struct engine_process_options *o)
{
    struct error err = {0};
    o->sandbox = options->sandbox;
    o->fault = options->fault;
    o->engine.model_path = b->model;
    o->engine.pool_size = options->pool_size;
    o->engine.backend.cpu.n_threads = 1;
    if (options->seals_kv_type) {
        o->seals_fd = dup(b->seals.fd);
        o->seals_size = b->seals.size;
        if (!kv_type_parse(options->seals_kv_type, &o->engine.kv_type, &err)) {
            _exit(1);
        }
    } else {
        o->engine.script_path = b->script;
    }
}

/* An engine process over the bench's memory. */
static void spawn(struct bench *b, const struct spawn_options *options)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    b->pid = fork();
    if (b->pid == 0) {
        struct engine_process_options o = {.engine = engine_options_default(),
                                           .socket_fd = ends[1],
                                           .pool_fd = dup(b->pool.fd),
                                           .watch_fd = dup(b->watch.fd),
                                           .epoch = EPOCH,
                                           .seals_fd = -1};
        close(ends[0]);
        set_options(b, options, &o);
        _exit(engine_process_run(&o));
    }
    close(ends[1]);
    b->fd = ends[0];
    buf_init(&b->in, MIB(64));
    b->arena = arena_create(MIB(64));
    b->log = calloc(1, sizeof *b->log);
    b->n_hello = 0;
}

static void make_bench(struct bench *b, size_t shared_size)
{
    struct error err = {0};
    *b = (struct bench){.fd = -1, .seals = {.fd = -1}};
    temp_dir_make(&b->dir);
    b->model = engine_random_model(&b->dir, "llama-plain");
    b->script = temp_dir_file(&b->dir, "script.json");
    assert_true(file_write_atomic(b->script, str_of(script), &err));
    assert_true(shm_create(shared_size, "test-pool", &b->pool, &err));
    assert_true(shm_create(sizeof(struct engine_watch), "test-watch", &b->watch, &err));
}

static void start_bench_in(struct bench *b, size_t pool_size, size_t shared_size, bool sandbox, const char *fault)
{
    make_bench(b, shared_size);
    spawn(b, &(struct spawn_options){.pool_size = pool_size, .sandbox = sandbox, .fault = fault});
}

static void start_bench(struct bench *b, size_t pool_size, bool sandbox, const char *fault)
{
    start_bench_in(b, pool_size, pool_size, sandbox, fault);
}

static void open_bench(struct bench *b, size_t pool_size)
{
    start_bench(b, pool_size, false, NULL);
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
static int end_process(struct bench *b)
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
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void remove_bench(struct bench *b)
{
    shm_release(&b->pool);
    shm_release(&b->watch);
    shm_release(&b->seals);
    free(b->model);
    free(b->script);
    temp_dir_remove(&b->dir);
}

static int close_bench(struct bench *b)
{
    int status = end_process(b);
    remove_bench(b);
    return status;
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

static void send_limit(struct bench *b, uint64_t size)
{
    struct pool_limit limit = {.size = size};
    struct error err = {0};
    struct buf frames;
    buf_init(&frames, MIB(1));
    assert_true(frame_put_pool_limit(&frames, EPOCH, &limit, &err));
    send_frames(b, &frames);
    buf_release(&frames);
}

static size_t bytes_there(const struct bench *b)
{
    struct stat st;
    assert_int_equal(fstat(b->pool.fd, &st), 0);
    return (size_t)st.st_blocks * 512;
}

/* A pool smaller than the memory that is there; its limit gives memory back, also to an idle engine, and all goes on.
 */
static void a_limited_pool_goes_back(void **state)
{
    (void)state;
    struct bench b;
    start_bench_in(&b, MIB(4), MIB(16), true, NULL); /* in its sandbox */
    memset(b.pool.data, 1, MIB(16));
    read_until_hello(&b);
    assert_int_equal(b.info.kv_size, MIB(4));
    send_limit(&b, 1);
    while (b.log->stats.kv_usable_size == 0 || b.log->stats.kv_usable_size > MIB(2)) {
        assert_true(read_some(&b));
    }
    assert_true(bytes_there(&b) < MIB(14) + KIB(64) || bytes_there(&b) == MIB(16)); /* where holes can be punched */
    assert_int_equal(((const uint8_t *)b.pool.data)[MIB(4)], 1); /* what is not the pool's is let alone */
    ask(&b, 1, "hi", 50, EPOCH);
    assert_true(read_until(&b, 1));
    send_limit(&b, MIB(64));
    while (b.log->stats.kv_usable_size < MIB(3)) {
        assert_true(read_some(&b));
    }
    ask(&b, 2, "hi", 50, EPOCH);
    assert_true(read_until(&b, 2));
    assert_int_equal(b.log->jobs[2].choices[0].n, 7);
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

/* ---- what goes wrong on purpose (engine/fault.h) ---- */

static void a_broken_device_is_said(void **state)
{
    (void)state;
    struct bench b;
    start_bench(&b, MIB(4), true, "device:step=3");
    read_until_hello(&b);
    ask(&b, 1, "slow", 50, EPOCH);
    while (read_some(&b)) {
    }
    assert_int_equal(b.fatal.code, ERR_DEVICE);
    assert_int_equal(b.log->jobs[1].failed, ERR_NONE); /* it is the gateway's to go on with */
    assert_int_equal(b.log->jobs[1].choices[0].n, 2);
    assert_int_equal(close_bench(&b), error_info(ERR_DEVICE)->exit_status);
}

static int ends_by(const char *fault)
{
    struct bench b;
    start_bench(&b, MIB(4), true, fault);
    if (strstr(fault, "step=2") || strstr(fault, "always")) { /* else it does not get so far */
        read_until_hello(&b);
        ask(&b, 1, "slow", 50, EPOCH);
    }
    while (read_some(&b)) {
    }
    return close_bench(&b);
}

static void it_ends_in_many_ways(void **state)
{
    (void)state;
    assert_int_equal(ends_by("segv:step=2"), 1000 + SIGSEGV);
    assert_int_equal(ends_by("kill:step=2"), 1000 + SIGKILL);
    assert_int_equal(ends_by("abort:step=2"), 1000 + SIGABRT);
    assert_int_equal(ends_by("exit:step=2,status=9"), 9);
    assert_int_equal(ends_by("exit:start,status=5"), 5);
    assert_int_equal(ends_by("oom:step=2,mb=8"), 1000 + SIGKILL);
    assert_int_equal(ends_by("segv:token=108,always"), 1000 + SIGSEGV); /* the l of "slow" */
    assert_int_equal(ends_by("nonsense"), error_info(ERR_INVALID)->exit_status);
    assert_int_equal(ends_by("kill:step=x"), error_info(ERR_INVALID)->exit_status);
}

static void only_the_poison_kills(void **state)
{
    (void)state;
    struct bench b;
    start_bench(&b, MIB(4), true, "kill:token=120,always"); /* x */
    read_until_hello(&b);
    ask(&b, 1, "slow", 5, EPOCH);
    assert_true(read_until(&b, 1));
    ask(&b, 2, "s x", 5, EPOCH);
    assert_false(read_until(&b, 2));
    assert_int_equal(close_bench(&b), 1000 + SIGKILL);
}

static void not_again_after_a_restart(void **state)
{
    (void)state;
    struct temp_dir dir;
    char fault[400];
    temp_dir_make(&dir);
    char *once = temp_dir_file(&dir, "struck");
    snprintf(fault, sizeof fault, "kill:step=1,always,once=%s", once);
    assert_int_equal(ends_by(fault), 1000 + SIGKILL);
    struct bench b;
    start_bench(&b, MIB(4), true, fault);
    read_until_hello(&b);
    ask(&b, 1, "hi", 50, EPOCH);
    assert_true(read_until(&b, 1));
    assert_int_equal(close_bench(&b), 0);
    free(once);
    temp_dir_remove(&dir);
}

/* Indexes of a job's tokens as they come, through frames that are no good. */
static struct toy_choice answer_with(const char *fault, const char **wrong, int *status)
{
    struct bench b;
    start_bench(&b, MIB(4), true, fault);
    read_until_hello(&b);
    ask(&b, 1, "slow", 8, EPOCH);
    while (!b.log->wrong && atomic_load(&b.log->n_jobs_ended) == 0) {
        assert_true(read_some(&b));
    }
    struct toy_choice c = b.log->jobs[1].choices[0];
    *wrong = b.log->wrong;
    b.log->wrong = NULL;
    *status = close_bench(&b);
    return c;
}

static void frames_go_wrong(void **state)
{
    (void)state;
    const char *wrong;
    int status;
    struct toy_choice c = answer_with("frame-lost:nth=100", &wrong, &status);
    assert_null(wrong);
    assert_int_equal(c.n, 8);
    static const char *const specs[] = {"frame-lost:nth=3", "frame-dup:nth=3", "frame-late:nth=3"};
    for (size_t i = 0; i < 3; i++) {
        c = answer_with(specs[i], &wrong, &status);
        assert_non_null(wrong); /* the log is strict; the gateway drops what it knows */
        assert_int_equal(status, 0);
    }
}

/* The same work with nothing but what it needs: shared memory, threads, the figures about itself. */
static void works_in_its_sandbox(void **state)
{
    (void)state;
    struct bench b;
    start_bench(&b, MIB(4), true, NULL);
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

/* ---- killed, and followed ---- */

#define N_STREAMS 3
#define N_ANSWER  60

struct streams {
    int32_t prompts[N_STREAMS][1024];
    uint32_t n_prompt;
    int32_t answers[N_STREAMS][N_ANSWER]; /* of an engine that nothing happened to */
    struct job_accepted accepted[N_STREAMS];
};

static void submit_streams(struct bench *b, struct streams *st)
{
    struct error err = {0};
    struct buf frames;
    read_until_hello(b);
    buf_init(&frames, MIB(1));
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        struct job job = {.id = i + 1,
                          .n_choices = 1,
                          .prompt = st->prompts[i],
                          .n_prompt = st->n_prompt,
                          .max_tokens = N_ANSWER,
                          .seed = i,
                          .flags = JOB_IGNORE_EOS,
                          .sampling = sampling_default(),
                          .accepted = &st->accepted[i]};
        b->log->jobs[job.id].n_choices = 1;
        assert_true(frame_put_job(&frames, EPOCH, &job, &err));
    }
    send_frames(b, &frames);
    buf_release(&frames);
}

static bool have_all(const struct bench *b, uint32_t n)
{
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        if (b->log->jobs[i + 1].choices[0].n < n) {
            return false;
        }
    }
    return true;
}

static void read_until_all_have(struct bench *b, uint32_t n)
{
    while (!have_all(b, n)) {
        assert_true(read_some(b));
    }
}

static void kill_engine(struct bench *b)
{
    kill(b->pid, SIGKILL);
    assert_int_equal(end_process(b), 1000 + SIGKILL);
}

static void run_undisturbed(struct bench *b, struct streams *st, const struct spawn_options *o)
{
    spawn(b, o);
    submit_streams(b, st);
    read_until_all_have(b, N_ANSWER);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        memcpy(st->answers[i], b->log->jobs[i + 1].choices[0].ids, sizeof st->answers[i]);
    }
    kill_engine(b);
    shm_discard(&b->seals, 0, b->seals.size); /* nothing of it is to be found */
}

/* The engine that follows: the rest of the answers, with a prefill of what was not in whole pages. */
static void check_rest(struct bench *b, struct streams *st, const char *name)
{
    uint32_t context = 0;
    submit_streams(b, st);
    while (b->log->stats.jobs_finished < N_STREAMS) {
        assert_true(read_some(b));
    }
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        uint32_t n = st->accepted[i].n;
        const struct toy_choice *c = &b->log->jobs[i + 1].choices[0];
        context += st->n_prompt + n;
        assert_int_equal(c->n, N_ANSWER);
        assert_memory_equal(c->ids + n, st->answers[i] + n, (N_ANSWER - n) * sizeof(int32_t));
    }
    const struct engine_stats *stats = &b->log->stats;
    print_message("  %s: %u tokens, %llu adopted, %llu prefilled again\n", name, context,
                  (unsigned long long)stats->adopted_tokens, (unsigned long long)stats->rows_prefill);
    assert_int_equal(stats->adopted_blocks_dropped, 0);
    assert_true(stats->adopted_tokens + N_STREAMS * b->info.page_tokens >= context);
    assert_true(stats->rows_prefill <= N_STREAMS * b->info.page_tokens);
    assert_true(st->n_prompt < 600 || stats->rows_prefill * 100 <= context * 5);
}

static void kill_and_follow(struct bench *b, const char *kv_type, uint32_t n_prompt, uint32_t n_vocab)
{
    struct spawn_options o = {.pool_size = b->pool.size, .sandbox = true, .seals_kv_type = kv_type};
    struct error err = {0};
    struct streams *st = calloc(1, sizeof *st);
    int32_t tokens[N_STREAMS][N_ANSWER];
    st->n_prompt = n_prompt;
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        for (uint32_t k = 0; k < n_prompt; k++) {
            st->prompts[i][k] = (int32_t)((k * k + 31 * i * k + 7 * i) % n_vocab);
        }
    }
    assert_true(shm_create(MIB(1), "test-seals", &b->seals, &err));
    run_undisturbed(b, st, &o);
    spawn(b, &o);
    submit_streams(b, st);
    read_until_all_have(b, N_ANSWER / 3);
    for (uint32_t i = 0; i < N_STREAMS; i++) {
        const struct toy_choice *c = &b->log->jobs[i + 1].choices[0];
        uint32_t n = c->n < N_ANSWER ? c->n : N_ANSWER - 1;
        memcpy(tokens[i], c->ids, n * sizeof(int32_t));
        st->accepted[i] = (struct job_accepted){.ids = tokens[i], .n = n};
    }
    kill_engine(b);
    spawn(b, &o);
    check_rest(b, st, kv_type);
    assert_int_equal(end_process(b), 0);
    free(st);
}

static void pages_outlive_a_kill(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "f16", "q8"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct bench b;
        make_bench(&b, MIB(16));
        kill_and_follow(&b, types[i], 200, 256);
        remove_bench(&b);
    }
}

static void pages_of_smollm2_outlive_a_kill(void **state)
{
    (void)state;
    char *path = real_model_path("smollm2-135m-instruct-q4_1.gguf");
    if (!path) {
        print_message("skip: the model is not there\n");
        skip();
    }
    struct bench b;
    make_bench(&b, MIB(96));
    free(b.model);
    b.model = path;
    kill_and_follow(&b, "f16", 640, 40000);
    remove_bench(&b);
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
        cmocka_unit_test(a_limited_pool_goes_back),
        cmocka_unit_test(a_broken_device_is_said),
        cmocka_unit_test(it_ends_in_many_ways),
        cmocka_unit_test(only_the_poison_kills),
        cmocka_unit_test(not_again_after_a_restart),
        cmocka_unit_test(frames_go_wrong),
        cmocka_unit_test(works_in_its_sandbox),
        cmocka_unit_test(an_orphan_ends_at_once),
        cmocka_unit_test(pages_outlive_a_kill),
        cmocka_unit_test(pages_of_smollm2_outlive_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
