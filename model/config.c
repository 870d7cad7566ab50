/* Metadata to struct decoder_config. Every number comes from a file that nobody vouches for: counts are bounded before
 * they are multiplied, floats are finite and in a range in which the arithmetic of the decoder makes sense. */
#include "model/config_internal.h"

#include "base/limits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- shapes ---- */

static bool read_head_dims(struct config_reader *r, struct decoder_config *c)
{
    int fallback = r->folder ? r->family->folder.k_dim : 0;
    if (fallback == 0)
        fallback = c->n_embd / c->n_heads;
    if (c->n_embd % c->n_heads != 0) {
        if (!config_has(r, KEY_K_DIM) || !config_has(r, KEY_V_DIM))
            return error_set(r->err, ERR_FORMAT,
                             "The embedding length %d is not a multiple of the %d attention heads, and %s is missing.",
                             c->n_embd, c->n_heads, r->key);
        fallback = 2; /* not used: both keys are there */
    }
    return config_int_or(r, KEY_K_DIM, 1, CONFIG_MAX_HEAD_DIM, fallback, &c->k_dim) &&
           config_int_or(r, KEY_V_DIM, 1, CONFIG_MAX_HEAD_DIM, fallback, &c->v_dim);
}

/* A count of which a folder's file may leave out the class's default. */
static bool read_count(struct config_reader *r, enum config_key key, int max, int fallback, int *out)
{
    return r->folder && fallback > 0 ? config_int_or(r, key, 1, max, fallback, out) : config_int(r, key, max, out);
}

static bool read_context(struct config_reader *r, struct decoder_config *c)
{
    if (!read_count(r, KEY_CONTEXT, INT32_MAX, r->family->folder.n_context, &c->n_context) ||
        (r->family->max_length && !config_int_or(r, KEY_MAX_LENGTH, 1, INT32_MAX, c->n_context, &c->n_context)))
        return false;
    if (c->n_context > (int)LIMIT_CONTEXT)
        c->n_context = (int)LIMIT_CONTEXT;
    return true;
}

/* Some files say it for each layer. */
static bool read_ff(struct config_reader *r, struct decoder_config *c)
{
    struct meta_value v = config_get(r, KEY_FF);
    int64_t first, n;
    if (v.type != META_ARRAY)
        return config_int(r, KEY_FF, CONFIG_MAX_FF, &c->n_ff);
    if (v.n != (size_t)c->n_layers || !meta_array_int(&v, 0, &first) || first < 1 || first > CONFIG_MAX_FF)
        return error_set(r->err, ERR_FORMAT, "The metadata %s has to be an array of %d numbers from 1 to %d.", r->key,
                         c->n_layers, CONFIG_MAX_FF);
    for (size_t i = 1; i < v.n; i++) {
        if (!meta_array_int(&v, i, &n) || n != first)
            return error_set(r->err, ERR_UNSUPPORTED, "Layers whose MLPs differ in size (%s) are not supported.",
                             r->key);
    }
    c->n_ff = (int)first;
    return true;
}

static bool read_kv_heads(struct config_reader *r, struct decoder_config *c)
{
    int fallback = r->folder && r->family->folder.n_kv_heads ? r->family->folder.n_kv_heads : c->n_heads;
    if (!r->folder && r->family->convs)
        return config_gguf_convs(r, c);
    return config_int_or(r, KEY_KV_HEADS, 1, CONFIG_MAX_HEADS, fallback, &c->n_kv_heads);
}

static bool read_shape(struct config_reader *r, struct decoder_config *c)
{
    const struct folder_defaults *d = &r->family->folder;
    if (!config_int(r, KEY_LAYERS, MODEL_MAX_LAYERS, &c->n_layers) ||
        !config_int(r, KEY_EMBD, CONFIG_MAX_EMBD, &c->n_embd) || !read_ff(r, c) ||
        !read_count(r, KEY_HEADS, CONFIG_MAX_HEADS, d->n_heads, &c->n_heads) || !read_kv_heads(r, c) ||
        !read_context(r, c))
        return false;
    if (c->n_context > (int)LIMIT_CONTEXT)
        c->n_context = (int)LIMIT_CONTEXT;
    if (r->family->latent)
        return config_latent(r, c);
    if (c->n_heads % c->n_kv_heads != 0)
        return error_set(r->err, ERR_FORMAT, "The %d attention heads are not a multiple of the %d key and value heads.",
                         c->n_heads, c->n_kv_heads);
    return read_head_dims(r, c);
}

/* The rows of the embedding are the vocabulary; what the metadata says about it must agree. */
static bool read_vocab(struct config_reader *r, struct decoder_config *c)
{
    char name[192];
    weight_name(&r->names, weight_row(&r->names, PART_EMBD, 0), -1, -1, name, sizeof(name));
    const struct tensor_view *embd = model_file_tensor(r->file, name);
    struct meta_value tokens = meta_get(r->file, "tokenizer.ggml.tokens");
    int stated;
    if (!embd)
        return error_set(r->err, ERR_FORMAT, "The tensor %s is missing.", name);
    if (embd->n_dims != 2 || embd->shape[0] < 1 || embd->shape[0] > LIMIT_VOCAB)
        return error_set(r->err, ERR_FORMAT, "The tensor %s has to be a matrix with 1 to %u rows.", name, LIMIT_VOCAB);
    c->n_vocab = (int)embd->shape[0];
    if (tokens.type == META_ARRAY && tokens.n != embd->shape[0])
        return error_set(r->err, ERR_FORMAT, "The vocabulary has %zu tokens but %s has %d rows.", tokens.n, name,
                         c->n_vocab);
    if (!config_int_or(r, KEY_VOCAB, 1, (int)LIMIT_VOCAB, c->n_vocab, &stated))
        return false;
    return stated == c->n_vocab ||
           error_set(r->err, ERR_FORMAT, "The metadata %s is %d but %s has %d rows.", r->key, stated, name, c->n_vocab);
}

/* ---- norms and attention ---- */

static bool read_norm(struct config_reader *r, struct decoder_config *c)
{
    double fallback = r->folder ? r->family->folder.norm_eps : 0;
    enum config_key key = r->family->norm_kind == NORM_LAYER ? KEY_LAYER_NORM_EPS : KEY_NORM_EPS;
    c->norm_kind = r->family->norm_kind;
    c->norm_bias = r->family->norm_bias;
    c->norm_weight_offset = r->folder ? r->family->folder_norm_offset : 0; /* GGUF: applied by the converter */
    if (!config_has(r, key) && fallback == 0)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is missing.", r->key);
    return config_f32_or(r, key, 1, fallback, &c->norm_eps);
}

static bool check_causal(struct config_reader *r)
{
    bool causal, bidirectional;
    if (!config_bool_or(r, KEY_CAUSAL, true, &causal) || !config_bool_or(r, KEY_BIDIRECTIONAL, false, &bidirectional))
        return false;
    return (causal && !bidirectional) ||
           error_set(r->err, ERR_UNSUPPORTED, "The model's attention is not causal: it is no text generator.");
}

/* GGUF has Granite's multiplier and nothing of Gemma's scalar; folders have either, by family. */
static bool read_attn_scale(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    double divisor = c->latent ? c->nope_dim + c->rot_dim : c->k_dim;
    if (c->n_layers == f->attn_scale_embd_layers && !r->folder)
        divisor = (double)c->n_embd / c->n_heads;
    double q_scalar = f->folder.q_scalar;
    if (r->folder && q_scalar > 0 && !config_float_or(r, KEY_ATTN_Q_SCALAR, 1e-3, 1e6, q_scalar, &divisor))
        return false;
    c->attn_scale = f->attn_unscaled ? 1 : (float)(1 / sqrt(divisor));
    if (r->folder && !f->multipliers)
        return true;
    return config_f32_or(r, KEY_ATTN_SCALE, 1e6, r->folder ? 1 : c->attn_scale, &c->attn_scale);
}

static bool read_attention(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    return check_causal(r) && read_attn_scale(r, c) &&
           config_f32_or(r, KEY_ATTN_SOFTCAP, 1e6, f->attn_softcap, &c->attn_softcap) &&
           config_f32_or(r, KEY_FINAL_SOFTCAP, 1e6, f->final_softcap, &c->final_softcap);
}

/* ---- scales ---- */

static bool read_logit_factor(struct config_reader *r, struct decoder_config *c)
{
    float factor;
    if (!config_f32_or(r, KEY_LOGIT_FACTOR, 1e6, r->folder ? r->family->folder.logit_scale : 1, &factor))
        return false;
    c->logit_scale = factor != 0 ? factor : 1; /* GGUF: none */
    return true;
}

/* Folders have what the scales are made of; GGUF has them as the converter works them out, or, in the first files,
 * those of MiniCPM 2B's recipe. */
static bool read_depth_scales(struct config_reader *r, struct decoder_config *c)
{
    double depth, base = 1, divisor, root = sqrt(c->n_layers);
    if (!config_f32_or(r, KEY_EMBD_SCALE, 1e6, r->folder ? 1 : 12, &c->embd_scale) ||
        !config_float_or(r, KEY_DEPTH_SCALE, 0, 1e6, r->folder ? 1 : 1.4, &depth) ||
        !config_f32_or(r, KEY_RESIDUAL_SCALE, 1e6, depth / root, &c->residual_scale) ||
        !config_float_or(r, KEY_BASE_EMBD, 1, CONFIG_MAX_EMBD, r->folder ? 1 : 256, &base) ||
        !config_float_or(r, KEY_LOGIT_DIVISOR, 1e-6, 1e6, c->n_embd / base, &divisor))
        return false;
    c->logit_scale = (float)(1 / divisor);
    return true;
}

static bool read_scales(struct config_reader *r, struct decoder_config *c)
{
    double divisor;
    c->embd_scale = r->family->embd_scale_sqrt ? (float)sqrt(c->n_embd) : 1;
    c->residual_scale = c->logit_scale = 1;
    if (r->family->depth_scales)
        return read_depth_scales(r, c);
    if (r->family->logit_factor)
        return read_logit_factor(r, c);
    if (!r->family->multipliers)
        return true;
    if (!config_f32_or(r, KEY_EMBD_SCALE, 1e6, 1, &c->embd_scale) ||
        !config_f32_or(r, KEY_RESIDUAL_SCALE, 1e6, 1, &c->residual_scale) ||
        !config_float_or(r, KEY_LOGIT_DIVISOR, 1e-6, 1e6, 1, &divisor))
        return false;
    c->logit_scale = (float)(1 / divisor);
    return true;
}

/* ---- all of it ---- */

static bool layer_has(const struct config_reader *r, enum model_part part)
{
    return weight_find(&r->names, r->file, part, 0) != NULL;
}

/* A bias that is one: packers write zeros beside matrices that have none. */
static bool layer_has_bias(const struct config_reader *r, enum model_part part)
{
    const struct tensor_view *t = weight_tensor(&r->names, r->file, part, 0);
    return t && !weight_is_idle_bias(r->file, t);
}

/* Optional parts: what the first layer has, all layers must have. */
static void read_parts(const struct config_reader *r, struct decoder_config *c)
{
    c->qkv_bias = layer_has(r, PART_Q_BIAS) || layer_has(r, PART_K_BIAS) || layer_has(r, PART_V_BIAS);
    c->out_bias = layer_has(r, PART_ATTN_OUT_BIAS);
    c->mlp_bias = layer_has_bias(r, PART_UP_BIAS) || layer_has_bias(r, PART_DOWN_BIAS);
    c->attn_sinks = r->family->attn_sinks;
    c->attn_gated = r->family->attn_gated;
    c->tied_embeddings = !weight_find(&r->names, r->file, PART_OUTPUT, -1);
    if (r->family->qk_norm_asked)
        c->qk_norm = layer_has(r, PART_Q_NORM) || layer_has(r, PART_K_NORM);
    if (r->family->parallel_asked)
        c->parallel = !layer_has(r, PART_MLP_NORM);
}

/* Mistral's models of DeepSeek's architecture temper the queries of all layers. */
static bool check_untempered(struct config_reader *r)
{
    double scale;
    if (r->folder)
        return true;
    if (!config_float_or(r, KEY_TEMPER_SCALE, 0, 1e3, 0, &scale))
        return false;
    return scale == 0 ||
           error_set(r->err, ERR_UNSUPPORTED, "Queries that are tempered (%s) are not supported in the %s family.",
                     r->key, r->family->name);
}

/* Llama 4's of 128 experts has no norm of Q and K, of which GGUF tells nothing; nor of the tempered queries. */
static bool read_plain_parts(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    bool norm = f->qk_norm_plain && (r->folder || c->n_experts != 128), tempered = f->tempered;
    double scale;
    if (!f->qk_norm_plain && !f->tempered)
        return check_untempered(r);
    struct meta_value v = config_get(r, KEY_TEMPERED);
    tempered = v.type == META_INT ? v.i != 0 : tempered; /* older files have a number there */
    if ((v.type != META_INT && !config_bool_or(r, KEY_TEMPERED, tempered, &tempered)) ||
        !config_bool_or(r, KEY_QK_NORM, norm, &c->qk_norm_plain) ||
        !config_float_or(r, KEY_TEMPER_SCALE, 0, 1e3, 0.1, &scale) ||
        !config_int_or(r, KEY_TEMPER_LENGTH, 1, (int)LIMIT_CONTEXT, 8192, &c->temper_length))
        return false;
    c->temper_scale = tempered ? (float)scale : 0;
    return true;
}

static void set_options(const struct decoder_family *f, struct decoder_config *c)
{
    c->arch = f->name;
    c->pre_norm = f->pre_norm;
    c->post_norm = f->post_norm;
    c->qk_norm = f->qk_norm;
    c->qk_norm_row = f->qk_norm_row;
    c->qk_norm_heads = f->qk_norm_heads;
    c->v_norm = f->v_norm;
    c->parallel = f->parallel;
    c->act = f->act;
    c->mlp_gated = f->mlp_gated;
    c->window_chunked = f->window_chunked;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_nope[i] = f->nope_period > 0 && i % f->nope_period == f->nope_period - 1;
}

static void set_nope_full(struct decoder_config *c)
{
    for (int i = 0; i < c->n_layers; i++)
        c->layer_nope[i] = !c->layer_windowed[i];
}

/* Where Llama 4's layers have no chunks, as the file may say, none differs from the others in what comes with them. */
static void set_alike(struct decoder_config *c)
{
    memset(c->layer_nope, 0, sizeof(c->layer_nope));
    c->temper_scale = 0;
}

static bool read_gguf_options(struct config_reader *r, struct decoder_config *c)
{
    if (!config_int_or(r, KEY_WINDOW, 0, INT32_MAX, r->family->window, &c->window))
        return false;
    if (c->window == 0 && c->window_chunked)
        set_alike(c);
    return c->window == 0 || config_gguf_windows(r, c);
}

bool config__unknown(struct config_reader *r, const char *what, struct str name)
{
    char known[360] = "";
    size_t len = 0;
    for (size_t i = 0; i < decoder_n_families() && len < sizeof(known); i++) {
        const struct decoder_family *f = decoder_family_at(i);
        const char *own = r->folder ? f->model_types[0] : f->gguf;
        if (own)
            len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", len > 0 ? ", " : "", own);
    }
    return error_set(r->err, ERR_UNSUPPORTED, "The %s '" STR_FMT "' is not supported; known are: %s.", what,
                     STR_ARG(str_slice(name, 0, 32)), known);
}

bool config_reader_init(struct config_reader *r, const struct model_file *file, struct error *err)
{
    *r = (struct config_reader){.file = file, .folder = model_file_is_folder(file), .err = err};
    if (!(r->folder ? config_folder_family(r) : config_gguf_family(r)))
        return false;
    r->names = weight_names_of(r->family, file);
    return true;
}

bool decoder_config_read(const struct model_file *file, struct decoder_config *out, struct error *err)
{
    struct config_reader r;
    *out = (struct decoder_config){0};
    if (!config_reader_init(&r, file, err) || !read_shape(&r, out) || !read_vocab(&r, out) || !read_norm(&r, out) ||
        !read_attention(&r, out) || !read_scales(&r, out) || !config_experts(&r, out) || !config_convs(&r, out) ||
        !config_deltas(&r, out))
        return false;
    set_options(r.family, out);
    read_parts(&r, out);
    if (!read_plain_parts(&r, out) || !(r.folder ? config_folder_options(&r, out) : read_gguf_options(&r, out)))
        return false;
    if (r.family->nope_full && out->window > 0)
        set_nope_full(out);
    return (!r.family->streams || config_streams(&r, out)) && config_rope(&r, out);
}

/* ---- KV groups ---- */

enum group_kind { FULL, WINDOWED, CONV, DELTA, N_KINDS };

static enum group_kind kind_of(const struct decoder_config *c, int layer)
{
    if (c->layer_conv[layer])
        return CONV;
    if (c->layer_delta[layer])
        return DELTA;
    return c->layer_windowed[layer] && c->window > 0 ? WINDOWED : FULL;
}

bool decoder_has_states(const struct decoder_config *c)
{
    return c->delta.n_taps > 0;
}

int decoder_kv_groups(const struct decoder_config *c, enum kv_type type, struct kv_group_spec groups[KV_MAX_GROUPS],
                      uint8_t layer_group[MODEL_MAX_LAYERS], uint16_t layer_index[MODEL_MAX_LAYERS])
{
    struct kv_group_spec kinds[N_KINDS] = {
        [FULL] = {.n_kv_heads = c->n_kv_heads, .k_dim = c->k_dim, .v_dim = c->v_dim, .type = type},
        /* Sums of few products, which no softmax averages, of numbers that f16 may not hold: they stay as they are. */
        [CONV] = {.n_kv_heads = 1, .v_dim = c->n_embd, .type = KV_F32, .window = c->n_conv_taps},
        [DELTA] = {.type = KV_F32, .window = 2},
    };
    int of_kind[N_KINDS] = {-1, -1, -1, -1}, n_groups = 0; /* the group of each */
    kinds[WINDOWED] = kinds[FULL];
    kinds[WINDOWED].window = c->window;
    kinds[DELTA].state_size = decoder_has_states(c) ? delta_state_size(&c->delta) : 0;
    for (int i = 0; i < c->n_layers; i++) {
        enum group_kind kind = kind_of(c, i);
        int group = of_kind[kind];
        if (group < 0) {
            group = of_kind[kind] = n_groups;
            groups[n_groups++] = kinds[kind];
        }
        if (decoder_layer_keeps(c, i))
            groups[group].n_layers++;
        layer_group[i] = (uint8_t)group;
        layer_index[i] = (uint16_t)(groups[group].n_layers - 1);
    }
    return n_groups;
}

bool decoder_layer_keeps(const struct decoder_config *c, int layer)
{
    return layer < c->n_layers - c->n_kv_shared;
}
