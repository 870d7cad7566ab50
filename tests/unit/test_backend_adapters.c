/* Adapters of weights, in every set of kernels this processor has and on mlx: against sums in f64; rows without one
 * keep the bits they have in a batch without adapters, rows with one those they have alone, whatever is beside them and
 * however many threads there are. */
#include "backend/backend.h"
#include "base/array.h"
#include "tensor/model_file.h"
#include "tests/support/emulated.h"
#include "tests/support/op_step.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define N_IN      96
#define N_OUT     101 /* the last panel is not whole */
#define N_ROWS    150 /* of the batch: more than a tile's tokens */
#define N_NUMBERS 4   /* of adapters, with 0 for none */

static const int ranks[N_NUMBERS] = {0, 5, 16, 33}; /* of adapters 1 to 3 */
static uint64_t random_state = 3;

/* ---- backends ---- */

static struct backend *open_cpu(enum cpu_kernels kernels, int n_threads)
{
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = kernels, .n_threads = n_threads, .spin_us = -1};
    struct backend *be = kernels_wanted(kernels) ? cpu_backend_create(&o, &err) : NULL;
    if (!be && kernels_wanted(kernels) && kernels_required(kernels))
        fail_msg("%s", err.msg);
    return be;
}

static struct backend *open_mlx(void)
{
    struct error err = {0};
    struct mlx_backend_options o = {.device = MLX_DEVICE_CPU, .type = MLX_TYPE_F32};
    return mlx_backend_available(&err) ? mlx_backend_create(&o, &err) : NULL;
}

/* ---- matrices ---- */

struct matrix {
    struct tensor_view view;
    void *data;
    float *values; /* as the view has them */
    struct weight *w;
};

static struct matrix make_matrix(enum dtype type, size_t n_out, size_t n_in, float scale)
{
    struct matrix m = {.view = {.name = STR("test.weight"), .type = type, .n_dims = 2, .shape = {n_out, n_in, 1, 1}}};
    m.values = random_floats(&random_state, n_out * n_in, scale);
    assert_true(dtype_size(type, n_out * n_in, &m.view.size));
    m.data = malloc(m.view.size);
    assert_true(m.data && dtype_from_f32(type, m.values, n_out * n_in, m.data));
    dtype_to_f32(type, m.data, n_out * n_in, m.values);
    m.view.data = m.data;
    return m;
}

static void load(struct backend *be, struct matrix *m)
{
    struct error err = {0};
    const struct tensor_view *view = &m->view;
    m->w = be->ops->weight_create(be, &view, 1, &err);
    if (!m->w)
        fail_msg("%s", err.msg);
}

static void release(struct backend *be, struct matrix *m)
{
    if (m->w)
        be->ops->weight_free(be, m->w);
    free(m->data);
    free(m->values);
}

/* A weight and its adapters, the third where all are wanted. */
struct adapted {
    struct matrix base, a[N_NUMBERS], b[N_NUMBERS];
    float scale[N_NUMBERS];
};

static struct adapted make_adapted(struct backend *be, enum dtype type, size_t n_out, size_t n_in, bool all)
{
    struct error err = {0};
    struct adapted w = {.base = make_matrix(type, n_out, n_in, 1 / sqrtf((float)n_in))};
    load(be, &w.base);
    for (int k = 1; k < N_NUMBERS; k++) {
        if (k == 3 && !all)
            continue;
        w.a[k] = make_matrix(k == 2 ? DTYPE_BF16 : DTYPE_F32, (size_t)ranks[k], n_in, 1e-3f);
        w.b[k] = make_matrix(k == 2 ? DTYPE_F16 : DTYPE_F32, n_out, (size_t)ranks[k], 70);
        w.scale[k] = k == 1 ? -2 : 0.5f;
        struct adapter_part part = {&w.a[k].view, &w.b[k].view, w.scale[k]};
        if (!be->ops->weight_adapt(be, w.base.w, k, &part, &err))
            fail_msg("%s", err.msg);
    }
    return w;
}

static void release_adapted(struct backend *be, struct adapted *w)
{
    release(be, &w->base);
    for (int k = 1; k < N_NUMBERS; k++) {
        release(be, &w->a[k]);
        release(be, &w->b[k]);
    }
}

/* What adapter k makes of x [n_in], in f64. */
static void expected(const struct adapted *w, int k, const double *x, double *y)
{
    size_t n_out = (size_t)w->base.view.shape[0], n_in = (size_t)w->base.view.shape[1];
    double u[64] = {0};
    for (int r = 0; w->a[k].values && r < ranks[k]; r++) {
        for (size_t i = 0; i < n_in; i++)
            u[r] += (double)w->a[k].values[(size_t)r * n_in + i] * x[i];
    }
    for (size_t n = 0; n < n_out; n++) {
        y[n] = 0;
        for (size_t i = 0; i < n_in; i++)
            y[n] += (double)w->base.values[n * n_in + i] * x[i];
        for (int r = 0; w->a[k].values && r < ranks[k]; r++)
            y[n] += (double)w->scale[k] * (double)w->b[k].values[n * (size_t)ranks[k] + (size_t)r] * u[r];
    }
}

/* ---- steps ---- */

struct piece { /* rows of one sequence */
    int adapter, n;
};

/* Sequences of several lengths, adapters and none among each other, some more than one of an adapter. */
static const struct piece mixed[] = {{0, 3}, {1, 70}, {2, 1}, {1, 1}, {0, 1}, {3, 2}, {2, 5}, {2, 60}, {0, 6}, {1, 1}};

struct run {
    struct batch batch;
    struct batch_seq seqs[ARRAY_LEN(mixed)];
};

static int32_t numbers[N_ROWS];

/* Rows of the table from `first` on. out_rows: every step-th of the batch. */
static struct tensor *start(struct backend *be, struct run *r, const struct piece *pieces, int n_pieces, int first,
                            int step, struct weight *table)
{
    static int32_t outs[N_ROWS];
    struct error err = {0};
    for (int i = 0; i < N_ROWS; i++)
        numbers[i] = i;
    r->batch = (struct batch){.ids = numbers + first, .positions = numbers, .seqs = r->seqs, .out_rows = outs};
    for (int i = 0; i < n_pieces; i++) {
        r->seqs[i] = (struct batch_seq){
            .first_row = r->batch.n_rows, .n_rows = pieces[i].n, .n_pages = N_ROWS, .adapter = pieces[i].adapter};
        r->batch.n_rows += pieces[i].n;
    }
    r->batch.n_seqs = n_pieces;
    for (int i = 0; i < r->batch.n_rows; i += step)
        outs[r->batch.n_out++] = i;
    if (!be->ops->step_begin(be, &r->batch, &err))
        fail_msg("%s", err.msg);
    return be->ops->embed(be, table, 1);
}

enum op { OP_LINEAR, OP_GATED, OP_MLP, OP_COUNT };

struct weights {
    struct matrix table;
    struct adapted first, second, down;
};

static size_t n_out_of(const struct weights *w, enum op op)
{
    return (size_t)(op == OP_LINEAR ? w->first.base.view.shape[0] : w->down.base.view.shape[0]);
}

/* linear: the first of two products of one input. */
static struct tensor *compute(struct backend *be, struct weights *w, enum op op, struct tensor *x)
{
    struct weight *both[2] = {w->first.base.w, w->second.base.w};
    struct tensor *outs[2] = {NULL, NULL};
    switch (op) {
    case OP_GATED:
        return be->ops->mlp_gated(be, x, both[0], both[1], w->down.base.w, ACT_SILU);
    case OP_MLP:
        return be->ops->mlp(be, x, both[0], NULL, w->down.base.w, NULL, ACT_RELU);
    case OP_LINEAR:
    case OP_COUNT:
        break;
    }
    be->ops->linear(be, x, 2, both, NULL, outs);
    return outs[0];
}

static void expect(const struct weights *w, enum op op, int adapter, const float *x, double *y)
{
    double in[N_IN], gate[128], up[128];
    for (int i = 0; i < N_IN; i++)
        in[i] = (double)x[i];
    expected(&w->first, adapter, in, op == OP_LINEAR ? y : gate);
    if (op == OP_LINEAR)
        return;
    expected(&w->second, adapter, in, up);
    for (size_t i = 0; i < w->first.base.view.shape[0]; i++)
        gate[i] = op == OP_MLP ? fmax(gate[i], 0) : gate[i] / (1 + exp(-gate[i])) * up[i];
    expected(&w->down, adapter, gate, y);
}

/* All rows of the pieces; out: [n, n_out]. */
static void run_all(struct backend *be, struct weights *w, enum op op, const struct piece *pieces, int n_pieces,
                    int first, float *out)
{
    struct run r;
    struct tensor *x = start(be, &r, pieces, n_pieces, first, 1, w->table.w);
    finish(be, compute(be, w, op, x), out, (size_t)r.batch.n_rows * n_out_of(w, op));
}

/* ---- checks ---- */

static void compare(const struct weights *w, enum op op, const float *out, double tolerance)
{
    size_t n_out = n_out_of(w, op);
    double worst = 0, square = 0, y[128];
    int row = 0, n = 0;
    for (size_t p = 0; p < ARRAY_LEN(mixed); p++) {
        for (int t = 0; t < mixed[p].n; t++, row++) {
            expect(w, op, mixed[p].adapter, w->table.values + (size_t)row * N_IN, y);
            for (size_t i = 0; i < n_out; i++, n++) {
                worst = fmax(worst, fabs((double)out[(size_t)row * n_out + i] - y[i]));
                square += y[i] * y[i];
            }
        }
    }
    double deviation = worst / sqrt(square / n);
    if (!(deviation < tolerance))
        fail_msg("op %d deviates by %g", (int)op, deviation);
}

/* Each piece alone, and each of its rows, and the pieces without adapters in a batch without any. */
static void check_alone(struct backend *be, struct weights *w, enum op op, const float *all)
{
    size_t n_out = n_out_of(w, op), size = N_ROWS * n_out * sizeof(float);
    float *some = malloc(size);
    assert_non_null(some);
    struct piece plain[ARRAY_LEN(mixed)];
    for (int i = 0, row = 0; i < (int)ARRAY_LEN(mixed); row += mixed[i++].n) {
        run_all(be, w, op, &mixed[i], 1, row, some);
        assert_memory_equal(some, all + (size_t)row * n_out, (size_t)mixed[i].n * n_out * sizeof(float));
        run_all(be, w, op, &(struct piece){mixed[i].adapter, 1}, 1, row + mixed[i].n - 1, some);
        assert_memory_equal(some, all + (size_t)(row + mixed[i].n - 1) * n_out, n_out * sizeof(float));
        plain[i] = (struct piece){0, mixed[i].n};
    }
    run_all(be, w, op, plain, (int)ARRAY_LEN(mixed), 0, some);
    for (int i = 0, row = 0; i < (int)ARRAY_LEN(mixed); row += mixed[i++].n) {
        bool same = memcmp(some + (size_t)row * n_out, all + (size_t)row * n_out,
                           (size_t)mixed[i].n * n_out * sizeof(float)) == 0;
        assert_int_equal(same, mixed[i].adapter == 0 || (mixed[i].adapter == 3 && op == OP_LINEAR));
    }
    free(some);
}

/* Rows that go on behind op_rows have the adapters of their own. */
static void check_outs(struct backend *be, struct weights *w, const float *all, bool exact)
{
    struct run r;
    size_t n_out = n_out_of(w, OP_LINEAR);
    float *some = malloc(N_ROWS * n_out * sizeof(*some));
    assert_non_null(some);
    struct tensor *x = start(be, &r, mixed, (int)ARRAY_LEN(mixed), 0, 7, w->table.w);
    finish(be, compute(be, w, OP_LINEAR, be->ops->rows(be, x)), some, (size_t)r.batch.n_out * n_out);
    for (int i = 0; i < r.batch.n_out; i++) {
        for (size_t k = 0; k < n_out; k++) {
            float a = some[(size_t)i * n_out + k], b = all[(size_t)i * 7 * n_out + k];
            assert_true(exact ? a == b : fabsf(a - b) < 1e-4f);
        }
    }
    free(some);
}

static struct weights make_weights(struct backend *be, enum dtype type, size_t n_hidden, size_t n_out)
{
    struct weights w = {.table = make_matrix(DTYPE_F32, N_ROWS, N_IN, 2),
                        .first = make_adapted(be, type, n_hidden, N_IN, false),
                        .second = make_adapted(be, type, n_hidden, N_IN, true),
                        .down = make_adapted(be, type, n_out, n_hidden, true)};
    load(be, &w.table);
    return w;
}

static void release_weights(struct backend *be, struct weights *w)
{
    release(be, &w->table);
    release_adapted(be, &w->first);
    release_adapted(be, &w->second);
    release_adapted(be, &w->down);
}

/* Packed types, with activations of 8 bits, deviate more; the deltas are as exact in all. */
static const struct {
    enum dtype type;
    size_t n_hidden;
    double tolerance;
} types[] = {{DTYPE_F32, N_OUT, 5e-3}, {DTYPE_F16, 96, 5e-3}, {DTYPE_Q8_0, 96, 0.08}, {DTYPE_Q4_0, 96, 0.08}};

static void check_kernels(enum cpu_kernels kernels)
{
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        float *all[2][OP_COUNT];
        for (int threads = 0; threads < 2; threads++) {
            struct backend *be = open_cpu(kernels, threads ? 3 : 1);
            if (!be)
                return;
            random_state = 17;
            struct weights w = make_weights(be, types[t].type, types[t].n_hidden, N_OUT);
            for (enum op op = OP_LINEAR; op < OP_COUNT; op++) {
                all[threads][op] = malloc(N_ROWS * 128 * sizeof(float));
                run_all(be, &w, op, mixed, (int)ARRAY_LEN(mixed), 0, all[threads][op]);
                compare(&w, op, all[threads][op], types[t].tolerance);
                check_alone(be, &w, op, all[threads][op]);
            }
            check_outs(be, &w, all[threads][OP_LINEAR], true);
            release_weights(be, &w);
            be->ops->free(be);
        }
        for (enum op op = OP_LINEAR; op < OP_COUNT; op++) {
            size_t n_out = op == OP_LINEAR ? types[t].n_hidden : N_OUT;
            assert_memory_equal(all[0][op], all[1][op], N_ROWS * n_out * sizeof(float));
            free(all[0][op]);
            free(all[1][op]);
        }
    }
}

static void reference_adapts(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_REFERENCE);
}

static void avx2_adapts(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_AVX2);
}

static void avx512_adapts(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_AVX512);
}

static void neon_adapts(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_NEON);
}

static void i8mm_adapts(void **state)
{
    (void)state;
    check_kernels(CPU_KERNELS_I8MM);
}

static void mlx_adapts(void **state)
{
    (void)state;
    struct backend *be = open_mlx();
    if (!be)
        skip();
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct weights w = make_weights(be, types[t].type, types[t].n_hidden, N_OUT);
        float *all = malloc(N_ROWS * 128 * sizeof(float));
        assert_non_null(all);
        for (enum op op = OP_LINEAR; op < OP_COUNT; op++) {
            run_all(be, &w, op, mixed, (int)ARRAY_LEN(mixed), 0, all);
            compare(&w, op, all, types[t].tolerance);
            if (op == OP_LINEAR)
                check_outs(be, &w, all, false);
        }
        free(all);
        release_weights(be, &w);
    }
    be->ops->free(be);
}

/* ---- what is refused, and what is dropped ---- */

static void assert_refused(struct backend *be, struct weight *w, int adapter, const struct matrix *a,
                           const struct matrix *b, enum error_code code)
{
    struct error err = {0};
    struct adapter_part part = {&a->view, &b->view, 1};
    assert_false(be->ops->weight_adapt(be, w, adapter, &part, &err));
    if (err.code != code)
        fail_msg("%d: %s", err.code, err.msg);
}

static void check_refusals(struct backend *be)
{
    struct error err = {0};
    struct weights w = make_weights(be, DTYPE_F32, 64, N_OUT);
    float *before = malloc(N_ROWS * 128 * sizeof(float)), *after = malloc(N_ROWS * 128 * sizeof(float));
    struct weight *first = w.first.base.w;
    struct matrix a = make_matrix(DTYPE_F32, 4, N_IN, 1), b = make_matrix(DTYPE_F32, 64, 4, 1),
                  wide = make_matrix(DTYPE_F32, 4, N_IN + 1, 1), tall = make_matrix(DTYPE_F32, 65, 4, 1),
                  thick = make_matrix(DTYPE_F32, BACKEND_MAX_ADAPTER_RANK + 1, N_IN, 1);
    assert_true(before && after);
    run_all(be, &w, OP_LINEAR, mixed, (int)ARRAY_LEN(mixed), 0, before);
    assert_refused(be, first, 1, &wide, &b, ERR_FORMAT);
    assert_refused(be, first, 1, &a, &tall, ERR_FORMAT);
    assert_refused(be, first, 1, &thick, &b, ERR_FORMAT);
    assert_refused(be, first, 0, &a, &b, ERR_INTERNAL);
    assert_refused(be, first, BACKEND_MAX_ADAPTERS + 1, &a, &b, ERR_INTERNAL);
    ((float *)b.data)[5] = NAN;
    assert_refused(be, first, 1, &a, &b, ERR_FORMAT);
    ((float *)b.data)[5] = INFINITY;
    assert_refused(be, first, 1, &a, &b, ERR_FORMAT);
    run_all(be, &w, OP_LINEAR, mixed, (int)ARRAY_LEN(mixed), 0, after);
    assert_memory_equal(before, after, N_ROWS * 64 * sizeof(float));

    struct matrix stack = make_matrix(DTYPE_F32, 64, N_IN, 1);
    stack.view.n_dims = 3;
    memcpy(stack.view.shape, (uint64_t[4]){2, 32, N_IN, 1}, sizeof(stack.view.shape));
    load(be, &stack);
    ((float *)b.data)[5] = 0;
    assert_refused(be, stack.w, 1, &a, &b, ERR_UNSUPPORTED);

    for (int k = 1; k < N_NUMBERS; k++) /* the third was never there */
        assert_true(be->ops->weight_adapt(be, first, k, NULL, &err));
    assert_true(be->ops->weight_adapt(be, w.table.w, 1, NULL, &err));
    run_all(be, &w, OP_LINEAR, mixed, (int)ARRAY_LEN(mixed), 0, after);
    struct piece plain = {0, N_ROWS};
    run_all(be, &w, OP_LINEAR, &plain, 1, 0, before);
    assert_memory_equal(before, after, N_ROWS * 64 * sizeof(float));

    struct matrix *all[] = {&a, &b, &wide, &tall, &thick, &stack};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        release(be, all[i]);
    free(before);
    free(after);
    release_weights(be, &w);
    be->ops->free(be);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    check_refusals(open_cpu(CPU_KERNELS_AUTO, 1));
    struct backend *mlx = open_mlx();
    if (mlx)
        check_refusals(mlx);
}

static void check_numbers(struct backend *be)
{
    static const int unknown[] = {-1, BACKEND_MAX_ADAPTERS + 1};
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        struct batch_seq seq = {.n_rows = 1, .n_pages = 1, .adapter = unknown[i]};
        struct batch batch = {.n_rows = 1, .ids = numbers, .positions = numbers, .n_seqs = 1, .seqs = &seq};
        struct error err = {0};
        assert_false(be->ops->step_begin(be, &batch, &err));
        assert_int_equal(err.code, ERR_INTERNAL);
    }
    be->ops->free(be);
}

static void unknown_numbers_are_refused(void **state)
{
    (void)state;
    check_numbers(open_cpu(CPU_KERNELS_AUTO, 1));
    struct backend *mlx = open_mlx();
    if (mlx)
        check_numbers(mlx);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_adapts),
        cmocka_unit_test(avx2_adapts),
        cmocka_unit_test(avx512_adapts),
        cmocka_unit_test(neon_adapts),
        cmocka_unit_test(i8mm_adapts),
        cmocka_unit_test(mlx_adapts),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(unknown_numbers_are_refused),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
