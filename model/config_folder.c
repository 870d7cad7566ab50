/* What a folder's config.json says in its own way. */
#include "model/config_internal.h"

#include "base/array.h"

/* Multimodal models whose decoder is one of the families: it is configured by text_config, and runs without the rest.
 */
static const char *const wrappers[] = {"gemma3", "gemma3n", "mistral3", "llama4", "lfm2_vl"};

static bool is_wrapper(struct str type)
{
    for (size_t i = 0; i < ARRAY_LEN(wrappers); i++) {
        if (str_eq(type, str_of(wrappers[i])))
            return true;
    }
    return false;
}

static struct str first_class(const struct model_file *file)
{
    struct meta_value classes = meta_get(file, "config.architectures");
    struct str name = STR("");
    return classes.type == META_ARRAY && meta_array_str(&classes, 0, &name) ? name : STR("");
}

bool config_folder_family(struct config_reader *r)
{
    struct str root = meta_str_or(r->file, "config.model_type", STR(""));
    struct str type = meta_str_or(r->file, "config.text_config.model_type", root);
    r->nested = is_wrapper(root);
    type = r->nested ? type : root;
    r->family = type.len ? decoder_family_type(type) : decoder_family_class(first_class(r->file));
    if (r->family)
        return true;
    return config__unknown(r, "model type", type.len ? type : first_class(r->file));
}

/* ---- layers by kind ---- */

/* no_rope_layers has, against its name, 1 for layers that rotate. */
static bool read_nope(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value flags = config_get(r, KEY_ROPE_LAYERS);
    int period;
    if (r->family->nope_period == 0)
        return true;
    if (flags.type == META_NONE) {
        if (!config_int_or(r, KEY_NOPE_PERIOD, 1, INT32_MAX, r->family->nope_period, &period))
            return false;
        for (int i = 0; i < c->n_layers; i++)
            c->layer_nope[i] = i % period == period - 1;
        return true;
    }
    if (flags.type != META_ARRAY || flags.n != (size_t)c->n_layers)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of %d numbers.", r->key, c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        int64_t rotates;
        if (!meta_array_int(&flags, (size_t)i, &rotates))
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of integers.", r->key);
        c->layer_nope[i] = rotates == 0;
    }
    return true;
}

bool config_layer_types(struct config_reader *r, const struct meta_value *types, struct str special, int n_layers,
                        uint8_t *is_special)
{
    if (types->type != META_ARRAY || types->n != (size_t)n_layers)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of %d strings.", r->key, n_layers);
    for (int i = 0; i < n_layers; i++) {
        struct str type;
        if (!meta_array_str(types, (size_t)i, &type))
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of strings.", r->key);
        is_special[i] = str_eq(type, special);
        if (!is_special[i] && !str_eq(type, STR("full_attention")))
            return error_set(r->err, ERR_UNSUPPORTED, "Layers of the type '" STR_FMT "' (%s) are not supported.",
                             STR_ARG(str_slice(type, 0, 40)), r->key);
    }
    return true;
}

static bool windowed(const struct config_reader *r, const struct decoder_config *c, int layer, int number)
{
    switch (r->family->window_rule) {
    case WINDOW_NONE:
        return false;
    case WINDOW_ALL:
        return true;
    case WINDOW_PERIOD:
        return layer % number < number - 1;
    case WINDOW_FROM:
        return layer >= number;
    case WINDOW_NOPE:
        return c->layer_nope[layer];
    case WINDOW_ROPE:
        return !c->layer_nope[layer];
    }
    return false;
}

/* "LLLG", over and over: local layers have the window, global ones do not. */
static bool read_window_letters(struct config_reader *r, struct str letters, struct decoder_config *c)
{
    for (int i = 0; i < c->n_layers; i++) {
        char letter = letters.len ? letters.ptr[(size_t)i % letters.len] : '\0';
        if (letter != 'L' && letter != 'G')
            return error_set(r->err, ERR_FORMAT, "The metadata %s has to consist of the letters L and G.", r->key);
        c->layer_windowed[i] = letter == 'L';
    }
    return true;
}

static bool read_windows(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    bool used, by_type = f->window_rule != WINDOW_NONE && f->window_rule != WINDOW_ALL;
    int number = 0;
    if (!config_bool_or(r, KEY_WINDOW_USED, !f->window_optional, &used) ||
        !config_int_or(r, KEY_WINDOW, 0, INT32_MAX, f->window, &c->window))
        return false;
    if (f->window_rule == WINDOW_NONE || (f->window_optional && !used))
        c->window = 0;
    if (c->window == 0)
        return true;
    struct meta_value types = config_get(r, KEY_LAYER_TYPES);
    if (by_type && types.type != META_NONE)
        return config_layer_types(r, &types, c->window_chunked ? STR("chunked_attention") : STR("sliding_attention"),
                                  c->n_layers, c->layer_windowed);
    struct meta_value letters = config_get(r, KEY_WINDOW_PERIOD);
    if (f->window_rule == WINDOW_PERIOD && letters.type == META_STRING)
        return read_window_letters(r, letters.s, c);
    if (f->window_rule == WINDOW_PERIOD &&
        !config_int_or(r, KEY_WINDOW_PERIOD, 1, INT32_MAX, f->window_period, &number))
        return false;
    if (f->window_rule == WINDOW_FROM && !config_int_or(r, KEY_WINDOW_FROM, 0, INT32_MAX, 28, &number))
        return false;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_windowed[i] = windowed(r, c, i, number);
    return true;
}

/* ---- the rest ---- */

/* hidden_act says silu there, which is part of it. */
static bool check_swiglu(struct config_reader *r)
{
    double alpha, limit;
    if (!config_float_or(r, KEY_SWIGLU_ALPHA, 0, 1e6, (double)SWIGLU_ALPHA, &alpha) ||
        !config_float_or(r, KEY_SWIGLU_LIMIT, 0, 1e6, (double)SWIGLU_LIMIT, &limit))
        return false;
    return ((float)alpha == SWIGLU_ALPHA && (float)limit == SWIGLU_LIMIT) ||
           error_set(r->err, ERR_UNSUPPORTED, "A SwiGLU of alpha %g and limit %g is not supported; 1.702 and 7 are.",
                     alpha, limit);
}

static bool read_activation(struct config_reader *r, struct decoder_config *c)
{
    static const struct {
        const char *name;
        enum activation act;
    } acts[] = {
        {"silu", ACT_SILU},          {"swish", ACT_SILU}, {"gelu", ACT_GELU},   {"gelu_pytorch_tanh", ACT_GELU_TANH},
        {"gelu_new", ACT_GELU_TANH}, {"relu", ACT_RELU},  {"relu2", ACT_RELU2},
    };
    struct str name;
    if (r->family->act == ACT_CLAMPED_SWIGLU)
        return check_swiglu(r);
    if (!config_str_or(r, KEY_ACT, STR(""), &name))
        return false;
    if (name.len == 0)
        return true; /* the family's */
    for (size_t i = 0; i < ARRAY_LEN(acts); i++) {
        if (str_eq(name, str_of(acts[i].name))) {
            c->act = acts[i].act == ACT_GELU && r->family->gelu_is_tanh ? ACT_GELU_TANH : acts[i].act;
            return true;
        }
    }
    return error_set(r->err, ERR_UNSUPPORTED, "The activation '" STR_FMT "' (%s) is not supported.",
                     STR_ARG(str_slice(name, 0, 40)), r->key);
}

/* What is asked for has to be there; what is there is taken too. */
static bool read_biases(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    bool attn, out, mlp;
    if (!config_bool_or(r, KEY_ATTN_BIAS, f->folder.attn_bias, &attn) ||
        !config_bool_or(r, KEY_OUT_BIAS, attn && !f->qkv_bias && !f->out_bias_asked, &out) ||
        !config_bool_or(r, KEY_MLP_BIAS, false, &mlp))
        return false;
    c->qkv_bias = c->qkv_bias || attn || f->qkv_bias;
    c->out_bias = c->out_bias || out;
    c->mlp_bias = c->mlp_bias || mlp;
    return true;
}

/* Norms of Q and K likewise. Whether there is a norm before the MLP is the file's to say. */
static bool read_layout(struct config_reader *r, struct decoder_config *c)
{
    bool norm;
    if (r->family->qk_norm_asked) {
        if (!config_bool_or(r, KEY_QK_NORM, false, &norm))
            return false;
        c->qk_norm = c->qk_norm || norm;
    }
    return !r->family->parallel_asked || config_bool_or(r, KEY_PARALLEL, false, &c->parallel);
}

/* Tied: as the file says; where it does not, as its family, and where there is no head. */
static bool read_tied(struct config_reader *r, struct decoder_config *c)
{
    bool no_head = c->tied_embeddings;
    if (config_has(r, KEY_TIED))
        return config_bool_or(r, KEY_TIED, false, &c->tied_embeddings);
    c->tied_embeddings = no_head || r->family->tied;
    return true;
}

bool config_folder_options(struct config_reader *r, struct decoder_config *c)
{
    return read_activation(r, c) && read_nope(r, c) && read_windows(r, c) && config_folder_expert_layers(r, c) &&
           read_biases(r, c) && read_layout(r, c) && read_tied(r, c);
}
