/* The decoder: what a model loads besides its weights, and the forward pass, one straight line of ops that the
 * configuration bends.
 *
 *     x = embed(ids) * embd_scale                                  [n_rows, n_embd]
 *     each layer:  x += post_norm(attention(pre_norm(x))) * residual_scale     or a convolution, or the delta rule
 *                  x += post_norm(mlp(pre_norm(x))) * residual_scale
 *     or, in parallel, of one h = pre_norm(x):  x += attention(h) + mlp(h)
 *     with streams, x is one of several; the others follow it (decoder_streams.c)
 *     logits = softcap(output(norm(x)) * logit_scale)              [n_out, n_vocab]
 *
 * Ops given NULL return NULL, so nothing is checked on the way; step_end reports the first failure. */
#include "model/config_internal.h"
#include "model/model_internal.h"

#include <stdlib.h>

/* ---- loading ---- */

static bool check_latent(const struct decoder_config *c, struct error *err)
{
    if (!c->latent)
        return true;
    if (c->n_kv_heads != 1 || c->v_dim != c->n_latent || c->k_dim != c->n_latent + c->rot_dim)
        return error_set(err, ERR_FORMAT, "The shapes of K and V are not those of a latent of %d and %d that rotate.",
                         c->n_latent, c->rot_dim);
    if (c->n_kv_shared > 0)
        return error_set(err, ERR_UNSUPPORTED, "Latents that layers share are not supported.");
    return (!c->qkv_bias && !c->out_bias) ||
           error_set(err, ERR_UNSUPPORTED, "Biases of latent attention are not supported.");
}

static bool check_streams(const struct decoder_config *c, struct error *err)
{
    if (c->n_streams > MAX_STREAMS || c->n_streams == 1 || (c->n_streams > 0 && c->active_stream >= c->n_streams))
        return error_set(err, ERR_UNSUPPORTED, "Stream %d of %d streams is not supported; there may be 2 to %d.",
                         c->active_stream, c->n_streams, MAX_STREAMS);
    return !c->layer_inputs || c->n_streams > 0 ||
           error_set(err, ERR_UNSUPPORTED, "Per-layer inputs of models without streams are not supported.");
}

static bool check_convs(const struct decoder_config *c, struct error *err)
{
    for (int i = 0; i < c->n_layers; i++) {
        if (c->layer_conv[i] && c->n_conv_taps < 2)
            return error_set(err, ERR_FORMAT, "A convolution over %d positions is none.", c->n_conv_taps);
        if (c->layer_conv[i] && !decoder_layer_keeps(c, i))
            return error_set(err, ERR_UNSUPPORTED, "Convolutions that share what they keep are not supported.");
    }
    return true;
}

static bool check_deltas(const struct decoder_config *c, const struct backend *be, struct error *err)
{
    for (int i = 0; i < c->n_layers; i++) {
        if (!c->layer_delta[i])
            continue;
        if (c->layer_conv[i] || !decoder_layer_keeps(c, i))
            return error_set(err, ERR_UNSUPPORTED, "States that layers share are not supported.");
        if (c->delta.n_taps < 1 || delta_state_size(&c->delta) == 0)
            return error_set(err, ERR_FORMAT, "A delta rule behind a convolution over %d positions is none.",
                             c->delta.n_taps);
        if (c->act != ACT_SILU)
            return error_set(err, ERR_UNSUPPORTED,
                             "A delta rule behind another activation than silu is not supported.");
        if (!be->ops->delta_net)
            return error_set(err, ERR_UNSUPPORTED, "The %s backend has no delta rule, which %s models need.",
                             be->ops->name, c->arch);
    }
    return true;
}

static bool check_experts(const struct decoder_config *c, const struct backend *be, struct error *err)
{
    if (c->n_experts > 0 && (c->n_experts_used < 1 || c->n_experts_used > c->n_experts))
        return error_set(err, ERR_FORMAT, "%d of %d experts cannot be chosen.", c->n_experts_used, c->n_experts);
    return c->n_experts == 0 || be->ops->moe ||
           error_set(err, ERR_UNSUPPORTED, "The %s backend has no mixtures of experts.", be->ops->name);
}

static bool check_config(const struct decoder_config *c, const struct backend *be, struct error *err)
{
    if (c->mlp_gated && c->mlp_bias)
        return error_set(err, ERR_UNSUPPORTED, "Biases of a gated MLP are not supported.");
    return check_latent(c, err) && check_streams(c, err) && check_convs(c, err) && check_deltas(c, be, err) &&
           check_experts(c, be, err);
}

/* A layer without K and V of its own has an earlier one of its kind. */
static bool check_groups(const struct kv_group_spec *groups, int n_groups, struct error *err)
{
    for (int g = 0; g < n_groups; g++) {
        if (groups[g].n_layers == 0)
            return error_set(err, ERR_FORMAT, "There are layers %s a window that have no K and V to share.",
                             groups[g].window > 0 ? "with" : "without");
    }
    return true;
}

static bool make_rope(struct model *m, const struct model_file *file, int n_served, struct error *err)
{
    const struct decoder_config *c = &m->config;
    int n_divisors;
    for (int i = 0; i < 2; i++) {
        m->inv_freq[i] = calloc((size_t)c->rot_dim / 2, sizeof(float));
        if (!m->inv_freq[i])
            return error_set(err, ERR_NO_MEMORY, "There is no memory for %d RoPE angles.", c->rot_dim / 2);
    }
    float *global = m->inv_freq[0];
    if (!rope_divisors(c, file, n_served, global, &n_divisors, err))
        return false;
    m->rope_attn_factor[0] = rope_inv_freq(&c->rope, c->rot_dim, c->n_context, n_divisors ? global : NULL, global);
    if (c->has_rope_local)
        m->rope_attn_factor[1] = rope_inv_freq(&c->rope_local, c->rot_dim, c->n_context, NULL, m->inv_freq[1]);
    return true;
}

struct model *model_load(struct backend *be, const struct model_file *file, const struct model_load_options *options,
                         struct error *err)
{
    const struct decoder_family *family = decoder_family_find(str_of(options->config->arch));
    struct kv_group_spec groups[KV_MAX_GROUPS];
    struct model *m = calloc(1, sizeof(*m));
    if (!m) {
        error_set(err, ERR_NO_MEMORY, "There is no memory for the model.");
        return NULL;
    }
    m->be = be;
    m->config = *options->config;
    m->family = family;
    m->from_folder = model_file_is_folder(file);
    struct weight_names names = weight_names_of(family, file);
    int n_groups = decoder_kv_groups(&m->config, options->kv_type, groups, m->layer_group, m->layer_index);
    if (check_config(&m->config, be, err) && check_groups(groups, n_groups, err) &&
        weights__check_names(&m->config, &names, file, err) && make_rope(m, file, options->n_served, err) &&
        weights__load(&m->weights, be, &names, file, options, err))
        return m;
    model_free(m);
    return NULL;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    weights__release(&m->weights, m->be, m->config.n_layers);
    free(m->inv_freq[0]);
    free(m->inv_freq[1]);
    free(m);
}

const struct decoder_config *model_config(const struct model *m)
{
    return &m->config;
}

size_t model_resident_size(const struct model *m)
{
    return m->weights.resident_size;
}

uint64_t model_n_params(const struct model_file *file)
{
    uint64_t total = 0;
    for (size_t i = 0; i < model_file_n_tensors(file); i++) {
        const struct tensor_view *t = model_file_tensor_at(file, i);
        total += t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3]; /* bounded by the file's size: no overflow */
    }
    return total;
}

/* ---- the forward pass ---- */

static const enum model_part norm_biases[PART_COUNT] = {
    [PART_ATTN_NORM] = PART_ATTN_NORM_BIAS,
    [PART_MLP_NORM] = PART_MLP_NORM_BIAS,
};

struct tensor *decoder__norm(const struct layer *l, struct tensor *x, enum model_part part, int n_groups)
{
    struct norm_params p = {.kind = l->c->norm_kind,
                            .eps = l->c->norm_eps,
                            .weight_offset = l->c->norm_weight_offset,
                            .n_groups = n_groups};
    return op_norm(l->be, x, l->w[part], l->w[norm_biases[part]], &p);
}

static struct tensor *rope(const struct layer *l, struct tensor *x, int n_heads, int head_dim)
{
    if (l->c->layer_nope[l->number])
        return x;
    int local = l->c->has_rope_local && l->c->layer_windowed[l->number];
    struct rope_params p = {.kind = l->c->rope_kind,
                            .n_heads = n_heads,
                            .head_dim = head_dim,
                            .rot_dim = l->c->rot_dim,
                            .inv_freq = l->m->inv_freq[local],
                            .attn_factor = l->m->rope_attn_factor[local]};
    return op_rope(l->be, x, &p);
}

static void write_kv(const struct layer *l, struct tensor *k, struct tensor *v)
{
    l->be->ops->kv_write(l->be, l->m->layer_group[l->number], l->m->layer_index[l->number], k, v);
}

/* A norm without weights, if `wanted`: of Q or K behind its rotation, or of V. */
static struct tensor *plain_norm(const struct layer *l, struct tensor *x, int n_heads, bool wanted)
{
    struct norm_params p = {.kind = NORM_RMS, .eps = l->c->norm_eps, .n_groups = n_heads};
    return wanted ? op_norm(l->be, x, NULL, NULL, &p) : x;
}

/* ---- attention over latents ----
 *
 * What a head would multiply its Q by, the K of a position, is Wk c, c being the position's latent; so Q Wk meets c
 * itself, and all heads share c as K and V of one head. What comes out is a sum of latents, of which Wv makes the
 * head's V. The part of K that rotates is no product of the latent, and lies behind it. */

#define LATENT_NORM_EPS 1e-6f /* whatever the other norms have */

static struct tensor *latent_norm(const struct layer *l, struct tensor *x, enum model_part part)
{
    struct norm_params p = {.kind = NORM_RMS, .eps = LATENT_NORM_EPS, .n_groups = 1};
    return op_norm(l->be, x, l->w[part], NULL, &p);
}

static struct tensor *latent_q(const struct layer *l, struct tensor *h)
{
    const struct backend_ops *ops = l->be->ops;
    const struct decoder_config *c = l->c;
    struct tensor *q;
    if (c->q_latent) {
        q = latent_norm(l, op_linear(l->be, h, l->w[PART_Q_LATENT], NULL), PART_Q_LATENT_NORM);
        q = op_linear(l->be, q, l->w[PART_Q_OF_LATENT], NULL);
    } else {
        q = op_linear(l->be, h, l->w[PART_Q], NULL);
    }
    struct tensor *rotated = rope(l, ops->cut(l->be, q, c->n_heads, c->nope_dim, c->rot_dim), c->n_heads, c->rot_dim);
    struct tensor *still = ops->cut(l->be, q, c->n_heads, 0, c->nope_dim);
    still = ops->linear_heads(l->be, still, l->w[PART_K_OF_LATENT], c->n_heads);
    return ops->join(l->be, still, rotated, c->n_heads);
}

static struct tensor *project_latent(const struct layer *l, struct tensor *h)
{
    const struct backend_ops *ops = l->be->ops;
    const struct decoder_config *c = l->c;
    struct tensor *kv = op_linear(l->be, h, l->w[PART_KV_LATENT], NULL);
    struct tensor *rotated = rope(l, ops->cut(l->be, kv, 1, c->n_latent, c->rot_dim), 1, c->rot_dim);
    struct tensor *latent = latent_norm(l, ops->cut(l->be, kv, 1, 0, c->n_latent), PART_KV_LATENT_NORM);
    write_kv(l, ops->join(l->be, latent, rotated, 1), latent);
    return latent_q(l, h);
}

/* ---- convolution ---- */

static struct tensor *convolve(const struct layer *l, struct tensor *h)
{
    struct tensor *x = op_linear(l->be, h, l->w[PART_CONV_IN], NULL);
    return l->be->ops->short_conv(l->be, l->m->layer_group[l->number], l->m->layer_index[l->number], x,
                                  l->w[PART_CONV_TAPS]);
}

/* ---- delta rule ---- */

static struct tensor *delta_rule(const struct layer *l, struct tensor *h)
{
    struct weight *in[4] = {l->w[PART_DELTA_Q], l->w[PART_DELTA_K], l->w[PART_DELTA_V], l->w[PART_DELTA_GATES]};
    struct tensor *out[4] = {NULL, NULL, NULL, NULL};
    struct delta_weights w = {
        .taps = l->w[PART_DELTA_TAPS], .rate = l->w[PART_DELTA_RATE], .bias = l->w[PART_DELTA_BIAS]};
    l->be->ops->linear(l->be, h, 4, in, NULL, out);
    struct delta_input x = {.q = out[0], .k = out[1], .v = out[2], .gates = out[3]};
    return l->be->ops->delta_net(l->be, l->m->layer_group[l->number], l->m->layer_index[l->number], &x, &w,
                                 &l->c->delta);
}

/* Of what the heads give; h is the layer's input. The norm's weights lack nothing, whatever those of others do. */
static struct tensor *delta_out(const struct layer *l, struct tensor *a, struct tensor *h)
{
    struct norm_params p = {.kind = NORM_RMS, .eps = l->c->norm_eps, .n_groups = l->c->delta.n_v_heads};
    a = op_norm(l->be, a, l->w[PART_DELTA_NORM], NULL, &p);
    struct tensor *gate = op_linear(l->be, h, l->w[PART_DELTA_GATE], NULL);
    return op_linear(l->be, l->be->ops->activate_mul(l->be, gate, a, ACT_SILU, NULL), l->w[PART_DELTA_OUT], NULL);
}

/* ---- a layer ---- */

/* Of Q or K: norm, rotation. */
static struct tensor *turned(const struct layer *l, struct tensor *x, enum model_part norm_part, int n_heads)
{
    if (l->c->qk_norm)
        x = decoder__norm(l, x, norm_part, l->c->qk_norm_row ? 1 : n_heads);
    x = rope(l, x, n_heads, l->c->k_dim);
    return plain_norm(l, x, n_heads, l->c->qk_norm_plain && !l->c->layer_nope[l->number]);
}

/* Q of the batch's rows; K and V go to their pages, unless those of an earlier layer are this one's. */
static struct tensor *project(const struct layer *l, struct tensor *h)
{
    struct weight *weights[3] = {l->w[PART_Q], l->w[PART_K], l->w[PART_V]};
    struct weight *biases[3] = {l->w[PART_Q_BIAS], l->w[PART_K_BIAS], l->w[PART_V_BIAS]};
    struct tensor *qkv[3] = {NULL, NULL, NULL};
    bool keeps = decoder_layer_keeps(l->c, l->number);
    if (l->c->latent)
        return project_latent(l, h);
    l->be->ops->linear(l->be, h, keeps ? 3 : 1, weights, biases, qkv);
    if (keeps)
        write_kv(l, turned(l, qkv[1], PART_K_NORM, l->c->n_kv_heads),
                 plain_norm(l, qkv[2], l->c->n_kv_heads, l->c->v_norm));
    return turned(l, qkv[0], PART_Q_NORM, l->c->n_heads);
}

static struct tensor *attend(const struct layer *l, struct tensor *q)
{
    struct attention_params p = {.n_heads = l->c->n_heads,
                                 .n_kv_heads = l->c->n_kv_heads,
                                 .k_dim = l->c->k_dim,
                                 .v_dim = l->c->v_dim,
                                 .scale = l->c->attn_scale,
                                 .softcap = l->c->attn_softcap,
                                 .window = l->c->layer_windowed[l->number] ? l->c->window : 0,
                                 .chunked = l->c->window_chunked,
                                 .causal = true,
                                 .sinks = l->w[PART_SINKS],
                                 .temper_scale = l->c->layer_nope[l->number] ? l->c->temper_scale : 0,
                                 .temper_length = l->c->temper_length};
    return l->be->ops->attention(l->be, l->m->layer_group[l->number], l->m->layer_index[l->number], q, &p);
}

/* x + branch, the branch as the configuration wants it. */
static struct tensor *add_branch(const struct layer *l, struct tensor *x, struct tensor *branch,
                                 enum model_part post_norm)
{
    if (l->c->post_norm)
        branch = decoder__norm(l, branch, post_norm, 1);
    if (l->c->residual_scale != 1)
        branch = op_scale(l->be, branch, l->c->residual_scale);
    return op_add(l->be, x, branch);
}

static struct tensor *mixture(const struct layer *l, struct tensor *h)
{
    const struct decoder_config *c = l->c;
    struct moe_weights w = {.router = l->w[PART_ROUTER],
                            .gate = l->w[PART_EXPERT_GATE],
                            .up = l->w[PART_EXPERT_UP],
                            .down = l->w[PART_EXPERT_DOWN],
                            .router_bias = l->w[PART_ROUTER_BIAS],
                            .choice_bias = l->w[PART_CHOICE_BIAS],
                            .gate_bias = l->w[PART_EXPERT_GATE_BIAS],
                            .up_bias = l->w[PART_EXPERT_UP_BIAS],
                            .down_bias = l->w[PART_EXPERT_DOWN_BIAS]};
    struct moe_params p = {.n_experts = c->n_experts,
                           .n_used = c->n_experts_used,
                           .norm_weights = c->expert_norm_weights,
                           .scale = c->expert_scale,
                           .act = c->act,
                           .score = c->expert_score,
                           .n_groups = c->expert_groups,
                           .n_groups_used = c->expert_groups_used,
                           .group_top = c->expert_group_top,
                           .weigh_input = c->expert_weigh_input};
    return l->be->ops->moe(l->be, h, &w, &p);
}

/* The experts that all rows take, as one. */
static struct tensor *shared_expert(const struct layer *l, struct tensor *h)
{
    struct weight *const *w = l->w;
    struct tensor *y =
        l->be->ops->mlp_gated(l->be, h, w[PART_SHARED_GATE], w[PART_SHARED_UP], w[PART_SHARED_DOWN], l->c->act);
    return l->c->shared_gated ? l->be->ops->gate(l->be, y, op_linear(l->be, h, w[PART_SHARED_ROUTER], NULL)) : y;
}

static struct tensor *mlp(const struct layer *l, struct tensor *h)
{
    const struct backend_ops *ops = l->be->ops;
    struct weight *const *w = l->w;
    if (l->c->layer_experts[l->number] && l->c->shared_expert)
        return op_add(l->be, mixture(l, h), shared_expert(l, h));
    if (l->c->layer_experts[l->number])
        return mixture(l, h);
    if (l->c->layer_sparse[l->number])
        return streams__sparse_mlp(l, h);
    if (l->c->mlp_gated)
        return ops->mlp_gated(l->be, h, w[PART_GATE], w[PART_UP], w[PART_DOWN], l->c->act);
    return ops->mlp(l->be, h, w[PART_UP], w[PART_UP_BIAS], w[PART_DOWN], w[PART_DOWN_BIAS], l->c->act);
}

/* What the rows make of the positions before them; the pages are written also where no row is wanted any more. */
static struct tensor *look_back(const struct layer *l, struct tensor *h, bool wanted)
{
    if (l->c->layer_conv[l->number])
        return convolve(l, h);
    if (l->c->layer_delta[l->number])
        return delta_rule(l, h);
    struct tensor *q = project(l, h);
    return wanted ? attend(l, q) : NULL;
}

/* h: the layer's input, in the same rows. */
static struct tensor *project_out(const struct layer *l, struct tensor *a, struct tensor *h)
{
    if (l->c->layer_conv[l->number])
        return op_linear(l->be, a, l->w[PART_CONV_OUT], NULL);
    if (l->c->layer_delta[l->number])
        return delta_out(l, a, h);
    if (l->c->latent)
        a = l->be->ops->linear_heads(l->be, a, l->w[PART_V_OF_LATENT], l->c->n_heads);
    if (l->c->attn_gated)
        a = l->be->ops->gate(l->be, a, op_linear(l->be, h, l->w[PART_ATTN_GATE], NULL));
    return op_linear(l->be, a, l->w[PART_ATTN_OUT], l->w[PART_ATTN_OUT_BIAS]);
}

/* After the last layer's attention only the rows whose logits are wanted go on. NULL when none is and all K and V are
 * written. */
static struct tensor *forward_layer(const struct layer *l, const struct batch *batch, struct tensor *x)
{
    bool laurel = l->c->laurel, gated = l->c->attn_gated || l->c->layer_delta[l->number],
         wanted = !l->last_kept || batch->n_out > 0;
    struct tensor *streams = l->c->n_streams > 0 ? streams__predict(l, x) : NULL;
    x = streams ? streams__active(l, streams) : x;
    struct tensor *h = l->c->pre_norm ? decoder__norm(l, x, PART_ATTN_NORM, 1) : x;
    struct tensor *a = look_back(l, h, wanted);
    if (!wanted)
        return NULL;
    if (l->last) {
        a = op_rows(l->be, a);
        h = l->c->parallel || laurel || gated ? op_rows(l->be, h) : NULL;
        x = op_rows(l->be, x);
        streams = op_rows(l->be, streams);
    }
    a = project_out(l, a, h);
    if (l->c->parallel) /* before x changes, which h may be */
        h = mlp(l, h);
    x = add_branch(l, x, a, PART_ATTN_POST_NORM);
    x = laurel ? streams__laurel(l, x, h) : x;
    if (!l->c->parallel)
        h = mlp(l, l->c->pre_norm ? decoder__norm(l, x, PART_MLP_NORM, 1) : x);
    x = add_branch(l, x, h, PART_MLP_POST_NORM);
    return streams ? streams__correct(l, streams, x) : x;
}

static struct tensor *output_head(struct model *m, struct tensor *x)
{
    const struct decoder_config *c = &m->config;
    struct weight *const *w = m->weights.global;
    struct norm_params p = {
        .kind = c->norm_kind, .eps = c->norm_eps, .weight_offset = c->norm_weight_offset, .n_groups = 1};
    x = op_norm(m->be, x, w[PART_OUTPUT_NORM], w[PART_OUTPUT_NORM_BIAS], &p);
    x = op_linear(m->be, x, c->tied_embeddings ? w[PART_EMBD] : w[PART_OUTPUT], NULL);
    if (c->logit_scale != 1)
        x = op_scale(m->be, x, c->logit_scale);
    return c->final_softcap != 0 ? op_softcap(m->be, x, c->final_softcap) : x;
}

struct tensor *model_forward(struct model *m, const struct batch *batch)
{
    const struct decoder_config *c = &m->config;
    struct tensor *inputs = NULL, *x = op_embed(m->be, m->weights.global[PART_EMBD], c->embd_scale);
    if (c->n_streams > 0)
        x = streams__begin(m, x, &inputs);
    for (int i = 0; i < c->n_layers && x; i++) {
        struct layer l = {.be = m->be,
                          .m = m,
                          .c = c,
                          .w = m->weights.layers[i],
                          .layer_inputs = inputs,
                          .number = i,
                          .last = i == c->n_layers - 1,
                          .last_kept = i == c->n_layers - 1 - c->n_kv_shared};
        x = forward_layer(&l, batch, x);
        op_keep(m->be, x);
    }
    if (x && c->n_streams > 0)
        x = streams__end(m, x);
    return x ? output_head(m, x) : NULL;
}
