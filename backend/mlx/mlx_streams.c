/* Row-wise ops between products: vectors times a vector, gates that are thinned out, streams of AltUp. */
#include "backend/mlx/mlx_internal.h"

struct tensor *mlx__embed_add(struct backend *base, struct weight *table, float scale, struct tensor *x, float factor)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    struct mlx_array *ids = mlx_limit_ids(be->m, mlx__batch_ids(be), (int)table->info.n_out);
    struct mlx_array *rows = mlx_embed(be->m, &table->matrix, ids, mlx__activations(be));
    rows = mlx_add(be->m, mlx_scale(be->m, rows, scale), mlx__flat(be, x));
    return mlx__tensor(be, mlx_scale(be->m, rows, factor), x->n_rows, x->n_cols);
}

struct tensor *mlx__multiply(struct backend *base, struct tensor *x, struct weight *vector)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    return mlx__tensor(be, mlx_multiply(be->m, mlx__flat(be, x), mlx__vector(vector)), x->n_rows, x->n_cols);
}

/* x as vectors of the width of one of them. */
static struct mlx_array *streams_of(struct mlx_backend *be, struct tensor *x, int width)
{
    return mlx_reshape(be->m, mlx__flat(be, x), (struct mlx_shape){3, {x->n_rows, x->n_cols / width, width}});
}

static struct tensor *rows_of(struct mlx_backend *be, struct mlx_array *a, const struct tensor *x)
{
    struct mlx_array *flat = mlx_reshape(be->m, a, (struct mlx_shape){2, {x->n_rows, x->n_cols}});
    return mlx__tensor(be, flat, x->n_rows, x->n_cols);
}

struct tensor *mlx__add_each(struct backend *base, struct tensor *x, int n_heads, int first, struct tensor *y)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x || !y)
        return NULL;
    struct mlx_array *all = streams_of(be, x, y->n_cols), *one = streams_of(be, y, y->n_cols);
    struct mlx_array *parts[2] = {mlx_slice(be->m, all, 1, 0, first),
                                  mlx_add(be->m, mlx_slice(be->m, all, 1, first, n_heads), one)};
    return rows_of(be, first > 0 ? mlx_concat(be->m, parts, 2, 1) : parts[1], x);
}

struct tensor *mlx__activate_mul(struct backend *base, struct tensor *gate, struct tensor *up, enum activation act,
                                 const float *sparsity)
{
    struct mlx_backend *be = mlx__of(base);
    if (!gate || !up)
        return NULL;
    struct mlx_array *g = mlx__flat(be, gate);
    if (sparsity)
        g = mlx_thin_out(be->m, g, *sparsity);
    return mlx__tensor(be, mlx_gated(be->m, g, mlx__flat(be, up), act), gate->n_rows, gate->n_cols);
}

struct tensor *mlx__match(struct backend *base, struct tensor *x, struct tensor *y)
{
    struct mlx_backend *be = mlx__of(base);
    return x && y ? rows_of(be, mlx_match(be->m, mlx__flat(be, x), streams_of(be, y, x->n_cols)), y) : NULL;
}

/* n rows of coefficients times what the router says of each row of the batch. */
static struct mlx_array *coefs_of(struct mlx_backend *be, const struct weight *coefs, int n, struct tensor *routed,
                                  const struct stream_params *p)
{
    struct mlx_array *by = mlx_reshape(be->m, mlx__exact(coefs), (struct mlx_shape){2, {n, p->n}});
    return mlx_stream_coefs(be->m, by, mlx__flat(be, routed), p->scale);
}

struct tensor *mlx__stream_predict(struct backend *base, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                   const struct stream_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x || !routed)
        return NULL;
    struct mlx_array *by = coefs_of(be, coefs, p->n * p->n, routed, p);
    return rows_of(be, mlx_stream_predict(be->m, streams_of(be, x, x->n_cols / p->n), by), x);
}

struct tensor *mlx__stream_correct(struct backend *base, struct tensor *x, struct tensor *y, struct tensor *routed,
                                   struct weight *coefs, const struct stream_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x || !y || !routed)
        return NULL;
    int width = x->n_cols / p->n;
    struct mlx_array *active = mlx_slice(be->m, mlx__flat(be, x), 1, p->active * width, (p->active + 1) * width);
    struct mlx_array *news = mlx_subtract(be->m, mlx__flat(be, y), active);
    struct mlx_array *by = coefs_of(be, coefs, p->n, routed, p);
    return rows_of(be, mlx_stream_correct(be->m, streams_of(be, x, width), by, news), x);
}
