/* Mixtures of experts: metadata to how many there are, how a row's are chosen, and what is beside them. */
#include "model/config_internal.h"

#include "base/array.h"

/* GGUF: as the tensors are; a folder's keys come later (config_folder_options). */
static void find_expert_layers(const struct config_reader *r, struct decoder_config *c)
{
    for (int i = 0; i < c->n_layers; i++)
        c->layer_experts[i] = weight_find(&r->names, r->file, PART_ROUTER, i) != NULL;
}

/* GGUF: 0: not said, 1: softmax, 2: sigmoid, 3: softmax of those chosen. What DeepSeek V3 is made like has a bias of
 * the choice, V2 has none; some files of the former say nothing. */
static bool read_score(struct config_reader *r, struct decoder_config *c)
{
    static const enum moe_score gguf[] = {MOE_SOFTMAX, MOE_SOFTMAX, MOE_SIGMOID, MOE_SOFTMAX_CHOSEN};
    static const char *const names[] = {
        [MOE_SOFTMAX] = "softmax", [MOE_SOFTMAX_CHOSEN] = "softmax", [MOE_SIGMOID] = "sigmoid"};
    struct str name;
    int gating;
    c->expert_score = r->family->experts_score;
    if (!config_int_or(r, KEY_EXPERT_GATING, 0, INT32_MAX, 0, &gating) ||
        !config_str_or(r, KEY_EXPERT_SCORING, str_of(names[c->expert_score]), &name))
        return false;
    if (gating >= (int)ARRAY_LEN(gguf))
        return error_set(r->err, ERR_UNSUPPORTED,
                         "Experts chosen by the function %d (expert_gating_func) are not "
                         "supported.",
                         gating);
    if (!str_eq(name, str_of(names[c->expert_score])))
        return error_set(r->err, ERR_UNSUPPORTED, "The metadata %s is '" STR_FMT "'; %s is supported there.", r->key,
                         STR_ARG(str_slice(name, 0, 40)), names[c->expert_score]);
    if (gating > 0)
        c->expert_score = gguf[gating];
    else if (!r->folder && c->latent && c->expert_choice_bias)
        c->expert_score = MOE_SIGMOID;
    return true;
}

/* DeepSeek V2 compares groups by their best expert, V3 by their two best. */
static bool read_groups(struct config_reader *r, struct decoder_config *c)
{
    struct str method;
    if (!config_int_or(r, KEY_EXPERT_GROUPS, 0, c->n_experts, 0, &c->expert_groups) ||
        !config_int_or(r, KEY_EXPERT_GROUPS_USED, 0, c->n_experts, 0, &c->expert_groups_used) ||
        !config_str_or(r, KEY_EXPERT_METHOD, STR(""), &method))
        return false;
    if (c->expert_groups <= 1 || str_eq(method, STR("greedy")) || c->expert_groups_used == c->expert_groups)
        c->expert_groups = c->expert_groups_used = 0;
    if (c->expert_groups == 0)
        return true;
    int size = c->n_experts / c->expert_groups;
    c->expert_group_top = c->expert_score == MOE_SIGMOID ? 2 : 1;
    bool fits = c->n_experts % c->expert_groups == 0 && size >= c->expert_group_top && c->expert_groups_used >= 1 &&
                c->expert_groups_used < c->expert_groups && c->n_experts_used <= c->expert_groups_used * size;
    return fits || error_set(r->err, ERR_FORMAT, "%d of %d experts, from %d of %d groups, cannot be chosen.",
                             c->n_experts_used, c->n_experts, c->expert_groups_used, c->expert_groups);
}

/* What the first layer with experts has; its shapes are checked when it is loaded. */
static bool read_expert_parts(struct config_reader *r, struct decoder_config *c)
{
    int layer = 0;
    while (layer < c->n_layers && !c->layer_experts[layer])
        layer++;
    if (layer == c->n_layers)
        return true;
    c->expert_router_bias = weight_find(&r->names, r->file, PART_ROUTER_BIAS, layer);
    c->expert_choice_bias = weight_find(&r->names, r->file, PART_CHOICE_BIAS, layer);
    c->expert_bias = weight_find(&r->names, r->file, PART_EXPERT_DOWN_BIAS, layer);
    c->shared_gated = weight_find(&r->names, r->file, PART_SHARED_ROUTER, layer);
    const struct tensor_view *t = weight_tensor(&r->names, r->file, PART_SHARED_GATE, layer);
    if (!t)
        return true;
    if (t->n_dims != 2 || t->shape[0] < 1 || t->shape[0] > CONFIG_MAX_FF)
        return error_set(r->err, ERR_FORMAT, "The tensor " STR_FMT " has to be a matrix of at most %d rows.",
                         STR_ARG(t->name), CONFIG_MAX_FF);
    c->shared_expert = true;
    c->n_ff_shared = (int)t->shape[0];
    return true;
}

static bool read_expert_options(struct config_reader *r, struct decoder_config *c)
{
    double scale;
    const struct decoder_family *f = r->family;
    bool asked = r->folder && f->experts_norm_asked;
    c->expert_norm_weights = asked ? f->folder.norm_experts : !f->experts_raw;
    if (!config_float_or(r, KEY_EXPERT_SCALE, 0, 1e6, 1, &scale) || !read_score(r, c) || !read_groups(r, c))
        return false;
    c->expert_weigh_input = f->experts_weigh_input;
    c->expert_scale = scale != 0 ? (float)scale : 1;
    return (r->folder && !asked) || config_bool_or(r, KEY_EXPERT_NORM, c->expert_norm_weights, &c->expert_norm_weights);
}

/* What it is when no key says it: older GGUF files of qwen2moe tell by the tensors only, those of Mixtral have all
 * layers alike. */
static int expert_width(const struct config_reader *r, const struct decoder_config *c)
{
    const struct tensor_view *t = NULL;
    for (int i = 0; !r->folder && !t && i < c->n_layers; i++)
        t = weight_tensor(&r->names, r->file, PART_EXPERT_DOWN, i);
    uint64_t n = t ? t->shape[t->n_dims - 1] : 0;
    return n >= 1 && n <= CONFIG_MAX_FF ? (int)n : c->n_ff;
}

bool config_experts(struct config_reader *r, struct decoder_config *c)
{
    if (!config_int_or(r, KEY_EXPERTS, 0, INT32_MAX, 0, &c->n_experts))
        return false;
    if (c->n_experts == 0)
        return true;
    if (!r->family->experts || c->n_experts > MODEL_MAX_EXPERTS)
        return error_set(r->err, ERR_UNSUPPORTED, "The model is a mixture of %d experts, which is not supported.",
                         c->n_experts);
    if (!config_int(r, KEY_EXPERTS_USED, c->n_experts, &c->n_experts_used) ||
        !config_int_or(r, KEY_EXPERT_FF, 1, CONFIG_MAX_FF, expert_width(r, c), &c->n_ff_expert))
        return false;
    if ((int64_t)c->n_experts * c->n_ff_expert > INT32_MAX || (int64_t)c->n_experts * c->n_embd > INT32_MAX)
        return error_set(r->err, ERR_FORMAT, "The model has %d experts of %d by %d, which is too much.", c->n_experts,
                         c->n_ff_expert, c->n_embd);
    find_expert_layers(r, c);
    return read_expert_parts(r, c) && read_expert_options(r, c);
}

/* ---- layers, in folders ---- */

/* All layers but those that mlp_only_layers lists; of each decoder_sparse_step the last. */
bool config_folder_expert_layers(struct config_reader *r, struct decoder_config *c)
{
    int step;
    if (c->n_experts == 0 || r->family->experts_by_tensors)
        return true;
    if (!config_int_or(r, KEY_EXPERT_STEP, 1, INT32_MAX, 1, &step))
        return false;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_experts[i] = i % step == step - 1;
    struct meta_value dense = config_get(r, KEY_DENSE_LAYERS);
    if (dense.type == META_NONE)
        return true;
    for (size_t i = 0; i < dense.n; i++) {
        int64_t layer;
        if (!meta_array_int(&dense, i, &layer) || layer < 0 || layer >= c->n_layers)
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of layers below %d.", r->key,
                             c->n_layers);
        c->layer_experts[layer] = false;
    }
    return dense.type == META_ARRAY || error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array.", r->key);
}
