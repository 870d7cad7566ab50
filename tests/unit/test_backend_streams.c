/* Row-wise ops of streams, per-layer inputs and sparse gates, on the cpu backend in every set of kernels this processor
 * has and on the mlx backend where there is one, against their definitions in backend.h in f64; of cpu the same bits
 * whichever rows stand beside a row. */
#include "backend/backend.h"
#include "base/array.h"
#include "tests/support/emulated.h"
#include "tests/support/op_step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_ROWS = 7, STREAMS = 3, ACTIVE = 1, WIDTH = 37, COLS = STREAMS * WIDTH, TABLE_ROWS = 4 };

static uint64_t random_state = 23;

/* Rows [n_rows, n_cols] that steps begin with, and what is computed of them. */
struct fixture {
    struct backend *be;
    float *x, *small;         /* [N_ROWS, COLS], [N_ROWS, WIDTH] */
    float *vector, *table;    /* [COLS], [TABLE_ROWS, COLS] */
    float *router;            /* [STREAMS, WIDTH] */
    float *predict, *correct; /* [STREAMS^3], [STREAMS^2] */
    struct weight *w_x, *w_small, *w_vector, *w_table, *w_router, *w_predict, *w_correct;
};

static struct weight *create(struct backend *be, const float *values, uint64_t rows, uint64_t cols, bool table)
{
    struct tensor_view v = {.name = STR("test.weight"),
                            .type = DTYPE_F32,
                            .n_dims = rows ? 2 : 1,
                            .shape = {rows ? rows : cols, rows ? cols : 1, 1, 1},
                            .data = values,
                            .size = (rows ? rows : 1) * cols * sizeof(float)};
    struct error err = {0};
    struct weight *w = table ? be->ops->table_create(be, &v, &err)
                             : be->ops->weight_create(be, &(const struct tensor_view *){&v}, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    return w;
}

static void open_fixture(struct fixture *f, struct backend *be)
{
    *f = (struct fixture){.be = be};
    f->x = random_floats(&random_state, N_ROWS * COLS, 2);
    f->small = random_floats(&random_state, N_ROWS * WIDTH, 1);
    f->vector = random_floats(&random_state, COLS, 1);
    f->table = random_floats(&random_state, TABLE_ROWS * COLS, 1);
    f->router = random_floats(&random_state, STREAMS * WIDTH, 1);
    f->predict = random_floats(&random_state, STREAMS * STREAMS * STREAMS, 1);
    f->correct = random_floats(&random_state, STREAMS * STREAMS, 1);
    memset(f->x + COLS + WIDTH, 0, WIDTH * sizeof(float)); /* nothing to match */
    f->w_x = create(be, f->x, N_ROWS, COLS, false);
    f->w_small = create(be, f->small, N_ROWS, WIDTH, false);
    f->w_vector = create(be, f->vector, 0, COLS, false);
    f->w_table = create(be, f->table, TABLE_ROWS, COLS, true);
    f->w_router = create(be, f->router, STREAMS, WIDTH, false);
    f->w_predict = create(be, f->predict, 0, STREAMS * STREAMS * STREAMS, false);
    f->w_correct = create(be, f->correct, 0, STREAMS * STREAMS, false);
}

static void close_fixture(struct fixture *f)
{
    struct weight *weights[] = {f->w_x, f->w_small, f->w_vector, f->w_table, f->w_router, f->w_predict, f->w_correct};
    float *values[] = {f->x, f->small, f->vector, f->table, f->router, f->predict, f->correct};
    for (size_t i = 0; i < ARRAY_LEN(weights); i++) {
        f->be->ops->weight_free(f->be, weights[i]);
        free(values[i]);
    }
    f->be->ops->free(f->be);
}

/* ---- ops, and what they are ---- */

static const float sparsity = 0.4f;
static const struct stream_params params = {.n = STREAMS, .active = ACTIVE, .scale = 0.25f};

typedef struct tensor *run_fn(struct fixture *f, struct tensor *x, struct tensor *small);
typedef void exact_fn(const struct fixture *f, int row, double *out); /* [COLS] */

static struct tensor *run_multiply(struct fixture *f, struct tensor *x, struct tensor *small)
{
    (void)small;
    return f->be->ops->multiply(f->be, x, f->w_vector);
}

static void exact_multiply(const struct fixture *f, int row, double *out)
{
    for (int i = 0; i < COLS; i++)
        out[i] = (double)f->x[row * COLS + i] * (double)f->vector[i];
}

static struct tensor *run_add_each(struct fixture *f, struct tensor *x, struct tensor *small)
{
    return f->be->ops->add_each(f->be, x, STREAMS, 1, small);
}

static void exact_add_each(const struct fixture *f, int row, double *out)
{
    for (int i = 0; i < COLS; i++)
        out[i] = (double)f->x[row * COLS + i] + (i < WIDTH ? 0 : (double)f->small[row * WIDTH + i % WIDTH]);
}

static struct tensor *run_embed_add(struct fixture *f, struct tensor *x, struct tensor *small)
{
    (void)small;
    return f->be->ops->embed_add(f->be, f->w_table, 3, x, 0.5f);
}

/* Row i is the token i. */
static void exact_embed_add(const struct fixture *f, int row, double *out)
{
    for (int i = 0; i < COLS; i++)
        out[i] = ((double)f->table[(row < TABLE_ROWS ? row : 0) * COLS + i] * 3 + (double)f->x[row * COLS + i]) * 0.5;
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static struct tensor *run_activate(struct fixture *f, struct tensor *x, struct tensor *small)
{
    struct tensor *up = f->be->ops->cut(f->be, x, 1, 0, COLS);
    (void)small;
    return f->be->ops->activate_mul(f->be, x, up, ACT_GELU_TANH, NULL);
}

static void exact_activate(const struct fixture *f, int row, double *out)
{
    for (int i = 0; i < COLS; i++)
        out[i] = gelu((double)f->x[row * COLS + i]) * (double)f->x[row * COLS + i];
}

static struct tensor *run_sparse(struct fixture *f, struct tensor *x, struct tensor *small)
{
    struct tensor *up = f->be->ops->cut(f->be, x, 1, 0, COLS);
    (void)small;
    return f->be->ops->activate_mul(f->be, x, up, ACT_GELU_TANH, &sparsity);
}

static void exact_sparse(const struct fixture *f, int row, double *out)
{
    const float *x = f->x + row * COLS;
    double mean = 0, square = 0;
    for (int i = 0; i < COLS; i++)
        mean += (double)x[i] / COLS;
    for (int i = 0; i < COLS; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean) / COLS;
    double cutoff = mean + (double)sparsity * sqrt(square);
    for (int i = 0; i < COLS; i++)
        out[i] = gelu(fmax((double)x[i] - cutoff, 0)) * (double)x[i];
}

static struct tensor *run_match(struct fixture *f, struct tensor *x, struct tensor *small)
{
    return f->be->ops->match(f->be, small, x);
}

static double mean_square(const float *x)
{
    double sum = 0;
    for (int i = 0; i < WIDTH; i++)
        sum += (double)x[i] * (double)x[i] / WIDTH;
    return sum;
}

static void exact_match(const struct fixture *f, int row, double *out)
{
    double wanted = sqrt(mean_square(f->small + row * WIDTH));
    for (int i = 0; i < COLS; i++) {
        const float *one = f->x + row * COLS + i / WIDTH * WIDTH;
        out[i] = (double)f->x[row * COLS + i] * wanted / sqrt(fmax(mean_square(one), 1e-5));
    }
}

static struct tensor *run_predict(struct fixture *f, struct tensor *x, struct tensor *small)
{
    struct tensor *routed = op_linear(f->be, small, f->w_router, NULL);
    return f->be->ops->stream_predict(f->be, x, routed, f->w_predict, &params);
}

static void modalities(const struct fixture *f, int row, double *m)
{
    for (int k = 0; k < STREAMS; k++) {
        double routed = 0;
        for (int i = 0; i < WIDTH; i++)
            routed += (double)f->router[k * WIDTH + i] * (double)f->small[row * WIDTH + i];
        m[k] = tanh(routed * (double)params.scale);
    }
}

static double coef(const float *coefs, const double *m)
{
    double sum = 0;
    for (int k = 0; k < STREAMS; k++)
        sum += (double)coefs[k] * m[k];
    return sum;
}

static void exact_predict(const struct fixture *f, int row, double *out)
{
    const float *x = f->x + row * COLS;
    double m[STREAMS];
    modalities(f, row, m);
    for (int i = 0; i < COLS; i++) {
        out[i] = (double)x[i];
        for (int j = 0; j < STREAMS; j++)
            out[i] += coef(f->predict + (i / WIDTH * STREAMS + j) * STREAMS, m) * (double)x[j * WIDTH + i % WIDTH];
    }
}

static struct tensor *run_correct(struct fixture *f, struct tensor *x, struct tensor *small)
{
    struct tensor *routed = op_linear(f->be, small, f->w_router, NULL);
    return f->be->ops->stream_correct(f->be, x, small, routed, f->w_correct, &params);
}

static void exact_correct(const struct fixture *f, int row, double *out)
{
    const float *x = f->x + row * COLS;
    double m[STREAMS];
    modalities(f, row, m);
    for (int i = 0; i < COLS; i++) {
        double news = (double)f->small[row * WIDTH + i % WIDTH] - (double)x[ACTIVE * WIDTH + i % WIDTH];
        out[i] = (double)x[i] + (1 + coef(f->correct + i / WIDTH * STREAMS, m)) * news;
    }
}

static const struct {
    const char *name;
    run_fn *run;
    exact_fn *exact;
} ops_table[] = {
    {"multiply", run_multiply, exact_multiply},    {"add_each", run_add_each, exact_add_each},
    {"embed_add", run_embed_add, exact_embed_add}, {"activate_mul", run_activate, exact_activate},
    {"sparse", run_sparse, exact_sparse},          {"match", run_match, exact_match},
    {"predict", run_predict, exact_predict},       {"correct", run_correct, exact_correct},
};

/* ---- running them ---- */

static void run(struct fixture *f, run_fn *op, int first, int n, float *out)
{
    struct tensor *x = begin(f->be, f->w_x, first, n);
    finish(f->be, op(f, x, f->be->ops->embed(f->be, f->w_small, 1)), out, (size_t)n * COLS);
}

static void check_op(struct fixture *f, size_t op, bool exact_bits)
{
    float all[N_ROWS * COLS], some[3 * COLS];
    run(f, ops_table[op].run, 0, N_ROWS, all);
    for (int row = 0; row < N_ROWS; row++) {
        double wanted[COLS];
        ops_table[op].exact(f, row, wanted);
        for (int i = 0; i < COLS; i++) {
            double got = (double)all[row * COLS + i];
            if (!(fabs(got - wanted[i]) < 2e-5 * (1 + fabs(wanted[i]))))
                fail_msg("%s, %s: row %d, element %d is %.9g, should be %.9g", f->be->ops->describe(f->be),
                         ops_table[op].name, row, i, got, wanted[i]);
        }
    }
    run(f, ops_table[op].run, 2, 3, some);
    if (exact_bits)
        assert_memory_equal(some, all + (size_t)2 * COLS, sizeof(some));
}

static void check_backend(struct backend *be, bool exact_bits)
{
    struct fixture f;
    open_fixture(&f, be);
    for (size_t i = 0; i < ARRAY_LEN(ops_table); i++)
        check_op(&f, i, exact_bits);
    close_fixture(&f);
}

static void test_cpu(void **state)
{
    (void)state;
    for (int k = CPU_KERNELS_REFERENCE; k < CPU_KERNELS_COUNT; k++) {
        struct error err = {0};
        struct cpu_backend_options o = {.kernels = (enum cpu_kernels)k, .n_threads = 2, .spin_us = -1};
        struct backend *be = kernels_wanted(o.kernels) ? cpu_backend_create(&o, &err) : NULL;
        if (!be && kernels_required(o.kernels))
            fail_msg("%s", err.msg);
        if (be)
            check_backend(be, true);
    }
}

static void test_mlx(void **state)
{
    struct mlx_backend_options o = {.device = MLX_DEVICE_CPU, .type = MLX_TYPE_F32};
    struct error err = {0};
    (void)state;
    if (!mlx_backend_available(&err))
        return;
    struct backend *be = mlx_backend_create(&o, &err);
    if (!be)
        fail_msg("%s", err.msg);
    check_backend(be, false);
}

/* Tables stay where they lie, in whatever type: rows are what the file's rows are. */
static void check_table(struct backend *be, enum dtype type)
{
    enum { N = 256 };
    float *values = random_floats(&random_state, TABLE_ROWS * N, 1), *x = calloc(N_ROWS * N, sizeof(float));
    float row[N], got[N_ROWS * N];
    struct tensor_view v = {.name = STR("table"), .type = type, .n_dims = 2, .shape = {TABLE_ROWS, N, 1, 1}};
    struct error err = {0};
    assert_true(x && dtype_size(type, (size_t)TABLE_ROWS * N, &v.size));
    uint8_t *bytes = malloc(v.size);
    assert_non_null(bytes);
    v.data = bytes;
    for (size_t i = 0; type == DTYPE_Q8_0 && i < v.size; i++) /* any bytes are numbers, but for the scales */
        bytes[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? 0x2c : (uint8_t)(i * 37);
    if (type != DTYPE_Q8_0)
        assert_true(dtype_from_f32(type, values, (size_t)TABLE_ROWS * N, bytes));
    struct weight *table = be->ops->table_create(be, &v, &err), *zeros = create(be, x, N_ROWS, N, false);
    if (!table)
        fail_msg("%s", err.msg);
    struct weight_info info = be->ops->weight_info(table);
    assert_true(info.mapped && info.n_out == TABLE_ROWS && info.n_in == N && info.resident_size == v.size);
    finish(be, be->ops->embed_add(be, table, 1, begin(be, zeros, 0, N_ROWS), 1), got, N_ROWS * N);
    for (int t = 0; t < N_ROWS; t++) {
        tensor_row_to_f32(&v, (uint64_t)(t < TABLE_ROWS ? t : 0), row);
        assert_memory_equal(got + (size_t)t * N, row, sizeof(row));
    }
    be->ops->weight_free(be, table);
    be->ops->weight_free(be, zeros);
    free(bytes);
    free(values);
    free(x);
}

static void test_tables_stay_in_place(void **state)
{
    struct cpu_backend_options o = {.kernels = CPU_KERNELS_AUTO, .n_threads = 2, .spin_us = -1};
    struct error err = {0};
    (void)state;
    struct backend *be = cpu_backend_create(&o, &err);
    assert_non_null(be);
    check_table(be, DTYPE_F32);
    check_table(be, DTYPE_BF16);
    check_table(be, DTYPE_Q8_0);
    be->ops->free(be);
}

/* What does not fit fails the step and says so. */
static void test_misfits_fail_the_step(void **state)
{
    struct cpu_backend_options o = {.kernels = CPU_KERNELS_REFERENCE, .n_threads = 1, .spin_us = -1};
    struct stream_params many = {.n = MAX_STREAMS + 1}, other = {.n = STREAMS, .active = STREAMS};
    struct error err = {0};
    struct fixture f;
    (void)state;
    open_fixture(&f, cpu_backend_create(&o, &err));
    const struct backend_ops *ops = f.be->ops;
    for (int i = 0; i < 8; i++) {
        struct tensor *x = begin(f.be, f.w_x, 0, N_ROWS), *small = ops->embed(f.be, f.w_small, 1), *none = NULL;
        struct tensor *routed = op_linear(f.be, small, f.w_router, NULL);
        none = i == 0   ? ops->multiply(f.be, small, f.w_vector)
               : i == 1 ? ops->add_each(f.be, x, STREAMS + 1, 1, small)
               : i == 2 ? ops->activate_mul(f.be, x, small, ACT_SILU, NULL)
               : i == 3 ? ops->match(f.be, x, small)
               : i == 4 ? ops->stream_predict(f.be, x, routed, f.w_correct, &params)
               : i == 5 ? ops->stream_predict(f.be, x, routed, f.w_predict, &many)
               : i == 6 ? ops->stream_correct(f.be, x, small, routed, f.w_correct, &other)
                        : ops->embed_add(f.be, f.w_table, 1, small, 1);
        assert_null(none);
        assert_false(ops->step_end(f.be, &err));
        assert_int_equal(err.code, ERR_INTERNAL);
    }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_mlx),
        cmocka_unit_test(test_tables_stay_in_place),
        cmocka_unit_test(test_misfits_fail_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
