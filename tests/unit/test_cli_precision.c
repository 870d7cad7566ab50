/* The choice of a precision beside the plan of what an engine will need: what one decides the other accepts; models of
 * a server with many; making that is stopped. */
#include "base/limits.h"
#include "base/sys_file.h"
#include "cli/precision.h"
#include "gateway/memory_need.h"
#include "tests/support/model_adapter.h"
#include "tests/support/model_vectors.h"
#include "tests/support/temp_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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
                                     .draft_kv_memory = f->wanted.draft_kv_memory,
                                     .lora_memory = f->wanted.adapter_memory};
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
    for (int draft = 0; draft < 4; draft++) {
        f->wanted.draft_path = draft % 3 ? f->path : NULL;
        f->wanted.draft_kv_memory = draft == 2 ? MIB(6) : 0;
        f->wanted.adapter_memory = draft == 3 ? MIB(20) + 1 : 0;
        for (uint64_t memory = MIB(60) + f->wanted.adapter_memory; memory < GIB(1); memory = memory * 5 / 4 + 4321) {
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

/* As the gateway counts them when it adds the model. */
static void adapters_are_in_the_memory(void **state)
{
    struct fixture *f = *state;
    struct options o = {0};
    struct random_adapter a;
    struct adapter_file *file;
    char option[4200];
    char *path = temp_dir_file(&f->dir, "a.gguf");
    assert_int_equal(precision_wanted_by(&o, KV_F16, 1, 1).adapter_memory, 0);
    random_adapter_make(&a, "llama-linear", 0, "llama");
    assert_true(file_write_atomic(path, buf_view(&a.gguf), &f->err));
    file = adapter_file_open(path, &f->err);
    assert_non_null(file);
    uint64_t size = adapter_file_facts(file)->memory_size;
    adapter_file_close(file);
    snprintf(option, sizeof option, "one=%s", path);
    o.loras.items[0] = option;
    o.loras.items[1] = "two=/there/is/none"; /* whoever adds the model says so */
    o.loras.n = 2;
    assert_true(size > 0);
    assert_int_equal(precision_wanted_by(&o, KV_F16, 1, 1).adapter_memory, size);
    o.lora_dir = f->dir.path;
    assert_int_equal(precision_wanted_by(&o, KV_F16, 1, 1).adapter_memory, size + MIB(256));
    o.lora_memory = 5;
    assert_int_equal(precision_wanted_by(&o, KV_F16, 1, 1).adapter_memory, 5);
    random_adapter_release(&a);
    free(path);
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
                                       TEST(adapters_are_in_the_memory), TEST(what_is_stopped_is_not_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
