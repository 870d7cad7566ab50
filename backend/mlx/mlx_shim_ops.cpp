/* Products with weights, ops by element and by row, attention. */
#include "backend/mlx/mlx_shim_internal.hpp"

#include <mlx/fast.h>

#include <cmath>
#include <limits>

/* ---- weights ---- */

/* x as w has its columns. */
static array input_of(const struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w)
{
    return w->columns ? mx::take(of(x), of(w->columns), -1, m->stream) : of(x);
}

struct mlx_array *mlx_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                             struct mlx_array *bias)
{
    if (!x)
        return nullptr;
    return node(m, [&] {
        array in = input_of(m, x, w);
        array y = w->scales ? mx::quantized_matmul(in, of(w->w), of(w->scales), maybe(w->biases), true, w->group_size,
                                                   w->bits, group_mode_name(w->mode), m->stream)
                            : mx::matmul(in, of(w->w), m->stream);
        return bias ? mx::add(y, of(bias), m->stream) : y;
    });
}

struct mlx_array *mlx_embed(struct mlx_context *m, const struct mlx_matrix *table, struct mlx_array *ids,
                            enum mlx_dtype type)
{
    if (!ids)
        return nullptr;
    return node(m, [&] {
        auto rows = [&](struct mlx_array *a) { return mx::take(of(a), of(ids), 0, m->stream); };
        if (!table->scales)
            return mx::astype(mx::take(mx::swapaxes(of(table->w), 0, 1, m->stream), of(ids), 0, m->stream),
                              dtype_of(type), m->stream);
        std::optional<array> biases;
        if (table->biases)
            biases = rows(table->biases);
        array found = mx::dequantize(rows(table->w), rows(table->scales), biases, table->group_size, table->bits,
                                     group_mode_name(table->mode), std::nullopt, dtype_of(type), m->stream);
        if (!table->columns)
            return found;
        return mx::take(found, mx::argsort(of(table->columns), m->stream), -1, m->stream);
    });
}

/* MLX's CPU gathers f32 only. */
static array gather_dense(const array &rows, const array &w, const array &experts, bool gpu, mx::Stream s)
{
    if (gpu || rows.dtype() == mx::float32)
        return mx::gather_mm(rows, w, std::nullopt, experts, false, s);
    array wide =
        mx::gather_mm(mx::astype(rows, mx::float32, s), mx::astype(w, mx::float32, s), std::nullopt, experts, false, s);
    return mx::astype(wide, rows.dtype(), s);
}

struct mlx_array *mlx_expert_linear(struct mlx_context *m, struct mlx_array *x, const struct mlx_matrix *w,
                                    struct mlx_array *experts)
{
    if (!x || !experts)
        return nullptr;
    return node(m, [&] {
        int b = of(experts).shape(0), e = of(experts).shape(1), k = of(x).shape(-1);
        /* a row for all its experts, or one for each */
        array rows = mx::reshape(input_of(m, x, w), Shape{b, of(x).ndim() == 2 ? 1 : e, 1, k}, m->stream);
        array y = w->scales
                      ? mx::gather_qmm(rows, of(w->w), of(w->scales), maybe(w->biases), std::nullopt, of(experts), true,
                                       w->group_size, w->bits, group_mode_name(w->mode), std::nullopt, false, m->stream)
                      : gather_dense(rows, of(w->w), of(experts), mlx_on_gpu(m), m->stream);
        return mx::reshape(y, Shape{b, e, y.shape(-1)}, m->stream);
    });
}

/* ---- ops ---- */

struct mlx_array *mlx_add(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::add(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_multiply(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::multiply(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_scale(struct mlx_context *m, struct mlx_array *a, float factor)
{
    return a ? node(m, [&] { return mx::multiply(of(a), scalar(factor, of(a)), m->stream); }) : nullptr;
}

static array softcap(const array &a, float cap, mx::Stream s)
{
    array c = scalar(cap, a);
    return mx::multiply(mx::tanh(mx::divide(a, c, s), s), c, s);
}

struct mlx_array *mlx_softcap(struct mlx_context *m, struct mlx_array *a, float cap)
{
    return a ? node(m, [&] { return softcap(of(a), cap, m->stream); }) : nullptr;
}

static array gelu(const array &a, mx::Stream s)
{
    array half = scalar(0.5f, a), one = scalar(1, a), root = scalar((float)M_SQRT1_2, a);
    return mx::multiply(mx::multiply(a, half, s), mx::add(one, mx::erf(mx::multiply(a, root, s), s), s), s);
}

static array gelu_tanh(const array &a, mx::Stream s)
{
    array half = scalar(0.5f, a), one = scalar(1, a), cubic = scalar(0.044715f, a), root = scalar(0.7978845608f, a);
    array cube = mx::multiply(mx::multiply(mx::square(a, s), a, s), cubic, s);
    array inner = mx::tanh(mx::multiply(mx::add(a, cube, s), root, s), s);
    return mx::multiply(mx::multiply(a, half, s), mx::add(one, inner, s), s);
}

static array activate(const array &a, enum activation act, mx::Stream s)
{
    switch (act) {
    case ACT_SILU:
        return mx::multiply(a, mx::sigmoid(a, s), s);
    case ACT_GELU:
        return gelu(a, s);
    case ACT_GELU_TANH:
        return gelu_tanh(a, s);
    case ACT_RELU:
        return mx::maximum(a, scalar(0, a), s);
    case ACT_RELU2:
        return mx::square(mx::maximum(a, scalar(0, a), s), s);
    case ACT_CLAMPED_SWIGLU:
        break; /* of two values: see clamped_swiglu */
    }
    throw std::runtime_error("an activation that is not known");
}

struct mlx_array *mlx_activate(struct mlx_context *m, struct mlx_array *a, enum activation act)
{
    return a ? node(m, [&] { return activate(of(a), act, m->stream); }) : nullptr;
}

static array clamped_swiglu(const array &gate, const array &up, mx::Stream s)
{
    array limit = scalar(SWIGLU_LIMIT, gate), alpha = scalar(SWIGLU_ALPHA, gate);
    array g = mx::minimum(gate, limit, s);
    array u = mx::clip(up, scalar(-SWIGLU_LIMIT, up), limit, s);
    array swish = mx::multiply(g, mx::sigmoid(mx::multiply(g, alpha, s), s), s);
    return mx::multiply(swish, mx::add(u, scalar(1, up), s), s);
}

struct mlx_array *mlx_gated(struct mlx_context *m, struct mlx_array *gate, struct mlx_array *up, enum activation act)
{
    if (!gate || !up)
        return nullptr;
    return node(m, [&] {
        if (act == ACT_CLAMPED_SWIGLU)
            return clamped_swiglu(of(gate), of(up), m->stream);
        return mx::multiply(activate(of(gate), act, m->stream), of(up), m->stream);
    });
}

struct mlx_array *mlx_sigmoid(struct mlx_context *m, struct mlx_array *a)
{
    return a ? node(m, [&] { return mx::sigmoid(of(a), m->stream); }) : nullptr;
}

/* ---- streams ---- */

struct mlx_array *mlx_subtract(struct mlx_context *m, struct mlx_array *a, struct mlx_array *b)
{
    return a && b ? node(m, [&] { return mx::subtract(of(a), of(b), m->stream); }) : nullptr;
}

struct mlx_array *mlx_thin_out(struct mlx_context *m, struct mlx_array *a, float sparsity)
{
    if (!a)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array x = mx::astype(of(a), mx::float32, s), mean = mx::mean(x, -1, true, s);
        array from_mean = mx::subtract(x, mean, s);
        array deviation = mx::sqrt(mx::mean(mx::square(from_mean, s), -1, true, s), s);
        array above = mx::subtract(from_mean, mx::multiply(deviation, scalar(sparsity, x), s), s);
        return mx::astype(mx::maximum(above, scalar(0, x), s), of(a).dtype(), s);
    });
}

struct mlx_array *mlx_match(struct mlx_context *m, struct mlx_array *x, struct mlx_array *y)
{
    if (!x || !y)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        auto mean_square = [&](const array &a) {
            return mx::mean(mx::square(mx::astype(a, mx::float32, s), s), -1, true, s);
        };
        array wanted = mx::expand_dims(mean_square(of(x)), 1, s), there = mean_square(of(y));
        array factor = mx::sqrt(mx::divide(wanted, mx::maximum(there, scalar(1e-5f, there), s), s), s);
        return mx::multiply(of(y), mx::astype(factor, of(y).dtype(), s), s);
    });
}

struct mlx_array *mlx_stream_coefs(struct mlx_context *m, struct mlx_array *coefs, struct mlx_array *routed,
                                   float scale)
{
    if (!coefs || !routed)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array r = mx::astype(of(routed), mx::float32, s);
        array modalities = mx::tanh(mx::multiply(r, scalar(scale, r), s), s);
        array by = mx::swapaxes(mx::astype(of(coefs), mx::float32, s), 0, 1, s);
        return mx::astype(mx::matmul(modalities, by, s), of(routed).dtype(), s);
    });
}

struct mlx_array *mlx_stream_predict(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs)
{
    if (!x || !coefs)
        return nullptr;
    return node(m, [&] {
        int n = of(x).shape(1);
        array by = mx::reshape(of(coefs), {of(x).shape(0), n, n}, m->stream);
        return mx::add(of(x), mx::matmul(by, of(x), m->stream), m->stream);
    });
}

struct mlx_array *mlx_stream_correct(struct mlx_context *m, struct mlx_array *x, struct mlx_array *coefs,
                                     struct mlx_array *news)
{
    if (!x || !coefs || !news)
        return nullptr;
    return node(m, [&] {
        mx::Stream s = m->stream;
        array factor = mx::expand_dims(mx::add(of(coefs), scalar(1, of(coefs)), s), 2, s);
        return mx::add(of(x), mx::multiply(factor, mx::expand_dims(of(news), 1, s), s), s);
    });
}

/* ---- norms, positions, attention ---- */

/* What fast::rms_norm is on a CPU, with fewer nodes. */
static array rms_norm(const array &a, const array &weight, float eps, mx::Stream s)
{
    array sums = mx::sum(mx::square(a, s), -1, true, s);
    float n = (float)a.shape(-1); /* x / sqrt(sum / n + eps) = x sqrt(n) / sqrt(sum + n eps) */
    array factor = mx::rsqrt(mx::add(sums, scalar(n * eps, a), s), s);
    return mx::multiply(mx::multiply(a, mx::multiply(factor, scalar(std::sqrt(n), a), s), s), weight, s);
}

struct mlx_array *mlx_norm(struct mlx_context *m, struct mlx_array *a, struct mlx_array *weight, struct mlx_array *bias,
                           const struct norm_params *p)
{
    if (!a)
        return nullptr;
    return node(m, [&] {
        if (p->kind == NORM_LAYER)
            return mx::fast::layer_norm(of(a), maybe(weight), maybe(bias), p->eps, m->stream);
        bool small = weight && !mlx_on_gpu(m) && of(a).dtype() == mx::float32;
        return small ? rms_norm(of(a), of(weight), p->eps, m->stream)
                     : mx::fast::rms_norm(of(a), maybe(weight), p->eps, m->stream);
    });
}

struct mlx_array *mlx_rope(struct mlx_context *m, struct mlx_array *x, const struct rope_params *p,
                           const struct mlx_angles *a)
{
    if (!x || !a->wavelengths || !a->offsets)
        return nullptr;
    return node(m, [&] {
        array y = mx::fast::rope(of(x), p->rot_dim, p->kind == ROPE_NORM, std::nullopt, 1, of(a->offsets),
                                 of(a->wavelengths), m->stream);
        if (p->attn_factor == 1)
            return y;
        if (p->rot_dim == p->head_dim)
            return mx::multiply(y, scalar(p->attn_factor, y), m->stream);
        auto parts = mx::split(y, Shape{p->rot_dim}, -1, m->stream);
        return mx::concatenate({mx::multiply(parts[0], scalar(p->attn_factor, y), m->stream), parts[1]}, -1, m->stream);
    });
}

struct mlx_array *mlx_rotate(struct mlx_context *m, struct mlx_array *x, const struct mlx_angles *a)
{
    if (!x || !a->cos || !a->sin || !a->partner)
        return nullptr;
    return node(m, [&] {
        array partners = mx::matmul(of(x), of(a->partner), m->stream);
        return mx::add(mx::multiply(of(x), of(a->cos), m->stream), mx::multiply(partners, of(a->sin), m->stream),
                       m->stream);
    });
}

/* What the fused kernel has no parameter for; no sinks. */
static array attend_capped(const struct mlx_attention *a, mx::Stream s)
{
    const array &q = of(a->q), &k = of(a->k), &v = of(a->v);
    int kv = k.shape(1), t = q.shape(2), h = q.shape(1);
    array grouped = mx::reshape(q, Shape{1, kv, h / kv, t, q.shape(3)}, s);
    array keys = mx::expand_dims(mx::swapaxes(k, 2, 3, s), 2, s);
    array scores = mx::matmul(mx::multiply(grouped, scalar(a->scale, q), s), keys, s);
    scores = softcap(scores, a->softcap, s);
    if (a->mask)
        scores = mx::where(of(a->mask), scores, scalar(-std::numeric_limits<float>::infinity(), scores), s);
    array out = mx::matmul(mx::softmax(scores, std::vector<int>{-1}, true, s), mx::expand_dims(v, 2, s), s);
    return mx::reshape(out, Shape{1, h, t, v.shape(3)}, s);
}

struct mlx_array *mlx_attend(struct mlx_context *m, const struct mlx_attention *a)
{
    if (!a->q || !a->k || !a->v)
        return nullptr;
    return node(m, [&] {
        if (a->softcap != 0)
            return attend_capped(a, m->stream);
        return mx::fast::scaled_dot_product_attention(of(a->q), of(a->k), of(a->v), a->scale, a->causal ? "causal" : "",
                                                      maybe(a->mask), maybe(a->sinks), false, m->stream);
    });
}

struct mlx_array *mlx_window_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int window)
{
    return node(m, [&] {
        array query = mx::reshape(mx::arange(start, start + n, m->stream), Shape{n, 1}, m->stream);
        array key = mx::reshape(mx::arange(first, first + n_keys, m->stream), Shape{1, n_keys}, m->stream);
        array seen = mx::less_equal(key, query, m->stream);
        if (window == 0)
            return seen;
        array near = mx::greater(key, mx::subtract(query, array(window), m->stream), m->stream);
        return mx::logical_and(seen, near, m->stream);
    });
}

struct mlx_array *mlx_chunk_mask(struct mlx_context *m, int start, int n, int first, int n_keys, int chunk)
{
    return node(m, [&] {
        array query = mx::reshape(mx::arange(start, start + n, m->stream), Shape{n, 1}, m->stream);
        array key = mx::reshape(mx::arange(first, first + n_keys, m->stream), Shape{1, n_keys}, m->stream);
        array stretch = mx::multiply(mx::floor_divide(query, array(chunk), m->stream), array(chunk), m->stream);
        return mx::logical_and(mx::less_equal(key, query, m->stream), mx::greater_equal(key, stretch, m->stream),
                               m->stream);
    });
}

struct mlx_array *mlx_attend_one(struct mlx_context *m, struct mlx_array *q, struct mlx_array *k, struct mlx_array *v)
{
    if (!q || !k || !v)
        return nullptr;
    return node(m, [&] {
        array scores = mx::matmul(of(q), mx::swapaxes(of(k), 2, 3, m->stream), m->stream);
        return mx::matmul(mx::softmax(scores, std::vector<int>{-1}, true, m->stream), of(v), m->stream);
    });
}
