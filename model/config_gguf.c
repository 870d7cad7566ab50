/* What GGUF metadata says in its own way. */
#include "model/config_internal.h"

bool config_gguf_family(struct config_reader *r)
{
    struct str arch;
    if (!meta_str(r->file, "general.architecture", &arch, r->err))
        return false;
    r->family = decoder_family_gguf(arch);
    return r->family || config__unknown(r, "architecture", arch);
}

static bool window_flag(const struct meta_value *pattern, size_t i, uint8_t *windowed)
{
    bool b;
    int64_t n;
    if (meta_array_bool(pattern, i, &b)) {
        *windowed = b;
        return true;
    }
    if (meta_array_int(pattern, i, &n)) {
        *windowed = n != 0;
        return true;
    }
    return false;
}

static bool read_window_array(struct config_reader *r, const struct meta_value *pattern, struct decoder_config *c)
{
    if (pattern->n != (size_t)c->n_layers)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has %zu entries for %d layers.", r->key, pattern->n,
                         c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        if (!window_flag(pattern, (size_t)i, &c->layer_windowed[i]))
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of booleans.", r->key);
    }
    return true;
}

/* attention.sliding_window_pattern is a flag per layer, or a period; see decoder_family.window_period. */
bool config_gguf_windows(struct config_reader *r, struct decoder_config *c)
{
    int period;
    struct meta_value pattern = config_get(r, KEY_WINDOW_PERIOD);
    if (pattern.type == META_ARRAY)
        return read_window_array(r, &pattern, c);
    if (!config_int_or(r, KEY_WINDOW_PERIOD, 0, INT32_MAX, r->family->window_period, &period))
        return false;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_windowed[i] = period == 0 || i % period < period - 1;
    return true;
}
