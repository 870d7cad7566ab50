/* What is chosen among many: experts of a mixture, tokens. */
#include "backend/mlx/mlx_shim_internal.hpp"

#include <limits>

/* ---- experts ---- */

/* Stable, so that the lower number comes first among equals. */
static array descending(const array &a, mx::Stream s)
{
    return mx::argsort(mx::negative(a, s), -1, s);
}

static array first_columns(const array &a, int n, mx::Stream s)
{
    Shape start(a.ndim(), 0), stop = a.shape();
    stop.back() = n;
    return mx::slice(a, std::move(start), std::move(stop), s);
}

static array score(const array &logits, enum moe_score kind, mx::Stream s)
{
    switch (kind) {
    case MOE_SOFTMAX:
        return mx::softmax(logits, std::vector<int>{-1}, true, s);
    case MOE_SIGMOID:
        return mx::sigmoid(logits, s);
    case MOE_SOFTMAX_CHOSEN:
        return logits;
    }
    throw std::runtime_error("a score that is not known");
}

/* choice with -inf for experts of groups that are left out. A group stays when fewer than n_groups_used come before it.
 */
static array leave_groups(const array &choice, const struct moe_params *p, mx::Stream s)
{
    int b = choice.shape(0), size = p->n_experts / p->n_groups;
    array by_group = mx::reshape(choice, Shape{b, p->n_groups, size}, s);
    array best = first_columns(mx::negative(mx::sort(mx::negative(by_group, s), -1, s), s), p->group_top, s);
    array places = mx::argsort(descending(mx::sum(best, -1, false, s), s), -1, s);
    array stays = mx::expand_dims(mx::less(places, array(p->n_groups_used, mx::uint32), s), -1, s);
    array none(-std::numeric_limits<float>::infinity());
    return mx::reshape(mx::where(stays, by_group, none, s), Shape{b, p->n_experts}, s);
}

/* A score grows with the logit: where it alone decides, the logits do, of which fewer are equal. */
static array choice_of(const array &logits, const array &scores, struct mlx_array *bias, const struct moe_params *p,
                       mx::Stream s)
{
    bool by_logit = !bias && (p->n_groups <= 1 || p->group_top == 1);
    array choice = by_logit ? logits : scores;
    if (bias)
        choice = mx::add(choice, mx::astype(of(bias), mx::float32, s), s);
    return p->n_groups > 1 ? leave_groups(choice, p, s) : choice;
}

static array weights_of(const array &taken, const struct moe_params *p, mx::Stream s)
{
    array w = taken;
    if (p->score == MOE_SOFTMAX_CHOSEN)
        w = mx::softmax(w, std::vector<int>{-1}, true, s);
    else if (p->norm_weights)
        w = mx::divide(w, mx::add(mx::sum(w, -1, true, s), scalar(1e-20f, w), s), s);
    return p->scale == 1 ? w : mx::multiply(w, scalar(p->scale, w), s);
}

struct mlx_routes mlx_route(struct mlx_context *m, struct mlx_array *logits, struct mlx_array *choice_bias,
                            const struct moe_params *p)
{
    struct mlx_routes r = {nullptr, nullptr};
    if (!logits)
        return r;
    guard(m, [&] {
        array l = mx::astype(of(logits), mx::float32, m->stream);
        array scores = score(l, p->score, m->stream);
        array order = descending(choice_of(l, scores, choice_bias, p, m->stream), m->stream);
        array experts = first_columns(order, p->n_used, m->stream);
        array w = weights_of(mx::take_along_axis(scores, experts, -1, m->stream), p, m->stream);
        r.experts = handle(&m->pool.emplace_back(std::move(experts)));
        r.weights = handle(&m->pool.emplace_back(std::move(w)));
    });
    return r;
}

static array column_of(struct mlx_array *weights, const array &like, mx::Stream s)
{
    return mx::expand_dims(mx::astype(of(weights), like.dtype(), s), -1, s);
}

struct mlx_array *mlx_weigh(struct mlx_context *m, struct mlx_array *x, struct mlx_array *weights)
{
    if (!x || !weights)
        return nullptr;
    return node(m, [&] {
        return mx::multiply(mx::expand_dims(of(x), 1, m->stream), column_of(weights, of(x), m->stream), m->stream);
    });
}

struct mlx_array *mlx_mix(struct mlx_context *m, struct mlx_array *y, struct mlx_array *weights)
{
    if (!y)
        return nullptr;
    return node(m, [&] {
        array terms = weights ? mx::multiply(of(y), column_of(weights, of(y), m->stream), m->stream) : of(y);
        return mx::sum(terms, -2, false, m->stream);
    });
}

/* ---- sampling ---- */

struct mlx_array *mlx_argmax(struct mlx_context *m, struct mlx_array *logits)
{
    if (!logits)
        return nullptr;
    return node(m, [&] { return mx::astype(mx::argmax(of(logits), -1, false, m->stream), mx::int32, m->stream); });
}

/* Every filter keeps a prefix of the descending order: top-k by place, top-p by the sum before it, min-p by the share
 * of the first. */
static array draw(const array &logits, const struct mlx_sampling *p, mx::Stream s)
{
    auto column = [&](struct mlx_array *a) { return mx::expand_dims(of(a), -1, s); };
    int n = logits.shape(-1);
    array order = descending(logits, s);
    array sorted = mx::divide(mx::take_along_axis(logits, order, -1, s), column(p->temperature), s);
    array in_k = mx::less(mx::reshape(mx::arange(0, n, s), Shape{1, n}, s), column(p->top_k), s);
    sorted = mx::where(in_k, sorted, array(-std::numeric_limits<float>::infinity()), s);
    array share = mx::softmax(sorted, std::vector<int>{-1}, true, s);
    array before = mx::cumsum(share, -1, false, false, s);
    array first = mx::slice(share, Shape{0, 0}, Shape{share.shape(0), 1}, s);
    array kept = mx::logical_and(in_k, mx::less(before, column(p->top_p), s), s);
    kept = mx::logical_and(kept, mx::greater_equal(share, mx::multiply(first, column(p->min_p), s), s), s);
    share = mx::where(kept, share, array(0.0f), s);
    array sums = mx::cumsum(share, -1, false, true, s);
    array total = mx::slice(sums, Shape{0, n - 1}, Shape{sums.shape(0), n}, s);
    array passed = mx::less_equal(sums, mx::multiply(column(p->uniform), total, s), s);
    array at = mx::sum(mx::astype(passed, mx::int32, s), -1, true, s);
    array last = mx::subtract(mx::sum(mx::astype(kept, mx::int32, s), -1, true, s), array(1), s);
    at = mx::maximum(mx::minimum(at, last, s), array(0), s);
    return mx::squeeze(mx::astype(mx::take_along_axis(order, at, -1, s), mx::int32, s), -1, s);
}

struct mlx_array *mlx_sample(struct mlx_context *m, struct mlx_array *logits, const struct mlx_sampling *p)
{
    return logits ? node(m, [&] { return draw(of(logits), p, m->stream); }) : nullptr;
}

struct mlx_array *mlx_logsumexp(struct mlx_context *m, struct mlx_array *logits)
{
    return logits ? node(m, [&] { return mx::logsumexp(of(logits), -1, false, m->stream); }) : nullptr;
}
