/* gpt-oss with its experts in MXFP4, as it is published: a GGUF file and a folder of blocks and scales give the same
 * logits, on every kernel set and on mlx, and their weights stay at 4 bits in memory. That the values are right is
 * elsewhere: the type against the gguf package (test_tensor_dtype), the family against transformers
 * (test_model_parity). */
#include "tests/support/emulated.h"
#include "tests/support/model_vectors.h"

#include "base/array.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct model_vectors v;
    struct buf bytes;
    struct random_folder *folder;
    struct model_file *files[2]; /* GGUF, folder */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    model_vectors_load(&f->v, "gpt-oss");
    f->files[0] = model_vectors_mxfp4_file(&f->v, &f->bytes);
    f->files[1] = model_vectors_mxfp4_folder(&f->v, &f->folder);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    model_file_close(f->files[0]);
    model_file_close(f->files[1]);
    random_folder_free(f->folder);
    buf_release(&f->bytes);
    model_vectors_release(&f->v);
    free(f);
    return 0;
}

/* The logits of the last token; NULL where this machine has no such backend. */
static float *run(const struct fixture *f, int file, const struct model_driver_options *options, int *n_vocab)
{
    struct model_driver_options o = *options;
    struct model_driver d;
    struct error err = {0};
    int32_t last = f->v.n_text - 1;
    o.file = f->files[file];
    o.n_positions = f->v.n_text;
    o.n_seqs = 1;
    if (!model_driver_open(&d, &o, &err)) {
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        return NULL;
    }
    float *logits = malloc((size_t)d.config.n_vocab * sizeof(*logits));
    assert_non_null(logits);
    model_driver_text(&d, f->v.text, f->v.n_text, 7, &last, 1, logits);
    *n_vocab = d.config.n_vocab;
    model_driver_close(&d);
    return logits;
}

/* bound: of the difference, in standard deviations of the logits; 0: the same bits. */
static void compare(const struct fixture *f, const struct model_driver_options *o, double bound)
{
    int n = 0;
    float *gguf = run(f, 0, o, &n), *folder = run(f, 1, o, &n);
    double worst = 0;
    for (int i = 0; gguf && folder && i < n; i++)
        worst = fmax(worst, fabs((double)gguf[i] - (double)folder[i]) / f->v.std);
    assert_true(worst <= bound);
    free(gguf);
    free(folder);
}

static void containers_agree(void **state)
{
    static const struct {
        enum cpu_kernels kernels;
        double bound;
    } cases[] = {{CPU_KERNELS_REFERENCE, 1e-4},
                 {CPU_KERNELS_AVX2, 0},
                 {CPU_KERNELS_AVX512, 0},
                 {CPU_KERNELS_NEON, 0},
                 {CPU_KERNELS_I8MM, 0}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (kernels_wanted(cases[i].kernels))
            compare(*state,
                    &(struct model_driver_options){.kernels = cases[i].kernels, .kv_type = KV_F32, .n_threads = 2},
                    cases[i].bound);
    }
}

static void containers_agree_on_mlx(void **state)
{
    struct error why = {0};
    if (mlx_backend_available(&why))
        compare(*state, &(struct model_driver_options){.mlx = true, .kv_type = KV_F32}, 1e-4);
}

static size_t stored_size(const struct tensor_view *t)
{
    struct tensor_view matrix = tensor_as_matrix(t);
    return t->size + (t->type == DTYPE_GROUPED ? group_scales_size(&t->quant, matrix.shape[0], matrix.shape[1]) : 0);
}

/* Experts of both containers, as each kernel set keeps them. */
static void experts_stay_small(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"blk.0.ffn_gate_exps.weight", "model.layers.0.mlp.experts.gate_up_proj_blocks"};
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        struct error err = {0};
        struct cpu_backend_options o = {.kernels = (enum cpu_kernels)kernels, .n_threads = 1};
        struct backend *be = kernels_wanted(o.kernels) ? cpu_backend_create(&o, &err) : NULL;
        for (int i = 0; be && i < 2; i++) {
            const struct tensor_view *t = model_file_tensor(f->files[i], names[i]);
            assert_non_null(t);
            assert_true(t->n_dims == 3 && t->shape[0] == 6 && t->shape[2] == 64);
            assert_true(i == 0 ? t->type == DTYPE_MXFP4 : t->type == DTYPE_GROUPED && t->quant.mode == GROUP_MXFP4);
            struct weight *w = be->ops->weight_create(be, &t, 1, &err);
            assert_non_null(w);
            assert_true((double)be->ops->weight_info(w).resident_size <= 1.05 * (double)stored_size(t));
            be->ops->weight_free(be, w);
        }
        if (be)
            be->ops->free(be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_agree),
        cmocka_unit_test(containers_agree_on_mlx),
        cmocka_unit_test(experts_stay_small),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
