/* Row-wise and elementwise ops. */
#include "backend/cpu/cpu_internal.h"

#include <math.h>
#include <string.h>

/* Below this, waking the pool costs more than it saves. Above, rows are cut so that a tile has about as much. */
#define MIN_TILE_WORK 16384

struct rows_job {
    row_fn *fn;
    void *arg;
    int n_rows, rows_per_tile;
};

static void rows_tile(void *arg, int tile, int thread)
{
    const struct rows_job *job = arg;
    int first = tile * job->rows_per_tile, end = first + job->rows_per_tile;
    job->fn(job->arg, first, end < job->n_rows ? end : job->n_rows, thread);
}

void cpu__for_rows(struct cpu_backend *be, int n_rows, size_t work_per_row, row_fn *fn, void *arg)
{
    size_t rows_per_tile = MIN_TILE_WORK / (work_per_row ? work_per_row : 1) + 1;
    if (rows_per_tile >= (size_t)n_rows) {
        fn(arg, 0, n_rows, 0);
        return;
    }
    struct rows_job job = {fn, arg, n_rows, (int)rows_per_tile};
    pool_run(be->pool, rows_tile, &job, (n_rows + job.rows_per_tile - 1) / job.rows_per_tile);
}

/* ---- norm ---- */

struct norm_args {
    const struct cpu_kernel_table *kernels;
    const struct tensor *x;
    struct tensor *y;
    const float *weight, *bias;
    size_t weight_step; /* from a group's weights to the next one's; 0: all have the same */
    const struct norm_params *p;
};

static void norm_rows(void *arg, int first, int end, int thread)
{
    const struct norm_args *a = arg;
    size_t n_cols = (size_t)a->x->n_cols;
    int n = a->x->n_cols / a->p->n_groups;
    (void)thread;
    for (size_t t = (size_t)first; t < (size_t)end; t++) {
        for (size_t g = 0; g < (size_t)a->p->n_groups; g++) {
            size_t at = t * n_cols + g * (size_t)n;
            const float *weight = a->weight ? a->weight + g * a->weight_step : NULL;
            a->kernels->norm(a->x->f32 + at, n, a->p, weight, a->bias, a->y->f32 + at);
        }
        if (a->y->q8)
            a->kernels->quantize(a->y->f32 + t * n_cols, (int)n_cols, a->y->q8 + t * (n_cols / 32));
    }
}

struct tensor *cpu__norm(struct backend *base, struct tensor *x, struct weight *weight, struct weight *bias,
                         const struct norm_params *p)
{
    struct cpu_backend *be = cpu__of(base);
    if (!x)
        return NULL;
    size_t n = p->n_groups > 0 ? (size_t)(x->n_cols / p->n_groups) : 0, n_cols = (size_t)x->n_cols;
    bool own = weight && weight->n_in == n_cols;
    if (n == 0 || n * (size_t)p->n_groups != n_cols || (weight && (!weight->vector || (weight->n_in != n && !own))) ||
        (bias && (!bias->vector || bias->n_in != n)))
        return cpu__fail(be, ERR_INTERNAL, "The norm's weight does not fit its input.");
    struct tensor *y = cpu__tensor(be, x->n_rows, x->n_cols);
    if (!y)
        return NULL;
    if (be->has_quantized && p->n_groups == 1 && x->n_cols % 32 == 0) {
        y->q8 = cpu__alloc(be, (size_t)x->n_rows * (size_t)(x->n_cols / 32) * sizeof(*y->q8));
        y->mark = be->memory.used;
        if (!y->q8)
            return NULL;
    }
    struct norm_args args = {be->kernels, x, y, cpu__vector(weight), cpu__vector(bias), own ? n : 0, p};
    cpu__for_rows(be, x->n_rows, (size_t)x->n_cols * 2, norm_rows, &args);
    return y;
}

/* ---- elementwise, in place ---- */

struct each_args {
    const struct cpu_kernel_table *kernels;
    struct tensor *a;
    const struct tensor *b;
    float parameter;
};

static float *row_of(const struct tensor *t, int row)
{
    return t->f32 + (size_t)row * (size_t)t->n_cols;
}

static size_t count(const struct each_args *e, int first, int end)
{
    return (size_t)(end - first) * (size_t)e->a->n_cols;
}

static void add_rows(void *arg, int first, int end, int thread)
{
    const struct each_args *e = arg;
    (void)thread;
    e->kernels->add(row_of(e->a, first), row_of(e->b, first), count(e, first, end));
}

static void scale_rows(void *arg, int first, int end, int thread)
{
    const struct each_args *e = arg;
    (void)thread;
    e->kernels->scale(row_of(e->a, first), e->parameter, count(e, first, end));
}

static void softcap_rows(void *arg, int first, int end, int thread)
{
    const struct each_args *e = arg;
    (void)thread;
    e->kernels->softcap(row_of(e->a, first), e->parameter, count(e, first, end));
}

static struct tensor *each(struct cpu_backend *be, struct tensor *a, const struct tensor *b, float parameter,
                           row_fn *fn)
{
    struct each_args args = {be->kernels, a, b, parameter};
    cpu__for_rows(be, a->n_rows, (size_t)a->n_cols, fn, &args);
    a->q8 = NULL;
    return a;
}

struct tensor *cpu__add(struct backend *base, struct tensor *a, struct tensor *b)
{
    if (!a || !b)
        return NULL;
    if (a->n_rows != b->n_rows || a->n_cols != b->n_cols)
        return cpu__fail(cpu__of(base), ERR_INTERNAL, "Tensors of different shapes cannot be added.");
    return each(cpu__of(base), a, b, 0, add_rows);
}

struct tensor *cpu__scale(struct backend *base, struct tensor *x, float factor)
{
    return x ? each(cpu__of(base), x, NULL, factor, scale_rows) : NULL;
}

struct tensor *cpu__softcap(struct backend *base, struct tensor *x, float cap)
{
    return x ? each(cpu__of(base), x, NULL, cap, softcap_rows) : NULL;
}

/* b: one column, or as many as a. */
static void gate_rows(void *arg, int first, int end, int thread)
{
    const struct each_args *e = arg;
    size_t n = (size_t)e->a->n_cols;
    (void)thread;
    for (int t = first; t < end; t++) {
        float *x = row_of(e->a, t);
        const float *gate = row_of(e->b, t);
        for (size_t i = 0; i < n; i++)
            x[i] *= 1 / (1 + expf(-gate[e->b->n_cols == 1 ? 0 : i]));
    }
}

struct tensor *cpu__gate(struct backend *base, struct tensor *x, struct tensor *gate)
{
    if (!x || !gate)
        return NULL;
    if (x->n_rows != gate->n_rows || (gate->n_cols != 1 && gate->n_cols != x->n_cols))
        return cpu__fail(cpu__of(base), ERR_INTERNAL, "A gate has another shape than what it is for.");
    return each(cpu__of(base), x, gate, 0, gate_rows);
}

/* ---- rows ---- */

struct tensor *cpu__rows(struct backend *base, struct tensor *x)
{
    struct cpu_backend *be = cpu__of(base);
    const struct batch *batch = be->batch;
    if (!x)
        return NULL;
    if (x->n_rows != batch->n_rows)
        return cpu__fail(be, ERR_INTERNAL, "Rows are taken from a tensor that has other rows than the batch.");
    struct tensor *y = cpu__tensor(be, batch->n_out, x->n_cols);
    if (!y)
        return NULL;
    for (int i = 0; i < batch->n_out; i++)
        memcpy(row_of(y, i), row_of(x, batch->out_rows[i]), (size_t)x->n_cols * sizeof(float));
    return y;
}
