#include "model/calibrate.h"

#include "base/array.h"
#include "model/config_internal.h"

#include <math.h>
#include <stdlib.h>

struct known_weight {
    const struct weight *weight;
    const struct weight_row *row; /* its parts */
    int layer;
    size_t n_out, n_in;
};

struct calibration {
    struct backend_ops ops; /* first: found from the backend */
    const struct backend_ops *inner;
    struct backend *be;
    struct importance *importance;
    struct weight_names names;
    struct known_weight *weights; /* [n] of [cap] */
    size_t n, cap;
    size_t n_rows, n_out; /* of the step */
    float *a, *b;         /* [room], of one read */
    size_t room;
    bool failed;
};

static struct calibration *of(const struct backend *be)
{
    return (struct calibration *)be->ops;
}

static const struct known_weight *find(const struct calibration *c, const struct weight *w)
{
    for (size_t i = 0; w && i < c->n; i++) {
        if (c->weights[i].weight == w)
            return &c->weights[i];
    }
    return NULL;
}

static struct weight *weight_create(struct backend *be, const struct tensor_view *const *views, int n_views,
                                    struct error *err)
{
    struct calibration *c = of(be);
    int layer, expert;
    struct weight *w = c->inner->weight_create(be, views, n_views, err);
    const struct weight_row *row = weight_name_parse(&c->names, views[0]->name, &layer, &expert);
    if (!w || !row || views[0]->n_dims < 2)
        return w;
    if (!array_reserve(&c->weights, &c->cap, c->n + 1, SIZE_MAX / 2, "weights", err)) {
        c->inner->weight_free(be, w);
        return NULL;
    }
    struct weight_info info = c->inner->weight_info(w);
    c->weights[c->n++] = (struct known_weight){w, row, layer, info.n_out, info.n_in};
    return w;
}

static bool has_room(struct calibration *c, size_t n)
{
    if (n <= c->room)
        return true;
    free(c->a);
    free(c->b);
    c->a = malloc(n * sizeof(float));
    c->b = malloc(n * sizeof(float));
    c->room = c->a && c->b ? n : 0;
    return c->room >= n;
}

static bool read_rows(struct calibration *c, struct tensor *t, float *dst, size_t n_rows, size_t k)
{
    struct error ignored = {0};
    return t && c->inner->read_f32(c->be, t, dst, n_rows * k, &ignored);
}

/* Rows of a step: all of them before the last layer's end, those whose logits are wanted behind it. The op that knows
 * is the backend's; here the size of what is read tells, by trying the one and then the other. */
static size_t read_either(struct calibration *c, struct tensor *t, float *dst, size_t k)
{
    if (read_rows(c, t, dst, c->n_rows, k))
        return c->n_rows;
    return read_rows(c, t, dst, c->n_out, k) ? c->n_out : 0;
}

static void note(struct calibration *c, const struct known_weight *w, struct tensor *x)
{
    size_t most = c->n_rows > c->n_out ? c->n_rows : c->n_out, n;
    if (!w || !x)
        return;
    if (!has_room(c, most * w->n_in)) {
        c->failed = true;
        return;
    }
    n = read_either(c, x, c->a, w->n_in);
    for (int p = 0; n > 0 && p < 3 && w->row->parts[p] != PART_NONE; p++) {
        if (!importance_add(c->importance, w->row->parts[p], w->layer, c->a, n, w->n_in))
            c->failed = true;
    }
}

static bool step_begin(struct backend *be, const struct batch *batch, struct error *err)
{
    struct calibration *c = of(be);
    c->n_rows = (size_t)batch->n_rows;
    c->n_out = (size_t)batch->n_out;
    return c->inner->step_begin(be, batch, err);
}

/* Parts of one tensor come as several weights: each tensor counts once. */
static void linear(struct backend *be, struct tensor *x, int n, struct weight *const *weights,
                   struct weight *const *biases, struct tensor **outs)
{
    struct calibration *c = of(be);
    const struct weight_row *last = NULL;
    for (int i = 0; i < n; i++) {
        const struct known_weight *w = find(c, weights[i]);
        if (w && w->row != last)
            note(c, w, x);
        last = w ? w->row : NULL;
    }
    c->inner->linear(be, x, n, weights, biases, outs);
}

static float activated(enum activation act, float x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + expf(-x));
    case ACT_GELU:
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    case ACT_GELU_TANH:
        return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_CLAMPED_SWIGLU: /* of mixtures only */
        break;
    }
    return x;
}

/* The input of `down`: act(x gate) * (x up), or act(x up + bias) without a gate. */
static void note_hidden(struct calibration *c, struct tensor *x, struct weight *gate, struct weight *up,
                        struct weight *up_bias, const struct known_weight *down, enum activation act)
{
    struct weight *weights[2] = {up, gate}, *biases[2] = {up_bias, NULL};
    struct tensor *outs[2] = {NULL, NULL};
    size_t most = c->n_rows > c->n_out ? c->n_rows : c->n_out;
    if (!down || !x)
        return;
    c->inner->linear(c->be, x, gate ? 2 : 1, weights, biases, outs);
    if (!has_room(c, most * down->n_in)) {
        c->failed = true;
        return;
    }
    size_t n = read_either(c, outs[0], c->a, down->n_in);
    if (n == 0 || (gate && !read_rows(c, outs[1], c->b, n, down->n_in)))
        return;
    for (size_t i = 0; i < n * down->n_in; i++)
        c->a[i] = gate ? activated(act, c->b[i]) * c->a[i] : activated(act, c->a[i]);
    if (!importance_add(c->importance, down->row->parts[0], down->layer, c->a, n, down->n_in))
        c->failed = true;
}

static struct tensor *mlp_gated(struct backend *be, struct tensor *x, struct weight *gate, struct weight *up,
                                struct weight *down, enum activation act)
{
    struct calibration *c = of(be);
    const struct known_weight *g = find(c, gate), *u = find(c, up);
    note(c, g, x);
    if (!g || !u || u->row != g->row)
        note(c, u, x);
    note_hidden(c, x, gate, up, NULL, find(c, down), act);
    return c->inner->mlp_gated(be, x, gate, up, down, act);
}

static struct tensor *mlp(struct backend *be, struct tensor *x, struct weight *up, struct weight *up_bias,
                          struct weight *down, struct weight *down_bias, enum activation act)
{
    struct calibration *c = of(be);
    note(c, find(c, up), x);
    note_hidden(c, x, NULL, up, up_bias, find(c, down), act);
    return c->inner->mlp(be, x, up, up_bias, down, down_bias, act);
}

static struct tensor *moe(struct backend *be, struct tensor *x, const struct moe_weights *w, const struct moe_params *p)
{
    struct calibration *c = of(be);
    const struct known_weight *g = find(c, w->gate), *u = find(c, w->up);
    note(c, g, x);
    if (!g || !u || u->row != g->row)
        note(c, u, x);
    return c->inner->moe(be, x, w, p);
}

struct calibration *calibration_attach(struct backend *be, const struct model_file *file, struct importance *importance,
                                       struct error *err)
{
    struct config_reader r;
    if (be->ops->lazy) {
        error_set(err, ERR_UNSUPPORTED, "Calibration needs the cpu backend, not %s.", be->ops->name);
        return NULL;
    }
    struct calibration *c = config_reader_init(&r, file, err) ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        if (err->code == ERR_NONE)
            error_set(err, ERR_NO_MEMORY, "There is no memory for calibration.");
        return NULL;
    }
    *c = (struct calibration){.ops = *be->ops, .inner = be->ops, .be = be, .importance = importance, .names = r.names};
    c->ops.weight_create = weight_create;
    c->ops.step_begin = step_begin;
    c->ops.linear = linear;
    c->ops.mlp_gated = mlp_gated;
    c->ops.mlp = mlp;
    c->ops.moe = moe;
    be->ops = &c->ops;
    return c;
}

bool calibration_check(const struct calibration *c, struct error *err)
{
    return !c->failed || error_set(err, ERR_NO_MEMORY,
                                   "The importance of columns is not whole: there was no memory for it, or it had "
                                   "been gathered of a model of other shapes.");
}

void calibration_detach(struct calibration *c)
{
    if (!c)
        return;
    c->be->ops = c->inner;
    free(c->weights);
    free(c->a);
    free(c->b);
    free(c);
}
