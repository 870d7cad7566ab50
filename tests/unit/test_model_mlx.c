/* The small random models on the mlx backend (CPU device, f32) against transformers, as test_model_parity.c does it on
 * the reference kernels. */
#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOLERANCE 1e-3

static void equals_transformers(void **state)
{
    struct model_vectors v;
    struct buf bytes;
    struct model_driver d;
    struct error err = {0};
    model_vectors_load(&v, *state);
    struct model_file *file = model_vectors_file(&v, &bytes);
    struct model_driver_options o = {.file = file,
                                     .mlx = true,
                                     .kv_type = KV_F32,
                                     .n_positions = model_vectors_max_positions(&v),
                                     .n_seqs = v.n_greedy};
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    double whole = model_vectors_deviation(&v, &d, v.n_text), chunks = model_vectors_deviation(&v, &d, 7);
    int greedy = model_vectors_greedy(&v, &d, 7);
    print_message("%s: max deviation %.2e std, in chunks of 7 %.2e, greedy %d of %d\n", v.name, whole, chunks, greedy,
                  v.n_greedy);
    assert_true(whole < TOLERANCE);
    assert_true(chunks < TOLERANCE);
    assert_int_equal(greedy, v.n_greedy);
    model_driver_close(&d);
    model_file_close(file);
    buf_release(&bytes);
    model_vectors_release(&v);
}

int main(void)
{
    static const char *const names[] = {"llama-plain", "llama-linear", "llama-llama3", "llama-yarn", "qwen2-tied",
                                        "qwen2-yarn",  "qwen3",        "gemma2",       "gemma3"};
    struct CMUnitTest tests[ARRAY_LEN(names)];
    struct error why = {0};
    if (!mlx_backend_available(&why)) {
        print_message("skip: %s\n", why.msg);
        return 77;
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = equals_transformers, .initial_state = (void *)(uintptr_t)names[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
