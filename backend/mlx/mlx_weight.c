/* Weights: tensors of the file as arrays, by the plan of mlx_plan.h. */
#include "backend/mlx/mlx_internal.h"
#include "backend/mlx/mlx_repack.h"

#include "base/array.h"
#include "base/pool.h"
#include "tensor/group_packed.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static struct mlx_shape shape2(uint64_t n, uint64_t k)
{
    return (struct mlx_shape){2, {(int)n, (int)k}};
}

static bool check_view(const struct tensor_view *v, uint64_t n_in, struct error *err)
{
    uint64_t rows = v->shape[0] * v->shape[1] * v->shape[2] * v->shape[3] / v->shape[v->n_dims - 1];
    if (v->n_dims < 1 || v->n_dims > 3 || rows == 0 || rows > INT_MAX / 2 || v->shape[v->n_dims - 1] > INT_MAX / 2)
        return error_set(err, ERR_UNSUPPORTED, "The tensor '" STR_FMT "' of %d axes is no vector or matrix.",
                         STR_ARG(v->name), v->n_dims);
    return v->shape[v->n_dims - 1] == n_in ||
           error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' has %llu columns; %llu were expected.",
                     STR_ARG(v->name), (unsigned long long)v->shape[v->n_dims - 1], (unsigned long long)n_in);
}

/* ---- values to arrays ---- */

static bool plain_type(enum dtype type, enum mlx_dtype *out)
{
    switch (type) {
    case DTYPE_F32:
        *out = MLX_F32;
        return true;
    case DTYPE_F16:
        *out = MLX_F16;
        return true;
    case DTYPE_BF16:
        *out = MLX_BF16;
        return true;
    default:
        return false;
    }
}

/* Every row as f32. */
static struct mlx_array *expand_f32(struct mlx_backend *be, const struct tensor_view *t)
{
    uint64_t n = t->shape[0], k = t->shape[1];
    size_t size;
    float *values = size_mul((size_t)(n * k), sizeof *values, &size) ? malloc(size) : NULL;
    if (!values) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory to expand a weight");
        return NULL;
    }
    for (uint64_t i = 0; i < n; i++)
        tensor_row_to_f32(t, i, values + i * k);
    struct mlx_array *a = mlx_copy(be->m, values, shape2(n, k), MLX_F32);
    free(values);
    return a;
}

static struct mlx_array *expand(struct mlx_backend *be, const struct tensor_view *t)
{
    return mlx_cast(be->m, expand_f32(be, t), mlx__activations(be));
}

static struct mlx_array *dense(struct mlx_backend *be, const struct tensor_view *t)
{
    enum mlx_dtype type;
    if (!plain_type(t->type, &type))
        return expand(be, t);
    struct mlx_array *a = mlx_map(be->m, t->data, shape2(t->shape[0], t->shape[1]), type);
    return mlx_cast(be->m, a, mlx__activations(be));
}

static struct mlx_array *scales_of(struct mlx_backend *be, const struct tensor_view *t, const void *data)
{
    enum mlx_dtype type = MLX_U8;
    struct mlx_shape shape = shape2(t->shape[0], t->shape[1] / (uint64_t)t->quant.group_size);
    if (!data)
        return NULL;
    if (t->quant.mode != GROUP_AFFINE)
        return mlx_map(be->m, data, shape, MLX_U8);
    (void)plain_type(t->quant.scale_type, &type);
    return mlx_cast(be->m, mlx_map(be->m, data, shape, type), mlx__activations(be));
}

static struct mlx_matrix grouped(struct mlx_backend *be, const struct tensor_view *t)
{
    struct mlx_shape shape = shape2(t->shape[0], grouped_row_size(t->quant.bits, t->shape[1]) / sizeof(uint32_t));
    return (struct mlx_matrix){.w = mlx_map(be->m, t->data, shape, MLX_U32),
                               .scales = scales_of(be, t, t->quant.scales),
                               .biases = scales_of(be, t, t->quant.biases)};
}

/* Memory of a matrix that is made of groups. */
struct group_rows {
    uint8_t *codes;
    float *scales, *biases;
    uint8_t *byte_scales;
};

static bool group_rows_init(struct group_rows *g, uint64_t n, uint64_t k, const struct group_quant *q)
{
    size_t n_groups = (size_t)(n * (k / (uint64_t)q->group_size));
    g->codes = malloc((size_t)n * grouped_row_size(q->bits, k));
    g->scales = malloc(n_groups * sizeof *g->scales);
    g->biases = malloc(n_groups * sizeof *g->biases);
    g->byte_scales = malloc(n_groups);
    return g->codes && g->scales && g->biases && g->byte_scales;
}

static void group_rows_release(struct group_rows *g)
{
    free(g->codes);
    free(g->scales);
    free(g->biases);
    free(g->byte_scales);
}

static void fill_row(const struct tensor_view *t, const struct mlx_plan *plan, uint64_t row, struct group_rows *g,
                     float *scratch)
{
    uint64_t k = t->shape[1], groups = k / (uint64_t)plan->quant.group_size;
    uint8_t *codes = g->codes + row * grouped_row_size(plan->quant.bits, k);
    if (plan->kind == MLX_PLAN_REQUANTIZED) {
        tensor_row_to_f32(t, row, scratch);
        mlx_requantize_row(scratch, k, codes, g->scales + row * groups, g->biases + row * groups);
    } else if (plan->quant.mode == GROUP_MXFP4) {
        mlx_repack_mxfp4_row(t, row, codes, g->byte_scales + row * groups);
    } else {
        mlx_repack_row(t, row, plan->quant.bits, codes, g->scales + row * groups, g->biases + row * groups);
    }
}

static struct mlx_matrix matrix_of(struct mlx_backend *be, const struct group_rows *g, const struct tensor_view *t,
                                   const struct group_quant *q)
{
    struct mlx_shape codes = shape2(t->shape[0], grouped_row_size(q->bits, t->shape[1]) / sizeof(uint32_t));
    struct mlx_shape scales = shape2(t->shape[0], t->shape[1] / (uint64_t)q->group_size);
    struct mlx_matrix out = {.w = mlx_copy(be->m, g->codes, codes, MLX_U32)};
    if (q->mode == GROUP_AFFINE) {
        out.scales = mlx_cast(be->m, mlx_copy(be->m, g->scales, scales, MLX_F32), mlx__activations(be));
        out.biases = mlx_cast(be->m, mlx_copy(be->m, g->biases, scales, MLX_F32), mlx__activations(be));
    } else {
        out.scales = mlx_copy(be->m, g->byte_scales, scales, MLX_U8);
    }
    return out;
}

#define ROWS_AT_ONCE 64 /* whose words are a few lines of memory */

struct fill_args {
    const struct tensor_view *t;
    const struct group_quant *q; /* of the plan */
    struct group_rows *g;
};

static struct affine_row affine_row_of(const struct fill_args *a, uint64_t row)
{
    uint64_t k = a->t->shape[1], n_groups = k / (uint64_t)a->q->group_size;
    return (struct affine_row){.stream = a->g->codes + row * grouped_row_size(a->q->bits, k),
                               .scales = a->g->scales + row * n_groups,
                               .biases = a->g->biases + row * n_groups};
}

static void fill_some(void *arg, int tile, int thread)
{
    const struct fill_args *a = arg;
    uint64_t begin = (uint64_t)tile * ROWS_AT_ONCE, end = begin + ROWS_AT_ONCE;
    end = end < a->t->shape[0] ? end : a->t->shape[0];
    (void)thread;
    for (size_t first = 0; first < (size_t)a->t->shape[1]; first += 32) {
        for (uint64_t row = begin; row < end; row++) {
            struct affine_row out = affine_row_of(a, row);
            packed_to_affine(&a->t->quant, a->t->data, row, first, a->q->group_size, &out);
        }
    }
}

/* By as many threads as there are: unlike blocks, whose bytes come in order. False: memory failed. */
static bool fill_packed(const struct tensor_view *t, const struct mlx_plan *plan, struct group_rows *g)
{
    struct error ignored;
    struct fill_args args = {t, &plan->quant, g};
    struct pool *pool = pool_create(&(struct pool_options){0}, &ignored);
    if (pool)
        pool_run(pool, fill_some, &args, (int)((t->shape[0] + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE));
    pool_free(pool);
    return pool != NULL;
}

static void fill_blocks(const struct tensor_view *t, const struct mlx_plan *plan, struct group_rows *g, float *scratch)
{
    for (uint64_t i = 0; i < t->shape[0]; i++)
        fill_row(t, plan, i, g, scratch);
}

static struct mlx_matrix regrouped(struct mlx_backend *be, const struct tensor_view *t, const struct mlx_plan *plan)
{
    struct mlx_matrix out = {0};
    struct group_rows g = {0};
    float *scratch = malloc((size_t)t->shape[1] * sizeof *scratch);
    bool ok = scratch && group_rows_init(&g, t->shape[0], t->shape[1], &plan->quant);
    if (ok && t->quant.packing)
        ok = fill_packed(t, plan, &g);
    else if (ok)
        fill_blocks(t, plan, &g, scratch);
    if (ok) {
        out = matrix_of(be, &g, t, &plan->quant);
    } else {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory to repack a weight");
    }
    group_rows_release(&g);
    free(scratch);
    return out;
}

static struct mlx_matrix make_matrix(struct mlx_backend *be, const struct tensor_view *t, const struct mlx_plan *plan)
{
    switch (plan->kind) {
    case MLX_PLAN_GROUPED:
        return grouped(be, t);
    case MLX_PLAN_REPACKED:
    case MLX_PLAN_REQUANTIZED:
        return regrouped(be, t, plan);
    case MLX_PLAN_VECTOR:
    case MLX_PLAN_DENSE:
        break;
    }
    return (struct mlx_matrix){.w = dense(be, t)};
}

/* ---- stacks ---- */

#define MAX_STACK 1024

struct stack {
    struct mlx_array *w[MAX_STACK], *scales[MAX_STACK], *biases[MAX_STACK];
};

static bool unsorted(const struct tensor_view *t)
{
    return t->type == DTYPE_GROUPED && t->quant.packing && !packed_in_order(&t->quant);
}

/* Several tensors keep their groups when all become the same groups, and take their input as it is; else they are
 * expanded. */
static bool same_groups(const struct mlx_plan *a, const struct mlx_plan *b)
{
    bool dense_a = a->kind == MLX_PLAN_DENSE, dense_b = b->kind == MLX_PLAN_DENSE;
    return dense_a == dense_b && a->quant.mode == b->quant.mode && a->quant.bits == b->quant.bits &&
           a->quant.group_size == b->quant.group_size;
}

static struct mlx_plan common_plan(const struct tensor_view *const *views, int n, enum mlx_type type)
{
    struct mlx_plan plan = mlx_plan_of(views[0], type);
    for (int i = 1; i < n; i++) {
        struct mlx_plan other = mlx_plan_of(views[i], type);
        if (!same_groups(&plan, &other) || unsorted(views[i - 1]) || unsorted(views[i]))
            return (struct mlx_plan){.kind = MLX_PLAN_DENSE};
    }
    return plan;
}

static struct mlx_array *join(struct mlx_backend *be, struct mlx_array **parts, int n)
{
    return n == 1 || !parts[0] ? parts[0] : mlx_concat(be->m, parts, n, 0);
}

/* Of the only tensor of a weight, which can be sorted. *columns is what the caller frees. NULL: they are in order. */
static struct mlx_array *sort_columns(struct mlx_backend *be, struct tensor_view *t, uint32_t **columns)
{
    size_t k = (size_t)t->shape[1];
    if (!unsorted(t))
        return NULL;
    *columns = malloc(k * sizeof **columns);
    if (!*columns || !packed_sort_columns(&t->quant, *columns)) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the order of columns");
        return NULL;
    }
    t->quant.columns = *columns;
    return mlx_copy(be->m, *columns, (struct mlx_shape){1, {(int)k}}, MLX_I32);
}

static void stack_matrices(struct mlx_backend *be, struct weight *w, const struct tensor_view *const *views, int n,
                           struct stack *s)
{
    struct mlx_plan plan = common_plan(views, n, be->type);
    struct mlx_array *order = NULL;
    for (int i = 0; i < n; i++) {
        struct tensor_view t = tensor_as_matrix(views[i]);
        uint32_t *columns = NULL;
        if (plan.kind != MLX_PLAN_DENSE)
            order = sort_columns(be, &t, &columns);
        struct mlx_plan own = plan.kind == MLX_PLAN_DENSE ? plan : mlx_plan_of(&t, be->type);
        struct mlx_matrix part = make_matrix(be, &t, &own);
        s->w[i] = part.w;
        s->scales[i] = part.scales;
        s->biases[i] = part.biases;
        free(columns);
        w->info.n_out += (size_t)t.shape[0];
    }
    struct mlx_array *whole = join(be, s->w, n);
    if (!s->scales[0])
        whole = mlx_swap_axes(be->m, whole, 0, 1); /* a view: memory stays [n_out, n_in] */
    w->matrix = (struct mlx_matrix){.w = mlx_hold(be->m, whole),
                                    .scales = mlx_hold(be->m, join(be, s->scales, n)),
                                    .biases = mlx_hold(be->m, join(be, s->biases, n)),
                                    .columns = mlx_hold(be->m, order),
                                    .bits = plan.quant.bits,
                                    .group_size = plan.quant.group_size,
                                    .mode = plan.quant.mode};
    w->info.mapped = mlx_maps() && (plan.kind == MLX_PLAN_GROUPED || plan.kind == MLX_PLAN_DENSE);
    mlx_plan_text(&plan, views[0], be->type, w->layout, sizeof w->layout);
}

/* Of the views one after the other. */
static void make_vector(struct mlx_backend *be, struct weight *w, const struct tensor_view *const *views, int n,
                        struct stack *s)
{
    w->info.n_in = 0;
    for (int i = 0; i < n; i++) {
        const struct tensor_view *t = views[i];
        struct tensor_view row = {.type = t->type, .n_dims = 2, .shape = {1, t->shape[0], 1, 1}, .data = t->data};
        s->w[i] = mlx_reshape(be->m, expand_f32(be, &row), (struct mlx_shape){1, {(int)t->shape[0]}});
        w->info.n_in += (size_t)t->shape[0];
    }
    struct mlx_array *whole = join(be, s->w, n);
    w->vector = mlx_hold(be->m, mlx_cast(be->m, whole, mlx__activations(be)));
    if (mlx__activations(be) != MLX_F32 && w->info.n_in <= MLX_MAX_EXACT)
        w->exact = mlx_hold(be->m, whole);
    w->info.n_out = 1;
    snprintf(w->layout, sizeof w->layout, "%s vector", mlx_type_name(be->type));
}

/* ---- life ---- */

/* Computed now and in order, so that memory for one weight at a time is needed beside the result. */
static bool finish(struct mlx_backend *be, struct weight *w, struct error *err)
{
    struct mlx_array *held[] = {w->matrix.w,       w->matrix.scales, w->matrix.biases,
                                w->matrix.columns, w->vector,        w->exact};
    struct mlx_array *there[ARRAY_LEN(held)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(held); i++) {
        if (held[i])
            there[n++] = held[i];
    }
    mlx_reset(be->m);
    if (mlx_ok(be->m))
        (void)mlx_eval(be->m, there, n);
    for (size_t i = 0; i < n; i++)
        w->info.resident_size += mlx_size(there[i]);
    w->info.layout = w->layout;
    return mlx_take_error(be->m, err);
}

static bool build(struct mlx_backend *be, struct weight *w, const struct tensor_view *const *views, int n,
                  struct error *err)
{
    const struct tensor_view *first = views[0];
    w->info.n_in = (size_t)first->shape[first->n_dims - 1];
    w->stacked = first->n_dims == 3;
    for (int i = 0; i < n; i++) {
        if (!check_view(views[i], w->info.n_in, err))
            return false;
    }
    if (be->type == MLX_TYPE_AUTO && first->n_dims > 1)
        be->type = mlx_plan_type(first);
    struct stack *s = calloc(1, sizeof *s);
    if (!s || n > MAX_STACK) {
        free(s);
        return error_set(err, n > MAX_STACK ? ERR_UNSUPPORTED : ERR_NO_MEMORY,
                         "A weight of %d tensors; %d are possible.", n, MAX_STACK);
    }
    if (first->n_dims == 1)
        make_vector(be, w, views, n, s);
    else
        stack_matrices(be, w, views, n, s);
    free(s);
    return finish(be, w, err);
}

struct weight *mlx__weight_create(struct backend *base, const struct tensor_view *const *views, int n_views,
                                  struct error *err)
{
    struct weight *w = calloc(1, sizeof *w);
    if (!w || n_views < 1) {
        free(w);
        error_set(err, w ? ERR_INTERNAL : ERR_NO_MEMORY, "There is no memory for a weight of %d tensors.", n_views);
        return NULL;
    }
    if (build(mlx__of(base), w, views, n_views, err))
        return w;
    error_wrap(err, "tensor '" STR_FMT "'", STR_ARG(views[0]->name));
    mlx__weight_free(base, w);
    return NULL;
}

/* Floats stay in their own type, as the file maps them: rows are converted when they are taken. */
struct weight *mlx__table_create(struct backend *base, const struct tensor_view *view, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    enum mlx_dtype type;
    if (!plain_type(view->type, &type))
        return mlx__weight_create(base, &view, 1, err);
    if (!check_view(view, view->shape[view->n_dims - 1], err))
        return NULL;
    struct weight *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for a table.");
        return NULL;
    }
    struct mlx_array *rows = mlx_map(be->m, view->data, shape2(view->shape[0], view->shape[1]), type);
    w->info.n_out = (size_t)view->shape[0];
    w->info.n_in = (size_t)view->shape[1];
    w->matrix.w = mlx_hold(be->m, mlx_swap_axes(be->m, rows, 0, 1));
    w->info.mapped = mlx_maps();
    snprintf(w->layout, sizeof w->layout, "%s in place", dtype_info(view->type)->name);
    if (finish(be, w, err))
        return w;
    mlx__weight_free(base, w);
    return NULL;
}

void mlx__weight_free(struct backend *base, struct weight *w)
{
    (void)base;
    if (!w)
        return;
    mlx_drop(w->matrix.w);
    mlx_drop(w->matrix.scales);
    mlx_drop(w->matrix.biases);
    mlx_drop(w->matrix.columns);
    mlx_drop(w->vector);
    mlx_drop(w->exact);
    mlx_drop(w->raised);
    mlx__weight_drop_adapters(w);
    free(w);
}

struct weight_info mlx__weight_info(const struct weight *w)
{
    return w->info;
}

struct mlx_array *mlx__vector(const struct weight *w)
{
    return w ? w->vector : NULL;
}

struct mlx_array *mlx__exact(const struct weight *w)
{
    return w && w->exact ? w->exact : mlx__vector(w);
}
