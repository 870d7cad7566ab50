/* Ops of a backend by themselves: numbers, and steps of a few rows. For the one file of a test program. */
#ifndef TANDEM_TESTS_SUPPORT_OP_STEP_H
#define TANDEM_TESTS_SUPPORT_OP_STEP_H

#include "backend/backend.h"
#include "tests/support/emulated.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define OP_MAX_ROWS 16

/* 24 random bits. */
static inline uint32_t random_bits(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 40);
}

static inline float random_float(uint64_t *state, float scale)
{
    return ((float)random_bits(state) / (float)(1 << 23) - 1) * scale;
}

static inline float *random_floats(uint64_t *state, size_t n, float scale)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(state, scale);
    return x;
}

/* A step of n rows of the table x, from row `first`; finish ends it. */
static inline struct tensor *begin(struct backend *be, struct weight *x, int first, int n)
{
    static int32_t ids[OP_MAX_ROWS];
    static struct batch_seq seq;
    static struct batch batch;
    struct error err = {0};
    assert_true(first + n <= OP_MAX_ROWS);
    for (int i = 0; i < OP_MAX_ROWS; i++)
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

static inline void finish(struct backend *be, struct tensor *t, float *out, size_t n)
{
    struct error err = {0};
    if (!be->ops->read_f32(be, t, out, n, &err) || !be->ops->step_end(be, &err))
        fail_msg("%s", err.msg);
}

/* A matrix, or a vector, of floats. */
static inline struct weight *op_weight(struct backend *be, const float *values, uint64_t rows, uint64_t cols)
{
    struct error err = {0};
    struct tensor_view v = {.name = STR("test.weight"),
                            .type = DTYPE_F32,
                            .n_dims = rows == 1 ? 1 : 2,
                            .shape = {rows == 1 ? cols : rows, rows == 1 ? 1 : cols, 1, 1},
                            .data = (const uint8_t *)values,
                            .size = (size_t)(rows * cols) * sizeof(float)};
    const struct tensor_view *views[] = {&v};
    struct weight *w = be->ops->weight_create(be, views, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    return w;
}

/* check(be) with each kernel set that is wanted and here, on one thread and on three; it frees the backend. */
static inline void on_cpu(void (*check)(struct backend *be))
{
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
            struct error err = {0};
            struct cpu_backend_options o = {
                .kernels = (enum cpu_kernels)kernels, .n_threads = n_threads, .spin_us = -1};
            struct backend *be = kernels_wanted(o.kernels) ? cpu_backend_create(&o, &err) : NULL;
            if (be)
                check(be);
            else if (kernels_required(o.kernels))
                fail_msg("%s", err.msg);
        }
    }
}

/* The same with mlx on its CPU; skips the test where there is none. */
static inline void on_mlx(void (*check)(struct backend *be))
{
    struct error err = {0};
    if (!mlx_backend_available(&err)) {
        print_message("skip: %s\n", err.msg);
        skip();
    }
    struct backend *be = mlx_backend_create(&(struct mlx_backend_options){.device = MLX_DEVICE_CPU}, &err);
    if (!be)
        fail_msg("%s", err.msg);
    check(be);
}

#endif
