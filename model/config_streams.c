/* AltUp's streams and what comes with them: LAuReL, per-layer inputs, sparse gates, layers that share K and V. GGUF has
 * no keys for the rank of LAuReL and the tokens that have per-layer inputs: the tensors tell. */
#include "model/config_internal.h"

#include "base/limits.h"

#include <math.h>

/* Below, so many of the first layers are sparse where the file does not say, and none where there are no more. */
#define SPARSE_LAYERS 10
#define SPARSE_SHARE  0.95
#define MAX_SPARSITY  16.0 /* deviations: nothing is left above */

/* The quantile of the normal distribution, by halving: 60 steps of a range of 32 are below an f32's last bit. */
static double normal_quantile(double share)
{
    double low = -MAX_SPARSITY, high = MAX_SPARSITY;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < share)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

static void set_sparsity(struct decoder_config *c, int layer, double deviations)
{
    c->layer_sparse[layer] = deviations > -MAX_SPARSITY;
    c->sparsity[layer] = c->layer_sparse[layer] ? (float)deviations : 0;
}

/* A share of 0, of which GGUF has -inf, is none. */
static bool read_sparsity(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value v = config_get(r, KEY_SPARSITY);
    double low = r->folder ? 0 : -INFINITY, high = r->folder ? 1 - 1e-6 : MAX_SPARSITY;
    int n_sparse = c->n_layers > SPARSE_LAYERS ? SPARSE_LAYERS : 0;
    if (v.type != META_NONE && (v.type != META_ARRAY || v.n != (size_t)c->n_layers))
        return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of %d numbers.", r->key, c->n_layers);
    for (int i = 0; v.type == META_NONE && i < c->n_layers; i++)
        set_sparsity(c, i, i < n_sparse ? normal_quantile(SPARSE_SHARE) : -INFINITY);
    for (int i = 0; v.type == META_ARRAY && i < c->n_layers; i++) {
        double value;
        if (!meta_array_float(&v, (size_t)i, &value) || !(value >= low && value <= high))
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of numbers from %g to %g.", r->key,
                             low, high);
        set_sparsity(c, i, !r->folder ? value : value > 0 ? normal_quantile(value) : -INFINITY);
    }
    return true;
}

/* Every kind of layer that shares has one before it to share with. Some files have the number as a float. */
static bool read_shared(struct config_reader *r, struct decoder_config *c)
{
    double n = 15;
    if (!r->folder && !config_has(r, KEY_KV_SHARED))
        return error_set(r->err, ERR_FORMAT, "The metadata %s is missing.", r->key);
    if (!config_float_or(r, KEY_KV_SHARED, 0, c->n_layers - 1, n, &n))
        return false;
    if (n != floor(n) || n > c->n_layers - 1)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be an integer below the %d layers.",
                         r->key, n, c->n_layers);
    c->n_kv_shared = (int)n;
    bool kept[2] = {false, false};
    for (int i = 0; i < c->n_layers; i++) {
        bool windowed = c->window > 0 && c->layer_windowed[i];
        if (!decoder_layer_keeps(c, i) && !kept[windowed])
            return error_set(r->err, ERR_FORMAT,
                             "Layer %d has to share K and V (%s) with an earlier layer of its kind; there is none.", i,
                             r->key);
        kept[windowed] = true;
    }
    return true;
}

/* Rows of a part's tensor, checked when it is loaded; 0: there is no such tensor. */
static int rows_of(struct config_reader *r, enum model_part part, int layer)
{
    const struct tensor_view *t = weight_tensor(&r->names, r->file, part, layer);
    return t && t->n_dims == 2 && t->shape[0] <= CONFIG_MAX_EMBD ? (int)t->shape[0] : 0;
}

static bool read_layer_inputs(struct config_reader *r, struct decoder_config *c)
{
    int rows = rows_of(r, PART_LAYER_EMBD, -1);
    if (!config_int_or(r, KEY_LAYER_INPUT, 1, CONFIG_MAX_EMBD / MODEL_MAX_LAYERS, 256, &c->n_layer_input) ||
        !config_int_or(r, KEY_LAYER_VOCAB, 1, (int)LIMIT_VOCAB, rows ? rows : c->n_vocab, &c->n_layer_vocab))
        return false;
    c->layer_inputs = true;
    return true;
}

static bool read_laurel(struct config_reader *r, struct decoder_config *c)
{
    int rows = rows_of(r, PART_LAUREL_LEFT, 0);
    if (!config_int_or(r, KEY_LAUREL_RANK, 1, CONFIG_MAX_EMBD, rows ? rows : 64, &c->laurel_rank))
        return false;
    c->laurel = true;
    return true;
}

bool config_streams(struct config_reader *r, struct decoder_config *c)
{
    return config_int_or(r, KEY_STREAMS, 2, MAX_STREAMS, 4, &c->n_streams) &&
           config_int_or(r, KEY_STREAM_ACTIVE, 0, c->n_streams - 1, 0, &c->active_stream) &&
           config_bool_or(r, KEY_STREAM_SCALED, true, &c->stream_scaled) && read_laurel(r, c) &&
           read_layer_inputs(r, c) && read_shared(r, c) && read_sparsity(r, c);
}
