/* An engine process without an engine, for tests of the gateway: speaks frames on descriptor 3 and misbehaves on
 * request.
 *
 *     fake_engine engine --socket-fd 3 --pool-fd 4 --pool-size N --epoch E --mode MODE
 *
 * MODE: echo         ready; each job is answered with its prompt, one TOKENS event with FINISH_STOP; adapters load
 *       slow         echo, but ready only after 300 ms
 *       exit         exits at once with status 7
 *       fatal        FATAL, then exits
 *       fatal-stay   FATAL, then stays
 *       garbage      ready, then bytes that are no frame
 *       other-epoch  speaks as another incarnation: HELLO and events with a wrong epoch
 *       hang         ready, then reads nothing
 *       doze         the same for 500 ms, then reads all, and answers no job
 *       half         ready, closes the socket and stays alive
 *       lend         ready, leaves its socket to a process of its own and exits
 *       once         echo, exits after the first job
 *       once-first   once as the first incarnation, then echo */
#include "base/clock.h"
#include "base/limits.h"
#include "base/sys_proc.h"
#include "wire/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SOCKET_FD 3
#define STAY_MS   60000 /* longer than any test */

struct fake {
    uint32_t epoch;
    const char *mode;
    struct buf in, out;
    struct job_assembly *parts;
    struct arena *arena;
};

static bool is(const struct fake *f, const char *mode)
{
    return strcmp(f->mode, mode) == 0;
}

static void flush_out(struct fake *f)
{
    size_t done = 0;
    while (done < f->out.len) {
        ssize_t n = write(SOCKET_FD, f->out.data + done, f->out.len - done);
        if (n <= 0) {
            exit(0);
        }
        done += (size_t)n;
    }
    buf_clear(&f->out);
}

static void must(bool ok, const struct error *err)
{
    if (!ok) {
        fprintf(stderr, "fake_engine: %s\n", err->msg);
        exit(9);
    }
}

static void say_ready(struct fake *f)
{
    struct error err = {0};
    struct engine_info info = {.build = "fake", .arch = "fake", .backend = "none", .n_vocab = 1000, .n_context = 100};
    must(frame_put_loading(&f->out, f->epoch, 0.5F, &err), &err);
    must(frame_put_hello(&f->out, f->epoch, &info, &err), &err);
    flush_out(f);
}

static void echo(struct fake *f, const struct job *job)
{
    struct error err = {0};
    struct engine_event event = {.kind = ENGINE_TOKENS,
                                 .job = job->id,
                                 .ids = job->prompt,
                                 .n = job->n_prompt,
                                 .finish = FINISH_STOP,
                                 .stop_id = -1};
    must(frame_put_events(&f->out, f->epoch, &event, 1, &err), &err);
    flush_out(f);
}

static void take_adapter(struct fake *f, const struct frame *frame)
{
    struct error err = {0};
    struct adapter_order order;
    must(frame_get_adapter(frame, &order, &err), &err);
    must(frame_put_adapter_done(&f->out, f->epoch, &(struct adapter_done){.number = order.number}, &err), &err);
    flush_out(f);
}

static void take_frame(struct fake *f, const struct frame *frame)
{
    struct error err = {0};
    struct job job;
    if (frame->type == FRAME_ADAPTER) {
        take_adapter(f, frame);
        return;
    }
    if (is(f, "doze") || (frame->type != FRAME_SUBMIT && frame->type != FRAME_SUBMIT_PART)) {
        return;
    }
    arena_clear(f->arena);
    int rc = frame_get_job(frame, f->parts, f->arena, &job, &err);
    must(rc >= 0, &err);
    if (rc == 0) {
        return;
    }
    if (is(f, "once") || (is(f, "once-first") && f->epoch == 1)) {
        exit(0);
    }
    echo(f, &job);
}

static void serve(struct fake *f)
{
    char block[65536];
    for (ssize_t n; (n = read(SOCKET_FD, block, sizeof block)) > 0;) {
        struct frame frame;
        struct error err = {0};
        size_t consumed, used = 0;
        buf_append_bytes(&f->in, block, (size_t)n);
        int rc;
        while ((rc = frame_parse(str_slice(buf_view(&f->in), used, f->in.len), &frame, &consumed, &err)) == 1) {
            take_frame(f, &frame);
            used += consumed;
        }
        must(rc >= 0, &err);
        buf_drop_front(&f->in, used);
    }
}

static void say_fatal(struct fake *f)
{
    struct error err = {0}, fatal;
    error_set(&fatal, ERR_FORMAT, "the weights are made of cheese.");
    must(frame_put_fatal(&f->out, f->epoch, &fatal, &err), &err);
    flush_out(f);
}

static void misbehave(struct fake *f)
{
    static const char garbage[64] = "this is no frame at all";
    if (is(f, "garbage")) {
        buf_append_bytes(&f->out, garbage, sizeof garbage);
        flush_out(f);
        clock_sleep_ms(STAY_MS);
    } else if (is(f, "hang")) {
        clock_sleep_ms(STAY_MS);
    } else if (is(f, "doze")) {
        clock_sleep_ms(500);
    } else if (is(f, "half")) {
        close(SOCKET_FD);
        clock_sleep_ms(STAY_MS);
    } else if (is(f, "lend")) {
        if (fork() == 0) {
            clock_sleep_ms(2000); /* longer than the gateway waits in the tests */
        }
        _exit(0);
    }
}

static const char *argument(int argc, char **argv, const char *name)
{
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return "";
}

/* The exit status. */
static int play(struct fake *f)
{
    if (is(f, "exit")) {
        return 7;
    }
    if (is(f, "fatal") || is(f, "fatal-stay")) {
        say_fatal(f);
        clock_sleep_ms(is(f, "fatal") ? 0 : STAY_MS);
        return 3;
    }
    clock_sleep_ms(is(f, "slow") ? 300 : 0);
    f->epoch += is(f, "other-epoch");
    say_ready(f);
    misbehave(f);
    serve(f);
    return 0;
}

int main(int argc, char **argv)
{
    struct fake f = {.mode = argument(argc, argv, "--mode"), .arena = arena_create(MIB(16))};
    f.epoch = (uint32_t)strtoul(argument(argc, argv, "--epoch"), NULL, 10);
    f.parts = job_assembly_create(MIB(64));
    buf_init(&f.in, MIB(64));
    buf_init(&f.out, MIB(64));
    sys_ignore_sigpipe();
    int status = play(&f);
    job_assembly_free(f.parts);
    arena_free(f.arena);
    buf_release(&f.in);
    buf_release(&f.out);
    return status;
}
