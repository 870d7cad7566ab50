/* RoPE angles and their scaling. The steps and their f32 roundings are those of transformers' modeling_rope_utils: an
 * inverse frequency that differs in its last bit turns into another angle at position 100,000. */
#include "model/model.h"

#include "base/limits.h"

#include <math.h>

static const float two_pi = 6.2831853071795864769f;

/* base^(2i / rot_dim), the wavelength of pair i in units of 2 pi */
static float position_freq(const struct rope_config *rope, int rot_dim, int i)
{
    float exponent = (float)(2 * i) / (float)rot_dim;
    return (float)pow(rope->base, exponent);
}

/* Short wavelengths stay, long ones are stretched by the factor, those between are blended; where the two bounds are
 * one, there are none. */
static float llama3_freq(const struct rope_scaling *s, double original, float inv)
{
    float wavelength = two_pi / inv;
    if (wavelength > (float)(original / s->low_freq_factor))
        return inv / (float)s->factor;
    if (wavelength < (float)(original / s->high_freq_factor) || s->high_freq_factor == s->low_freq_factor)
        return inv;
    float smooth =
        ((float)original / wavelength - (float)s->low_freq_factor) / (float)(s->high_freq_factor - s->low_freq_factor);
    return (1 - smooth) * inv / (float)s->factor + smooth * inv;
}

/* The pair that turns `rotations` times over the original context. */
static double yarn_dim(const struct rope_config *rope, int rot_dim, double original, double rotations)
{
    return rot_dim * log(original / (rotations * 2 * 3.14159265358979323846)) / (2 * log(rope->base));
}

struct yarn_range {
    double low, high; /* pairs where the ramp begins and ends */
};

static struct yarn_range yarn_range(const struct rope_config *rope, int rot_dim, double original)
{
    double low = yarn_dim(rope, rot_dim, original, rope->scaling.beta_fast);
    double high = yarn_dim(rope, rot_dim, original, rope->scaling.beta_slow);
    low = rope->scaling.unrounded ? low : floor(low);
    high = rope->scaling.unrounded ? high : ceil(high);
    low = low < 0 ? 0 : low;
    high = high > rot_dim - 1 ? rot_dim - 1 : high;
    return (struct yarn_range){low, high == low ? high + 0.001 : high};
}

/* Fast pairs keep their frequency, slow ones are interpolated, a ramp blends them. */
static float yarn_freq(const struct rope_scaling *s, struct yarn_range range, float pos_freq, int i)
{
    float ramp = ((float)i - (float)range.low) / (float)(range.high - range.low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float keep = (1 - ramp) * (float)s->ext_factor;
    float interpolated = 1 / ((float)s->factor * pos_freq), extrapolated = 1 / pos_freq;
    return interpolated * (1 - keep) + extrapolated * keep;
}

static float scaled_freq(const struct rope_scaling *s, double original, struct yarn_range range, float pos_freq, int i)
{
    switch (s->kind) {
    case ROPE_SCALING_LINEAR:
        return 1 / pos_freq / (float)s->factor;
    case ROPE_SCALING_LLAMA3:
        return llama3_freq(s, original, 1 / pos_freq);
    case ROPE_SCALING_YARN:
        return yarn_freq(s, range, pos_freq, i);
    default:
        return 1 / pos_freq;
    }
}

float rope_inv_freq(const struct rope_config *rope, int rot_dim, int n_context, const float *divisors, float *out)
{
    const struct rope_scaling *s = &rope->scaling;
    double original = s->original_context > 0 ? s->original_context : n_context;
    struct yarn_range range = {0};
    if (s->kind == ROPE_SCALING_YARN)
        range = yarn_range(rope, rot_dim, original);
    for (int i = 0; i < rot_dim / 2; i++) {
        float pos_freq = position_freq(rope, rot_dim, i);
        float divisor = divisors ? divisors[i] : 1;
        if (s->kind == ROPE_SCALING_LONGROPE)
            out[i] = 1 / (divisor * pos_freq);
        else
            out[i] = scaled_freq(s, original, range, pos_freq, i) / divisor;
    }
    return s->kind == ROPE_SCALING_YARN || s->kind == ROPE_SCALING_LONGROPE ? (float)s->attn_factor : 1;
}

/* ---- --rope-scaling ---- */

static bool bad_spec(const char *spec, struct error *err)
{
    return error_set(err, ERR_INVALID,
                     "The RoPE scaling '%.60s' has to be none, linear:F, llama3:F or yarn:F[:ORIGINAL_CONTEXT], with a "
                     "factor F from 1 to 1000.",
                     spec);
}

static bool parse_kind(struct str name, enum rope_scaling_kind *kind)
{
    static const char *const names[] = {
        [ROPE_SCALING_NONE] = "none",
        [ROPE_SCALING_LINEAR] = "linear",
        [ROPE_SCALING_LLAMA3] = "llama3",
        [ROPE_SCALING_YARN] = "yarn",
    };
    for (int i = 0; i <= ROPE_SCALING_YARN; i++) {
        if (str_eq(name, str_of(names[i]))) {
            *kind = (enum rope_scaling_kind)i;
            return true;
        }
    }
    return false;
}

static bool parse_factor(struct str text, double *factor)
{
    return str_to_f64(text, factor) && *factor >= 1 && *factor <= 1000;
}

/* What the model was trained for before anything was scaled. */
static int trained_context(const struct decoder_config *c)
{
    return c->rope.scaling.original_context > 0 ? c->rope.scaling.original_context : c->n_context;
}

static bool parse_spec(const struct decoder_config *c, const char *spec, struct rope_scaling *s)
{
    struct str rest = str_of(spec), kind, factor, original, more;
    int64_t n = trained_context(c);
    if (!str_split(&rest, ':', &kind) || !parse_kind(kind, &s->kind))
        return false;
    if (s->kind == ROPE_SCALING_NONE)
        return !str_split(&rest, ':', &more);
    if (!str_split(&rest, ':', &factor) || !parse_factor(factor, &s->factor))
        return false;
    if (s->kind == ROPE_SCALING_YARN && str_split(&rest, ':', &original) &&
        (!str_to_i64(original, &n) || n < 1 || n > (int64_t)LIMIT_CONTEXT))
        return false;
    s->original_context = (int)n;
    s->low_freq_factor = 1; /* as Llama 3.1 */
    s->high_freq_factor = 4;
    s->beta_fast = 32; /* the paper's values */
    s->beta_slow = 1;
    s->ext_factor = 1;
    s->attn_factor = 0.1 * log(s->factor) + 1;
    return !str_split(&rest, ':', &more);
}

bool decoder_config_rope_scaling(struct decoder_config *c, const char *spec, struct error *err)
{
    struct rope_scaling s = {0};
    if (!parse_spec(c, spec, &s))
        return bad_spec(spec, err);
    if (c->latent)
        return error_set(err, ERR_UNSUPPORTED,
                         "A RoPE scaling other than the file's is not supported for the %s "
                         "family, whose softmax depends on it.",
                         c->arch);
    double n_context = s.kind == ROPE_SCALING_NONE ? trained_context(c) : s.original_context * s.factor;
    if (n_context > LIMIT_CONTEXT)
        return error_set(err, ERR_INVALID,
                         "The RoPE scaling '%.60s' gives a context of %.0f tokens; at most %u are possible.", spec,
                         n_context, LIMIT_CONTEXT);
    c->rope.scaling = s;
    c->rope_freq_factors = false;
    c->n_context = (int)n_context;
    return true;
}
