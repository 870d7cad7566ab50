/* Grouped weights and stacks of them on the cpu backend, in every set of kernels this processor has: products of
 * grouped weights are those of their values, the same bits whichever rows stand beside a row; where they are decoded
 * from the file, those of f32 weights, bit for bit. */
#include "backend/backend.h"
#include "base/array.h"
#include "tensor/model_file.h"
#include "tests/support/emulated.h"
#include "tests/support/op_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_OUT  37 /* not a multiple of any panel */
#define N_IN   256
#define N_ROWS 6

static uint64_t random_state = 11;

static void *make_bytes(size_t n)
{
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(random_bits(&random_state) >> 8);
    return bytes;
}

static struct backend *open_backend(enum cpu_kernels kernels, int n_threads)
{
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = kernels, .n_threads = n_threads, .spin_us = -1};
    struct backend *be = cpu_backend_create(&o, &err);
    if (!be && kernels_required(kernels))
        fail_msg("%s", err.msg);
    return be;
}

/* ---- weights and steps ---- */

static struct weight *create(struct backend *be, const struct tensor_view *view)
{
    struct error err = {0};
    struct weight *w = be->ops->weight_create(be, &view, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    return w;
}

static struct tensor_view floats_view(const float *data, int n_dims, uint64_t a, uint64_t b, uint64_t c)
{
    return (struct tensor_view){.name = STR("f32.weight"),
                                .type = DTYPE_F32,
                                .n_dims = n_dims,
                                .shape = {a, b, n_dims > 2 ? c : 1, 1},
                                .data = data,
                                .size = (size_t)(a * b * (n_dims > 2 ? c : 1)) * sizeof *data};
}

static void product(struct backend *be, struct weight *x, int first, int n, struct weight *w, float *out)
{
    struct tensor *y = NULL, *rows = begin(be, x, first, n);
    be->ops->linear(be, rows, 1, &w, NULL, &y);
    finish(be, y, out, (size_t)n * N_OUT);
}

/* ---- grouped weights ---- */

struct grouped_case {
    enum group_mode mode;
    int bits, group_size;
    enum dtype scale_type;
};

static const struct grouped_case cases[] = {
    {GROUP_AFFINE, 2, 32, DTYPE_F32},  {GROUP_AFFINE, 3, 64, DTYPE_F16},   {GROUP_AFFINE, 4, 32, DTYPE_BF16},
    {GROUP_AFFINE, 4, 64, DTYPE_F16},  {GROUP_AFFINE, 4, 128, DTYPE_BF16}, {GROUP_AFFINE, 5, 128, DTYPE_F32},
    {GROUP_AFFINE, 6, 64, DTYPE_BF16}, {GROUP_AFFINE, 8, 32, DTYPE_F16},   {GROUP_MXFP4, 4, 32, DTYPE_U8},
    {GROUP_MXFP8, 8, 32, DTYPE_U8},    {GROUP_NVFP4, 4, 16, DTYPE_U8},
};

static void *make_scales(const struct grouped_case *c, size_t n, float scale)
{
    if (c->scale_type == DTYPE_U8) { /* exponents around 1, and as e4m3 small numbers */
        uint8_t *bytes = make_bytes(n);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)((c->mode == GROUP_NVFP4 ? 0x20 : 120) + bytes[i] % 12);
        return bytes;
    }
    float *values = random_floats(&random_state, n, scale); /* of both signs */
    void *scales = malloc(n * sizeof(float));
    assert_true(scales && dtype_from_f32(c->scale_type, values, n, scales));
    free(values);
    return scales;
}

/* Codes of mxfp8 are of e4m3, which has NaN: 0x7f and 0xff. */
static void *make_codes(const struct grouped_case *c, size_t size)
{
    uint8_t *codes = make_bytes(size);
    for (size_t i = 0; c->mode == GROUP_MXFP8 && i < size; i++)
        codes[i] &= 0xb7;
    return codes;
}

struct grouped_matrix {
    struct tensor_view view; /* [n_out, n_in] */
    void *codes, *scales, *biases;
    float *values; /* [n_out, n_in] */
};

static struct grouped_matrix make_grouped(const struct grouped_case *c, size_t n_out, size_t n_in)
{
    struct grouped_matrix m;
    size_t n_scales = n_out * n_in / (size_t)c->group_size, size = n_out * grouped_row_size(c->bits, n_in);
    m.scales = make_scales(c, n_scales, 0.1f);
    m.codes = make_codes(c, size);
    m.biases = c->mode == GROUP_AFFINE ? make_scales(c, n_scales, 0.2f) : NULL;
    m.view = (struct tensor_view){.name = STR("grouped.weight"),
                                  .type = DTYPE_GROUPED,
                                  .n_dims = 2,
                                  .shape = {n_out, n_in, 1, 1},
                                  .data = m.codes,
                                  .size = size,
                                  .quant = {c->mode, c->bits, c->group_size, c->scale_type, m.scales, m.biases}};
    m.values = malloc(n_out * n_in * sizeof *m.values);
    assert_non_null(m.values);
    for (uint64_t row = 0; row < n_out; row++)
        tensor_row_to_f32(&m.view, row, m.values + row * n_in);
    return m;
}

static void free_grouped(struct grouped_matrix *m)
{
    free(m->scales);
    free(m->biases);
    free(m->codes);
    free(m->values);
}

/* Whole numbers of which one in each group of 32 is 127: their quantization is exact. */
static float *exact_input(size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = i % 32 == i / 32 % 32 ? 127 : (float)((int)(random_bits(&random_state) % 255) - 127);
    return x;
}

/* got: [N_ROWS, N_OUT], products of input [N_ROWS, N_IN] with values [n_out, N_IN] at column `first`. */
static void check_near(const char *what, const float *values, size_t n_out, size_t first, const float *input,
                       const float *got)
{
    for (size_t at = 0; at < N_ROWS * n_out; at++) {
        const float *x = input + at / n_out * N_IN, *w = values + at % n_out * N_IN;
        double sum = 0, magnitude = 0, y = (double)got[at / n_out * N_OUT + first + at % n_out];
        for (int i = 0; i < N_IN; i++) {
            sum += (double)x[i] * (double)w[i];
            magnitude += fabs((double)x[i] * (double)w[i]);
        }
        if (!(fabs(y - sum) <= 1e-5 * magnitude))
            fail_msg("%s: row %zu, column %zu is %.9g, should be %.9g", what, at / n_out, first + at % n_out, y, sum);
    }
}

static void check_alone(struct backend *be, const char *what, struct weight *x, struct weight *w, const float *all)
{
    float alone[N_OUT];
    for (int row = 0; row < N_ROWS; row++) {
        product(be, x, row, 1, w, alone);
        if (memcmp(all + row * N_OUT, alone, sizeof alone) != 0)
            fail_msg("%s: row %d alone differs", what, row);
    }
}

/* Decoded from the file where a table does not pack, or not this mode; else in panels. */
static bool is_decoded(enum cpu_kernels kernels, const struct grouped_case *c)
{
    return kernels == CPU_KERNELS_REFERENCE || c->mode == GROUP_MXFP8;
}

static void check_grouped(enum cpu_kernels kernels, int n_threads, const struct grouped_case *c)
{
    struct backend *be = open_backend(kernels, n_threads);
    if (!be)
        return; /* this processor lacks them */
    struct grouped_matrix m = make_grouped(c, N_OUT, N_IN);
    float *input = exact_input(N_ROWS * N_IN), all[N_ROWS * N_OUT], want[N_ROWS * N_OUT];
    struct tensor_view same = floats_view(m.values, 2, N_OUT, N_IN, 1), rows = floats_view(input, 2, N_ROWS, N_IN, 1);
    struct weight *x = create(be, &rows), *w = create(be, &m.view), *f = create(be, &same);
    char what[80], type[48];
    snprintf(what, sizeof what, "%s, %s", be->ops->describe(be), tensor_type_name(&m.view, type, sizeof type));
    const char *layout = be->ops->weight_info(w).layout;
    if ((strstr(layout, "panels") == NULL) != is_decoded(kernels, c))
        fail_msg("%s: the layout is %s", what, layout);
    product(be, x, 0, N_ROWS, w, all);
    product(be, x, 0, N_ROWS, f, want);
    check_near(what, m.values, N_OUT, 0, input, all);
    if (is_decoded(kernels, c) && memcmp(want, all, sizeof want) != 0)
        fail_msg("%s: not the product of its values", what);
    check_alone(be, what, x, w, all);
    be->ops->weight_free(be, x);
    be->ops->weight_free(be, w);
    be->ops->weight_free(be, f);
    be->ops->free(be);
    free_grouped(&m);
    free(input);
}

/* check_* for each set of kernels that is tested here */
static bool next_kernels(int *kernels)
{
    while (++*kernels < CPU_KERNELS_COUNT) {
        if (*kernels >= CPU_KERNELS_REFERENCE && kernels_wanted((enum cpu_kernels) * kernels))
            return true;
    }
    return false;
}

static void test_grouped(void **state)
{
    (void)state;
    for (int kernels = -1; next_kernels(&kernels);) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            check_grouped((enum cpu_kernels)kernels, 1, &cases[i]);
            check_grouped((enum cpu_kernels)kernels, 3, &cases[i]);
        }
    }
}

/* Rows of a table are those of the file, bit for bit. */
static void test_grouped_rows(void **state)
{
    (void)state;
    for (int kernels = -1; next_kernels(&kernels);) {
        struct backend *be = open_backend((enum cpu_kernels)kernels, 2);
        for (size_t i = 0; be && i < ARRAY_LEN(cases); i++) {
            struct grouped_matrix m = make_grouped(&cases[i], N_ROWS, N_IN);
            float got[N_ROWS * N_IN];
            struct weight *table = create(be, &m.view);
            finish(be, begin(be, table, 0, N_ROWS), got, ARRAY_LEN(got));
            assert_memory_equal(got, m.values, sizeof got);
            be->ops->weight_free(be, table);
            free_grouped(&m);
        }
        if (be)
            be->ops->free(be);
    }
}

/* Parts of several kinds make one weight: panels of three formats, and what is decoded. */
static void check_parts(struct backend *be)
{
    static const struct grouped_case kinds[] = {{GROUP_AFFINE, 4, 64, DTYPE_F16},
                                                {GROUP_MXFP8, 8, 32, DTYPE_U8},
                                                {GROUP_AFFINE, 8, 128, DTYPE_BF16},
                                                {GROUP_NVFP4, 4, 16, DTYPE_U8}};
    static const size_t n_rows[] = {9, 5, 16, 7}; /* N_OUT of them */
    struct grouped_matrix m[ARRAY_LEN(kinds)];
    const struct tensor_view *views[ARRAY_LEN(kinds)];
    float *input = exact_input(N_ROWS * N_IN), all[N_ROWS * N_OUT];
    struct tensor_view rows = floats_view(input, 2, N_ROWS, N_IN, 1);
    struct error err = {0};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        m[i] = make_grouped(&kinds[i], n_rows[i], N_IN);
        views[i] = &m[i].view;
    }
    struct weight *x = create(be, &rows), *w = be->ops->weight_create(be, views, ARRAY_LEN(kinds), &err);
    if (!w)
        fail_msg("%s", err.msg);
    product(be, x, 0, N_ROWS, w, all);
    for (size_t i = 0, first = 0; i < ARRAY_LEN(kinds); first += n_rows[i++])
        check_near(be->ops->describe(be), m[i].values, n_rows[i], first, input, all);
    check_alone(be, be->ops->describe(be), x, w, all);
    be->ops->weight_free(be, x);
    be->ops->weight_free(be, w);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        free_grouped(&m[i]);
    free(input);
}

static void test_grouped_parts(void **state)
{
    (void)state;
    for (int kernels = -1; next_kernels(&kernels);) {
        struct backend *be = open_backend((enum cpu_kernels)kernels, 2);
        if (be) {
            check_parts(be);
            be->ops->free(be);
        }
    }
}

/* A scale of 255 is infinite in MLX's mxfp4: such a matrix stays decoded, and its products are no numbers. */
static void test_infinite_scales_are_kept(void **state)
{
    (void)state;
    const struct grouped_case c = {GROUP_MXFP4, 4, 32, DTYPE_U8};
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct grouped_matrix m = make_grouped(&c, N_OUT, N_IN);
    float *input = exact_input(N_ROWS * N_IN), all[N_ROWS * N_OUT];
    struct tensor_view rows = floats_view(input, 2, N_ROWS, N_IN, 1);
    ((uint8_t *)m.scales)[N_OUT * N_IN / 32 - 1] = 255;
    struct weight *x = create(be, &rows), *w = create(be, &m.view);
    assert_non_null(strstr(be->ops->weight_info(w).layout, "in place"));
    product(be, x, 0, N_ROWS, w, all);
    for (int i = 0; i < N_ROWS * N_OUT; i++)
        assert_true(isfinite(all[i]) == (i % N_OUT != N_OUT - 1));
    be->ops->weight_free(be, x);
    be->ops->weight_free(be, w);
    be->ops->free(be);
    free_grouped(&m);
    free(input);
}

/* Sizes and modes that no file reader lets through are refused. */
static void test_wrong_groups_are_refused(void **state)
{
    (void)state;
    const struct grouped_case c = {GROUP_AFFINE, 4, 64, DTYPE_F16};
    struct backend *be = open_backend(CPU_KERNELS_AUTO, 1);
    struct grouped_matrix m = make_grouped(&c, N_OUT, N_IN);
    for (int i = 0; i < 5; i++) {
        struct tensor_view wrong = m.view;
        struct error err = {0};
        wrong.quant.bits = i == 0 ? 7 : i == 1 ? 3 : 4;
        wrong.quant.group_size = i == 2 ? 48 : 64;
        wrong.shape[1] = i == 3 ? 224 : N_IN; /* three groups and a half */
        wrong.size -= i == 4;
        assert_null(be->ops->weight_create(be, &(const struct tensor_view *){&wrong}, 1, &err));
        assert_int_equal(err.code, ERR_FORMAT);
    }
    be->ops->free(be);
    free_grouped(&m);
}

/* ---- stacks ---- */

#define EXPERTS 7

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* A stack of grouped experts of which each row takes one: as that expert alone, a weight of its own. */
static void check_grouped_experts(struct backend *be, const struct grouped_case *c)
{
    enum { N_HIDDEN = 128 };
    static const struct moe_params params = {
        .n_experts = EXPERTS, .n_used = 1, .norm_weights = true, .scale = 1, .act = ACT_SILU};
    struct grouped_matrix stacks[3] = {make_grouped(c, EXPERTS * N_HIDDEN, N_IN),
                                       make_grouped(c, EXPERTS * N_HIDDEN, N_IN),
                                       make_grouped(c, EXPERTS * N_IN, N_HIDDEN)};
    float *router = random_floats(&random_state, EXPERTS * N_IN, 1),
          *input = random_floats(&random_state, N_ROWS * N_IN, 1);
    struct tensor_view router_view = floats_view(router, 2, EXPERTS, N_IN, 1),
                       rows = floats_view(input, 2, N_ROWS, N_IN, 1);
    struct weight *x = create(be, &rows), *made[4] = {create(be, &router_view)};
    for (int i = 0; i < 3; i++) {
        struct tensor_view *v = &stacks[i].view;
        v->n_dims = 3;
        v->shape[2] = v->shape[1];
        v->shape[1] = v->shape[0] / EXPERTS;
        v->shape[0] = EXPERTS;
        made[i + 1] = create(be, v);
    }
    struct moe_weights w = {.router = made[0], .gate = made[1], .up = made[2], .down = made[3]};
    float all[N_ROWS * N_IN], alone[N_IN];
    finish(be, be->ops->moe(be, begin(be, x, 0, N_ROWS), &w, &params), all, ARRAY_LEN(all));
    for (int row = 0; row < N_ROWS; row++) {
        int best = 0;
        for (int e = 1; e < EXPERTS; e++)
            best =
                dot(router + e * N_IN, input + row * N_IN, N_IN) > dot(router + best * N_IN, input + row * N_IN, N_IN)
                    ? e
                    : best;
        struct weight *own[3];
        for (int i = 0; i < 3; i++) {
            struct tensor_view one = tensor_rows(&stacks[i].view, (uint64_t)best, 1), matrix = tensor_as_matrix(&one);
            own[i] = create(be, &matrix);
        }
        finish(be, be->ops->mlp_gated(be, begin(be, x, row, 1), own[0], own[1], own[2], ACT_SILU), alone, N_IN);
        for (int i = 0; i < N_IN; i++)
            assert_true(isfinite(alone[i]) && all[row * N_IN + i] == alone[i]);
        for (int i = 0; i < 3; i++)
            be->ops->weight_free(be, own[i]);
    }
    for (int i = 0; i < 4; i++)
        be->ops->weight_free(be, made[i]);
    be->ops->weight_free(be, x);
    for (int i = 0; i < 3; i++)
        free_grouped(&stacks[i]);
    free(router);
    free(input);
}

static void test_grouped_experts(void **state)
{
    (void)state;
    for (int kernels = -1; next_kernels(&kernels);) {
        struct backend *be = open_backend((enum cpu_kernels)kernels, 2);
        for (size_t i = 0; be && i < ARRAY_LEN(cases); i += emulated() ? 4 : 1)
            check_grouped_experts(be, &cases[i]);
        if (be)
            be->ops->free(be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_grouped_rows),
        cmocka_unit_test(test_grouped_parts),
        cmocka_unit_test(test_infinite_scales_are_kept),
        cmocka_unit_test(test_wrong_groups_are_refused),
        cmocka_unit_test(test_grouped_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
