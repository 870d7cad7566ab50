/* The small random models on the mlx backend (CPU device, f32) against transformers, as test_model_parity.c does it on
 * the reference kernels. */
#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOLERANCE 1e-3

static void check_file(const struct model_vectors *v, const struct model_file *file, const char *what)
{
    struct model_driver d;
    struct error err = {0};
    struct model_driver_options o = {.file = file,
                                     .mlx = true,
                                     .kv_type = KV_F32,
                                     .n_positions = model_vectors_max_positions(v),
                                     .n_seqs = v->n_greedy};
    if (!model_driver_open(&d, &o, &err))
        fail_msg("%s", err.msg);
    double whole = model_vectors_deviation(v, &d, v->n_text), chunks = model_vectors_deviation(v, &d, 7);
    int greedy = model_vectors_greedy(v, &d, 7);
    print_message("%s, %s: max deviation %.2e std, in chunks of 7 %.2e, greedy %d of %d\n", v->name, what, whole,
                  chunks, greedy, v->n_greedy);
    assert_true(whole < TOLERANCE);
    assert_true(chunks < TOLERANCE);
    assert_int_equal(greedy, v->n_greedy);
    model_driver_close(&d);
}

static void gguf_equals_transformers(void **state)
{
    struct model_vectors v;
    struct buf bytes;
    model_vectors_load(&v, *state);
    struct model_file *file = model_vectors_file(&v, &bytes);
    check_file(&v, file, "GGUF");
    model_file_close(file);
    buf_release(&bytes);
    model_vectors_release(&v);
}

/* Layouts of experts: the same file where there are none, so that one will do. */
static void folder_equals_transformers(void **state)
{
    static const char *const layouts[] = {"each", "fused", "switch"};
    struct model_vectors v;
    struct random_folder *folder;
    struct decoder_config c = {.n_experts = 1};
    struct error err = {0};
    model_vectors_load(&v, *state);
    for (size_t i = 0; i < ARRAY_LEN(layouts) && c.n_experts > 0; i++) {
        struct model_file *file = model_vectors_folder(&v, layouts[i], false, &folder);
        if (!decoder_config_read(file, &c, &err))
            fail_msg("%s", err.msg);
        check_file(&v, file, c.n_experts > 0 ? layouts[i] : "folder");
        model_file_close(file);
        random_folder_free(folder);
    }
    model_vectors_release(&v);
}

int main(void)
{
    struct CMUnitTest tests[2 * MODEL_VECTORS_MAX_RANDOM];
    struct error why = {0};
    size_t n = 0;
    if (!mlx_backend_available(&why)) {
        print_message("skip: %s\n", why.msg);
        return 77;
    }
    for (const char *name; (name = model_vectors_random(n / 2)) != NULL; n += 2) {
        void *state = (void *)(uintptr_t)name;
        tests[n] = (struct CMUnitTest){name, gguf_equals_transformers, NULL, NULL, state};
        tests[n + 1] = (struct CMUnitTest){name, folder_equals_transformers, NULL, NULL, state};
    }
    return _cmocka_run_group_tests("mlx", tests, n, NULL, NULL);
}
