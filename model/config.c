/* Metadata to struct decoder_config. Every number comes from a file that nobody vouches for: counts are bounded before
 * they are multiplied, floats are finite and in a range in which the arithmetic of the decoder makes sense. */
#include "model/family.h"

#include "base/limits.h"

#include <math.h>
#include <stdio.h>

/* Bounds of the shapes: far above any model, and such that products of two of them fit an int. */
#define MAX_HEADS    4096
#define MAX_HEAD_DIM 4096
#define MAX_EMBD     (1 << 20)
#define MAX_FF       (1 << 22)

/* Reads keys of one file: "<arch>.<key>". */
struct key_reader {
    const struct model_file *file;
    const struct decoder_family *family;
    struct error *err;
    char key[128]; /* the last one */
};

static const char *full_key(struct key_reader *r, const char *key)
{
    snprintf(r->key, sizeof(r->key), "%s.%s", r->family->arch, key);
    return r->key;
}

static bool has_key(struct key_reader *r, const char *key)
{
    return meta_get(r->file, full_key(r, key)).type != META_NONE;
}

static bool read_int(struct key_reader *r, const char *key, int max, int *out)
{
    int64_t v;
    if (!meta_int(r->file, full_key(r, key), 1, max, &v, r->err))
        return false;
    *out = (int)v;
    return true;
}

static bool read_int_or(struct key_reader *r, const char *key, int min, int max, int fallback, int *out)
{
    int64_t v;
    if (!meta_int_or(r->file, full_key(r, key), min, max, fallback, &v, r->err))
        return false;
    *out = (int)v;
    return true;
}

static bool read_float_or(struct key_reader *r, const char *key, double min, double max, double fallback, double *out)
{
    double v;
    if (!meta_float_or(r->file, full_key(r, key), fallback, &v, r->err))
        return false;
    if (v < min || v > max)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be from %g to %g.", r->key, v, min, max);
    *out = v;
    return true;
}

static bool read_f32_or(struct key_reader *r, const char *key, double max, double fallback, float *out)
{
    double v;
    if (!read_float_or(r, key, 0, max, fallback, &v))
        return false;
    *out = (float)v;
    return true;
}

/* ---- shapes ---- */

static bool read_head_dims(struct key_reader *r, struct decoder_config *c)
{
    int fallback = c->n_embd / c->n_heads;
    if (c->n_embd % c->n_heads != 0) {
        if (!has_key(r, "attention.key_length") || !has_key(r, "attention.value_length"))
            return error_set(r->err, ERR_FORMAT,
                             "The embedding length %d is not a multiple of the %d attention heads, and %s is missing.",
                             c->n_embd, c->n_heads, r->key);
        fallback = 2; /* not used: both keys are there */
    }
    return read_int_or(r, "attention.key_length", 1, MAX_HEAD_DIM, fallback, &c->k_dim) &&
           read_int_or(r, "attention.value_length", 1, MAX_HEAD_DIM, fallback, &c->v_dim);
}

static bool read_shape(struct key_reader *r, struct decoder_config *c)
{
    if (!read_int(r, "block_count", MODEL_MAX_LAYERS, &c->n_layers) ||
        !read_int(r, "embedding_length", MAX_EMBD, &c->n_embd) ||
        !read_int(r, "feed_forward_length", MAX_FF, &c->n_ff) ||
        !read_int(r, "attention.head_count", MAX_HEADS, &c->n_heads) ||
        !read_int_or(r, "attention.head_count_kv", 1, MAX_HEADS, c->n_heads, &c->n_kv_heads) ||
        !read_int(r, "context_length", INT32_MAX, &c->n_context))
        return false;
    if (c->n_heads % c->n_kv_heads != 0)
        return error_set(r->err, ERR_FORMAT, "The %d attention heads are not a multiple of the %d key and value heads.",
                         c->n_heads, c->n_kv_heads);
    if (c->n_context > (int)LIMIT_CONTEXT)
        c->n_context = (int)LIMIT_CONTEXT;
    return read_head_dims(r, c);
}

/* The rows of the embedding are the vocabulary; what the metadata says about it must agree. */
static bool read_vocab(struct key_reader *r, struct decoder_config *c)
{
    const char *name = r->family->names->part[PART_EMBD];
    const struct tensor_view *embd = model_file_tensor(r->file, name);
    struct meta_value tokens = meta_get(r->file, "tokenizer.ggml.tokens");
    if (!embd)
        return error_set(r->err, ERR_FORMAT, "The tensor %s is missing.", name);
    if (embd->n_dims != 2 || embd->shape[0] < 1 || embd->shape[0] > LIMIT_VOCAB)
        return error_set(r->err, ERR_FORMAT, "The tensor %s has to be a matrix with 1 to %u rows.", name, LIMIT_VOCAB);
    c->n_vocab = (int)embd->shape[0];
    if (tokens.type == META_ARRAY && tokens.n != embd->shape[0])
        return error_set(r->err, ERR_FORMAT, "The vocabulary has %zu tokens but %s has %d rows.", tokens.n, name,
                         c->n_vocab);
    return true;
}

/* ---- norms, attention, RoPE ---- */

static bool read_norm(struct key_reader *r, struct decoder_config *c)
{
    double eps;
    c->norm_kind = NORM_RMS;
    c->norm_weight_offset = 0; /* applied by the converter */
    if (!has_key(r, "attention.layer_norm_rms_epsilon"))
        return error_set(r->err, ERR_FORMAT, "The metadata %s is missing.", r->key);
    if (!read_float_or(r, "attention.layer_norm_rms_epsilon", 0, 1, 0, &eps))
        return false;
    c->norm_eps = (float)eps;
    return true;
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

static bool read_window_array(struct key_reader *r, const struct meta_value *pattern, struct decoder_config *c)
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
static bool read_windows(struct key_reader *r, struct decoder_config *c)
{
    int period;
    if (!read_int_or(r, "attention.sliding_window", 0, INT32_MAX, r->family->window, &c->window))
        return false;
    if (c->window == 0)
        return true;
    struct meta_value pattern = meta_get(r->file, full_key(r, "attention.sliding_window_pattern"));
    if (pattern.type == META_ARRAY)
        return read_window_array(r, &pattern, c);
    if (!read_int_or(r, "attention.sliding_window_pattern", 0, INT32_MAX, r->family->window_period, &period))
        return false;
    for (int i = 0; i < c->n_layers; i++)
        c->layer_windowed[i] = period == 0 || i % period < period - 1;
    return true;
}

static bool read_attention(struct key_reader *r, struct decoder_config *c)
{
    bool causal;
    bool per_embd = c->n_layers == r->family->attn_scale_embd_layers;
    double q_dim = per_embd ? (double)c->n_embd / c->n_heads : (double)c->k_dim;
    if (!meta_bool_or(r->file, full_key(r, "attention.causal"), true, &causal, r->err))
        return false;
    if (!causal)
        return error_set(r->err, ERR_UNSUPPORTED, "The model's attention is not causal: it is no text generator.");
    return read_f32_or(r, "attention.scale", 1e6, 1 / sqrt(q_dim), &c->attn_scale) &&
           read_f32_or(r, "attn_logit_softcapping", 1e6, r->family->attn_softcap, &c->attn_softcap) &&
           read_f32_or(r, "final_logit_softcapping", 1e6, r->family->final_softcap, &c->final_softcap) &&
           read_windows(r, c);
}

static double yarn_mscale(double factor, double multiplier)
{
    return factor <= 1 ? 1 : 0.1 * multiplier * log(factor) + 1;
}

/* attn_factor: as given; or with yarn_log_multiplier (mscale_all_dim) the quotient of the two mscales; or the paper's.
 */
static bool read_yarn(struct key_reader *r, const struct decoder_config *c, struct rope_scaling *s)
{
    double all_dims;
    if (!read_int_or(r, "rope.scaling.original_context_length", 1, (int)LIMIT_CONTEXT, c->n_context,
                     &s->original_context) ||
        !read_float_or(r, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32, &s->beta_fast) ||
        !read_float_or(r, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1, &s->beta_slow) ||
        !read_float_or(r, "rope.scaling.yarn_ext_factor", 0, 1, 1, &s->ext_factor) ||
        !read_float_or(r, "rope.scaling.yarn_log_multiplier", 0, 1e3, 0, &all_dims))
        return false;
    double fallback = yarn_mscale(s->factor, 1) / (all_dims != 0 ? yarn_mscale(s->factor, all_dims) : 1);
    return read_float_or(r, "rope.scaling.yarn_attn_factor", 1e-3, 1e3, fallback, &s->attn_factor);
}

static bool read_rope_scaling(struct key_reader *r, const struct decoder_config *c, struct rope_scaling *s)
{
    double legacy;
    struct str type = meta_str_or(r->file, full_key(r, "rope.scaling.type"), STR("linear"));
    if (str_eq(type, STR("none")))
        return true;
    if (!str_eq(type, STR("linear")) && !str_eq(type, STR("yarn")))
        return error_set(r->err, ERR_UNSUPPORTED,
                         "The metadata %s is '" STR_FMT "'; none, linear and yarn are supported.", r->key,
                         STR_ARG(str_slice(type, 0, 40)));
    if (!read_float_or(r, "rope.scale_linear", 0, 1e6, 0, &legacy) || /* the key's old name */
        !read_float_or(r, "rope.scaling.factor", 0, 1e6, legacy, &s->factor))
        return false;
    if (s->factor == 0)
        s->factor = 1; /* files without scaling say so this way too */
    if (s->factor < 1e-3)
        return error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be 0.001 or more.", r->key, s->factor);
    if (str_eq(type, STR("yarn"))) {
        s->kind = ROPE_SCALING_YARN;
        return read_yarn(r, c, s);
    }
    s->kind = s->factor != 1 ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE;
    return true;
}

static bool read_rope(struct key_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    double local;
    c->rope_kind = f->rope_kind;
    if (!read_int_or(r, "rope.dimension_count", 2, c->k_dim, c->k_dim, &c->rot_dim))
        return false;
    if (c->rot_dim % 2 != 0)
        return error_set(r->err, ERR_FORMAT, "RoPE rotates pairs, but the number of dimensions, %d, is odd.",
                         c->rot_dim);
    if (!read_float_or(r, "rope.freq_base", 1.001, 1e12, f->rope_base, &c->rope.base) ||
        !read_rope_scaling(r, c, &c->rope.scaling) ||
        !read_float_or(r, "rope.freq_base_swa", 1.001, 1e12,
                       f->rope_local_base != 0 ? f->rope_local_base : c->rope.base, &local))
        return false;
    c->rope_freq_factors = model_file_tensor(r->file, f->names->rope_freqs) != NULL;
    c->has_rope_local = c->window > 0 && (f->rope_local_base != 0 || local != c->rope.base);
    if (c->has_rope_local)
        c->rope_local.base = local; /* windowed layers never see far positions: nothing is scaled there */
    return true;
}

/* ---- the rest ---- */

static bool layer_has(const struct key_reader *r, enum model_part part)
{
    char name[128];
    return model_file_tensor(r->file, weight_name(r->family->names, part, 0, name, sizeof(name))) != NULL;
}

/* Optional parts: what the first layer has, all layers must have. */
static void read_parts(const struct key_reader *r, struct decoder_config *c)
{
    c->qkv_bias = layer_has(r, PART_Q_BIAS) || layer_has(r, PART_K_BIAS) || layer_has(r, PART_V_BIAS);
    c->out_bias = layer_has(r, PART_ATTN_OUT_BIAS);
    c->mlp_bias = layer_has(r, PART_UP_BIAS) || layer_has(r, PART_DOWN_BIAS);
    c->tied_embeddings = !model_file_tensor(r->file, r->family->names->part[PART_OUTPUT]);
}

static void set_options(const struct decoder_family *f, struct decoder_config *c)
{
    c->arch = f->arch;
    c->pre_norm = f->pre_norm;
    c->post_norm = f->post_norm;
    c->qk_norm = f->qk_norm;
    c->act = f->act;
    c->mlp_gated = f->mlp_gated;
    c->embd_scale = f->embd_scale_sqrt ? (float)sqrt(c->n_embd) : 1;
    c->residual_scale = 1;
    c->logit_scale = 1;
}

static bool check_experts(struct key_reader *r)
{
    int n;
    if (!read_int_or(r, "expert_count", 0, INT32_MAX, 0, &n))
        return false;
    return n == 0 ||
           error_set(r->err, ERR_UNSUPPORTED, "The model is a mixture of %d experts, which is not supported.", n);
}

static bool unknown_arch(struct str arch, struct error *err)
{
    char known[128] = "";
    size_t len = 0;
    for (size_t i = 0; i < decoder_n_families() && len < sizeof(known); i++)
        len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i > 0 ? ", " : "", decoder_family_name(i));
    return error_set(err, ERR_UNSUPPORTED, "The architecture '" STR_FMT "' is not supported; known are: %s.",
                     STR_ARG(str_slice(arch, 0, 40)), known);
}

bool decoder_config_read(const struct model_file *file, struct decoder_config *out, struct error *err)
{
    struct str arch;
    *out = (struct decoder_config){0};
    if (!meta_str(file, "general.architecture", &arch, err))
        return false;
    struct key_reader r = {.file = file, .family = decoder_family_find(arch), .err = err};
    if (!r.family)
        return unknown_arch(arch, err);
    if (!check_experts(&r) || !read_shape(&r, out) || !read_vocab(&r, out) || !read_norm(&r, out) ||
        !read_attention(&r, out) || !read_rope(&r, out))
        return false;
    read_parts(&r, out);
    set_options(r.family, out);
    return true;
}

/* ---- KV groups ---- */

int decoder_kv_groups(const struct decoder_config *c, enum kv_type type, struct kv_group_spec groups[KV_MAX_GROUPS],
                      uint8_t layer_group[MODEL_MAX_LAYERS], uint16_t layer_index[MODEL_MAX_LAYERS])
{
    int of_kind[2] = {-1, -1}; /* group of full layers, of windowed layers */
    int n_groups = 0;
    for (int i = 0; i < c->n_layers; i++) {
        bool windowed = c->layer_windowed[i] && c->window > 0;
        if (of_kind[windowed] < 0) {
            of_kind[windowed] = n_groups;
            groups[n_groups++] = (struct kv_group_spec){.n_kv_heads = c->n_kv_heads,
                                                        .k_dim = c->k_dim,
                                                        .v_dim = c->v_dim,
                                                        .type = type,
                                                        .window = windowed ? c->window : 0};
        }
        layer_group[i] = (uint8_t)of_kind[windowed];
        layer_index[i] = (uint16_t)groups[of_kind[windowed]].n_layers++;
    }
    return n_groups;
}
