/* The gated delta rule over consecutive positions of one sequence, in chunks (Yang et al., "Gated Delta Networks",
 * 2024, section 3.3): what lies within chunks is worked out for all of them at once, then the state goes from chunk to
 * chunk. Legend: h value head, c chunks, t position of a chunk, K and V dims.
 *
 *     g        sum of the logarithms of decay in the chunk up to t
 *     A        below the diagonal: beta_t exp(g_t - g_s) k_t.k_s
 *     X        (1 + A)^-1, from blocks twice as large each time: exact, as forward substitution is, and for any device
 *     U, W     X beta v, X beta exp(g) k:  what a chunk adds to S if S is 0 before it, and what it takes off for S
 *     out      exp(g) q S + (lower triangle of exp(g_t - g_s) q_t.k_s) (U - W S)
 *     S        exp(g_last) S + (exp(g_last - g) k)^T (U - W S) */
#include "backend/mlx/mlx_shim_internal.hpp"

#include <vector>

#define CHUNK  64
#define LEVELS 6 /* of blocks: 2^LEVELS is CHUNK */

/* ---- masks ---- */

/* For each level, f32 [CHUNK, CHUNK]: 1 where a row of a block's second half meets a column of its first. The last is 1
 * on and below the diagonal. Those of smaller chunks are their corners. */
static std::vector<array> make_masks()
{
    std::vector<array> masks;
    for (int level = 0; level <= LEVELS; level++) {
        std::vector<float> values(CHUNK * CHUNK);
        for (int t = 0; t < CHUNK; t++) {
            for (int s = 0; s < CHUNK; s++) {
                bool met = t >> (level + 1) == s >> (level + 1) && (t >> level & 1) == 1 && (s >> level & 1) == 0;
                values[t * CHUNK + s] = level == LEVELS ? t >= s : met;
            }
        }
        masks.push_back(array(values.data(), Shape{CHUNK, CHUNK}, mx::float32));
    }
    return masks;
}

static array mask_of(struct mlx_context *m, int level, int size)
{
    if (m->delta_masks.empty())
        m->delta_masks = make_masks();
    return mx::slice(m->delta_masks[level], Shape{0, 0}, Shape{size, size}, m->stream);
}

/* ---- shapes ---- */

struct delta_shape {
    int n_heads, per_key, k_dim, v_dim;
    int n, chunk, n_chunks;
};

/* [n, heads * d] as [h, n, d], key heads repeated. */
static array by_heads(const array &x, int n_heads, int repeat, mx::Stream s)
{
    int n = x.shape(0), d = x.shape(1) / n_heads;
    array heads = mx::reshape(x, Shape{n, n_heads, d}, s);
    if (repeat > 1)
        heads = mx::repeat(heads, repeat, 1, s);
    if (n == 1)
        return mx::reshape(heads, Shape{n_heads * repeat, 1, d}, s);
    return mx::transpose(heads, {1, 0, 2}, s);
}

/* [h, n, d] as [h, c, t, d]; zeros behind, which change no state. */
static array in_chunks(const array &x, const struct delta_shape &d, mx::Stream s)
{
    int missing = d.n_chunks * d.chunk - d.n;
    array whole = missing > 0 ? mx::pad(x, {{0, 0}, {0, missing}, {0, 0}}, array(0.0f), "constant", s) : x;
    return mx::reshape(whole, Shape{d.n_heads, d.n_chunks, d.chunk, x.shape(2)}, s);
}

static array turned(const array &x, mx::Stream s)
{
    return mx::swapaxes(x, -1, -2, s);
}

/* Chunk i of [h, c, a, b]: [h, a, b]. */
static array chunk_of(const array &x, int i, mx::Stream s)
{
    array one = mx::slice(x, Shape{0, i, 0, 0}, Shape{x.shape(0), i + 1, x.shape(2), x.shape(3)}, s);
    return mx::squeeze(one, 1, s);
}

/* ---- one position ---- */

static array delta_one(const struct mlx_delta *in, const struct delta_shape &d, array *state, mx::Stream s)
{
    array q = by_heads(of(in->q), d.n_heads / d.per_key, d.per_key, s); /* [h, 1, K] */
    array k = by_heads(of(in->k), d.n_heads / d.per_key, d.per_key, s);
    array v = by_heads(of(in->v), d.n_heads, 1, s), beta = by_heads(of(in->beta), d.n_heads, 1, s);
    array kept = mx::multiply(*state, mx::exp(by_heads(of(in->decay), d.n_heads, 1, s), s), s);
    array by = mx::multiply(mx::subtract(v, mx::matmul(k, kept, s), s), beta, s);
    *state = mx::add(kept, mx::multiply(turned(k, s), by, s), s);
    return mx::reshape(mx::matmul(q, *state, s), Shape{1, d.n_heads * d.v_dim}, s);
}

/* ---- chunks ---- */

/* (1 + a)^-1, a below the diagonal only where a mask has it. */
static array inverse(struct mlx_context *m, const array &a, int chunk)
{
    mx::Stream s = m->stream;
    array x = mx::eye(chunk, chunk, 0, mx::float32, s);
    for (int level = 0; 1 << level < chunk; level++) {
        array across = mx::multiply(a, mask_of(m, level, chunk), s);
        array below = level == 0 ? across : mx::matmul(mx::matmul(x, across, s), x, s);
        x = mx::subtract(x, below, s);
    }
    return x;
}

static array delta_chunks(struct mlx_context *m, const struct mlx_delta *in, const struct delta_shape &d, array *state)
{
    mx::Stream s = m->stream;
    int n_keys = d.n_heads / d.per_key;
    array q = in_chunks(by_heads(of(in->q), n_keys, d.per_key, s), d, s);
    array k = in_chunks(by_heads(of(in->k), n_keys, d.per_key, s), d, s);
    array v = in_chunks(by_heads(of(in->v), d.n_heads, 1, s), d, s);
    array beta = in_chunks(by_heads(of(in->beta), d.n_heads, 1, s), d, s);
    array g = mx::cumsum(in_chunks(by_heads(of(in->decay), d.n_heads, 1, s), d, s), 2, false, true, s);
    array apart = mx::exp(mx::minimum(mx::subtract(g, turned(g, s), s), array(0.0f), s), s);
    array k_beta = mx::multiply(k, beta, s), k_turned = turned(k, s), grown = mx::exp(g, s);
    array x = inverse(m, mx::multiply(mx::matmul(k_beta, k_turned, s), apart, s), d.chunk);
    array u = mx::matmul(x, mx::multiply(v, beta, s), s);
    array w = mx::matmul(x, mx::multiply(k_beta, grown, s), s);
    array within = mx::multiply(mx::multiply(mx::matmul(q, k_turned, s), apart, s), mask_of(m, LEVELS, d.chunk), s);
    array last = mx::slice(g, Shape{0, 0, d.chunk - 1, 0}, Shape{d.n_heads, d.n_chunks, d.chunk, 1}, s);
    array q_grown = mx::multiply(q, grown, s), end = mx::exp(last, s);
    array k_left = turned(mx::multiply(k, mx::exp(mx::subtract(last, g, s), s), s), s);
    std::vector<array> outs;
    for (int i = 0; i < d.n_chunks; i++) {
        array news = mx::subtract(chunk_of(u, i, s), mx::matmul(chunk_of(w, i, s), *state, s), s);
        outs.push_back(
            mx::add(mx::matmul(chunk_of(q_grown, i, s), *state, s), mx::matmul(chunk_of(within, i, s), news, s), s));
        *state = mx::add(mx::multiply(*state, chunk_of(end, i, s), s), mx::matmul(chunk_of(k_left, i, s), news, s), s);
    }
    array out = outs.size() == 1 ? outs[0] : mx::concatenate(outs, 1, s); /* [h, c t, V] */
    out = mx::slice(out, Shape{0, 0, 0}, Shape{d.n_heads, d.n, d.v_dim}, s);
    return mx::reshape(mx::transpose(out, {1, 0, 2}, s), Shape{d.n, d.n_heads * d.v_dim}, s);
}

struct mlx_array *mlx_delta(struct mlx_context *m, const struct mlx_delta *in, const struct delta_params *p,
                            struct mlx_array **state)
{
    if (!in->q || !in->k || !in->v || !in->decay || !in->beta || !in->state)
        return nullptr;
    struct delta_shape d = {p->n_v_heads, p->n_v_heads / p->n_k_heads, p->k_dim, p->v_dim, of(in->q).shape(0), 1, 1};
    while (d.chunk < d.n && d.chunk < CHUNK)
        d.chunk *= 2;
    d.n_chunks = (d.n + d.chunk - 1) / d.chunk;
    struct mlx_array *after = nullptr;
    struct mlx_array *out = node(m, [&] {
        array s = of(in->state);
        array y = d.n == 1 ? delta_one(in, d, &s, m->stream) : delta_chunks(m, in, d, &s);
        after = handle(&m->pool.emplace_back(s));
        return y;
    });
    *state = after;
    return out;
}

struct mlx_array *mlx_softplus(struct mlx_context *m, struct mlx_array *a)
{
    return a ? node(m, [&] { return mx::logaddexp(of(a), scalar(0, of(a)), m->stream); }) : nullptr;
}
