/* Grouped weights and mixtures of experts on the cpu backend, in every set of kernels this processor has: products of
 * grouped weights are those of their values in f32, bit for bit, whichever rows stand beside a row; a mixture is what
 * its definition in backend.h says, in f64. */
#include "backend/backend.h"
#include "base/array.h"
#include "tensor/model_file.h"
#include "tests/support/emulated.h"

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

static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 40); /* 24 bits */
}

static float random_float(float scale)
{
    return ((float)random_bits() / (float)(1 << 23) - 1) * scale;
}

static void *make_bytes(size_t n)
{
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(random_bits() >> 8);
    return bytes;
}

static float *random_floats(size_t n, float scale)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(scale);
    return x;
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

/* A step of n rows of the table x [N_ROWS, n_in], from row `first`; the caller ends it with finish. */
static struct tensor *begin(struct backend *be, struct weight *x, int first, int n)
{
    static int32_t ids[N_ROWS];
    static struct batch_seq seq;
    static struct batch batch;
    struct error err = {0};
    for (int i = 0; i < N_ROWS; i++)
        ids[i] = i;
    seq = (struct batch_seq){.n_rows = n, .start = first, .n_pages = 1};
    batch = (struct batch){.n_rows = n,
                           .ids = ids + first,
                           .positions = ids + first,
                           .n_seqs = 1,
                           .seqs = &seq,
                           .n_out = n,
                           .out_rows = ids};
    if (!be->ops->step_begin(be, &batch, &err))
        fail_msg("%s", err.msg);
    return be->ops->embed(be, x, 1);
}

static void finish(struct backend *be, struct tensor *t, float *out, size_t n)
{
    struct error err = {0};
    if (!be->ops->step_end(be, &err) || !be->ops->read_f32(be, t, out, n, &err))
        fail_msg("%s", err.msg);
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
    float *values = random_floats(n, scale); /* of both signs */
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

static void check_grouped(enum cpu_kernels kernels, const struct grouped_case *c)
{
    struct backend *be = open_backend(kernels, 1), *threads = open_backend(kernels, 3);
    if (!be)
        return; /* this processor lacks them */
    size_t n_scales = N_OUT * N_IN / (size_t)c->group_size, size = N_OUT * grouped_row_size(c->bits, N_IN);
    void *scales = make_scales(c, n_scales, 0.1f), *codes = make_codes(c, size);
    void *biases = c->mode == GROUP_AFFINE ? make_scales(c, n_scales, 0.2f) : NULL;
    struct tensor_view grouped = {.name = STR("grouped.weight"),
                                  .type = DTYPE_GROUPED,
                                  .n_dims = 2,
                                  .shape = {N_OUT, N_IN, 1, 1},
                                  .data = codes,
                                  .size = size,
                                  .quant = {c->mode, c->bits, c->group_size, c->scale_type, scales, biases}};
    float *values = malloc(N_OUT * N_IN * sizeof *values), *input = random_floats(N_ROWS * N_IN, 1);
    for (uint64_t row = 0; row < N_OUT; row++)
        tensor_row_to_f32(&grouped, row, values + row * N_IN);
    struct tensor_view same = floats_view(values, 2, N_OUT, N_IN, 1), rows = floats_view(input, 2, N_ROWS, N_IN, 1);
    struct backend *const backends[] = {be, threads};
    float want[N_ROWS * N_OUT], got[N_ROWS * N_OUT];
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        struct backend *b = backends[i];
        struct weight *x = create(b, &rows), *w = create(b, &grouped), *f = create(b, &same);
        product(b, x, 0, N_ROWS, f, want);
        product(b, x, 0, N_ROWS, w, got);
        assert_true(isfinite(want[0]));
        if (memcmp(want, got, sizeof want) != 0)
            fail_msg("%s, %s %d bits: not the product of its values", b->ops->describe(b), group_mode_name(c->mode),
                     c->bits);
        for (int row = 0; row < N_ROWS; row++) {
            product(b, x, row, 1, w, got);
            if (memcmp(want + row * N_OUT, got, N_OUT * sizeof *got) != 0)
                fail_msg("%s, %s %d bits: row %d alone differs", b->ops->describe(b), group_mode_name(c->mode), c->bits,
                         row);
        }
        b->ops->weight_free(b, x);
        b->ops->weight_free(b, w);
        b->ops->weight_free(b, f);
        b->ops->free(b);
    }
    free(scales);
    free(biases);
    free(codes);
    free(values);
    free(input);
}

static void test_grouped(void **state)
{
    (void)state;
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        for (size_t i = 0; i < ARRAY_LEN(cases) && kernels_wanted((enum cpu_kernels)kernels); i++)
            check_grouped((enum cpu_kernels)kernels, &cases[i]);
    }
}

/* ---- mixtures of experts ---- */

#define EXPERTS 7
#define N_FF    24
#define N_X     32

struct mixture {
    float *router, *gate, *up, *down, *x;
};

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void add_expert(const struct mixture *m, int e, const float *x, double weight, double *out)
{
    float hidden[N_FF];
    for (int f = 0; f < N_FF; f++) {
        double g = dot(m->gate + (e * N_FF + f) * N_X, x, N_X);
        hidden[f] = (float)(g / (1 + exp(-g)) * dot(m->up + (e * N_FF + f) * N_X, x, N_X));
    }
    for (int i = 0; i < N_X; i++)
        out[i] += weight * dot(m->down + (e * N_X + i) * N_FF, hidden, N_FF);
}

/* One row, as backend.h defines it. */
static void exact_mixture(const struct mixture *m, const struct moe_params *p, const float *x, double *out)
{
    double logits[EXPERTS], total = 0, taken = 0;
    bool chosen[EXPERTS] = {0};
    for (int e = 0; e < EXPERTS; e++)
        total += exp(logits[e] = dot(m->router + e * N_X, x, N_X));
    for (int i = 0; i < p->n_used; i++) {
        int best = -1;
        for (int e = 0; e < EXPERTS; e++)
            best = !chosen[e] && (best < 0 || logits[e] > logits[best]) ? e : best;
        chosen[best] = true;
        taken += exp(logits[best]) / total;
    }
    memset(out, 0, N_X * sizeof *out);
    for (int e = 0; e < EXPERTS; e++) {
        if (chosen[e])
            add_expert(m, e, x, (double)p->scale * exp(logits[e]) / total / (p->norm_weights ? taken : 1), out);
    }
}

static void run_mixture(struct backend *be, struct weight *x, int first, int n, const struct moe_weights *w,
                        const struct moe_params *p, float *out)
{
    struct tensor *rows = begin(be, x, first, n);
    finish(be, be->ops->moe(be, rows, w, p), out, (size_t)n * N_X);
}

static void check_mixture(enum cpu_kernels kernels, const struct mixture *m, const struct moe_params *p)
{
    struct backend *be = open_backend(kernels, 2);
    if (!be)
        return;
    struct tensor_view views[] = {floats_view(m->router, 2, EXPERTS, N_X, 1),
                                  floats_view(m->gate, 3, EXPERTS, N_FF, N_X),
                                  floats_view(m->up, 3, EXPERTS, N_FF, N_X),
                                  floats_view(m->down, 3, EXPERTS, N_X, N_FF), floats_view(m->x, 2, N_ROWS, N_X, 1)};
    struct weight *made[ARRAY_LEN(views)];
    for (size_t i = 0; i < ARRAY_LEN(views); i++)
        made[i] = create(be, &views[i]);
    struct moe_weights w = {made[0], made[1], made[2], made[3]};
    float all[N_ROWS * N_X], alone[N_X];
    double want[N_X];
    run_mixture(be, made[4], 0, N_ROWS, &w, p, all);
    for (int row = 0; row < N_ROWS; row++) {
        exact_mixture(m, p, m->x + row * N_X, want);
        for (int i = 0; i < N_X; i++) {
            if (!(fabs((double)all[row * N_X + i] - want[i]) < 1e-5))
                fail_msg("%s: row %d, element %d is %.9g, should be %.9g", be->ops->describe(be), row, i,
                         (double)all[row * N_X + i], want[i]);
        }
        run_mixture(be, made[4], row, 1, &w, p, alone);
        if (memcmp(alone, all + row * N_X, sizeof alone) != 0)
            fail_msg("%s: row %d alone differs", be->ops->describe(be), row);
    }
    for (size_t i = 0; i < ARRAY_LEN(views); i++)
        be->ops->weight_free(be, made[i]);
    be->ops->free(be);
}

static void test_mixtures(void **state)
{
    (void)state;
    static const struct moe_params params[] = {
        {EXPERTS, 2, true, 1, ACT_SILU},
        {EXPERTS, 1, false, 1, ACT_SILU},
        {EXPERTS, EXPERTS, false, 2.5f, ACT_SILU},
    };
    struct mixture m = {random_floats(EXPERTS * N_X, 0.5f), random_floats(EXPERTS * N_FF * N_X, 0.3f),
                        random_floats(EXPERTS * N_FF * N_X, 0.3f), random_floats(EXPERTS * N_X * N_FF, 0.3f),
                        random_floats(N_ROWS * N_X, 1)};
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        for (size_t i = 0; i < ARRAY_LEN(params) && kernels_wanted((enum cpu_kernels)kernels); i++)
            check_mixture((enum cpu_kernels)kernels, &m, &params[i]);
    }
    free(m.router);
    free(m.gate);
    free(m.up);
    free(m.down);
    free(m.x);
}

/* With the logits of all experts equal the lower ones win. */
static void test_ties_go_to_the_lower_expert(void **state)
{
    (void)state;
    static const struct moe_params p = {EXPERTS, 3, true, 1, ACT_SILU};
    struct mixture m = {calloc(EXPERTS * N_X, sizeof(float)), random_floats(EXPERTS * N_FF * N_X, 0.3f),
                        random_floats(EXPERTS * N_FF * N_X, 0.3f), random_floats(EXPERTS * N_X * N_FF, 0.3f),
                        random_floats(N_ROWS * N_X, 1)};
    assert_non_null(m.router);
    check_mixture(CPU_KERNELS_AUTO, &m, &p);
    free(m.router);
    free(m.gate);
    free(m.up);
    free(m.down);
    free(m.x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_ties_go_to_the_lower_expert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
