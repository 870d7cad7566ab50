/* Mixtures of experts, and rows by heads, on the cpu backend in every set of kernels this processor has and on the mlx
 * backend where there is one, against their definitions in backend.h in f64; of cpu the same bits whichever rows stand
 * beside a row. */
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

#define N_ROWS  6
#define EXPERTS 8
#define N_FF    24
#define N_X     32

static uint64_t random_state = 17;

static struct backend *open_backend(enum cpu_kernels kernels)
{
    struct error err = {0};
    struct cpu_backend_options o = {.kernels = kernels, .n_threads = 2, .spin_us = -1};
    struct backend *be = kernels_wanted(kernels) ? cpu_backend_create(&o, &err) : NULL;
    if (!be && kernels_required(kernels))
        fail_msg("%s", err.msg);
    return be;
}

/* NULL: there is none. */
static struct backend *open_mlx(enum mlx_type type)
{
    struct mlx_backend_options o = {.device = MLX_DEVICE_CPU, .type = type};
    struct error err = {0};
    if (!mlx_backend_available(&err))
        return NULL;
    struct backend *be = mlx_backend_create(&o, &err);
    if (!be)
        fail_msg("%s", err.msg);
    return be;
}

/* NULL values: no weight. */
static struct weight *create(struct backend *be, enum dtype type, const float *values, int n_dims,
                             const uint64_t *shape, void **memory)
{
    struct tensor_view v = {.name = STR("test.weight"), .type = type, .n_dims = n_dims, .shape = {1, 1, 1, 1}};
    const struct tensor_view *views[1] = {&v};
    struct error err = {0};
    size_t n = 1;
    if (!values)
        return NULL;
    for (int i = 0; i < n_dims; i++)
        n *= (size_t)(v.shape[i] = shape[i]);
    assert_true(dtype_size(type, n, &v.size));
    v.data = *memory = malloc(v.size);
    assert_non_null(*memory);
    assert_true(dtype_from_f32(type, values, n, *memory));
    struct weight *w = be->ops->weight_create(be, views, 1, &err);
    if (!w)
        fail_msg("%s", err.msg);
    return w;
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void close_enough(const struct backend *be, double got, double want, double bound, int row, int i)
{
    if (!(fabs(got - want) < bound * (1 + fabs(want))))
        fail_msg("%s: row %d, element %d is %.9g, should be %.9g", be->ops->describe(be), row, i, got, want);
}

/* ---- mixtures ---- */

enum { ROUTER, GATE, UP, DOWN, ROUTER_BIAS, CHOICE_BIAS, GATE_BIAS, UP_BIAS, DOWN_BIAS, X, N_VALUES };

struct mixture {
    float *v[N_VALUES]; /* biases may be NULL */
};

static const struct {
    int n_dims;
    uint64_t shape[3];
    float scale;
} values[N_VALUES] = {
    [ROUTER] = {2, {EXPERTS, N_X}, 0.5f},
    [GATE] = {3, {EXPERTS, N_FF, N_X}, 0.3f},
    [UP] = {3, {EXPERTS, N_FF, N_X}, 0.3f},
    [DOWN] = {3, {EXPERTS, N_X, N_FF}, 0.3f},
    [ROUTER_BIAS] = {1, {EXPERTS}, 1},
    [CHOICE_BIAS] = {1, {EXPERTS}, 0.5f},
    [GATE_BIAS] = {1, {(uint64_t)EXPERTS * N_FF}, 4},
    [UP_BIAS] = {1, {(uint64_t)EXPERTS * N_FF}, 4},
    [DOWN_BIAS] = {1, {(uint64_t)EXPERTS * N_X}, 1},
    [X] = {2, {N_ROWS, N_X}, 1},
};

static struct mixture make_mixture(bool router_bias, bool choice_bias, bool biases)
{
    struct mixture m;
    for (int i = 0; i < N_VALUES; i++) {
        size_t n = 1;
        for (int k = 0; k < values[i].n_dims; k++)
            n *= (size_t)values[i].shape[k];
        bool wanted = i == ROUTER_BIAS   ? router_bias
                      : i == CHOICE_BIAS ? choice_bias
                                         : biases || i < ROUTER_BIAS || i == X;
        m.v[i] = wanted ? random_floats(&random_state, n, values[i].scale) : NULL;
    }
    return m;
}

static void free_mixture(struct mixture *m)
{
    for (int i = 0; i < N_VALUES; i++)
        free(m->v[i]);
}

static double bias_at(const struct mixture *m, int which, int i)
{
    return m->v[which] ? (double)m->v[which][i] : 0;
}

static double activate(enum activation act, double gate, double up)
{
    if (act == ACT_CLAMPED_SWIGLU) {
        double g = fmin(gate, 7), u = fmax(-7, fmin(7, up));
        return g / (1 + exp(-1.702 * g)) * (u + 1);
    }
    return gate / (1 + exp(-gate)) * up;
}

static void add_expert(const struct mixture *m, const struct moe_params *p, int e, const float *x, double weight,
                       double *out)
{
    float hidden[N_FF], in[N_X];
    for (int i = 0; i < N_X; i++)
        in[i] = p->weigh_input ? (float)(weight * (double)x[i]) : x[i];
    for (int f = 0; f < N_FF; f++) {
        int at = e * N_FF + f;
        double g = dot(m->v[GATE] + at * N_X, in, N_X) + bias_at(m, GATE_BIAS, at);
        double u = dot(m->v[UP] + at * N_X, in, N_X) + bias_at(m, UP_BIAS, at);
        hidden[f] = (float)activate(p->act, g, u);
    }
    for (int i = 0; i < N_X; i++) {
        int at = e * N_X + i;
        double y = dot(m->v[DOWN] + at * N_FF, hidden, N_FF) + bias_at(m, DOWN_BIAS, at);
        out[i] += p->weigh_input ? y : weight * y;
    }
}

/* Scores of all experts. */
static void exact_scores(const struct moe_params *p, const double *logits, double *s)
{
    double total = 0;
    for (int e = 0; e < EXPERTS; e++)
        total += exp(logits[e]);
    for (int e = 0; e < EXPERTS; e++)
        s[e] = p->score == MOE_SOFTMAX   ? exp(logits[e]) / total
               : p->score == MOE_SIGMOID ? 1 / (1 + exp(-logits[e]))
                                         : logits[e];
}

static int best_of(const double *x, const bool *taken, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        best = !taken[i] && (best < 0 || x[i] > x[best]) ? i : best;
    return best;
}

/* Sum of the k best. */
static double best_sum(const double *x, int n, int k)
{
    bool taken[EXPERTS] = {0};
    double sum = 0;
    for (int i = 0; i < k; i++) {
        int best = best_of(x, taken, n);
        taken[best] = true;
        sum += x[best];
    }
    return sum;
}

static void leave_groups(const struct moe_params *p, const double *choice, bool *out)
{
    double worth[EXPERTS];
    bool stays[EXPERTS] = {0};
    int size = EXPERTS / p->n_groups;
    for (int g = 0; g < p->n_groups; g++)
        worth[g] = best_sum(choice + g * size, size, p->group_top);
    for (int i = 0; i < p->n_groups_used; i++)
        stays[best_of(worth, stays, p->n_groups)] = true;
    for (int e = 0; e < EXPERTS; e++)
        out[e] = !stays[e / size];
}

/* One row, as backend.h defines it. */
static void exact_mixture(const struct mixture *m, const struct moe_params *p, const float *x, double *out)
{
    double logits[EXPERTS], s[EXPERTS], choice[EXPERTS], taken = 0;
    bool away[EXPERTS] = {0}, chosen[EXPERTS] = {0};
    for (int e = 0; e < EXPERTS; e++)
        logits[e] = dot(m->v[ROUTER] + e * N_X, x, N_X) + bias_at(m, ROUTER_BIAS, e);
    exact_scores(p, logits, s);
    for (int e = 0; e < EXPERTS; e++)
        choice[e] = s[e] + bias_at(m, CHOICE_BIAS, e);
    if (p->n_groups > 1)
        leave_groups(p, choice, away);
    for (int i = 0; i < p->n_used; i++) {
        int best = best_of(choice, away, EXPERTS);
        away[best] = chosen[best] = true;
        taken += p->score == MOE_SOFTMAX_CHOSEN ? exp(s[best]) : s[best];
    }
    memset(out, 0, N_X * sizeof *out);
    for (int e = 0; e < EXPERTS; e++) {
        double weight = p->score == MOE_SOFTMAX_CHOSEN ? exp(s[e]) / taken : p->norm_weights ? s[e] / taken : s[e];
        if (chosen[e])
            add_expert(m, p, e, x, (double)p->scale * weight, out);
    }
}

static void run_mixture(struct backend *be, struct weight *x, int first, int n, const struct moe_weights *w,
                        const struct moe_params *p, float *out)
{
    struct tensor *rows = begin(be, x, first, n);
    finish(be, be->ops->moe(be, rows, w, p), out, (size_t)n * N_X);
}

struct made {
    struct weight *weights[N_VALUES];
    void *memory[N_VALUES];
};

static struct moe_weights make_weights(struct backend *be, const struct mixture *m, struct made *made)
{
    struct weight **w = made->weights;
    for (int i = 0; i < N_VALUES; i++)
        w[i] = create(be, DTYPE_F32, m->v[i], values[i].n_dims, values[i].shape, &made->memory[i]);
    return (struct moe_weights){.router = w[ROUTER],
                                .gate = w[GATE],
                                .up = w[UP],
                                .down = w[DOWN],
                                .router_bias = w[ROUTER_BIAS],
                                .choice_bias = w[CHOICE_BIAS],
                                .gate_bias = w[GATE_BIAS],
                                .up_bias = w[UP_BIAS],
                                .down_bias = w[DOWN_BIAS]};
}

static void free_weights(struct backend *be, struct made *made)
{
    for (int i = 0; i < N_VALUES; i++) {
        be->ops->weight_free(be, made->weights[i]);
        free(made->memory[i]);
    }
}

static void check_mixture(struct backend *be, const struct mixture *m, const struct moe_params *p)
{
    struct made made = {0};
    struct moe_weights w = make_weights(be, m, &made);
    float all[N_ROWS * N_X], alone[N_X];
    double want[N_X];
    run_mixture(be, made.weights[X], 0, N_ROWS, &w, p, all);
    for (int row = 0; row < N_ROWS; row++) {
        exact_mixture(m, p, m->v[X] + row * N_X, want);
        for (int i = 0; i < N_X; i++)
            close_enough(be, (double)all[row * N_X + i], want[i], 2e-5, row, i);
        run_mixture(be, made.weights[X], row, 1, &w, p, alone);
        if (!be->ops->lazy && memcmp(alone, all + row * N_X, sizeof alone) != 0)
            fail_msg("%s: row %d alone differs", be->ops->describe(be), row);
    }
    free_weights(be, &made);
}

static void each_backend(void (*check)(struct backend *be))
{
    for (int kernels = CPU_KERNELS_REFERENCE; kernels < CPU_KERNELS_COUNT; kernels++) {
        struct backend *be = open_backend((enum cpu_kernels)kernels);
        if (!be)
            continue;
        check(be);
        be->ops->free(be);
    }
    struct backend *mlx = open_mlx(MLX_TYPE_F32);
    if (mlx) {
        check(mlx);
        mlx->ops->free(mlx);
    }
}

#define COMMON .n_experts = EXPERTS, .scale = 1, .act = ACT_SILU

static const struct {
    struct moe_params p;
    bool router_bias, choice_bias, biases;
} mixtures[] = {
    {{COMMON, .n_used = 2, .norm_weights = true}, false, false, false},
    {{COMMON, .n_used = 1}, false, false, false},
    {{.n_experts = EXPERTS, .n_used = EXPERTS, .scale = 2.5f, .act = ACT_SILU}, false, false, false},
    {{.n_experts = EXPERTS, .n_used = 3, .scale = 1, .act = ACT_CLAMPED_SWIGLU, .score = MOE_SOFTMAX_CHOSEN},
     true,
     false,
     true},
    {{COMMON, .n_used = 1, .score = MOE_SIGMOID, .weigh_input = true}, false, false, false},
    {{COMMON, .n_used = 2, .norm_weights = true}, false, true, false},
    {{COMMON, .n_used = 3, .n_groups = 4, .n_groups_used = 2, .group_top = 1}, false, false, false},
    {{COMMON, .n_used = 3, .score = MOE_SIGMOID, .norm_weights = true, .n_groups = 4, .n_groups_used = 2,
      .group_top = 2},
     false,
     true,
     false},
    {{COMMON, .n_used = 2, .score = MOE_SIGMOID, .n_groups = 2, .n_groups_used = 1, .group_top = 2},
     true,
     false,
     false},
};

static void check_mixtures(struct backend *be)
{
    for (size_t i = 0; i < ARRAY_LEN(mixtures); i++) {
        struct mixture m = make_mixture(mixtures[i].router_bias, mixtures[i].choice_bias, mixtures[i].biases);
        check_mixture(be, &m, &mixtures[i].p);
        free_mixture(&m);
    }
}

static void test_mixtures(void **state)
{
    (void)state;
    each_backend(check_mixtures);
}

/* With the logits of all experts equal the lower ones win, of groups too. */
static void check_ties(struct backend *be)
{
    static const struct moe_params cases[] = {
        {COMMON, .n_used = 3, .norm_weights = true},
        {COMMON, .n_used = 3, .n_groups = 4, .n_groups_used = 2, .group_top = 1},
        {COMMON, .n_used = 3, .score = MOE_SIGMOID, .n_groups = 4, .n_groups_used = 2, .group_top = 2},
    };
    struct mixture m = make_mixture(false, false, false);
    memset(m.v[ROUTER], 0, sizeof(float) * EXPERTS * N_X);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_mixture(be, &m, &cases[i]);
    free_mixture(&m);
}

static void test_ties_go_to_the_lower_number(void **state)
{
    (void)state;
    each_backend(check_ties);
}

/* A softmax whose smaller shares are all zero in f32: the logits still say which is the larger. */
static void check_far_logits(struct backend *be)
{
    static const struct moe_params p = {COMMON, .n_used = 2, .norm_weights = true};
    struct mixture m = make_mixture(true, false, false);
    for (int e = 0; e < EXPERTS; e++)
        m.v[ROUTER_BIAS][e] = e == 1 ? 400 : -200 + 20 * (float)e;
    check_mixture(be, &m, &p);
    free_mixture(&m);
}

static void test_choice_is_by_logits(void **state)
{
    (void)state;
    each_backend(check_far_logits);
}

/* What experts are chosen by, when their scores are alike, is the bias alone: its differences are below what bf16 has
 * of numbers of its size, and count all the same. */
static void test_mlx_chooses_by_the_exact_bias(void **state)
{
    (void)state;
    static const struct moe_params p = {COMMON, .n_used = 2, .score = MOE_SIGMOID, .norm_weights = true};
    struct backend *be = open_mlx(MLX_TYPE_BF16);
    if (!be)
        skip();
    struct mixture m = make_mixture(false, true, false);
    memset(m.v[ROUTER], 0, sizeof(float) * EXPERTS * N_X);
    for (int e = 0; e < EXPERTS; e++)
        m.v[CHOICE_BIAS][e] = 6 + 0.001f * (float)e;
    struct made made = {0};
    struct moe_weights w = make_weights(be, &m, &made);
    float all[N_ROWS * N_X];
    double want[N_X];
    run_mixture(be, made.weights[X], 0, N_ROWS, &w, &p, all);
    for (int row = 0; row < N_ROWS; row++) {
        exact_mixture(&m, &p, m.v[X] + row * N_X, want);
        for (int i = 0; i < N_X; i++)
            close_enough(be, (double)all[row * N_X + i], want[i], 0.05, row, i);
    }
    free_weights(be, &made);
    free_mixture(&m);
    be->ops->free(be);
}

/* ---- rows by heads ---- */

#define HEADS   3
#define HEAD_IN 64
#define N_OUT   37 /* not a multiple of any panel */
#define COLS    (HEADS * HEAD_IN)

struct heads {
    struct weight *x, *w;
    float *x_values, *w_values; /* as the weight has them */
    void *memory[2];
};

static struct heads make_heads(struct backend *be, enum dtype type)
{
    struct heads h = {.x_values = random_floats(&random_state, N_ROWS * COLS, 1),
                      .w_values = random_floats(&random_state, (size_t)HEADS * N_OUT * HEAD_IN, 0.3f)};
    h.x = create(be, DTYPE_F32, h.x_values, 2, (uint64_t[]){N_ROWS, COLS}, &h.memory[0]);
    h.w = create(be, type, h.w_values, 3, (uint64_t[]){HEADS, N_OUT, HEAD_IN}, &h.memory[1]);
    dtype_to_f32(type, h.memory[1], (size_t)HEADS * N_OUT * HEAD_IN, h.w_values);
    return h;
}

static void free_heads(struct backend *be, struct heads *h)
{
    be->ops->weight_free(be, h->x);
    be->ops->weight_free(be, h->w);
    free(h->x_values);
    free(h->w_values);
    free(h->memory[0]);
    free(h->memory[1]);
}

static void check_products(struct backend *be, const struct heads *h, double bound)
{
    float all[N_ROWS * HEADS * N_OUT], alone[HEADS * N_OUT];
    finish(be, be->ops->linear_heads(be, begin(be, h->x, 0, N_ROWS), h->w, HEADS), all, ARRAY_LEN(all));
    for (int row = 0; row < N_ROWS; row++) {
        for (int i = 0; i < HEADS * N_OUT; i++) {
            const float *x = h->x_values + row * COLS + i / N_OUT * HEAD_IN;
            double want = dot(h->w_values + i * HEAD_IN, x, HEAD_IN), got = (double)all[row * HEADS * N_OUT + i];
            if (!(fabs(got - want) < bound))
                fail_msg("%s: row %d, element %d is %.9g, should be %.9g", be->ops->describe(be), row, i, got, want);
        }
        finish(be, be->ops->linear_heads(be, begin(be, h->x, row, 1), h->w, HEADS), alone, ARRAY_LEN(alone));
        if (!be->ops->lazy)
            assert_memory_equal(alone, all + row * HEADS * N_OUT, sizeof alone);
    }
}

static void check_heads(struct backend *be)
{
    static const struct {
        enum dtype type;
        double bound; /* activations in 8 bits */
    } cases[] = {{DTYPE_F32, 1e-5}, {DTYPE_BF16, 1e-5}, {DTYPE_Q8_0, 0.1}, {DTYPE_Q4_0, 0.1}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct heads h = make_heads(be, cases[i].type);
        check_products(be, &h, cases[i].bound);
        free_heads(be, &h);
    }
}

static void test_heads(void **state)
{
    (void)state;
    each_backend(check_heads);
}

static void check_columns(struct backend *be)
{
    struct heads h = make_heads(be, DTYPE_F32);
    const struct backend_ops *ops = be->ops;
    float out[N_ROWS * COLS];
    struct tensor *x = begin(be, h.x, 0, N_ROWS);
    struct tensor *first = ops->cut(be, x, HEADS, 0, 20), *rest = ops->cut(be, x, HEADS, 20, HEAD_IN - 20);
    finish(be, ops->join(be, rest, first, HEADS), out, ARRAY_LEN(out));
    for (int i = 0; i < N_ROWS * COLS; i++) {
        int within = i % HEAD_IN, from = within < HEAD_IN - 20 ? within + 20 : within - (HEAD_IN - 20);
        assert_true(out[i] == h.x_values[i - within + from]);
    }
    for (int wide = 0; wide < 2; wide++) {
        x = begin(be, h.x, 0, N_ROWS);
        struct tensor *by = wide ? ops->cut(be, x, 1, 0, COLS) : ops->cut(be, x, 1, 5, 1);
        finish(be, ops->gate(be, x, by), out, ARRAY_LEN(out));
        for (int i = 0; i < N_ROWS * COLS; i++) {
            double gate = (double)h.x_values[wide ? i : i / COLS * COLS + 5];
            close_enough(be, (double)out[i], (double)h.x_values[i] / (1 + exp(-gate)), 2e-5, i / COLS, i % COLS);
        }
    }
    free_heads(be, &h);
}

static void test_columns(void **state)
{
    (void)state;
    each_backend(check_columns);
}

/* What does not fit fails the step and says so. */
static void test_misfits_fail_the_step(void **state)
{
    struct backend *be = open_backend(CPU_KERNELS_REFERENCE);
    struct error err = {0};
    (void)state;
    if (!be)
        return;
    struct heads h = make_heads(be, DTYPE_F32);
    for (int i = 0; i < 4; i++) {
        struct tensor *x = begin(be, h.x, 0, N_ROWS), *none = NULL;
        none = i == 0   ? be->ops->cut(be, x, HEADS, 60, 5)
               : i == 1 ? be->ops->linear_heads(be, x, h.w, HEADS + 1)
               : i == 2 ? be->ops->gate(be, x, be->ops->cut(be, x, 1, 0, 2))
                        : be->ops->join(be, x, x, 7);
        assert_null(none);
        assert_false(be->ops->step_end(be, &err));
        assert_int_equal(err.code, ERR_INTERNAL);
    }
    free_heads(be, &h);
    be->ops->free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_ties_go_to_the_lower_number),
        cmocka_unit_test(test_choice_is_by_logits),
        cmocka_unit_test(test_mlx_chooses_by_the_exact_bias),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_misfits_fail_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
