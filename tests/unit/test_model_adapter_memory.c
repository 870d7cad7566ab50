/* Opening an adapter and binding it to a model with the n-th allocation failing, for every n: an error and nothing
 * bound, or all of it, and nothing lost. What fails are the program's own allocations, not those of libraries. */
#define _GNU_SOURCE
#include "tests/support/model_adapter.h"
#include "tests/support/model_vectors.h"

#include "base/limits.h"
#include "tensor/safetensors_writer.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAILS_OF_PROGRAM 1
#include "tests/support/failing_memory.h"

static const char config[] = "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}";

/* A part that is seen where it lies, and one whose rows are permuted. */
static struct buf adapter_bytes(void)
{
    static const float ones[96 * 4];
    static const char *const names[] = {"self_attn.q_proj", "mlp.up_proj"};
    static const uint64_t n_out[] = {64, 96};
    struct error err = {0};
    struct buf out;
    struct safetensors_writer *w = safetensors_writer_create();
    assert_non_null(w);
    for (int i = 0; i < 2; i++) {
        char name[128];
        snprintf(name, sizeof(name), "base_model.model.model.layers.1.%s.lora_A.weight", names[i]);
        struct gguf_tensor t = {.name = name, .type = DTYPE_F32, .n_dims = 2, .shape = {2, 64}, .data = ones};
        safetensors_add_tensor(w, &t);
        snprintf(name, sizeof(name), "base_model.model.model.layers.1.%s.lora_B.weight", names[i]);
        t.shape[0] = n_out[i];
        t.shape[1] = 2;
        safetensors_add_tensor(w, &t);
    }
    buf_init(&out, MIB(1));
    assert_true(safetensors_write_buf(w, &out, &err));
    safetensors_writer_free(w);
    return out;
}

static bool open_and_bind(struct model *m, const struct buf *data, struct error *err)
{
    struct adapter_file *f = adapter_file_open_memory(str_of(config), data->data, data->len, err);
    bool ok = f && model_adapter_load(m, f, 1, err);
    adapter_file_close(f);
    return ok;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct model_vectors v;
    struct buf bytes, data = adapter_bytes();
    struct model_driver d;
    struct error err = {0};
    model_vectors_load(&v, "llama-linear");
    struct model_file *file = model_vectors_file(&v, &bytes);
    struct model_driver_options o = {.file = file,
                                     .kernels = CPU_KERNELS_REFERENCE,
                                     .kv_type = KV_F32,
                                     .n_threads = 1,
                                     .n_positions = 32,
                                     .n_seqs = 1};
    assert_true(model_driver_open(&d, &o, &err));
    assert_true(open_and_bind(d.model, &data, &err)); /* what libraries make once is made */
    model_adapter_drop(d.model, 1);
    bool ok = false;
    long n = 0;
    for (; CAN_FAIL && !ok; n++) {
        memset(&err, 0, sizeof(err));
        n_allocations = 0;
        fail_at = n;
        ok = open_and_bind(d.model, &data, &err);
        fail_at = -1;
        assert_true(ok || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE);
        assert_true(ok || err.msg[0]);
        assert_true(n < 10000);
    }
    print_message("%ld allocations\n", n);
    assert_true(!CAN_FAIL || n > 10);
    model_driver_close(&d);
    model_file_close(file);
    buf_release(&bytes);
    buf_release(&data);
    model_vectors_release(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
