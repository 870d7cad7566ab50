/* Adapters: rows sorted by adapter, each group's two products, put together and back in the rows' order, added to the
 * product with the weight:
 *
 *     y = x w^T + back(concat(zeros, scale x1 a1^T b1^T, ...))        x1: the rows of adapter 1
 *
 * Nothing of it is in the graph of a step, or of a weight, without adapters. */
#include "backend/adapt.h"
#include "backend/mlx/mlx_internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- parts of weights ---- */

static void drop_part(struct mlx_adapter *part)
{
    mlx_drop(part->a.w);
    mlx_drop(part->b.w);
    *part = (struct mlx_adapter){0};
}

/* values: [n, k] */
static bool expand(const struct tensor_view *v, float scale, float *values, struct error *err)
{
    for (uint64_t i = 0; i < v->shape[0]; i++) {
        float *row = values + i * v->shape[1];
        tensor_row_to_f32(v, i, row);
        for (uint64_t j = 0; j < v->shape[1]; j++) {
            row[j] *= scale;
            if (!isfinite(row[j]))
                return error_set(err, ERR_FORMAT, "The tensor '" STR_FMT "' of an adapter holds what is no number.",
                                 STR_ARG(str_slice(v->name, 0, 100)));
        }
    }
    return true;
}

/* Held, transposed: as dense matrices are. */
static bool make_matrix(struct mlx_backend *be, const struct tensor_view *v, float scale, struct mlx_matrix *out,
                        struct error *err)
{
    float *values = malloc((size_t)v->shape[0] * (size_t)v->shape[1] * sizeof *values);
    if (!values)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for a part of an adapter.");
    if (!expand(v, scale, values, err)) {
        free(values);
        return false;
    }
    struct mlx_shape shape = {2, {(int)v->shape[0], (int)v->shape[1]}};
    struct mlx_array *w = mlx_cast(be->m, mlx_copy(be->m, values, shape, MLX_F32), mlx__activations(be));
    free(values);
    out->w = mlx_hold(be->m, mlx_swap_axes(be->m, w, 0, 1));
    mlx_reset(be->m);
    if (out->w && mlx_ok(be->m))
        (void)mlx_eval(be->m, &out->w, 1);
    return mlx_take_error(be->m, err);
}

static bool make_part(struct mlx_backend *be, const struct adapter_part *part, struct mlx_adapter *out,
                      struct error *err)
{
    return make_matrix(be, part->a, 1, &out->a, err) && make_matrix(be, part->b, part->scale, &out->b, err);
}

bool mlx__weight_adapt(struct backend *base, struct weight *w, int adapter, const struct adapter_part *part,
                       struct error *err)
{
    struct mlx_adapter made = {0};
    if (!adapt_check_part(&w->info, w->stacked, adapter, part, err))
        return false;
    if (!part && !w->adapters)
        return true;
    if (!w->adapters)
        w->adapters = calloc(BACKEND_MAX_ADAPTERS, sizeof *w->adapters);
    if (!w->adapters)
        return error_set(err, ERR_NO_MEMORY, "There is no memory for the adapters of a weight.");
    if (part && !make_part(mlx__of(base), part, &made, err)) {
        drop_part(&made);
        return false;
    }
    drop_part(&w->adapters[adapter - 1]);
    w->adapters[adapter - 1] = made;
    return true;
}

void mlx__weight_drop_adapters(struct weight *w)
{
    for (int i = 0; w->adapters && i < BACKEND_MAX_ADAPTERS; i++)
        drop_part(&w->adapters[i]);
    free(w->adapters);
    w->adapters = NULL;
}

/* ---- rows ---- */

/* Stable: rows of one adapter stay in their order; those without come first. adapters: of each row. */
static struct mlx_adapted *sort_rows(struct mlx_backend *be, const int32_t *adapters, int n_rows)
{
    struct mlx_adapted *sorted = arena_alloc(be->tensors, sizeof *sorted);
    int32_t *order = arena_alloc_array(be->tensors, (size_t)n_rows * 2 + 1, sizeof *order), *back = order + n_rows;
    int n = 0;
    if (!sorted || !order) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the rows of adapters");
        return NULL;
    }
    *sorted = (struct mlx_adapted){.in_order = true};
    for (int adapter = 0; adapter <= BACKEND_MAX_ADAPTERS; adapter++) {
        struct mlx_adapted_rows group = {.adapter = adapter, .first = n};
        for (int i = 0; i < n_rows; i++) {
            if (adapters[i] != adapter)
                continue;
            sorted->in_order = sorted->in_order && i == n;
            back[i] = n;
            order[n++] = i;
        }
        group.n = n - group.first;
        if (group.n > 0)
            sorted->groups[sorted->n_groups++] = group;
    }
    struct mlx_shape shape = {1, {n_rows}};
    if (!sorted->in_order) {
        sorted->order = mlx_copy(be->m, order, shape, MLX_I32);
        sorted->back = mlx_copy(be->m, back, shape, MLX_I32);
    }
    return sorted;
}

void mlx__adapt_begin(struct mlx_backend *be, const struct batch *batch)
{
    be->adapted_rows = be->adapted_outs = NULL;
    if (!adapt_wanted(batch))
        return;
    int32_t *adapters = arena_alloc_array(be->tensors, (size_t)batch->n_rows + 1, sizeof *adapters);
    int32_t *outs = arena_alloc_array(be->tensors, (size_t)batch->n_out + 1, sizeof *outs);
    if (!adapters || !outs) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the rows of adapters");
        return;
    }
    adapt_rows(batch, adapters, outs);
    be->adapted_rows = sort_rows(be, adapters, batch->n_rows);
    be->adapted_outs = sort_rows(be, outs, batch->n_out);
}

/* ---- products ---- */

static bool has_part(const struct weight *w, int adapter)
{
    return adapter > 0 && w->adapters[adapter - 1].a.w;
}

/* What is added to x w^T; NULL: nothing. */
static struct mlx_array *delta_of(struct mlx_backend *be, struct mlx_array *x, const struct weight *w,
                                  const struct mlx_adapted *rows)
{
    struct mlx_array *parts[BACKEND_MAX_ADAPTERS + 1];
    bool any = false;
    for (int i = 0; i < rows->n_groups; i++)
        any = any || has_part(w, rows->groups[i].adapter);
    if (!any)
        return NULL;
    if (!rows->in_order)
        x = mlx_take(be->m, x, rows->order, 0);
    for (int i = 0; i < rows->n_groups; i++) {
        const struct mlx_adapted_rows *g = &rows->groups[i];
        const struct mlx_adapter *part = has_part(w, g->adapter) ? &w->adapters[g->adapter - 1] : NULL;
        struct mlx_array *some = rows->n_groups > 1 && part ? mlx_slice(be->m, x, 0, g->first, g->first + g->n) : x;
        if (part)
            parts[i] = mlx_linear(be->m, mlx_linear(be->m, some, &part->a, NULL), &part->b, NULL);
        else
            parts[i] = mlx_zeros(be->m, (struct mlx_shape){2, {g->n, (int)w->info.n_out}}, mlx__activations(be));
    }
    struct mlx_array *all = rows->n_groups > 1 ? mlx_concat(be->m, parts, rows->n_groups, 0) : parts[0];
    return rows->in_order ? all : mlx_take(be->m, all, rows->back, 0);
}

struct mlx_array *mlx__product(struct mlx_backend *be, struct mlx_array *x, int n_rows, const struct weight *w,
                               const struct weight *bias)
{
    struct mlx_array *y = mlx_linear(be->m, x, &w->matrix, mlx__vector(bias));
    const struct mlx_adapted *rows = n_rows == be->batch->n_rows ? be->adapted_rows : be->adapted_outs;
    struct mlx_array *delta = rows && w->adapters ? delta_of(be, x, w, rows) : NULL;
    return delta ? mlx_add(be->m, y, delta) : y;
}
