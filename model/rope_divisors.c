/* Divisors of RoPE's angles that come with a model: Llama 3's scaling in GGUF, and LongRoPE's two sets. */
#include "model/config_internal.h"

#include <math.h>

static bool read_tensor(const struct model_file *file, const char *name, int n, float *out, struct error *err)
{
    const struct tensor_view *t = model_file_tensor(file, name);
    if (!t || t->n_dims != 1 || t->shape[0] != (uint64_t)n || t->type == DTYPE_GROUPED ||
        dtype_info(t->type)->quantized)
        return error_set(err, ERR_FORMAT, "The tensor %s has to be a vector of %d plain numbers.", name, n);
    dtype_to_f32(t->type, t->data, (size_t)n, out);
    return true;
}

static bool read_array(struct config_reader *r, enum config_key key, int n, float *out)
{
    struct meta_value v = config_get(r, key);
    if (v.type != META_ARRAY || v.n != (size_t)n)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of %d numbers.", r->key, n);
    for (int i = 0; i < n; i++) {
        double f;
        int64_t integer;
        if (meta_array_int(&v, (size_t)i, &integer))
            f = (double)integer;
        else if (!meta_array_float(&v, (size_t)i, &f))
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of numbers.", r->key);
        out[i] = (float)f;
    }
    return true;
}

static bool read_longrope(const struct model_file *file, bool use_long, int n, float *out, struct error *err)
{
    struct config_reader r;
    if (!model_file_is_folder(file))
        return read_tensor(file, use_long ? ROPE_LONG_TENSOR : ROPE_SHORT_TENSOR, n, out, err);
    return config_reader_init(&r, file, err) &&
           read_array(&r, use_long ? KEY_LONGROPE_LONG : KEY_LONGROPE_SHORT, n, out);
}

bool decoder_config_long_angles(const struct decoder_config *c, int n_served)
{
    const struct rope_scaling *s = &c->rope.scaling;
    return s->kind == ROPE_SCALING_LONGROPE && (n_served > 0 ? n_served : c->n_context) > s->original_context;
}

bool rope_divisors(const struct decoder_config *c, const struct model_file *file, int n_served, float *out, int *n,
                   struct error *err)
{
    bool longrope = c->rope.scaling.kind == ROPE_SCALING_LONGROPE;
    *n = 0;
    if (!longrope && !c->rope_freq_factors)
        return true;
    if (!(longrope ? read_longrope(file, decoder_config_long_angles(c, n_served), c->rot_dim / 2, out, err)
                   : read_tensor(file, ROPE_FREQS_TENSOR, c->rot_dim / 2, out, err)))
        return false;
    for (int i = 0; i < c->rot_dim / 2; i++) {
        if (!isfinite(out[i]) || out[i] <= 0)
            return error_set(err, ERR_FORMAT, "Entry %d of the RoPE factors is not a positive number.", i);
    }
    *n = c->rot_dim / 2;
    return true;
}
