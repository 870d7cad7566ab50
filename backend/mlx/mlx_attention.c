/* RoPE, writing K and V into the slabs, attention: sequence by sequence. */
#include "backend/mlx/mlx_internal.h"

#include <stdlib.h>

/* ---- RoPE ---- */

static struct mlx_array *wavelengths(struct mlx_backend *be, const struct rope_params *p)
{
    for (int i = 0; i < be->n_angles; i++) {
        if (be->angles[i].inv_freq == p->inv_freq)
            return be->angles[i].wavelengths;
    }
    float *values = be->n_angles < MLX_MAX_ANGLES ? malloc((size_t)p->rot_dim / 2 * sizeof *values) : NULL;
    if (!values) {
        mlx_fail(be->m, ERR_INTERNAL, "a model with more kinds of RoPE than are foreseen");
        return NULL;
    }
    for (int i = 0; i < p->rot_dim / 2; i++)
        values[i] = 1 / p->inv_freq[i];
    struct mlx_array *a = mlx_copy(be->m, values, (struct mlx_shape){1, {p->rot_dim / 2}}, MLX_F32);
    free(values);
    be->angles[be->n_angles] = (struct rope_angles){p->inv_freq, mlx_hold(be->m, a)};
    return be->angles[be->n_angles++].wavelengths;
}

/* [n_rows, h d] as [n_rows, h, 1, d] */
static struct mlx_array *heads(struct mlx_backend *be, const struct tensor *x, int n_heads)
{
    return mlx_reshape(be->m, x->a, (struct mlx_shape){4, {x->n_rows, n_heads, 1, x->n_cols / n_heads}});
}

static struct tensor *flat(struct mlx_backend *be, struct mlx_array *a, int n_rows, int n_cols)
{
    return mlx__tensor(be, mlx_reshape(be->m, a, (struct mlx_shape){2, {n_rows, n_cols}}), n_rows, n_cols);
}

struct tensor *mlx__rope(struct backend *base, struct tensor *x, const struct rope_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    struct mlx_array *y = mlx_rope(be->m, heads(be, x, p->n_heads), p, be->offsets, wavelengths(be, p));
    return flat(be, y, x->n_rows, x->n_cols);
}

/* ---- rows of one sequence ---- */

/* Rows of [n_rows, h, 1, d] that are the sequence's, as [1, h, n, d]. */
static struct mlx_array *rows_of(struct mlx_backend *be, struct mlx_array *x, const struct batch_seq *seq)
{
    struct mlx_array *rows = x;
    if (seq->n_rows != be->batch->n_rows)
        rows = mlx_slice(be->m, x, 0, seq->first_row, seq->first_row + seq->n_rows);
    return seq->n_rows == 1 ? rows : mlx_swap_axes(be->m, rows, 0, 2);
}

static struct slab *slab_of(const struct mlx_backend *be, int seq, int group)
{
    return be->slabs[seq * be->n_groups + group];
}

void mlx__kv_write(struct backend *base, int group, int layer, struct tensor *k, struct tensor *v)
{
    struct mlx_backend *be = mlx__of(base);
    const struct mlx_kv_group *g = &be->groups[group];
    if (!k || !v)
        return;
    struct mlx_array *keys = mlx_cast(be->m, heads(be, k, g->spec.n_kv_heads), g->type);
    struct mlx_array *values = mlx_cast(be->m, heads(be, v, g->spec.n_kv_heads), g->type);
    for (int i = 0; i < be->batch->n_seqs; i++) {
        const struct batch_seq *seq = &be->batch->seqs[i];
        struct slab *s = slab_of(be, i, group);
        int at = seq->start - s->first_block * MLX_PAGE_TOKENS;
        if (!mlx_update(be->m, s->k[layer], rows_of(be, keys, seq), 2, at) ||
            !mlx_update(be->m, s->v[layer], rows_of(be, values, seq), 2, at))
            return;
    }
}

/* ---- attention ---- */

struct span {
    int first, end; /* positions of keys that the sequence's rows may see */
};

static struct span visible(const struct batch_seq *seq, int window)
{
    int first = window ? seq->start - window + 1 : 0;
    return (struct span){first > 0 ? first : 0, seq->start + seq->n_rows};
}

/* NULL where the keys are exactly those that the rows see, or the fused kernel's own causal mask does. */
static struct mlx_array *mask_of(struct mlx_backend *be, int i, int group, struct span span,
                                 const struct attention_params *p)
{
    const struct batch_seq *seq = &be->batch->seqs[i];
    struct mlx_array **mask = &be->masks[i * be->n_groups + group];
    bool outside = p->window && span.end - span.first > p->window; /* some row does not see all of them */
    if (seq->n_rows == 1 || !p->causal || (!outside && p->softcap == 0))
        return NULL;
    if (!*mask)
        *mask = mlx_window_mask(be->m, seq->start, seq->n_rows, span.first, span.end - span.first, p->window);
    return *mask;
}

static struct mlx_array *attend(struct mlx_backend *be, int group, int layer, int i, struct mlx_array *q,
                                const struct attention_params *p)
{
    const struct batch_seq *seq = &be->batch->seqs[i];
    const struct slab *s = slab_of(be, i, group);
    struct span span = visible(seq, p->window);
    int base = s->first_block * MLX_PAGE_TOKENS;
    struct mlx_attention a = {.q = rows_of(be, q, seq),
                              .k = mlx_slice(be->m, s->k[layer], 2, span.first - base, span.end - base),
                              .v = mlx_slice(be->m, s->v[layer], 2, span.first - base, span.end - base),
                              .mask = mask_of(be, i, group, span, p),
                              .scale = p->scale,
                              .softcap = p->softcap};
    a.causal = p->causal && seq->n_rows > 1 && !a.mask;
    struct mlx_array *out = mlx_attend(be->m, &a);
    return seq->n_rows == 1 ? out : mlx_swap_axes(be->m, out, 0, 2); /* [n, h, 1, d] */
}

struct tensor *mlx__attention(struct backend *base, int group, int layer, struct tensor *q,
                              const struct attention_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    int n = be->batch->n_seqs;
    struct mlx_array **parts = q ? calloc((size_t)n, sizeof(struct mlx_array *)) : NULL;
    if (!q || !parts)
        return NULL;
    if (p->sinks)
        mlx_fail(be->m, ERR_UNSUPPORTED, "attention sinks are not supported");
    struct mlx_array *q_heads = heads(be, q, p->n_heads);
    for (int i = 0; i < n; i++)
        parts[i] = attend(be, group, layer, i, q_heads, p);
    struct mlx_array *all = n == 1 ? parts[0] : mlx_concat(be->m, parts, n, 0);
    free(parts);
    all = mlx_cast(be->m, all, mlx__activations(be));
    struct tensor *out = flat(be, all, q->n_rows, p->n_heads * p->v_dim);
    be->attended = out ? out->a : NULL;
    return out;
}
