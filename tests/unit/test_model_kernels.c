/* Small random models with every kernel set that this processor has: f32 weights and K and V, so that the bounds are
 * those of the reference kernels (test_model_parity). A pattern as argument chooses tests. */
#include "tests/support/model_vectors.h"

#include "base/array.h"
#include "tests/support/emulated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-3 /* standard deviations of the logits */

static void check_model(const char *name, enum cpu_kernels kernels)
{
    struct model_vectors v;
    struct buf bytes;
    struct model_driver d;
    struct error err = {0};
    model_vectors_load(&v, name);
    struct model_file *file = model_vectors_file(&v, &bytes);
    struct model_driver_options o = {.file = file,
                                     .kernels = kernels,
                                     .kv_type = KV_F32,
                                     .n_threads = 1,
                                     .n_positions = model_vectors_max_positions(&v),
                                     .n_seqs = v.n_greedy};
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    double deviation = model_vectors_deviation(&v, &d, v.n_text);
    print_message("%s, %s: max deviation %.2e std\n", name, d.be->ops->describe(d.be), deviation);
    assert_true(deviation < TOLERANCE);
    assert_true(model_vectors_deviation(&v, &d, 7) == deviation); /* the same bits */
    model_driver_close(&d);
    model_file_close(file);
    buf_release(&bytes);
    model_vectors_release(&v);
}

static void check_kernels(enum cpu_kernels kernels)
{
    /* between them, all ops of a layer */
    static const char *const models[] = {"llama-plain", "qwen3",     "gemma2", "stablelm", "cohere-qk-norm",
                                         "gpt-oss",     "deepseek3", "llama4", "gemma3n"};
    struct cpu_backend_options o = {.kernels = kernels, .n_threads = 1};
    struct error err = {0};
    if (!kernels_wanted(kernels))
        return;
    struct backend *be = cpu_backend_create(&o, &err);
    if (!be && kernels_required(kernels))
        fail_msg("%s", err.msg);
    if (!be) {
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        print_message("skip: %s\n", err.msg);
        return;
    }
    be->ops->free(be);
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        check_model(models[i], kernels);
}

static void avx2_equals_transformers(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_AVX2);
}

static void avx512_equals_transformers(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_AVX512);
}

static void neon_equals_transformers(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_NEON);
}

static void i8mm_equals_transformers(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_I8MM);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx2_equals_transformers),
        cmocka_unit_test(avx512_equals_transformers),
        cmocka_unit_test(neon_equals_transformers),
        cmocka_unit_test(i8mm_equals_transformers),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
