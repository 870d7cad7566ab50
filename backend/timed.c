#include "backend/timed.h"

#include "base/clock.h"

#include <stdlib.h>

struct timed_backend {
    struct backend base;
    struct backend_ops ops; /* the inner one's, those below in their place */
    struct backend *inner;
    struct op_times *times;
};

const char *timed_op_name(enum timed_op op)
{
    static const char *const names[TIMED_OP_COUNT] = {
#define X(op) #op,
        TIMED_OP_TABLE(X)
#undef X
    };
    return names[op];
}

static struct timed_backend *timed_of(const struct backend *be)
{
    return (struct timed_backend *)be; /* base is the first member */
}

static struct backend *inner_of(const struct backend *be)
{
    return timed_of(be)->inner;
}

static int64_t begin(const struct backend *be)
{
    return timed_of(be)->times->on ? clock_ns() : 0;
}

static void end(const struct backend *be, enum timed_op op, int64_t begun_ns)
{
    struct op_times *times = timed_of(be)->times;
    if (times->on) {
        times->ns[op] += (uint64_t)(clock_ns() - begun_ns);
        times->calls[op]++;
    }
}

/* ---- ops that are timed ---- */

#define TIMED(op, result, call)        \
    int64_t begun_ns = begin(be);      \
    result inner_of(be)->ops->op call; \
    end(be, TIMED_##op, begun_ns)

#define TIMED_TENSOR(op, call)             \
    TIMED(op, struct tensor *out =, call); \
    return out

static struct tensor *embed(struct backend *be, struct weight *table, float scale)
{
    TIMED_TENSOR(embed, (inner_of(be), table, scale));
}

static struct tensor *embed_add(struct backend *be, struct weight *table, float by, struct tensor *x, float factor)
{
    TIMED_TENSOR(embed_add, (inner_of(be), table, by, x, factor));
}

static struct tensor *rows(struct backend *be, struct tensor *x)
{
    TIMED_TENSOR(rows, (inner_of(be), x));
}

static void linear(struct backend *be, struct tensor *x, int n, struct weight *const *weights,
                   struct weight *const *biases, struct tensor **outs)
{
    TIMED(linear, , (inner_of(be), x, n, weights, biases, outs));
}

static struct tensor *norm(struct backend *be, struct tensor *x, struct weight *weight, struct weight *bias,
                           const struct norm_params *p)
{
    TIMED_TENSOR(norm, (inner_of(be), x, weight, bias, p));
}

static struct tensor *add(struct backend *be, struct tensor *a, struct tensor *b)
{
    TIMED_TENSOR(add, (inner_of(be), a, b));
}

static struct tensor *scale(struct backend *be, struct tensor *x, float factor)
{
    TIMED_TENSOR(scale, (inner_of(be), x, factor));
}

static struct tensor *softcap(struct backend *be, struct tensor *x, float cap)
{
    TIMED_TENSOR(softcap, (inner_of(be), x, cap));
}

static struct tensor *rope(struct backend *be, struct tensor *x, const struct rope_params *p)
{
    TIMED_TENSOR(rope, (inner_of(be), x, p));
}

static struct tensor *gate(struct backend *be, struct tensor *x, struct tensor *by)
{
    TIMED_TENSOR(gate, (inner_of(be), x, by));
}

static struct tensor *cut(struct backend *be, struct tensor *x, int n_heads, int first, int n)
{
    TIMED_TENSOR(cut, (inner_of(be), x, n_heads, first, n));
}

static struct tensor *join(struct backend *be, struct tensor *a, struct tensor *b, int n_heads)
{
    TIMED_TENSOR(join, (inner_of(be), a, b, n_heads));
}

static struct tensor *linear_heads(struct backend *be, struct tensor *x, struct weight *w, int n_heads)
{
    TIMED_TENSOR(linear_heads, (inner_of(be), x, w, n_heads));
}

static struct tensor *multiply(struct backend *be, struct tensor *x, struct weight *vector)
{
    TIMED_TENSOR(multiply, (inner_of(be), x, vector));
}

static struct tensor *add_each(struct backend *be, struct tensor *x, int n_heads, int first, struct tensor *y)
{
    TIMED_TENSOR(add_each, (inner_of(be), x, n_heads, first, y));
}

static struct tensor *activate_mul(struct backend *be, struct tensor *by, struct tensor *up, enum activation act,
                                   const float *sparsity)
{
    TIMED_TENSOR(activate_mul, (inner_of(be), by, up, act, sparsity));
}

static struct tensor *match(struct backend *be, struct tensor *x, struct tensor *y)
{
    TIMED_TENSOR(match, (inner_of(be), x, y));
}

static struct tensor *stream_predict(struct backend *be, struct tensor *x, struct tensor *routed, struct weight *coefs,
                                     const struct stream_params *p)
{
    TIMED_TENSOR(stream_predict, (inner_of(be), x, routed, coefs, p));
}

static struct tensor *stream_correct(struct backend *be, struct tensor *x, struct tensor *y, struct tensor *routed,
                                     struct weight *coefs, const struct stream_params *p)
{
    TIMED_TENSOR(stream_correct, (inner_of(be), x, y, routed, coefs, p));
}

static void kv_write(struct backend *be, int group, int layer, struct tensor *k, struct tensor *v)
{
    TIMED(kv_write, , (inner_of(be), group, layer, k, v));
}

static struct tensor *attention(struct backend *be, int group, int layer, struct tensor *q,
                                const struct attention_params *p)
{
    TIMED_TENSOR(attention, (inner_of(be), group, layer, q, p));
}

static struct tensor *short_conv(struct backend *be, int group, int layer, struct tensor *x, struct weight *taps)
{
    TIMED_TENSOR(short_conv, (inner_of(be), group, layer, x, taps));
}

static struct tensor *delta_net(struct backend *be, int group, int layer, const struct delta_input *x,
                                const struct delta_weights *w, const struct delta_params *p)
{
    TIMED_TENSOR(delta_net, (inner_of(be), group, layer, x, w, p));
}

static struct tensor *mlp_gated(struct backend *be, struct tensor *x, struct weight *gate, struct weight *up,
                                struct weight *down, enum activation act)
{
    TIMED_TENSOR(mlp_gated, (inner_of(be), x, gate, up, down, act));
}

static struct tensor *mlp(struct backend *be, struct tensor *x, struct weight *up, struct weight *up_bias,
                          struct weight *down, struct weight *down_bias, enum activation act)
{
    TIMED_TENSOR(mlp, (inner_of(be), x, up, up_bias, down, down_bias, act));
}

static struct tensor *moe(struct backend *be, struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    TIMED_TENSOR(moe, (inner_of(be), x, w, p));
}

static struct tensor *sample(struct backend *be, struct tensor *logits, const struct sample_row *rows_, int n)
{
    TIMED_TENSOR(sample, (inner_of(be), logits, rows_, n));
}

/* ---- the rest ---- */

static const char *describe(const struct backend *be)
{
    return inner_of(be)->ops->describe(inner_of(be));
}

static void free_backend(struct backend *be)
{
    if (be)
        inner_of(be)->ops->free(inner_of(be));
    free(be);
}

static struct weight *weight_create(struct backend *be, const struct tensor_view *const *views, int n_views,
                                    struct error *err)
{
    return inner_of(be)->ops->weight_create(inner_of(be), views, n_views, err);
}

static bool weight_adapt(struct backend *be, struct weight *w, int adapter, const struct adapter_part *part,
                         struct error *err)
{
    return inner_of(be)->ops->weight_adapt(inner_of(be), w, adapter, part, err);
}

static void weight_free(struct backend *be, struct weight *w)
{
    inner_of(be)->ops->weight_free(inner_of(be), w);
}

static struct weight *table_create(struct backend *be, const struct tensor_view *view, struct error *err)
{
    return inner_of(be)->ops->table_create(inner_of(be), view, err);
}

static int kv_page_tokens(const struct backend *be)
{
    return inner_of(be)->ops->kv_page_tokens(inner_of(be));
}

static size_t kv_page_size(const struct backend *be, const struct kv_group_spec *spec)
{
    return inner_of(be)->ops->kv_page_size(inner_of(be), spec);
}

static bool kv_bind(struct backend *be, const struct kv_group_spec *groups, int n_groups, uint8_t *pool,
                    size_t pool_size, struct error *err)
{
    return inner_of(be)->ops->kv_bind(inner_of(be), groups, n_groups, pool, pool_size, err);
}

static void kv_copy_page(struct backend *be, int group, uint32_t src, uint32_t dst, int n_tokens)
{
    inner_of(be)->ops->kv_copy_page(inner_of(be), group, src, dst, n_tokens);
}

static void *kv_page(struct backend *be, int group, uint32_t page)
{
    return inner_of(be)->ops->kv_page(inner_of(be), group, page);
}

static uint64_t kv_sum(struct backend *be, int group, uint32_t page, int from, int to, uint64_t seed, bool written)
{
    return inner_of(be)->ops->kv_sum(inner_of(be), group, page, from, to, seed, written);
}

static bool kv_keep_sums(struct backend *be, struct error *err)
{
    return inner_of(be)->ops->kv_keep_sums(inner_of(be), err);
}

static void kv_free_page(struct backend *be, int group, uint32_t page)
{
    inner_of(be)->ops->kv_free_page(inner_of(be), group, page);
}

static bool step_begin(struct backend *be, const struct batch *batch, struct error *err)
{
    return inner_of(be)->ops->step_begin(inner_of(be), batch, err);
}

static bool step_end(struct backend *be, struct error *err)
{
    return inner_of(be)->ops->step_end(inner_of(be), err);
}

static void keep(struct backend *be, struct tensor *x)
{
    inner_of(be)->ops->keep(inner_of(be), x);
}

static bool read_f32(struct backend *be, struct tensor *t, float *dst, size_t n, struct error *err)
{
    return inner_of(be)->ops->read_f32(inner_of(be), t, dst, n, err);
}

static bool read_samples(struct backend *be, struct tensor *ids, struct sample_result *results, struct error *err)
{
    return inner_of(be)->ops->read_samples(inner_of(be), ids, results, err);
}

static uint64_t eval_ns(const struct backend *be)
{
    return inner_of(be)->ops->eval_ns(inner_of(be));
}

static size_t scratch_size(const struct backend *be)
{
    return inner_of(be)->ops->scratch_size(inner_of(be));
}

/* name, the two flags, 48 functions: a new op needs its place below, and among the timed ones. */
_Static_assert(sizeof(struct backend_ops) == 51 * sizeof(void *), "every op is forwarded");

/* What the inner backend lacks, this one lacks too. */
static struct backend_ops ops_over(const struct backend_ops *inner)
{
    return (struct backend_ops){
        .name = inner->name,
        .lazy = inner->lazy,
        .kv_private = inner->kv_private,
        .describe = describe,
        .free = free_backend,
        .weight_create = weight_create,
        .weight_free = weight_free,
        .weight_info = inner->weight_info,
        .table_create = table_create,
        .weight_adapt = weight_adapt,
        .kv_page_tokens = kv_page_tokens,
        .kv_page_size = kv_page_size,
        .kv_bind = kv_bind,
        .kv_copy_page = kv_copy_page,
        .kv_page = inner->kv_page ? kv_page : NULL,
        .kv_sum = inner->kv_sum ? kv_sum : NULL,
        .kv_keep_sums = inner->kv_keep_sums ? kv_keep_sums : NULL,
        .kv_free_page = inner->kv_free_page ? kv_free_page : NULL,
        .step_begin = step_begin,
        .step_end = step_end,
        .keep = keep,
        .embed = embed,
        .embed_add = embed_add,
        .rows = rows,
        .linear = linear,
        .norm = norm,
        .add = add,
        .scale = scale,
        .softcap = softcap,
        .rope = rope,
        .gate = gate,
        .cut = cut,
        .join = join,
        .linear_heads = linear_heads,
        .multiply = multiply,
        .add_each = add_each,
        .activate_mul = activate_mul,
        .match = match,
        .stream_predict = stream_predict,
        .stream_correct = stream_correct,
        .kv_write = kv_write,
        .attention = attention,
        .short_conv = short_conv,
        .delta_net = inner->delta_net ? delta_net : NULL,
        .mlp_gated = mlp_gated,
        .mlp = mlp,
        .moe = inner->moe ? moe : NULL,
        .sample = sample,
        .read_f32 = read_f32,
        .read_samples = read_samples,
        .eval_ns = inner->eval_ns ? eval_ns : NULL,
        .scratch_size = inner->scratch_size ? scratch_size : NULL,
    };
}

struct backend *timed_backend_create(struct backend *inner, struct op_times *times, struct error *err)
{
    struct timed_backend *be = inner->ops->lazy ? NULL : calloc(1, sizeof(*be));
    if (!be) {
        if (inner->ops->lazy)
            error_set(err, ERR_UNSUPPORTED, "The ops of the %s backend cannot be timed: it computes them together.",
                      inner->ops->name);
        else
            error_set(err, ERR_NO_MEMORY, "There is no memory to time a backend's ops.");
        inner->ops->free(inner);
        return NULL;
    }
    *be = (struct timed_backend){.ops = ops_over(inner->ops), .inner = inner, .times = times};
    be->base.ops = &be->ops;
    return &be->base;
}
