/* Creation, the ops table, steps, and the ops that are one call of the shim. */
#include "backend/adapt.h"
#include "backend/mlx/mlx_internal.h"
#include "backend/mlx/mlx_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_ARENA        ((size_t)64 << 20)
#define MAX_OUTPUTS       3   /* besides states */
#define CLEAR_CACHE_EVERY 256 /* steps: shapes of past prefills leave buffers that nothing fits again */

enum mlx_dtype mlx__activations(const struct mlx_backend *be)
{
    return be->type == MLX_TYPE_F16 ? MLX_F16 : be->type == MLX_TYPE_BF16 ? MLX_BF16 : MLX_F32;
}

struct tensor *mlx__tensor(struct mlx_backend *be, struct mlx_array *a, int n_rows, int n_cols)
{
    struct tensor *t = a ? arena_alloc(be->tensors, sizeof *t) : NULL;
    if (a && !t)
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the step's tensors");
    if (t)
        *t = (struct tensor){.a = a, .n_rows = n_rows, .n_cols = n_cols};
    return t;
}

struct mlx_array *mlx__flat(struct mlx_backend *be, struct tensor *t)
{
    if (!t || t->head_dim == 0)
        return t ? t->a : NULL;
    return mlx_reshape(be->m, t->a, (struct mlx_shape){2, {t->n_rows, t->n_cols}});
}

/* ---- steps ---- */

static bool step_begin(struct backend *base, const struct batch *batch, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    mlx_reset(be->m);
    arena_clear(be->tensors);
    be->attended = be->conv_rows = NULL;
    be->n_tables = 0;
    if (!mlx_take_error(be->m, err) || !adapt_check_batch(batch, err) || !mlx__states_check(be, batch, err) ||
        !mlx__kv_prepare(be, batch, err))
        return false;
    mlx__states_forget(be, batch);
    be->offsets = mlx_copy(be->m, batch->positions, (struct mlx_shape){1, {batch->n_rows}}, MLX_I32);
    be->batch = batch;
    be->step++;
    mlx__adapt_begin(be, batch);
    return true;
}

/* What the step has to leave behind: its samples, and the pages that it wrote, which hang on the last attention or
 * convolution; states each by itself. */
static bool step_end(struct backend *base, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    struct mlx_samples *s = &be->samples[be->step & 1];
    const struct batch *batch = be->batch;
    struct mlx_array *attended = mlx_hold(be->m, be->attended);
    size_t n = mlx__states_written(be, batch, NULL);
    struct mlx_array **outputs = malloc((n + MAX_OUTPUTS) * sizeof *outputs);
    if (outputs)
        n = mlx__states_written(be, batch, outputs);
    else
        mlx_fail(be->m, ERR_NO_MEMORY, "there is no memory for the names of what a step leaves");
    if (outputs && be->samples_step == be->step && s->ids)
        outputs[n++] = s->ids;
    if (outputs && be->samples_step == be->step && s->lse)
        outputs[n++] = s->lse;
    if (outputs && attended)
        outputs[n++] = attended;
    mlx_reset(be->m);
    be->batch = NULL;
    if (mlx_ok(be->m))
        (void)mlx_eval_async(be->m, outputs, n);
    mlx_drop(attended);
    free(outputs);
    if (mlx_ok(be->m))
        mlx__states_remember(be, batch);
    if (be->step % CLEAR_CACHE_EVERY == 0)
        mlx_clear_cache();
    return mlx_take_error(be->m, err);
}

static void keep(struct backend *base, struct tensor *x)
{
    (void)base;
    (void)x;
}

static bool read_f32(struct backend *base, struct tensor *t, float *dst, size_t n, struct error *err)
{
    struct mlx_backend *be = mlx__of(base);
    if (!t || !t->a)
        return mlx_take_error(be->m, err) && error_set(err, ERR_INTERNAL, "The step has no such values to read.");
    (void)mlx_read_f32(be->m, mlx__flat(be, t), dst, n);
    return mlx_take_error(be->m, err);
}

/* ---- ops ---- */

struct mlx_array *mlx__batch_ids(struct mlx_backend *be)
{
    const struct batch *b = be->batch;
    struct mlx_shape shape = {1, {b->n_rows}};
    struct mlx_array *ids = mlx_copy(be->m, b->ids, shape, MLX_I32);
    if (!b->prev_row || !b->prev_ids)
        return ids;
    return mlx_choose_ids(be->m, ids, mlx_copy(be->m, b->prev_row, shape, MLX_I32), b->prev_ids->a);
}

static struct tensor *embed(struct backend *base, struct weight *table, float scale)
{
    struct mlx_backend *be = mlx__of(base);
    struct mlx_array *x = mlx_embed(be->m, &table->matrix, mlx__batch_ids(be), mlx__activations(be));
    if (scale != 1)
        x = mlx_scale(be->m, x, scale);
    return mlx__tensor(be, x, be->batch->n_rows, (int)table->info.n_in);
}

static struct tensor *rows(struct backend *base, struct tensor *x)
{
    struct mlx_backend *be = mlx__of(base);
    const struct batch *b = be->batch;
    if (!x || b->n_out == 0)
        return NULL;
    if (b->n_out == b->n_rows)
        return x;
    struct mlx_array *at = mlx_copy(be->m, b->out_rows, (struct mlx_shape){1, {b->n_out}}, MLX_I32);
    return mlx__tensor(be, mlx_take(be->m, mlx__flat(be, x), at, 0), b->n_out, x->n_cols);
}

static struct tensor *linear_one(struct mlx_backend *be, struct tensor *x, const struct weight *w,
                                 const struct weight *bias)
{
    return x ? mlx__tensor(be, mlx__product(be, mlx__flat(be, x), x->n_rows, w, bias), x->n_rows, (int)w->info.n_out)
             : NULL;
}

static void linear(struct backend *base, struct tensor *x, int n, struct weight *const *weights,
                   struct weight *const *biases, struct tensor **outs)
{
    for (int i = 0; i < n; i++)
        outs[i] = linear_one(mlx__of(base), x, weights[i], biases ? biases[i] : NULL);
}

/* The norm's weights with the offset added, made once. */
static struct mlx_array *norm_weight(struct mlx_backend *be, struct weight *w, float offset)
{
    if (!w || offset == 0)
        return mlx__vector(w);
    if (!w->raised || w->raised_by != offset) {
        float one = offset;
        struct mlx_array *by =
            mlx_cast(be->m, mlx_copy(be->m, &one, (struct mlx_shape){1, {1}}, MLX_F32), mlx__activations(be));
        mlx_drop(w->raised);
        w->raised = mlx_hold(be->m, mlx_add(be->m, w->vector, by));
        w->raised_by = offset;
    }
    return w->raised;
}

/* Groups of a row with weights of their own: [n_rows * n_groups, head_dim]. */
static struct mlx_array *norm_groups(struct mlx_backend *be, struct mlx_array *a, struct mlx_array *weight, int n_rows,
                                     const struct norm_params *p, int head_dim)
{
    struct mlx_array *by = mlx_reshape(be->m, weight, (struct mlx_shape){2, {p->n_groups, head_dim}});
    a = mlx_norm(be->m, a, NULL, NULL, p);
    a = mlx_reshape(be->m, a, (struct mlx_shape){3, {n_rows, p->n_groups, head_dim}});
    return mlx_reshape(be->m, mlx_multiply(be->m, a, by), (struct mlx_shape){2, {n_rows * p->n_groups, head_dim}});
}

static struct tensor *norm(struct backend *base, struct tensor *x, struct weight *weight, struct weight *bias,
                           const struct norm_params *p)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    int head_dim = p->n_groups > 1 ? x->n_cols / p->n_groups : 0;
    struct mlx_array *a = mlx__flat(be, x);
    if (head_dim)
        a = mlx_reshape(be->m, a, (struct mlx_shape){2, {x->n_rows * p->n_groups, head_dim}});
    struct mlx_array *by = norm_weight(be, weight, p->weight_offset);
    if (head_dim && weight && weight->info.n_in == (size_t)x->n_cols)
        a = norm_groups(be, a, by, x->n_rows, p, head_dim);
    else
        a = mlx_norm(be->m, a, by, mlx__vector(bias), p);
    struct tensor *t = mlx__tensor(be, a, x->n_rows, x->n_cols);
    if (t)
        t->head_dim = head_dim;
    return t;
}

static struct tensor *add(struct backend *base, struct tensor *a, struct tensor *b)
{
    struct mlx_backend *be = mlx__of(base);
    return a && b ? mlx__tensor(be, mlx_add(be->m, mlx__flat(be, a), mlx__flat(be, b)), a->n_rows, a->n_cols) : NULL;
}

static struct tensor *scale(struct backend *base, struct tensor *x, float factor)
{
    struct mlx_backend *be = mlx__of(base);
    return x ? mlx__tensor(be, mlx_scale(be->m, mlx__flat(be, x), factor), x->n_rows, x->n_cols) : NULL;
}

static struct tensor *softcap(struct backend *base, struct tensor *x, float cap)
{
    struct mlx_backend *be = mlx__of(base);
    return x ? mlx__tensor(be, mlx_softcap(be->m, mlx__flat(be, x), cap), x->n_rows, x->n_cols) : NULL;
}

static struct tensor *gate(struct backend *base, struct tensor *x, struct tensor *by)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x || !by)
        return NULL;
    struct mlx_array *y = mlx_multiply(be->m, mlx__flat(be, x), mlx_sigmoid(be->m, mlx__flat(be, by)));
    return mlx__tensor(be, y, x->n_rows, x->n_cols);
}

static struct tensor *mlp_gated(struct backend *base, struct tensor *x, struct weight *gate, struct weight *up,
                                struct weight *down, enum activation act)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    struct mlx_array *in = mlx__flat(be, x);
    struct mlx_array *g = mlx__product(be, in, x->n_rows, gate, NULL);
    struct mlx_array *h = mlx_gated(be->m, g, mlx__product(be, in, x->n_rows, up, NULL), act);
    return mlx__tensor(be, mlx__product(be, h, x->n_rows, down, NULL), x->n_rows, (int)down->info.n_out);
}

static struct tensor *mlp(struct backend *base, struct tensor *x, struct weight *up, struct weight *up_bias,
                          struct weight *down, struct weight *down_bias, enum activation act)
{
    struct mlx_backend *be = mlx__of(base);
    if (!x)
        return NULL;
    struct mlx_array *h = mlx_activate(be->m, mlx__product(be, mlx__flat(be, x), x->n_rows, up, up_bias), act);
    return mlx__tensor(be, mlx__product(be, h, x->n_rows, down, down_bias), x->n_rows, (int)down->info.n_out);
}

/* ---- life ---- */

static const char *describe(const struct backend *base)
{
    return ((const struct mlx_backend *)base)->description;
}

static void backend_free(struct backend *base)
{
    struct mlx_backend *be = mlx__of(base);
    if (!be)
        return;
    mlx_reset(be->m);
    mlx__kv_release(be);
    mlx__samples_release(&be->samples[0]);
    mlx__samples_release(&be->samples[1]);
    for (int i = 0; i < be->n_angles; i++) {
        mlx_drop(be->angles[i].wavelengths);
        mlx_drop(be->angles[i].partner);
    }
    free(be->parts);
    free(be->slabs);
    free(be->masks);
    arena_free(be->tensors);
    mlx_close(be->m);
    free(be);
}

static uint64_t eval_ns(const struct backend *base)
{
    return mlx_eval_ns(((const struct mlx_backend *)base)->m);
}

static const struct backend_ops mlx_ops = {
    .name = "mlx",
    .lazy = true,
    .kv_private = true,
    .describe = describe,
    .free = backend_free,
    .weight_create = mlx__weight_create,
    .weight_free = mlx__weight_free,
    .weight_info = mlx__weight_info,
    .table_create = mlx__table_create,
    .weight_adapt = mlx__weight_adapt,
    .kv_page_tokens = mlx__kv_page_tokens,
    .kv_page_size = mlx__kv_page_size,
    .kv_bind = mlx__kv_bind,
    .kv_copy_page = mlx__kv_copy_page,
    .kv_free_page = mlx__kv_free_page,
    .step_begin = step_begin,
    .step_end = step_end,
    .keep = keep,
    .embed = embed,
    .embed_add = mlx__embed_add,
    .rows = rows,
    .linear = linear,
    .norm = norm,
    .add = add,
    .scale = scale,
    .softcap = softcap,
    .rope = mlx__rope,
    .gate = gate,
    .cut = mlx__cut,
    .join = mlx__join,
    .linear_heads = mlx__linear_heads,
    .multiply = mlx__multiply,
    .add_each = mlx__add_each,
    .activate_mul = mlx__activate_mul,
    .match = mlx__match,
    .stream_predict = mlx__stream_predict,
    .stream_correct = mlx__stream_correct,
    .kv_write = mlx__kv_write,
    .attention = mlx__attention,
    .short_conv = mlx__short_conv,
    .delta_net = mlx__delta_net,
    .mlp_gated = mlp_gated,
    .mlp = mlp,
    .moe = mlx__moe,
    .sample = mlx__sample,
    .read_f32 = read_f32,
    .read_samples = mlx__read_samples,
    .eval_ns = eval_ns,
};

/* Freed buffers that MLX keeps for the next step, where nothing is known of the memory. */
#define DEFAULT_CACHE ((size_t)32 << 20)

/* A sixteenth of what MLX may hold stays in its cache of freed buffers; all of a working set is wired. */
static bool set_limits(struct mlx_backend *be, struct error *err)
{
    size_t working_set = mlx_working_set(be->m);
    size_t memory = be->options.memory_limit ? be->options.memory_limit : working_set;
    struct mlx_limits limits = {.memory = memory, .wired = memory < working_set ? memory : working_set};
    limits.cache = be->options.cache_limit ? be->options.cache_limit : memory ? memory / 16 : DEFAULT_CACHE;
    return mlx_set_limits(be->m, &limits, err);
}

static struct mlx_backend *create(const struct mlx_backend_options *options, struct error *err)
{
    struct mlx_backend *be = calloc(1, sizeof *be);
    struct arena *tensors = arena_create(STEP_ARENA);
    if (!be || !tensors) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the mlx backend.");
        arena_free(tensors);
        free(be);
        return NULL;
    }
    *be = (struct mlx_backend){.base = {&mlx_ops}, .options = *options, .type = options->type, .tensors = tensors};
    be->m = mlx_open(options->device, err);
    if (be->m && set_limits(be, err))
        return be;
    mlx_close(be->m);
    arena_free(tensors);
    free(be);
    return NULL;
}

bool mlx_plugin_check(size_t ops_size, struct error *err)
{
    if (ops_size != sizeof(struct backend_ops))
        return error_set(err, ERR_UNSUPPORTED, "The shared object is of another build of Tandem.");
    return mlx_same_version(err);
}

struct backend *mlx_plugin_create(const struct mlx_backend_options *options, struct error *err)
{
    struct mlx_backend *be = create(options, err);
    if (!be)
        return NULL;
    if (be->type == MLX_TYPE_AUTO && !mlx_on_gpu(be->m))
        be->type = MLX_TYPE_F32; /* the CPU's 16-bit products are sums in 16 bits */
    snprintf(be->description, sizeof be->description, "mlx %s %s", mlx_loaded(), mlx_device_name(be->m));
    return &be->base;
}

const char *mlx_plugin_version(void)
{
    return mlx_loaded();
}
