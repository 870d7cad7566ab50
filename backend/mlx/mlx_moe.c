/* Mixtures of experts, and rows as vectors by heads: what multiplies by a stack of matrices. */
#include "backend/mlx/mlx_internal.h"

#include <stdlib.h>

/* ---- stacks ---- */

/* Stacked matrices: codes and scales [e n, k] as [e, n, k]; dense ones, which are held as [k, e n], as [e, k, n]. */
static struct mlx_matrix stack_of(struct mlx_backend *be, const struct weight *w, int n_matrices)
{
    struct mlx_matrix m = w->matrix;
    struct mlx_array **parts[] = {&m.w, &m.scales, &m.biases};
    int n = (int)w->info.n_out / n_matrices;
    if (!m.scales)
        m.w = mlx_swap_axes(be->m, m.w, 0, 1);
    for (int i = 0; i < 3; i++) {
        if (*parts[i])
            *parts[i] = mlx_reshape(be->m, *parts[i], (struct mlx_shape){3, {n_matrices, n, mlx_dim(*parts[i], -1)}});
    }
    if (!m.scales)
        m.w = mlx_swap_axes(be->m, m.w, 1, 2);
    return m;
}

/* x times the matrices of the experts chosen, [b, e, n], plus their biases. */
static struct mlx_array *expert_linear(struct mlx_backend *be, struct mlx_array *x, const struct weight *w,
                                       const struct weight *bias, struct mlx_array *experts, int n_experts)
{
    struct mlx_matrix stack = stack_of(be, w, n_experts);
    struct mlx_array *y = mlx_expert_linear(be->m, x, &stack, experts);
    if (!bias)
        return y;
    struct mlx_shape shape = {2, {n_experts, (int)w->info.n_out / n_experts}};
    return mlx_add(be->m, y, mlx_take(be->m, mlx_reshape(be->m, mlx__vector(bias), shape), experts, 0));
}

struct tensor *mlx__moe(struct backend *base, struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    int n = p->n_experts;
    struct mlx_array *in = mlx__flat(be, x);
    struct mlx_array *logits = mlx__product(be, in, x->n_rows, w->router, w->router_bias);
    struct mlx_routes r = mlx_route(be->m, logits, mlx__exact(w->choice_bias), p);
    if (p->weigh_input)
        in = mlx_weigh(be->m, in, r.weights);
    struct mlx_array *g = expert_linear(be, in, w->gate, w->gate_bias, r.experts, n);
    struct mlx_array *h = mlx_gated(be->m, g, expert_linear(be, in, w->up, w->up_bias, r.experts, n), p->act);
    struct mlx_array *y = expert_linear(be, h, w->down, w->down_bias, r.experts, n);
    return mlx__tensor(be, mlx_mix(be->m, y, p->weigh_input ? NULL : r.weights), x->n_rows, x->n_cols);
}

/* ---- heads ---- */

/* [n_rows, n_heads, n] */
static struct mlx_array *heads_of(struct mlx_backend *be, struct tensor *x, int n_heads)
{
    struct mlx_shape shape = {3, {x->n_rows, n_heads, x->n_cols / n_heads}};
    return mlx_reshape(be->m, mlx__flat(be, x), shape);
}

static struct tensor *rows_of(struct mlx_backend *be, struct mlx_array *a, int n_rows, int n_cols)
{
    return mlx__tensor(be, mlx_reshape(be->m, a, (struct mlx_shape){2, {n_rows, n_cols}}), n_rows, n_cols);
}

struct tensor *mlx__cut(struct backend *base, struct tensor *x, int n_heads, int first, int n)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    return rows_of(be, mlx_slice(be->m, heads_of(be, x, n_heads), 2, first, first + n), x->n_rows, n_heads * n);
}

struct tensor *mlx__join(struct backend *base, struct tensor *a, struct tensor *b, int n_heads)
{
    struct mlx_backend *be = mlx__of(base);
    if (!a || !b)
        return NULL;
    struct mlx_array *parts[2] = {heads_of(be, a, n_heads), heads_of(be, b, n_heads)};
    return rows_of(be, mlx_concat(be->m, parts, 2, 2), a->n_rows, a->n_cols + b->n_cols);
}

/* Every head is an expert that all rows choose. */
struct tensor *mlx__linear_heads(struct backend *base, struct tensor *x, struct weight *w, int n_heads)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    size_t n = (size_t)x->n_rows * (size_t)n_heads;
    int32_t *numbers = malloc(n * sizeof *numbers);
    if (!numbers) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the numbers of heads");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        numbers[i] = (int32_t)(i % (size_t)n_heads);
    struct mlx_array *heads = mlx_copy(be->m, numbers, (struct mlx_shape){2, {x->n_rows, n_heads}}, MLX_U32);
    free(numbers);
    struct mlx_array *y = expert_linear(be, heads_of(be, x, n_heads), w, NULL, heads, n_heads);
    return rows_of(be, y, x->n_rows, (int)w->info.n_out);
}
