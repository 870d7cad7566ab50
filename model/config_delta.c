/* Layers of the gated delta rule instead of attention. Folders list the layers of either kind, or say, as GGUF does,
 * that the last of each so many attends. */
#include "model/config_internal.h"

#define DEFAULT_PERIOD 4 /* of transformers and llama.cpp alike */

static bool read_layers(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value types = config_get(r, KEY_LAYER_TYPES);
    int period;
    if (types.type != META_NONE) {
        if (!config_layer_types(r, &types, STR("linear_attention"), c->n_layers, c->layer_delta))
            return false;
    } else {
        if (!config_int_or(r, KEY_FULL_PERIOD, 1, INT32_MAX, DEFAULT_PERIOD, &period))
            return false;
        for (int i = 0; i < c->n_layers; i++)
            c->layer_delta[i] = i % period != period - 1;
    }
    return config_some_attend(r, c->layer_delta, c->n_layers);
}

/* Folders may leave out what the class of transformers has by default. */
static bool read_count(struct config_reader *r, enum config_key key, int max, int fallback, int *out)
{
    return r->folder ? config_int_or(r, key, 1, max, fallback, out) : config_int(r, key, max, out);
}

/* GGUF has the values of all heads together. */
static bool read_v_dim(struct config_reader *r, struct delta_params *p)
{
    int values;
    if (r->folder)
        return read_count(r, KEY_DELTA_V_DIM, CONFIG_MAX_HEAD_DIM, 128, &p->v_dim);
    if (!config_int(r, KEY_DELTA_VALUES, CONFIG_MAX_HEADS * CONFIG_MAX_HEAD_DIM, &values))
        return false;
    p->v_dim = values / p->n_v_heads;
    return (values % p->n_v_heads == 0 && p->v_dim <= CONFIG_MAX_HEAD_DIM) ||
           error_set(r->err, ERR_FORMAT, "The metadata %s is %d, which are no values of %d heads.", r->key, values,
                     p->n_v_heads);
}

static bool read_shapes(struct config_reader *r, struct delta_params *p)
{
    if (!read_count(r, KEY_DELTA_K_HEADS, CONFIG_MAX_HEADS, 16, &p->n_k_heads) ||
        !read_count(r, KEY_DELTA_V_HEADS, CONFIG_MAX_HEADS, 32, &p->n_v_heads) ||
        !read_count(r, KEY_DELTA_K_DIM, CONFIG_MAX_HEAD_DIM, 128, &p->k_dim) || !read_v_dim(r, p) ||
        !config_int_or(r, KEY_DELTA_TAPS, 2, MAX_CONV_TAPS, 4, &p->n_taps))
        return false;
    if (p->n_v_heads % p->n_k_heads != 0)
        return error_set(r->err, ERR_FORMAT,
                         "The %d value heads of the delta rule are not a multiple of its %d key heads.", p->n_v_heads,
                         p->n_k_heads);
    return delta_state_size(p) > 0 ||
           error_set(r->err, ERR_UNSUPPORTED, "The state of a layer, %d heads of %d by %d, is larger than %zu bytes.",
                     p->n_v_heads, p->k_dim, p->v_dim, KV_MAX_STATE);
}

/* Folders of mlx-lm have norms that lack nothing. What tells them is the axis of 1 of their taps: it is the last one.
 */
static bool is_of_mlx(const struct config_reader *r, int layer)
{
    const struct tensor_view *t = weight_tensor(&r->names, r->file, PART_DELTA_TAPS, layer);
    return t && t->n_dims == 3 && t->shape[2] == 1;
}

bool config_deltas(struct config_reader *r, struct decoder_config *c)
{
    int layer = 0;
    if (!r->family->deltas)
        return true;
    if (!read_layers(r, c))
        return false;
    while (layer < c->n_layers && !c->layer_delta[layer])
        layer++;
    if (layer == c->n_layers)
        return true;
    if (r->folder && is_of_mlx(r, layer))
        c->norm_weight_offset = 0;
    return read_shapes(r, &c->delta);
}
