/* RoPE, writing K and V into the slabs, attention: sequence by sequence. */
#include "backend/mlx/mlx_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- heads ---- */

static struct mlx_array *by_heads(struct mlx_backend *be, const struct tensor *x, int head_dim)
{
    if (x->head_dim == head_dim)
        return x->a;
    return mlx_reshape(be->m, x->a, (struct mlx_shape){2, {x->n_rows * (x->n_cols / head_dim), head_dim}});
}

/* [n_rows, n, m, d] */
static struct mlx_array *shaped(struct mlx_backend *be, const struct tensor *x, int n, int m)
{
    return mlx_reshape(be->m, x->a, (struct mlx_shape){4, {x->n_rows, n, m, x->n_cols / (n * m)}});
}

static struct tensor *heads_tensor(struct mlx_backend *be, struct mlx_array *a, const struct tensor *like, int head_dim)
{
    struct tensor *t = mlx__tensor(be, a, like->n_rows, like->n_cols);
    if (t)
        t->head_dim = head_dim;
    return t;
}

/* ---- RoPE ---- */

static int partner_of(const struct rope_params *p, int i)
{
    int half = p->rot_dim / 2;
    if (i >= p->rot_dim)
        return i;
    return p->kind == ROPE_NORM ? i ^ 1 : i < half ? i + half : i - half;
}

static struct mlx_array *make_partner(struct mlx_backend *be, const struct rope_params *p)
{
    int d = p->head_dim;
    float *m = calloc((size_t)d * (size_t)d, sizeof *m);
    if (!m) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for RoPE");
        return NULL;
    }
    for (int i = 0; i < d; i++)
        m[partner_of(p, i) * d + i] = 1;
    struct mlx_array *a = mlx_copy(be->m, m, (struct mlx_shape){2, {d, d}}, MLX_F32);
    free(m);
    return mlx_cast(be->m, a, mlx__activations(be));
}

static struct mlx_array *make_wavelengths(struct mlx_backend *be, const struct rope_params *p)
{
    float *values = malloc((size_t)p->rot_dim / 2 * sizeof *values);
    if (!values) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for RoPE");
        return NULL;
    }
    for (int i = 0; i < p->rot_dim / 2; i++)
        values[i] = 1 / p->inv_freq[i];
    struct mlx_array *a = mlx_copy(be->m, values, (struct mlx_shape){1, {p->rot_dim / 2}}, MLX_F32);
    free(values);
    return a;
}

static const struct rope_angles *angles_of(struct mlx_backend *be, const struct rope_params *p)
{
    for (int i = 0; i < be->n_angles; i++) {
        if (be->angles[i].inv_freq == p->inv_freq)
            return &be->angles[i];
    }
    if (be->n_angles == MLX_MAX_ANGLES) {
        mlx_fail(be->m, ERR_INTERNAL, "a model with more kinds of RoPE than are foreseen");
        return NULL;
    }
    be->angles[be->n_angles] = (struct rope_angles){.inv_freq = p->inv_freq,
                                                    .wavelengths = mlx_hold(be->m, make_wavelengths(be, p)),
                                                    .partner = mlx_hold(be->m, make_partner(be, p))};
    return &be->angles[be->n_angles++];
}

/* Row r of both tables: [head_dim] for the position; elements that do not rotate have cos 1 and sin 0. */
static void fill_angles(const struct rope_params *p, int position, float *cos_row, float *sin_row)
{
    for (int i = 0; i < p->head_dim; i++) {
        int pair = p->kind == ROPE_NORM ? i / 2 : i % (p->rot_dim / 2);
        bool first = i < partner_of(p, i);
        float angle = (float)position * p->inv_freq[i < p->rot_dim ? pair : 0];
        cos_row[i] = i < p->rot_dim ? cosf(angle) * p->attn_factor : 1;
        sin_row[i] = i < p->rot_dim ? (first ? -sinf(angle) : sinf(angle)) * p->attn_factor : 0;
    }
}

static void fill_table(struct mlx_backend *be, const struct rope_params *p, struct rope_table *t)
{
    size_t d = (size_t)p->head_dim, h = (size_t)p->n_heads, n = (size_t)be->batch->n_rows * h * d;
    float *cos_all = malloc(2 * n * sizeof *cos_all), *sin_all = cos_all + n;
    struct mlx_shape shape = {2, {be->batch->n_rows * p->n_heads, p->head_dim}};
    if (!cos_all) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for RoPE");
        return;
    }
    for (size_t r = 0; r < (size_t)be->batch->n_rows; r++) {
        float *first_cos = cos_all + r * h * d, *first_sin = sin_all + r * h * d;
        fill_angles(p, be->batch->positions[r], first_cos, first_sin);
        for (size_t head = 1; head < h; head++) {
            memcpy(first_cos + head * d, first_cos, d * sizeof *cos_all);
            memcpy(first_sin + head * d, first_sin, d * sizeof *sin_all);
        }
    }
    t->cos = mlx_cast(be->m, mlx_copy(be->m, cos_all, shape, MLX_F32), mlx__activations(be));
    t->sin = mlx_cast(be->m, mlx_copy(be->m, sin_all, shape, MLX_F32), mlx__activations(be));
    free(cos_all);
}

static const struct rope_table *table_of(struct mlx_backend *be, const struct rope_params *p)
{
    for (int i = 0; i < be->n_tables; i++) {
        if (be->tables[i].inv_freq == p->inv_freq && be->tables[i].n_heads == p->n_heads)
            return &be->tables[i];
    }
    struct rope_table *t = &be->tables[be->n_tables < MLX_MAX_TABLES ? be->n_tables++ : 0];
    *t = (struct rope_table){.inv_freq = p->inv_freq, .n_heads = p->n_heads};
    fill_table(be, p, t);
    return t;
}

struct tensor *mlx__rope(struct backend *base, struct tensor *x, const struct rope_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    const struct rope_angles *known = x ? angles_of(be, p) : NULL;
    if (!known)
        return NULL;
    struct mlx_angles a = {.offsets = be->offsets, .wavelengths = known->wavelengths, .partner = known->partner};
    if (mlx_on_gpu(be->m)) {
        struct mlx_array *y = mlx_rope(be->m, shaped(be, x, p->n_heads, 1), p, &a);
        return heads_tensor(be, y, x, -1);
    }
    const struct rope_table *t = table_of(be, p);
    a.cos = t->cos;
    a.sin = t->sin;
    return heads_tensor(be, mlx_rotate(be->m, by_heads(be, x, p->head_dim), &a), x, p->head_dim);
}

/* ---- rows of one sequence ---- */

/* The sequences' rows of [n_rows, ...], each [1, h, n, d] of [n_rows, h, 1, d]. */
static bool cut_rows(struct mlx_backend *be, struct mlx_array *x, struct mlx_array **out)
{
    const struct batch *b = be->batch;
    if (b->n_seqs == b->n_rows && b->n_rows > 1)
        return mlx_split(be->m, x, b->n_rows, out);
    for (int i = 0; i < b->n_seqs; i++) {
        const struct batch_seq *seq = &b->seqs[i];
        out[i] = x;
        if (seq->n_rows != b->n_rows)
            out[i] = mlx_slice(be->m, x, 0, seq->first_row, seq->first_row + seq->n_rows);
        if (seq->n_rows > 1)
            out[i] = mlx_swap_axes(be->m, out[i], 0, 2);
    }
    return mlx_ok(be->m);
}

struct slab *mlx__slab_of(const struct mlx_backend *be, int seq, int group)
{
    return be->slabs[seq * be->n_groups + group];
}

bool mlx__write_rows(struct mlx_backend *be, int group, int layer, struct tensor *x, bool values)
{
    const struct mlx_kv_group *g = &be->groups[group];
    struct mlx_array *all = mlx_cast(be->m, shaped(be, x, g->spec.n_kv_heads, 1), g->type);
    if (!cut_rows(be, all, be->parts))
        return false;
    for (int i = 0; i < be->batch->n_seqs; i++) {
        struct slab *s = mlx__slab_of(be, i, group);
        int at = be->batch->seqs[i].start - s->first_block * MLX_PAGE_TOKENS;
        if (!mlx_update(be->m, values ? s->v[layer] : s->k[layer], be->parts[i], 2, at))
            return false;
    }
    return true;
}

void mlx__kv_write(struct backend *base, int group, int layer, struct tensor *k, struct tensor *v)
{
    struct mlx_backend *be = mlx__of(base);
    if (k && v && mlx__write_rows(be, group, layer, k, false))
        (void)mlx__write_rows(be, group, layer, v, true);
}

/* ---- attention ---- */

struct span {
    int first, end; /* positions of keys that the sequence's rows may see */
};

static struct span visible(const struct batch_seq *seq, const struct attention_params *p)
{
    int first = p->window ? seq->start - p->window + 1 : 0;
    if (p->window && p->chunked)
        first = seq->start / p->window * p->window;
    return (struct span){first > 0 ? first : 0, seq->start + seq->n_rows};
}

/* NULL where the keys are exactly those that the rows see, or the fused kernel's own causal mask does. */
static struct mlx_array *mask_of(struct mlx_backend *be, int i, int group, struct span span,
                                 const struct attention_params *p)
{
    const struct batch_seq *seq = &be->batch->seqs[i];
    struct mlx_array **mask = &be->masks[i * be->n_groups + group];
    /* some row does not see all of them: span.first is where the first row's stretch begins */
    bool outside = p->window && span.end - span.first > p->window;
    if (seq->n_rows == 1 || !p->causal || (!outside && p->softcap == 0))
        return NULL;
    int n_keys = span.end - span.first;
    if (!*mask && p->chunked && p->window)
        *mask = mlx_chunk_mask(be->m, seq->start, seq->n_rows, span.first, n_keys, p->window);
    else if (!*mask)
        *mask = mlx_window_mask(be->m, seq->start, seq->n_rows, span.first, n_keys, p->window);
    return *mask;
}

/* Keys or values of a sequence that its rows may see. */
static struct mlx_array *seen(struct mlx_backend *be, struct mlx_array *a, const struct slab *s, struct span span)
{
    int base = s->first_block * MLX_PAGE_TOKENS;
    return mlx_slice(be->m, a, 2, span.first - base, span.end - base);
}

/* q [1, h, n, d]; out [n, h, 1, d_v] */
static struct mlx_array *attend_rows(struct mlx_backend *be, int group, int layer, int i, struct mlx_array *q,
                                     const struct attention_params *p)
{
    const struct batch_seq *seq = &be->batch->seqs[i];
    const struct slab *s = mlx__slab_of(be, i, group);
    struct span span = visible(seq, p);
    struct mlx_attention a = {.q = q,
                              .k = seen(be, s->k[layer], s, span),
                              .v = seen(be, s->v[layer], s, span),
                              .mask = mask_of(be, i, group, span, p),
                              .scale = p->scale,
                              .softcap = p->softcap,
                              .sinks = mlx__vector(p->sinks)};
    a.causal = p->causal && seq->n_rows > 1 && !a.mask;
    struct mlx_array *out = mlx_attend(be->m, &a);
    return seq->n_rows == 1 ? out : mlx_swap_axes(be->m, out, 0, 2);
}

/* Every sequence has one row: q [n, kv, h / kv, d], scaled. */
static bool attend_ones(struct mlx_backend *be, int group, int layer, const struct attention_params *p)
{
    for (int i = 0; i < be->batch->n_seqs; i++) {
        const struct slab *s = mlx__slab_of(be, i, group);
        struct span span = visible(&be->batch->seqs[i], p);
        be->parts[i] =
            mlx_attend_one(be->m, be->parts[i], seen(be, s->k[layer], s, span), seen(be, s->v[layer], s, span));
    }
    return mlx_ok(be->m);
}

/* The fused op is one kernel of a GPU, and on a CPU a graph of its own: a smaller one does for single queries. */
static bool only_ones(const struct mlx_backend *be, const struct attention_params *p)
{
    return be->batch->n_seqs == be->batch->n_rows && p->softcap == 0 && !p->sinks && !mlx_on_gpu(be->m);
}

static bool attend_all(struct mlx_backend *be, int group, int layer, struct tensor *q, const struct attention_params *p)
{
    if (only_ones(be, p)) {
        struct mlx_array *scaled = shaped(be, q, p->n_kv_heads, p->n_heads / p->n_kv_heads);
        return cut_rows(be, mlx_scale(be->m, scaled, p->scale), be->parts) && attend_ones(be, group, layer, p);
    }
    if (!cut_rows(be, shaped(be, q, p->n_heads, 1), be->parts))
        return false;
    for (int i = 0; i < be->batch->n_seqs; i++)
        be->parts[i] = attend_rows(be, group, layer, i, be->parts[i], p);
    return mlx_ok(be->m);
}

/* Queries multiplied by what their positions want. */
static struct tensor *temper(struct mlx_backend *be, struct tensor *q, const struct attention_params *p)
{
    size_t n = (size_t)q->n_rows;
    float *factors = malloc(n * sizeof *factors);
    if (!factors) {
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the factors of queries");
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        float stretches = floorf((float)(be->batch->positions[i] + 1) / (float)p->temper_length);
        factors[i] = logf(1 + stretches) * p->temper_scale + 1;
    }
    struct mlx_array *by = mlx_copy(be->m, factors, (struct mlx_shape){2, {q->n_rows, 1}}, MLX_F32);
    free(factors);
    by = mlx_cast(be->m, by, mlx__activations(be));
    return mlx__tensor(be, mlx_multiply(be->m, mlx__flat(be, q), by), q->n_rows, q->n_cols);
}

struct tensor *mlx__attention(struct backend *base, int group, int layer, struct tensor *q,
                              const struct attention_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    int n = be->batch->n_seqs;
    if (p->sinks && p->softcap != 0)
        mlx_fail(be->m, ERR_UNSUPPORTED, "attention sinks beside a soft-cap are not supported");
    if (q && p->temper_scale != 0)
        q = temper(be, q, p);
    if (!q || !attend_all(be, group, layer, q, p))
        return NULL;
    struct mlx_array *all = n == 1 ? be->parts[0] : mlx_concat(be->m, be->parts, n, 0);
    all = mlx_cast(be->m, all, mlx__activations(be));
    all = mlx_reshape(be->m, all, (struct mlx_shape){2, {q->n_rows, p->n_heads * p->v_dim}});
    be->attended = all;
    return mlx__tensor(be, all, q->n_rows, p->n_heads * p->v_dim);
}
