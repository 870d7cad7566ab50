/* Layers that are short convolutions instead of attention. GGUF gives them no KV heads; folders list the layers of
 * either kind. */
#include "model/config_internal.h"

#include <math.h>

#define DEFAULT_TAPS 3

bool config_some_attend(struct config_reader *r, const uint8_t *is_special, int n_layers)
{
    for (int i = 0; i < n_layers; i++) {
        if (!is_special[i])
            return true;
    }
    return error_set(r->err, ERR_UNSUPPORTED, "None of the model's layers attends (%s), which is not supported.",
                     r->key);
}

/* One number for all layers, or a number for each. */
bool config_gguf_convs(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value heads = config_get(r, KEY_KV_HEADS);
    if (heads.type != META_ARRAY)
        return config_int_or(r, KEY_KV_HEADS, 1, CONFIG_MAX_HEADS, c->n_heads, &c->n_kv_heads);
    if (heads.n != (size_t)c->n_layers)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has %zu entries for %d layers.", r->key, heads.n,
                         c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        int64_t n;
        if (!meta_array_int(&heads, (size_t)i, &n) || n < 0 || n > CONFIG_MAX_HEADS)
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of integers from 0 to %d.", r->key,
                             CONFIG_MAX_HEADS);
        c->layer_conv[i] = n == 0;
        if (n != 0 && c->n_kv_heads != 0 && n != c->n_kv_heads)
            return error_set(r->err, ERR_UNSUPPORTED,
                             "Layers with %d and with %d key and value heads (%s) are not supported.", c->n_kv_heads,
                             (int)n, r->key);
        c->n_kv_heads = n != 0 ? (int)n : c->n_kv_heads;
    }
    return config_some_attend(r, c->layer_conv, c->n_layers);
}

/* ---- folders ---- */

/* The layers that attend; all, where the file says nothing. */
static bool read_attending(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value layers = config_get(r, KEY_CONV_ATTENDING);
    if (layers.type == META_NONE)
        return true;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_conv[i] = true;
    for (size_t i = 0; layers.type == META_ARRAY && i < layers.n; i++) {
        int64_t layer;
        if (!meta_array_int(&layers, i, &layer) || layer < 0 || layer >= c->n_layers)
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of layers below %d.", r->key,
                             c->n_layers);
        c->layer_conv[layer] = false;
    }
    return layers.type == META_ARRAY || error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array.", r->key);
}

static bool read_layers(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value types = config_get(r, KEY_LAYER_TYPES);
    if (!(types.type != META_NONE ? config_layer_types(r, &types, STR("conv"), c->n_layers, c->layer_conv)
                                  : read_attending(r, c)))
        return false;
    return config_some_attend(r, c->layer_conv, c->n_layers);
}

/* The width of the MLP: two thirds of what the file says, times a factor, rounded up. */
static bool adjust_width(struct config_reader *r, struct decoder_config *c)
{
    bool adjusted;
    double factor;
    int multiple;
    if (!config_bool_or(r, KEY_FF_ADJUSTED, true, &adjusted) ||
        !config_float_or(r, KEY_FF_FACTOR, 1e-3, 1e3, 1, &factor) ||
        !config_int_or(r, KEY_FF_MULTIPLE, 1, CONFIG_MAX_FF, 256, &multiple))
        return false;
    if (!adjusted)
        return true;
    double width = ceil(floor(factor * (2 * c->n_ff / 3)) / multiple) * multiple;
    if (width < 1 || width > CONFIG_MAX_FF)
        return error_set(r->err, ERR_FORMAT, "The MLP would be %.0f wide; it has to be from 1 to %d.", width,
                         CONFIG_MAX_FF);
    c->n_ff = (int)width;
    return true;
}

static bool read_taps(struct config_reader *r, struct decoder_config *c)
{
    bool bias, any = false;
    for (int i = 0; i < c->n_layers; i++)
        any = any || c->layer_conv[i];
    if (!any)
        return true;
    if (!config_bool_or(r, KEY_CONV_BIAS, false, &bias) ||
        !config_int_or(r, KEY_CONV_TAPS, 2, MAX_CONV_TAPS, DEFAULT_TAPS, &c->n_conv_taps))
        return false;
    return !bias || error_set(r->err, ERR_UNSUPPORTED, "Biases of convolutions (conv_bias) are not supported.");
}

bool config_convs(struct config_reader *r, struct decoder_config *c)
{
    if (!r->family->convs)
        return true;
    return (!r->folder || read_layers(r, c)) && (!r->folder || !r->family->ff_adjusted || adjust_width(r, c)) &&
           read_taps(r, c);
}
