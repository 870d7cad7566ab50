/* Opening a folder with the n-th allocation failing, for every n: an error or the whole model, and nothing lost. The
 * allocator is replaced for the whole program; what fails are the program's own allocations and not those that
 * libraries make (json-c 0.16 crashes when the copy of a key fails). With sanitizers, which bring their own, it is
 * skipped. */
#define _GNU_SOURCE
#include "tensor/model_folder.h"

#include "base/limits.h"
#include "tensor/safetensors_writer.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAILS_OF_PROGRAM 1
#include "tests/support/failing_memory.h"

static const uint8_t bytes[256];

static struct buf shard(const char *module)
{
    struct error err = {0};
    struct buf out;
    char names[3][64];
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    const char *const suffixes[] = {"weight", "scales", "biases"};
    for (size_t i = 0; i < 3; i++)
        snprintf(names[i], sizeof(names[i]), "%s.%s", module, suffixes[i]);
    safetensors_add_tensor(w, &(struct gguf_tensor){names[0], DTYPE_U32, 2, {2, 16}, bytes, NULL, NULL});
    safetensors_add_tensor(w, &(struct gguf_tensor){names[1], DTYPE_F16, 2, {2, 2}, bytes, NULL, NULL});
    safetensors_add_tensor(w, &(struct gguf_tensor){names[2], DTYPE_F16, 2, {2, 2}, bytes, NULL, NULL});
    buf_init(&out, MIB(1));
    assert_true(safetensors_write_buf(w, &out, &err));
    safetensors_writer_free(w);
    return out;
}

/* A norm, and a matrix [8, 64] as AutoAWQ packs it. */
static struct buf packed_shard(void)
{
    struct error err = {0};
    struct buf out;
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    safetensors_add_tensor(w, &(struct gguf_tensor){"a.weight", DTYPE_F16, 1, {8}, bytes, NULL, NULL});
    safetensors_add_tensor(w, &(struct gguf_tensor){"b.qweight", DTYPE_I32, 2, {64, 1}, bytes, NULL, NULL});
    safetensors_add_tensor(w, &(struct gguf_tensor){"b.qzeros", DTYPE_I32, 2, {2, 1}, bytes, NULL, NULL});
    safetensors_add_tensor(w, &(struct gguf_tensor){"b.scales", DTYPE_F16, 2, {2, 8}, bytes, NULL, NULL});
    buf_init(&out, MIB(1));
    assert_true(safetensors_write_buf(w, &out, &err));
    safetensors_writer_free(w);
    return out;
}

/* True when no allocation was left to fail. */
static bool open_once(const struct model_folder_file *files, size_t n_files, size_t n_meta, long n)
{
    struct error err = {0};
    n_allocations = 0;
    fail_at = n;
    struct model_file *f = model_folder_open_memory(files, n_files, &err);
    fail_at = -1;
    bool all_done = n_allocations <= n;
    if (!f) {
        assert_true(err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE);
        assert_true(err.msg[0] && !all_done);
        return false;
    }
    assert_int_equal(model_file_n_tensors(f), 2);
    assert_int_equal(model_file_tensor(f, "b.weight")->type, DTYPE_GROUPED);
    assert_int_equal(model_file_n_meta(f), n_meta);
    model_file_close(f);
    return all_done;
}

static void nth_allocation_fails(void **state)
{
    (void)state;
    if (!CAN_FAIL)
        skip();
    struct buf a = shard("a"), b = shard("b"), config;
    buf_init(&config, MIB(1));
    buf_puts(&config, "{\"quantization\":{\"group_size\":64,\"bits\":4}");
    for (int i = 0; i < 100; i++)
        buf_printf(&config, ",\"a key of some length, number %d\":[%d,2.5]", i, i);
    buf_puts(&config, "}");
    const struct model_folder_file files[] = {
        {"config.json", buf_view(&config)},
        {"tokenizer_config.json", STR("{\"chat_template\":[{\"name\":\"default\",\"template\":\"D\"}]}")},
        {"a.safetensors", buf_view(&a)},
        {"b.safetensors", buf_view(&b)},
        {"model.safetensors.index.json",
         STR("{\"weight_map\":{\"a.weight\":\"a.safetensors\",\"a.scales\":\"a.safetensors\",\"a.biases\":\"a."
             "safetensors\",\"b.weight\":\"b.safetensors\",\"b.scales\":\"b.safetensors\",\"b.biases\":\"b."
             "safetensors\"}}")},
    };
    long n = 0;
    while (!open_once(files, sizeof(files) / sizeof(files[0]), 105, n))
        n++;
    assert_true(n > 15);
    buf_release(&a);
    buf_release(&b);
    buf_release(&config);
}

static void nth_allocation_fails_of_a_packed_one(void **state)
{
    (void)state;
    if (!CAN_FAIL)
        skip();
    struct buf shard = packed_shard();
    const struct model_folder_file files[] = {
        {"config.json", STR("{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32}}")},
        {"model.safetensors", buf_view(&shard)},
    };
    long n = 0;
    while (!open_once(files, sizeof(files) / sizeof(files[0]), 3, n))
        n++;
    assert_true(n > 3);
    buf_release(&shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nth_allocation_fails),
                                       cmocka_unit_test(nth_allocation_fails_of_a_packed_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
