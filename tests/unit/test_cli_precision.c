/* The choice of a precision beside the plan of what an engine will need: what one decides the other accepts; models of
 * a server with many; making that is stopped. */
#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/precision.h"
#include "gateway/memory_need.h"
#include "tests/support/model_vectors.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct fixture {
    struct temp_dir dir;
    struct model_vectors v;
    struct buf bytes;
    char *path;
    struct precision_wanted wanted;
    struct precision_found found;
    struct error err;
};

/* A small Llama in floats. */
static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    temp_dir_make(&f->dir);
    setenv("XDG_CACHE_HOME", f->dir.path, 1);
    model_vectors_load(&f->v, "llama-plain");
    struct model_file *file = model_vectors_file(&f->v, &f->bytes);
    model_file_close(file);
    f->path = temp_dir_file(&f->dir, "m.gguf");
    f->wanted = (struct precision_wanted){.quantize = "auto",
                                          .kv_type = KV_F16,
                                          .usual_sequences = PRECISION_SERVE_SEQUENCES,
                                          .most_sequences = SERVED_DEFAULT_SEQUENCES,
                                          .n_threads = 1};
    *state = f;
    return file_write_atomic(f->path, buf_view(&f->bytes), &f->err) ? 0 : 1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    model_vectors_release(&f->v);
    buf_release(&f->bytes);
    temp_dir_remove(&f->dir);
    free(f->path);
    free(f);
    return 0;
}

static bool plan(struct fixture *f)
{
    f->err = (struct error){0};
    return precision_plan(f->path, &f->wanted, &f->found, &f->err);
}

/* What the gateway will say that an engine needs which gets the pool that was found. */
static uint64_t total_of(struct fixture *f)
{
    struct memory_need n;
    struct decoder_config config;
    struct served_model_options o = {.model_path = f->found.path,
                                     .kv_type = "f16",
                                     .kv_memory = f->found.kv_memory,
                                     .max_context = 1 << 30, /* a pool of any size is of use */
                                     .draft_model_path = f->wanted.draft_path,
                                     .draft_kv_memory = f->wanted.draft_kv_memory};
    struct model_file *file = model_file_open(f->found.path, &f->err);
    if (!file || !decoder_config_read(file, &config, &f->err) ||
        !memory_need(&o, file, &config, f->wanted.memory, &n, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
    model_file_close(file);
    return n.total;
}

static void the_plan_accepts_what_was_decided(void **state)
{
    struct fixture *f = *state;
    for (int draft = 0; draft < 3; draft++) {
        f->wanted.draft_path = draft ? f->path : NULL;
        f->wanted.draft_kv_memory = draft == 2 ? MIB(6) : 0;
        for (uint64_t memory = MIB(60); memory < GIB(1); memory = memory * 5 / 4 + 4321) {
            f->wanted.memory = memory;
            if (!plan(f)) {
                fail_msg("%s", f->err.msg);
            }
            assert_int_equal(f->found.bits, 0);
            uint64_t total = total_of(f);
            assert_true(f->found.kv_memory > 0 && total <= memory && total > memory - MIB(4));
        }
    }
}

/* A pool is not divided among many, and what cannot fit is refused by their plan, which says what it needs. */
static void of_many_the_plan_decides(void **state)
{
    struct fixture *f = *state;
    f->wanted.memory = MIB(16);
    assert_false(plan(f));
    assert_int_equal(f->err.code, ERR_NO_MEMORY);
    f->wanted.on_demand = true;
    assert_true(plan(f));
    assert_int_equal(f->found.bits, 0);
    f->wanted.quantize = "8";
    assert_true(plan(f));
    assert_int_equal(f->found.bits, 8);
    f->wanted.memory = GIB(1);
    f->wanted.quantize = "auto";
    assert_true(plan(f));
    assert_int_equal(f->found.kv_memory, 0);
    assert_non_null(strstr(f->found.why, "the budget of all models"));
    assert_true(total_of(f) <= GIB(1));
}

static bool go_on(void *arg, double fraction)
{
    int *calls = arg;
    (void)fraction;
    return --*calls > 0;
}

static void what_is_stopped_is_not_there(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    int calls = 2;
    bool is_there = true;
    f->wanted.quantize = "8";
    assert_true(precision_find(f->path, &f->wanted, &f->found, &is_there, &f->err));
    assert_false(is_there);
    assert_false(precision_resolve(f->path, &f->wanted, go_on, &calls, &f->found, &f->err));
    assert_int_equal(f->err.code, ERR_CANCELLED);
    assert_false(file_exists(f->found.path));
    calls = 1 << 20;
    if (!precision_resolve(f->path, &f->wanted, go_on, &calls, &f->found, &f->err)) {
        fail_msg("%s", f->err.msg);
    }
    assert_int_equal(stat(f->found.path, &before), 0);
    assert_true(precision_find(f->path, &f->wanted, &f->found, &is_there, &f->err) && is_there);
    calls = 0; /* nothing is made, and nobody is asked */
    assert_true(precision_resolve(f->path, &f->wanted, go_on, &calls, &f->found, &f->err));
    assert_int_equal(stat(f->found.path, &after), 0);
    assert_true(before.st_ino == after.st_ino && f->found.bits == 8);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(the_plan_accepts_what_was_decided), TEST(of_many_the_plan_decides),
                                       TEST(what_is_stopped_is_not_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
