/* Frames from either side. The first byte chooses: 0 a raw stream as it comes off a socket; otherwise the type of one
 * frame whose payload is the rest, past the checksum that random bytes would never match. What decodes must encode
 * again, and what that gives must decode. */
#include "base/limits.h"
#include "wire/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct events {
    struct engine_event items[256];
    size_t n;
};

static void collect(void *arg, const struct engine_event *e)
{
    struct events *events = arg;
    if (events->n < 256) {
        events->items[events->n++] = *e;
    }
}

static void try_job(const struct frame *f, struct arena *arena)
{
    struct error err = {0};
    struct job job;
    struct buf again;
    struct job_assembly *parts = job_assembly_create(MIB(4));
    buf_init(&again, MIB(8));
    if (parts && frame_get_job(f, parts, arena, &job, &err) == 1) {
        struct frame second;
        size_t consumed;
        struct job *copy = job_copy(&job);
        if (!copy || !frame_put_job(&again, 1, copy, &err) ||
            frame_parse(buf_view(&again), &second, &consumed, &err) != 1 ||
            frame_get_job(&second, parts, arena, &job, &err) != 1) {
            abort();
        }
        free(copy);
    }
    buf_release(&again);
    job_assembly_free(parts);
}

static void try_events(const struct frame *f, struct arena *arena)
{
    struct error err = {0};
    struct events events = {.n = 0};
    struct buf again;
    buf_init(&again, MIB(8));
    if (frame_get_events(f, arena, collect, &events, &err) &&
        !frame_put_events(&again, 1, events.items, events.n, &err)) {
        abort();
    }
    buf_release(&again);
}

static void try_frame(const struct frame *f, struct arena *arena)
{
    struct error err = {0}, fatal;
    struct engine_info info;
    struct pool_limit limit;
    struct adapter_order order;
    struct adapter_done done;
    float fraction;
    uint64_t job;
    uint32_t choice;
    arena_clear(arena);
    switch (f->type) {
    case FRAME_SUBMIT:
    case FRAME_SUBMIT_PART:
        try_job(f, arena);
        break;
    case FRAME_EVENTS:
        try_events(f, arena);
        break;
    case FRAME_HELLO:
        (void)!frame_get_hello(f, &info, &err);
        break;
    case FRAME_LOADING:
        (void)!frame_get_loading(f, &fraction, &err);
        break;
    case FRAME_FATAL:
        (void)!frame_get_fatal(f, &fatal, &err);
        break;
    case FRAME_POOL_LIMIT:
        (void)!frame_get_pool_limit(f, &limit, &err);
        break;
    case FRAME_ADAPTER:
        (void)!frame_get_adapter(f, &order, &err);
        break;
    case FRAME_ADAPTER_DONE:
        (void)!frame_get_adapter_done(f, &done, &err);
        break;
    default:
        (void)!frame_get_cancel(f, &job, &choice, &err);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_create(MIB(32));
    struct str in = {(const char *)data + 1, size ? size - 1 : 0};
    struct error err = {0};
    struct frame f;
    size_t consumed;
    if (!arena || size == 0) {
        arena_free(arena);
        return 0;
    }
    if (data[0] == 0) {
        while (frame_parse(in, &f, &consumed, &err) == 1) {
            try_frame(&f, arena);
            in = str_slice(in, consumed, in.len);
        }
    } else {
        f = (struct frame){.type = (enum frame_type)(1 + data[0] % (FRAME_TYPE_END - 1)), .payload = in};
        try_frame(&f, arena);
    }
    arena_free(arena);
    return 0;
}
