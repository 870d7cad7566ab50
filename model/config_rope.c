/* Metadata to RoPE's configuration. */
#include "model/config_internal.h"

#include "base/array.h"
#include "base/limits.h"

#include <math.h>

static double yarn_mscale(double factor, double multiplier)
{
    return factor <= 1 ? 1 : 0.1 * multiplier * log(factor) + 1;
}

static bool read_original(struct config_reader *r, const struct decoder_config *c, struct rope_scaling *s)
{
    return config_int_or(r, KEY_ROPE_ORIGINAL, 1, (int)LIMIT_CONTEXT, c->n_context, &s->original_context);
}

/* Both are wanted by the class of transformers, though others take Llama 3.1's for granted. Llama 4's are equal:
 * nothing is blended. */
static bool read_llama3(struct config_reader *r, const struct decoder_config *c, struct rope_scaling *s)
{
    if (!read_original(r, c, s) || !config_float_or(r, KEY_ROPE_LOW_FREQ, 1e-3, 1e6, 1, &s->low_freq_factor) ||
        !config_float_or(r, KEY_ROPE_HIGH_FREQ, 1e-3, 1e6, 4, &s->high_freq_factor))
        return false;
    return s->high_freq_factor >= s->low_freq_factor ||
           error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be at least low_freq_factor, %g.", r->key,
                     s->high_freq_factor, s->low_freq_factor);
}

/* Beside latents the second mscale is of the softmax too. attn_factor: as given; or the quotient of the two mscales
 * where there are two (GGUF: the first is 1); or the paper's.
 */
static bool read_yarn(struct config_reader *r, struct decoder_config *c, struct rope_scaling *s)
{
    double mscale, all_dims;
    bool truncate;
    if (!read_original(r, c, s) || !config_float_or(r, KEY_YARN_FAST, 1e-3, 1e6, 32, &s->beta_fast) ||
        !config_float_or(r, KEY_YARN_SLOW, 1e-3, 1e6, 1, &s->beta_slow) ||
        !config_float_or(r, KEY_YARN_EXT, 0, 1, 1, &s->ext_factor) ||
        !config_float_or(r, KEY_YARN_MSCALE, 0, 1e3, r->folder ? 0 : 1, &mscale) ||
        !config_float_or(r, KEY_YARN_MSCALE_ALL, 0, 1e3, 0, &all_dims) ||
        !config_bool_or(r, KEY_YARN_TRUNCATE, true, &truncate))
        return false;
    s->unrounded = r->folder ? !truncate : r->family->yarn_unrounded;
    if (r->family->latent && !r->folder)
        mscale = all_dims = 10 * all_dims; /* the converter writes a tenth, and nothing of the first */
    if (r->family->latent)
        c->attn_scale *= (float)(yarn_mscale(s->factor, all_dims) * yarn_mscale(s->factor, all_dims));
    double fallback = yarn_mscale(s->factor, 1);
    if (mscale != 0 && all_dims != 0)
        fallback = yarn_mscale(s->factor, mscale) / yarn_mscale(s->factor, all_dims);
    return config_float_or(r, KEY_YARN_ATTN_FACTOR, 1e-3, 1e3, fallback, &s->attn_factor);
}

/* The divisors are read when the model is loaded, see rope_divisors; that there are some was seen. */
static bool read_longrope(struct config_reader *r, const struct decoder_config *c, struct rope_scaling *s)
{
    double factor, fallback = 1;
    if (!read_original(r, c, s) ||
        !config_float_or(r, KEY_ROPE_FACTOR, 1e-3, 1e6, (double)c->n_context / s->original_context, &factor))
        return false;
    if (factor > 1 && s->original_context > 1)
        fallback = sqrt(1 + log(factor) / log(s->original_context));
    return config_float_or(r, KEY_LONGROPE_ATTN_FACTOR, 1e-3, 1e3, fallback, &s->attn_factor);
}

/* ---- kinds ---- */

static bool has_divisors(struct config_reader *r)
{
    if (r->folder)
        return config_has(r, KEY_LONGROPE_LONG) && config_has(r, KEY_LONGROPE_SHORT);
    return model_file_tensor(r->file, ROPE_LONG_TENSOR) && model_file_tensor(r->file, ROPE_SHORT_TENSOR);
}

/* Where divisors are, they are used, whatever name their first publication gave it ("su", "yarn"). */
static bool read_kind(struct config_reader *r, enum rope_scaling_kind *kind)
{
    static const struct {
        const char *name;
        enum rope_scaling_kind kind;
        bool gguf;
    } kinds[] = {
        {"none", ROPE_SCALING_NONE, true},     {"default", ROPE_SCALING_NONE, false},
        {"dynamic", ROPE_SCALING_NONE, false}, /* changes the angles beyond the trained context only, our limit */
        {"linear", ROPE_SCALING_LINEAR, true}, {"llama3", ROPE_SCALING_LLAMA3, false},
        {"yarn", ROPE_SCALING_YARN, true},     {"longrope", ROPE_SCALING_LONGROPE, true},
        {"su", ROPE_SCALING_LONGROPE, false},
    };
    struct str type;
    bool divisors = has_divisors(r);
    if (!config_str_or(r, KEY_ROPE_TYPE, r->folder ? STR("default") : STR("linear"), &type))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!str_eq(type, str_of(kinds[i].name)) || (!r->folder && !kinds[i].gguf))
            continue;
        *kind = divisors ? ROPE_SCALING_LONGROPE : kinds[i].kind;
        return *kind != ROPE_SCALING_LONGROPE || divisors ||
               error_set(r->err, ERR_FORMAT, "The metadata %s is '%s', but one of the two lists of factors is missing.",
                         r->key, kinds[i].name);
    }
    return error_set(r->err, ERR_UNSUPPORTED,
                     "The metadata %s is '" STR_FMT "'; none, linear, %syarn and longrope are "
                     "supported.",
                     r->key, STR_ARG(str_slice(type, 0, 40)), r->folder ? "llama3, " : "");
}

static bool read_factor(struct config_reader *r, struct rope_scaling *s)
{
    double legacy;
    if (!config_float_or(r, KEY_ROPE_FACTOR_LEGACY, 0, 1e6, 0, &legacy) ||
        !config_float_or(r, KEY_ROPE_FACTOR, 0, 1e6, legacy, &s->factor))
        return false;
    if (s->factor == 0)
        s->factor = 1; /* files without scaling say so this way too */
    return s->factor >= 1e-3 ||
           error_set(r->err, ERR_FORMAT, "The metadata %s is %g; it has to be 0.001 or more.", r->key, s->factor);
}

static bool read_scaling(struct config_reader *r, struct decoder_config *c, struct rope_scaling *s)
{
    if (!read_kind(r, &s->kind))
        return false;
    if (s->kind == ROPE_SCALING_NONE)
        return true;
    if (s->kind == ROPE_SCALING_LONGROPE)
        return read_longrope(r, c, s);
    if (!read_factor(r, s))
        return false;
    switch (s->kind) {
    case ROPE_SCALING_LLAMA3:
        return read_llama3(r, c, s);
    case ROPE_SCALING_YARN:
        return read_yarn(r, c, s);
    default:
        s->kind = s->factor != 1 ? ROPE_SCALING_LINEAR : ROPE_SCALING_NONE;
        return true;
    }
}

/* ---- all of it ---- */

static bool read_rot_dim(struct config_reader *r, struct decoder_config *c)
{
    double share = r->folder ? r->family->folder.rot_share : 0;
    if (c->latent)
        return true; /* see config_latent */
    if (!config_float_or(r, KEY_ROT_SHARE, 1e-3, 1, share != 0 ? share : 1, &share) ||
        !config_int_or(r, KEY_ROT_DIM, 2, c->k_dim, (int)(c->k_dim * share), &c->rot_dim))
        return false;
    if (c->rot_dim < 2 || c->rot_dim % 2 != 0)
        return error_set(r->err, ERR_FORMAT, "RoPE rotates pairs, but the number of dimensions, %d, is %s.", c->rot_dim,
                         c->rot_dim < 2 ? "less than two" : "odd");
    return true;
}

/* Layers with a window may rotate by another base; they never see far positions, so that nothing is scaled there. */
static bool read_local(struct config_reader *r, struct decoder_config *c)
{
    const struct decoder_family *f = r->family;
    double local;
    struct str type;
    if (!config_float_or(r, KEY_ROPE_LOCAL_BASE, 1.001, 1e12,
                         f->rope_local_base != 0 ? f->rope_local_base : c->rope.base, &local) ||
        !config_str_or(r, KEY_ROPE_LOCAL_TYPE, STR("default"), &type))
        return false;
    if (!str_eq(type, STR("default")))
        return error_set(r->err, ERR_UNSUPPORTED, "The metadata %s is '" STR_FMT "'; only default is supported there.",
                         r->key, STR_ARG(str_slice(type, 0, 40)));
    c->has_rope_local = c->window > 0 && (f->rope_local_base != 0 || local != c->rope.base);
    if (c->has_rope_local)
        c->rope_local.base = local;
    return true;
}

/* A folder states the context of YaRN as it was trained; what the factor adds is the point of it. */
static void extend_context(const struct config_reader *r, struct decoder_config *c)
{
    const struct rope_scaling *s = &c->rope.scaling;
    double n = s->kind == ROPE_SCALING_YARN && r->folder ? s->original_context * s->factor : 0;
    if (n > c->n_context)
        c->n_context = n < LIMIT_CONTEXT ? (int)n : (int)LIMIT_CONTEXT;
}

bool config_rope(struct config_reader *r, struct decoder_config *c)
{
    bool pairs;
    if (!config_bool_or(r, KEY_ROPE_PAIRS, r->family->folder_rope_kind && r->family->rope_kind == ROPE_NORM, &pairs))
        return false;
    c->rope_kind = !r->folder ? r->family->rope_kind : pairs ? ROPE_NORM : ROPE_NEOX;
    if (!read_rot_dim(r, c) || !config_float_or(r, KEY_ROPE_BASE, 1.001, 1e12, r->family->rope_base, &c->rope.base) ||
        !read_scaling(r, c, &c->rope.scaling) || !read_local(r, c))
        return false;
    c->rope_freq_factors = !r->folder && model_file_tensor(r->file, ROPE_FREQS_TENSOR) != NULL;
    extend_context(r, c);
    return true;
}
