/* Frames: what goes in comes out, whatever is cut or flipped is refused, and nothing is read past the end. */
#include "tests/support/wire_random.h"

#include "base/array.h"
#include "base/limits.h"
#include "wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define EPOCH 7

static struct frame parse_one(const struct buf *b)
{
    struct frame f;
    struct error err = {0};
    size_t consumed = 0;
    assert_int_equal(frame_parse(buf_view(b), &f, &consumed, &err), 1);
    assert_int_equal(consumed, b->len);
    assert_int_equal(f.epoch, EPOCH);
    return f;
}

static void small_frames(void **state)
{
    (void)state;
    struct error err = {0}, fatal = {0}, got_fatal = {0};
    struct buf b;
    buf_init(&b, MIB(1));
    struct engine_info info = {.build = "0.1 abc",
                               .arch = "llama",
                               .backend = "cpu",
                               .fingerprint = "0123456789abcdef",
                               .model_digest = {1, 2, 255},
                               .n_vocab = 5,
                               .n_context = 6,
                               .max_sequences = 7,
                               .max_batch_tokens = 8,
                               .page_tokens = 16,
                               .weights_size = 1ull << 40,
                               .kv_size = 9,
                               .n_params = 1ull << 50,
                               .load_ms = 10,
                               .sandbox = "landlock 7, seccomp"};
    struct engine_info got = {0};
    assert_true(frame_put_hello(&b, EPOCH, &info, &err));
    struct frame f = parse_one(&b);
    assert_true(frame_get_hello(&f, &got, &err));
    assert_memory_equal(&info, &got, sizeof info);

    float fraction = 0;
    buf_clear(&b);
    assert_true(frame_put_loading(&b, EPOCH, 0.25f, &err));
    f = parse_one(&b);
    assert_true(frame_get_loading(&f, &fraction, &err));
    assert_true(fraction == 0.25f);
    assert_false(frame_get_hello(&f, &got, &err));
    assert_int_equal(err.code, ERR_PROTOCOL);

    error_set_param(&fatal, ERR_FORMAT, "x", "The file is broken.");
    buf_clear(&b);
    assert_true(frame_put_fatal(&b, EPOCH, &fatal, &err));
    f = parse_one(&b);
    assert_true(frame_get_fatal(&f, &got_fatal, &err));
    assert_int_equal(got_fatal.code, ERR_FORMAT);
    assert_string_equal(got_fatal.msg, fatal.msg);

    uint64_t job = 0;
    uint32_t choice = 0;
    buf_clear(&b);
    assert_true(frame_put_cancel(&b, EPOCH, 1ull << 63, WIRE_ALL_CHOICES, &err));
    f = parse_one(&b);
    assert_true(frame_get_cancel(&f, &job, &choice, &err));
    assert_true(job == 1ull << 63 && choice == WIRE_ALL_CHOICES);

    for (int urgent = 0; urgent < 2; urgent++) {
        struct pool_limit limit = {.size = 3ull << 40, .urgent = urgent}, got_limit = {0};
        buf_clear(&b);
        assert_true(frame_put_pool_limit(&b, EPOCH, &limit, &err));
        f = parse_one(&b);
        assert_true(frame_get_pool_limit(&f, &got_limit, &err));
        assert_true(got_limit.size == limit.size && got_limit.urgent == limit.urgent);
        f.payload.len--;
        assert_false(frame_get_pool_limit(&f, &got_limit, &err));
        assert_int_equal(err.code, ERR_PROTOCOL);
    }

    struct adapter_order order = {.number = WIRE_MAX_ADAPTERS, .path = "/adapters/sql", .digest = {{1, 2, 255}}};
    struct adapter_order got_order = {0};
    buf_clear(&b);
    assert_true(frame_put_adapter(&b, EPOCH, &order, &err));
    f = parse_one(&b);
    assert_true(frame_get_adapter(&f, &got_order, &err));
    assert_memory_equal(&order, &got_order, sizeof order);
    f.payload.len--;
    assert_false(frame_get_adapter(&f, &got_order, &err));

    struct adapter_done done = {.number = 1, .error = fatal}, got_done = {0};
    buf_clear(&b);
    assert_true(frame_put_adapter_done(&b, EPOCH, &done, &err));
    f = parse_one(&b);
    assert_true(frame_get_adapter_done(&f, &got_done, &err));
    assert_int_equal(got_done.number, 1);
    assert_int_equal(got_done.error.code, ERR_FORMAT);
    assert_string_equal(got_done.error.msg, fatal.msg);
    for (uint32_t i = 0; i < 2; i++) { /* numbers that no adapter has */
        done.number = i * (WIRE_MAX_ADAPTERS + 1);
        buf_clear(&b);
        assert_true(frame_put_adapter_done(&b, EPOCH, &done, &err));
        f = parse_one(&b);
        assert_false(frame_get_adapter_done(&f, &got_done, &err));
        assert_int_equal(err.code, ERR_PROTOCOL);
    }

    buf_clear(&b);
    assert_true(frame_put_empty(&b, EPOCH, FRAME_DRAIN, &err));
    assert_int_equal(parse_one(&b).type, FRAME_DRAIN);
    buf_release(&b);
}

static void jobs_round_trip(void **state)
{
    (void)state;
    struct arena *arena = arena_create(MIB(16));
    struct job_assembly *parts = job_assembly_create(MIB(1));
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct wire_random r = {.seed = seed};
        struct error err = {0};
        struct job job, got;
        struct buf b;
        buf_init(&b, MIB(1));
        arena_clear(arena);
        wire_random_job(&r, arena, &job);
        assert_true(frame_put_job(&b, EPOCH, &job, &err));
        struct frame f = parse_one(&b);
        assert_int_equal(frame_get_job(&f, parts, arena, &got, &err), 1);
        assert_true(wire_jobs_equal(&job, &got));
        buf_release(&b);
    }
    job_assembly_free(parts);
    arena_free(arena);
}

struct collected {
    struct engine_event events[64];
    size_t n;
};

static void collect(void *arg, const struct engine_event *e)
{
    struct collected *c = arg;
    assert_true(c->n < ARRAY_LEN(c->events));
    c->events[c->n++] = *e;
}

static void events_round_trip(void **state)
{
    (void)state;
    struct arena *arena = arena_create(MIB(16));
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct wire_random r = {.seed = seed};
        struct error err = {0};
        struct engine_event events[20];
        struct collected got = {.n = 0};
        size_t n = wire_random_below(&r, 21);
        struct buf b;
        buf_init(&b, MIB(1));
        arena_clear(arena);
        for (size_t i = 0; i < n; i++) {
            wire_random_event(&r, arena, &events[i]);
        }
        assert_true(frame_put_events(&b, EPOCH, events, n, &err));
        struct frame f = parse_one(&b);
        assert_true(frame_get_events(&f, arena, collect, &got, &err));
        assert_int_equal(got.n, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(wire_events_equal(&events[i], &got.events[i]));
        }
        buf_release(&b);
    }
    arena_free(arena);
}

/* More than one frame's worth of events is split, in order; a single one that is too large is an error. */
static void events_are_split(void **state)
{
    (void)state;
    struct error err = {0};
    uint32_t n = LIMIT_FRAME / 4 / 3; /* three of them fill a frame but for some bytes */
    int32_t *ids = calloc(n, sizeof *ids);
    struct engine_event events[7];
    struct buf b;
    size_t at = 0, consumed, n_frames = 0;
    struct frame f;
    struct collected got = {.n = 0};
    struct arena *arena = arena_create(MIB(256));
    buf_init(&b, MIB(64));
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        events[i] = (struct engine_event){.kind = ENGINE_TOKENS, .job = i, .ids = ids, .n = n, .stop_id = -1};
    }
    assert_true(frame_put_events(&b, EPOCH, events, ARRAY_LEN(events), &err));
    for (; at < b.len; at += consumed, n_frames++) {
        assert_int_equal(frame_parse(str_slice(buf_view(&b), at, b.len), &f, &consumed, &err), 1);
        assert_true(frame_get_events(&f, arena, collect, &got, &err));
    }
    assert_int_equal(n_frames, 4);
    assert_int_equal(got.n, ARRAY_LEN(events));
    for (size_t i = 0; i < got.n; i++) {
        assert_int_equal(got.events[i].job, i);
        assert_int_equal(got.events[i].n, n);
    }
    size_t before = b.len;
    free(ids);
    ids = calloc(LIMIT_FRAME / 4, sizeof *ids);
    struct engine_event large = {.kind = ENGINE_TOKENS, .ids = ids, .n = LIMIT_FRAME / 4};
    assert_false(frame_put_events(&b, EPOCH, &large, 1, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(b.len, before);
    free(ids);
    arena_free(arena);
    buf_release(&b);
}

/* A job beyond one frame comes in parts; parts of another job in between, or too many bytes, are refused. */
static void large_jobs_come_in_parts(void **state)
{
    (void)state;
    struct error err = {0};
    uint32_t n = LIMIT_CONTEXT, n_accepted = 3u << 20;
    int32_t *ids = calloc(n, sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(i % 1000);
    }
    struct job_accepted accepted[2] = {{ids, n_accepted, false}, {ids, n_accepted - 1, true}};
    struct job job = {.id = 5,
                      .n_choices = 2,
                      .prompt = ids,
                      .n_prompt = n,
                      .max_tokens = n,
                      .accepted = accepted,
                      .sampling = sampling_default()};
    struct buf b;
    buf_init(&b, MIB(128));
    assert_true(frame_put_job(&b, EPOCH, &job, &err));
    struct arena *arena = arena_create(MIB(128));
    struct job_assembly *parts = job_assembly_create(MIB(64)), *small = job_assembly_create(MIB(8));
    struct frame f, first;
    struct job got;
    size_t at = 0, consumed;
    int rc = 0, n_frames = 0;
    for (; at < b.len; at += consumed, n_frames++) {
        assert_int_equal(frame_parse(str_slice(buf_view(&b), at, b.len), &f, &consumed, &err), 1);
        if (n_frames == 0) {
            first = f;
        }
        rc = frame_get_job(&f, parts, arena, &got, &err);
        assert_int_equal(rc, at + consumed < b.len ? 0 : 1);
    }
    assert_int_equal(n_frames, 3);
    assert_true(wire_jobs_equal(&job, &got));

    assert_int_equal(frame_get_job(&first, small, arena, &got, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);

    struct buf other;
    buf_init(&other, MIB(1));
    job = (struct job){
        .id = 6, .n_choices = 1, .prompt = ids, .n_prompt = 1, .max_tokens = 1, .sampling = sampling_default()};
    assert_true(frame_put_job(&other, EPOCH, &job, &err));
    f = parse_one(&other);
    assert_int_equal(frame_get_job(&first, parts, arena, &got, &err), 0);
    assert_int_equal(frame_get_job(&f, parts, arena, &got, &err), -1);
    assert_int_equal(err.code, ERR_PROTOCOL);
    assert_int_equal(frame_get_job(&f, parts, arena, &got, &err), 1); /* the assembly starts anew */
    buf_release(&other);
    buf_release(&b);
    job_assembly_free(parts);
    job_assembly_free(small);
    arena_free(arena);
    free(ids);
}

/* A header alone decides how much more is needed; cutting the stream anywhere only delays the frame. */
static void truncation(void **state)
{
    (void)state;
    struct wire_random r = {.seed = 1};
    struct arena *arena = arena_create(MIB(4));
    struct job_assembly *parts = job_assembly_create(MIB(1));
    struct error err = {0};
    struct job job, got;
    struct engine_event events[8];
    struct buf b;
    size_t consumed;
    struct frame f;
    buf_init(&b, MIB(1));
    wire_random_job(&r, arena, &job);
    assert_true(frame_put_job(&b, EPOCH, &job, &err));
    for (size_t i = 0; i < b.len; i++) {
        assert_int_equal(frame_parse(str_slice(buf_view(&b), 0, i), &f, &consumed, &err), 0);
    }
    struct frame whole = parse_one(&b);
    for (size_t i = 0; i < whole.payload.len; i++) { /* a payload that ends early, checksum or not */
        f = whole;
        f.payload = str_of(NULL);
        char *exact = malloc(i ? i : 1); /* its own block, so that reads past its end are seen */
        memcpy(exact, whole.payload.ptr, i);
        f.payload = (struct str){exact, i};
        err.code = ERR_NONE;
        assert_int_equal(frame_get_job(&f, parts, arena, &got, &err), -1);
        assert_int_equal(err.code, ERR_PROTOCOL);
        free(exact);
    }
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        wire_random_event(&r, arena, &events[i]);
    }
    buf_clear(&b);
    assert_true(frame_put_events(&b, EPOCH, events, ARRAY_LEN(events), &err));
    whole = parse_one(&b);
    for (size_t i = 0; i < whole.payload.len; i++) {
        struct collected events_got = {.n = 0};
        char *exact = malloc(i ? i : 1);
        memcpy(exact, whole.payload.ptr, i);
        f = whole;
        f.payload = (struct str){exact, i};
        assert_false(frame_get_events(&f, arena, collect, &events_got, &err));
        free(exact);
    }
    buf_release(&b);
    job_assembly_free(parts);
    arena_free(arena);
}

static void ignore(void *arg, const struct engine_event *e)
{
    (void)arg;
    (void)e;
}

/* Every flipped bit of a frame is noticed by the header's checks or the checksum; the same flips without a checksum are
 * decoded to something or refused, but never crash. */
static void bit_flips(void **state)
{
    (void)state;
    struct wire_random r = {.seed = 3};
    struct arena *arena = arena_create(MIB(4));
    struct job_assembly *parts = job_assembly_create(MIB(1));
    struct error err = {0};
    struct engine_event events[6];
    struct job job, got;
    struct buf b;
    size_t consumed;
    struct frame f;
    buf_init(&b, MIB(1));
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        wire_random_event(&r, arena, &events[i]);
    }
    wire_random_job(&r, arena, &job);
    assert_true(frame_put_events(&b, EPOCH, events, ARRAY_LEN(events), &err));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t bit = 0; bit < b.len * 8; bit++) {
            b.data[bit / 8] = (char)(b.data[bit / 8] ^ (1 << (bit % 8)));
            int rc = frame_parse(buf_view(&b), &f, &consumed, &err);
            assert_true(bit / 8 < 4 ? rc <= 0 : rc == -1); /* a longer frame may only wait for more bytes */
            f = (struct frame){.type = FRAME_EVENTS, .payload = str_slice(buf_view(&b), WIRE_HEADER_SIZE, b.len)};
            if (pass == 0) {
                (void)!frame_get_events(&f, arena, ignore, NULL, &err);
            } else {
                f.type = FRAME_SUBMIT;
                (void)!frame_get_job(&f, parts, arena, &got, &err);
            }
            arena_clear(arena);
            b.data[bit / 8] = (char)(b.data[bit / 8] ^ (1 << (bit % 8)));
        }
        if (pass == 0) {
            struct wire_random again = {.seed = 4};
            buf_clear(&b);
            wire_random_job(&again, arena, &job);
            assert_true(frame_put_job(&b, EPOCH, &job, &err));
        }
    }
    buf_release(&b);
    job_assembly_free(parts);
    arena_free(arena);
}

static void full_buffers_stay_whole(void **state)
{
    (void)state;
    struct error err = {0};
    struct engine_info info = {.build = "x"};
    struct buf b;
    buf_init(&b, 200);
    assert_true(frame_put_hello(&b, EPOCH, &info, &err));
    size_t whole = b.len;
    assert_false(frame_put_hello(&b, EPOCH, &info, &err));
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(b.len, whole);
    buf_release(&b);
}

static void headers_are_checked(void **state)
{
    (void)state;
    struct error err = {0};
    struct buf b;
    struct frame f;
    size_t consumed;
    buf_init(&b, MIB(1));
    assert_true(frame_put_empty(&b, EPOCH, FRAME_DRAIN, &err));
    b.data[6]++; /* version */
    assert_int_equal(frame_parse(buf_view(&b), &f, &consumed, &err), -1);
    assert_int_equal(err.code, ERR_PROTOCOL);
    b.data[6]--;
    b.data[3] = 0x7f; /* size: refused before any of it has come */
    assert_int_equal(frame_parse(buf_view(&b), &f, &consumed, &err), -1);
    b.data[3] = 0;
    b.data[4] = FRAME_TYPE_END;
    assert_int_equal(frame_parse(buf_view(&b), &f, &consumed, &err), -1);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_frames),
        cmocka_unit_test(jobs_round_trip),
        cmocka_unit_test(events_round_trip),
        cmocka_unit_test(events_are_split),
        cmocka_unit_test(large_jobs_come_in_parts),
        cmocka_unit_test(truncation),
        cmocka_unit_test(bit_flips),
        cmocka_unit_test(full_buffers_stay_whole),
        cmocka_unit_test(headers_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
