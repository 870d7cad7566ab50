/* Ops of a backend by themselves: numbers, and steps of a few rows. For the one file of a test program. */
#ifndef TANDEM_TESTS_SUPPORT_OP_STEP_H
#define TANDEM_TESTS_SUPPORT_OP_STEP_H

#include "backend/backend.h"

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

#endif
