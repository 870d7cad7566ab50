/* Short convolutions over slabs: what the rows see is put together once for all of them.
 *
 *     seen      | zeros | positions start - n_taps + 1 ... of sequence 0 | of sequence 1 | ...      [1 + ..., n]
 *     conv_rows   where in it row t finds what tap j multiplies                                    [n_rows, n_taps]
 */
#include "backend/mlx/mlx_internal.h"

#include <stdlib.h>

static int first_seen(const struct batch_seq *seq, int n_taps)
{
    return seq->start >= n_taps ? seq->start - n_taps + 1 : 0;
}

static void fill_rows(const struct batch *b, int n_taps, int32_t *out)
{
    int at = 1; /* behind the zeros */
    for (int i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *seq = &b->seqs[i];
        int first = first_seen(seq, n_taps);
        for (int r = 0; r < seq->n_rows; r++) {
            int oldest = seq->start + r - n_taps + 1;
            for (int j = 0; j < n_taps; j++)
                *out++ = oldest + j < 0 ? 0 : at + oldest + j - first;
        }
        at += seq->start + seq->n_rows - first;
    }
}

static struct mlx_array *rows_seen(struct mlx_backend *be, int n_taps)
{
    const struct batch *b = be->batch;
    if (be->conv_rows)
        return be->conv_rows;
    int32_t *at = malloc((size_t)b->n_rows * (size_t)n_taps * sizeof *at);
    if (!at) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the rows of a convolution");
        return NULL;
    }
    fill_rows(b, n_taps, at);
    be->conv_rows = mlx_copy(be->m, at, (struct mlx_shape){2, {b->n_rows, n_taps}}, MLX_I32);
    free(at);
    return be->conv_rows;
}

/* [rows, n] of all sequences, the zeros first. */
static struct mlx_array *seen(struct mlx_backend *be, int group, int layer, int n_taps)
{
    const struct batch *b = be->batch;
    int n = be->groups[group].spec.v_dim, n_rows = 1;
    be->parts[0] = mlx_zeros(be->m, (struct mlx_shape){4, {1, 1, 1, n}}, be->groups[group].type);
    for (int i = 0; i < b->n_seqs; i++) {
        const struct slab *s = mlx__slab_of(be, i, group);
        int base = s->first_block * MLX_PAGE_TOKENS, first = first_seen(&b->seqs[i], n_taps);
        int end = b->seqs[i].start + b->seqs[i].n_rows;
        be->parts[i + 1] = mlx_slice(be->m, s->v[layer], 2, first - base, end - base);
        n_rows += end - first;
    }
    struct mlx_array *all = mlx_concat(be->m, be->parts, b->n_seqs + 1, 2);
    return mlx_reshape(be->m, all, (struct mlx_shape){2, {n_rows, n}});
}

struct tensor *mlx__short_conv(struct backend *base, int group, int layer, struct tensor *x, struct weight *taps)
{
    struct mlx_backend *be = mlx__of(base);
    const struct kv_group_spec *spec = &be->groups[group].spec;
    int n = spec->v_dim, n_taps = spec->window;
    if (!x || !taps)
        return NULL;
    if (x->n_cols != 3 * n || spec->k_dim != 0 || taps->info.n_in != (size_t)n_taps * (size_t)n) {
        mlx_fail(be->m, ERR_INTERNAL, "a short convolution does not fit its input or its KV group");
        return NULL;
    }
    struct mlx_array *all = mlx__flat(be, x), *c = mlx_slice(be->m, all, 1, n, 2 * n);
    struct mlx_array *v = mlx_multiply(be->m, mlx_slice(be->m, all, 1, 0, n), mlx_slice(be->m, all, 1, 2 * n, 3 * n));
    struct tensor *products = mlx__tensor(be, v, x->n_rows, n);
    if (!products || !mlx__write_rows(be, group, layer, products, true))
        return NULL;
    struct mlx_array *by = mlx_reshape(be->m, mlx__vector(taps), (struct mlx_shape){2, {n_taps, n}});
    struct mlx_array *windows = mlx_take(be->m, seen(be, group, layer, n_taps), rows_seen(be, n_taps), 0);
    struct mlx_array *y = mlx_mix(be->m, mlx_multiply(be->m, windows, by), NULL);
    y = mlx_multiply(be->m, c, mlx_cast(be->m, y, mlx__activations(be)));
    be->attended = y;
    return mlx__tensor(be, y, x->n_rows, n);
}
