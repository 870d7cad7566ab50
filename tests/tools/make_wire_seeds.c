/* Writes the seeds of fuzz_wire_frame that change with the frames: `make_wire_seeds tests/fuzz/corpus/wire_frame`. */
#include "base/limits.h"
#include "tests/support/wire_random.h"
#include "wire/frame.h"

#include <stdio.h>
#include <stdlib.h>

#define N_SEEDS  8
#define N_RAW    2
#define N_EVENTS 5

static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "make_wire_seeds: %s failed\n", what);
        exit(1);
    }
}

/* `first`, then the bytes: what the target takes for a raw stream (0) or for the payload of one frame (its type). */
static void write_seed(const char *dir, const char *name, int number, int first, struct str bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%d", dir, name, number);
    FILE *f = fopen(path, "wb");
    need(f != NULL, path);
    need(fputc(first, f) != EOF && fwrite(bytes.ptr, 1, bytes.len, f) == bytes.len && fclose(f) == 0, path);
}

static void write_both(const char *dir, const char *name, int number, enum frame_type type, struct str frames)
{
    char raw[32];
    snprintf(raw, sizeof raw, "raw_%s", name);
    write_seed(dir, name, number, (int)type - 1, str_slice(frames, WIRE_HEADER_SIZE, frames.len));
    if (number < N_RAW) {
        write_seed(dir, raw, number, 0, frames);
    }
}

static void write_adapters(const char *dir)
{
    struct adapter_order order = {.number = 3, .path = "/adapters/sql", .digest = {{1, 2, 3}}};
    struct adapter_done done = {.number = 3, .error = {.code = ERR_FORMAT, .msg = "It does not fit."}};
    struct error err = {0};
    struct buf out;
    buf_init(&out, MIB(1));
    need(frame_put_adapter(&out, 1, &order, &err), "an order");
    write_both(dir, "adapter", 0, FRAME_ADAPTER, buf_view(&out));
    buf_clear(&out);
    need(frame_put_adapter_done(&out, 1, &done, &err), "an answer");
    write_both(dir, "adapter_done", 0, FRAME_ADAPTER_DONE, buf_view(&out));
    buf_release(&out);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct arena *arena = arena_create(MIB(16));
    need(argc == 2 && arena, "usage: make_wire_seeds FOLDER");
    for (int i = 0; i < N_SEEDS; i++) {
        struct wire_random r = {.seed = (uint64_t)i + 1};
        struct engine_event events[N_EVENTS];
        struct job job;
        struct buf out;
        buf_init(&out, MIB(8));
        wire_random_job(&r, arena, &job);
        need(frame_put_job(&out, 1, &job, &err), "a job");
        write_both(argv[1], "job", i, FRAME_SUBMIT, buf_view(&out));
        buf_clear(&out);
        for (int k = 0; k < N_EVENTS; k++) {
            wire_random_event(&r, arena, &events[k]);
        }
        need(frame_put_events(&out, 1, events, N_EVENTS, &err), "events");
        write_both(argv[1], "events", i, FRAME_EVENTS, buf_view(&out));
        buf_release(&out);
    }
    write_adapters(argv[1]);
    arena_free(arena);
    return 0;
}
