/* AltUp and its kin, as Gemma 3n has them: a row is several vectors (streams), of which one goes through a layer and
 * the others follow it by small maps (Baykal et al., "Alternating Updates for Efficient Transformers", 2023); a
 * low-rank branch beside attention (Menghani et al., "LAuReL", 2024); a vector of the token for each layer.
 *
 *     begin:    x_0 = embedding, x_i = its projection, as large as it is                       once
 *     predict:  m = tanh(router(norm(x_active)) / e);  x_i += sum over j of (P_ij . m) x_j     before the layer
 *     layer:    y = layer(x_active)
 *     correct:  m = tanh(router(norm(y)) / e);  x_i += (1 + C_i . m) (y - x_active)            behind it
 *               x_i += norm(act(gate(x_active * scale)) * input of the layer, projected)       i > 0
 *     end:      mean of x_0 and of the projections of the others, as large as x_0              once */
#include "model/model_internal.h"

#include <math.h>

/* ---- begin, end ---- */

/* (table[id] * sqrt(n) + norm(project(x) / sqrt(e))) / sqrt(2), n for each layer. */
static struct tensor *layer_inputs(const struct model *m, struct tensor *x)
{
    struct backend *be = m->be;
    const struct decoder_config *c = &m->config;
    struct weight *const *global = m->weights.global;
    struct norm_params p = {
        .kind = c->norm_kind, .eps = c->norm_eps, .weight_offset = c->norm_weight_offset, .n_groups = c->n_layers};
    struct tensor *y = op_scale(be, op_linear(be, x, global[PART_LAYER_PROJ], NULL), (float)(1 / sqrt(c->n_embd)));
    y = op_norm(be, y, global[PART_LAYER_PROJ_NORM], NULL, &p);
    return be->ops->embed_add(be, global[PART_LAYER_EMBD], (float)sqrt(c->n_layer_input), y, (float)sqrt(0.5));
}

struct tensor *streams__begin(const struct model *m, struct tensor *x, struct tensor **inputs)
{
    struct backend *be = m->be;
    *inputs = NULL;
    if (m->config.layer_inputs) {
        *inputs = layer_inputs(m, x);
        op_keep(be, *inputs);
    }
    struct tensor *others = op_linear(be, x, m->weights.global[PART_STREAMS_IN], NULL);
    return be->ops->join(be, x, be->ops->match(be, x, others), 1);
}

struct tensor *streams__end(const struct model *m, struct tensor *streams)
{
    struct backend *be = m->be;
    const struct backend_ops *ops = be->ops;
    const struct decoder_config *c = &m->config;
    int n_others = c->n_streams - 1;
    struct tensor *x = ops->cut(be, streams, 1, 0, c->n_embd);
    struct tensor *others = ops->cut(be, streams, 1, c->n_embd, n_others * c->n_embd);
    others = ops->match(be, x, ops->linear_heads(be, others, m->weights.global[PART_STREAMS_OUT], n_others));
    for (int i = 0; i < n_others; i++)
        x = op_add(be, x, ops->cut(be, others, 1, i * c->n_embd, c->n_embd));
    return op_scale(be, x, 1 / (float)c->n_streams);
}

/* ---- a layer ---- */

static struct stream_params params_of(const struct layer *l)
{
    return (struct stream_params){
        .n = l->c->n_streams, .active = l->c->active_stream, .scale = 1 / (float)l->c->n_embd};
}

static struct tensor *route(const struct layer *l, struct tensor *x)
{
    return op_linear(l->be, decoder__norm(l, x, PART_STREAM_ROUTER_NORM, 1), l->w[PART_STREAM_ROUTER], NULL);
}

struct tensor *streams__active(const struct layer *l, struct tensor *streams)
{
    return l->be->ops->cut(l->be, streams, 1, l->c->active_stream * l->c->n_embd, l->c->n_embd);
}

struct tensor *streams__predict(const struct layer *l, struct tensor *streams)
{
    struct stream_params p = params_of(l);
    struct tensor *routed = route(l, streams__active(l, streams));
    return l->be->ops->stream_predict(l->be, streams, routed, l->w[PART_STREAM_PREDICT], &p);
}

/* What the layer's own input adds, [n_rows, e]. */
static struct tensor *input_branch(const struct layer *l, struct tensor *streams)
{
    const struct backend_ops *ops = l->be->ops;
    const struct decoder_config *c = l->c;
    struct tensor *x = streams__active(l, streams);
    struct tensor *input = ops->cut(l->be, l->layer_inputs, 1, l->number * c->n_layer_input, c->n_layer_input);
    if (l->last)
        input = op_rows(l->be, input);
    if (c->stream_scaled)
        x = ops->multiply(l->be, x, l->w[PART_STREAM_SCALE]);
    x = ops->activate_mul(l->be, op_linear(l->be, x, l->w[PART_INPUT_GATE], NULL), input, c->act, NULL);
    return decoder__norm(l, op_linear(l->be, x, l->w[PART_INPUT_PROJ], NULL), PART_INPUT_NORM, 1);
}

struct tensor *streams__correct(const struct layer *l, struct tensor *streams, struct tensor *y)
{
    const struct backend_ops *ops = l->be->ops;
    struct stream_params p = params_of(l);
    streams = ops->stream_correct(l->be, streams, y, route(l, y), l->w[PART_STREAM_CORRECT], &p);
    return l->c->layer_inputs ? ops->add_each(l->be, streams, p.n, 1, input_branch(l, streams)) : streams;
}

struct tensor *streams__laurel(const struct layer *l, struct tensor *x, struct tensor *h)
{
    struct tensor *low = op_linear(l->be, h, l->w[PART_LAUREL_LEFT], NULL);
    struct tensor *branch = decoder__norm(l, op_linear(l->be, low, l->w[PART_LAUREL_RIGHT], NULL), PART_LAUREL_NORM, 1);
    return op_scale(l->be, op_add(l->be, op_add(l->be, x, h), branch), (float)sqrt(0.5));
}

struct tensor *streams__sparse_mlp(const struct layer *l, struct tensor *h)
{
    struct weight *weights[2] = {l->w[PART_GATE], l->w[PART_UP]};
    struct tensor *outs[2] = {NULL, NULL};
    l->be->ops->linear(l->be, h, 2, weights, NULL, outs);
    h = l->be->ops->activate_mul(l->be, outs[0], outs[1], l->c->act, &l->c->sparsity[l->number]);
    return op_linear(l->be, h, l->w[PART_DOWN], NULL);
}
