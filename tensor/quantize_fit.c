/* Least squares under rounding has many local minima. A grid of first guesses, each a way of placing the extremes among
 * the levels (heavy tails are better cut off), is fitted once by linear regression on the codes that it gives; the best
 * goes on by alternating codes and regression until nothing changes. */
#include "tensor/quantize_fit.h"

#include <math.h>

#define LANES       8           /* partial sums in a fixed order, which compilers keep in vectors */
#define MAX_ROUNDS  6           /* of alternation; most groups take two or three */
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding and taking it off rounds to an integer */

/* Comparisons are false for NaN, which becomes lo. */
static inline float nearest_code(float v, float lo, float hi)
{
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + ROUND_MAGIC) - ROUND_MAGIC;
}

static inline float inverse(float d)
{
    return d == 0.0f ? 0.0f : 1.0f / d;
}

static double lanes_sum(const float s[LANES])
{
    double sum = 0;
    for (int l = 0; l < LANES; l++)
        sum += (double)s[l];
    return sum;
}

struct code_sums {
    double q, qq, xq;
};

static struct code_sums code_sums(const struct fit_group *g, struct fit f)
{
    float inv = inverse(f.scale), q[LANES] = {0}, qq[LANES] = {0}, xq[LANES] = {0};
    for (int i = 0; i < g->n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float c = nearest_code((g->x[i + l] - f.min) * inv, g->lo, g->hi), wc = g->w[i + l] * c;
            q[l] += wc;
            qq[l] += wc * c;
            xq[l] += wc * g->x[i + l];
        }
    }
    return (struct code_sums){lanes_sum(q), lanes_sum(qq), lanes_sum(xq)};
}

struct fit_sums fit_sums(const struct fit_group *g, struct fit f)
{
    struct code_sums c = code_sums(g, f);
    float w[LANES] = {0}, x[LANES] = {0}, xx[LANES] = {0};
    for (int i = 0; i < g->n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float wx = g->w[i + l] * g->x[i + l];
            w[l] += g->w[i + l];
            x[l] += wx;
            xx[l] += wx * g->x[i + l];
        }
    }
    return (struct fit_sums){c.q, c.qq, c.xq, lanes_sum(w), lanes_sum(x), lanes_sum(xx)};
}

double fit_error(const struct fit_group *g, struct fit f)
{
    float inv = inverse(f.scale), sum[LANES] = {0};
    for (int i = 0; i < g->n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            float c = nearest_code((g->x[i + l] - f.min) * inv, g->lo, g->hi);
            float e = g->x[i + l] - (f.scale * c + f.min);
            sum[l] += g->w[i + l] * e * e;
        }
    }
    return lanes_sum(sum);
}

void fit_codes(const struct fit_group *g, struct fit f, uint8_t *codes)
{
    float inv = inverse(f.scale);
    for (int i = 0; i < g->n; i++)
        codes[i] = (uint8_t)(int)(nearest_code((g->x[i] - f.min) * inv, g->lo, g->hi) - g->lo);
}

/* ---- a scale alone ---- */

static float extreme(const struct fit_group *g)
{
    float best = g->x[0];
    for (int i = 1; i < g->n; i++)
        best = fabsf(g->x[i]) > fabsf(best) ? g->x[i] : best;
    return best;
}

struct scale_search {
    const struct fit_group *g;
    double gain; /* what the best takes off the sum of w x^2; below 0: none yet */
    struct fit best;
};

static bool try_scale(struct scale_search *s, float scale)
{
    struct code_sums c = code_sums(s->g, (struct fit){scale, 0});
    if (!(c.qq > 0))
        return false;
    double gain = c.xq * c.xq / c.qq;
    if (!(gain > s->gain * (1 + 1e-9)))
        return false;
    s->gain = gain;
    s->best.scale = (float)(c.xq / c.qq);
    return true;
}

struct fit fit_scale(const struct fit_group *g)
{
    struct scale_search s = {.g = g, .gain = -1};
    float top = extreme(g), levels = g->hi - g->lo;
    float step = levels > 100 ? 0.5f : 0.25f, last = levels > 100 ? 1.5f : levels > 20 ? 2.0f : 2.75f;
    if (top == 0.0f)
        return s.best;
    for (float d = -0.75f; d <= last; d += step) {
        try_scale(&s, top / (g->lo - d));
        if (g->lo != -g->hi)
            try_scale(&s, top / (g->hi + d));
    }
    for (int i = 0; i < MAX_ROUNDS && s.gain >= 0 && try_scale(&s, s.best.scale); i++)
        ;
    return s.best;
}

/* ---- scale and minimum ---- */

struct affine_search {
    const struct fit_group *g;
    double w, x, xx; /* sums of weights, w x, w x^2 */
    bool below_zero;
    double error; /* of the best; below 0: none yet */
    struct fit best;
};

/* Regression on the codes that f gives. */
static bool try_affine(struct affine_search *s, struct fit f)
{
    struct code_sums c = code_sums(s->g, f);
    double det = s->w * c.qq - c.q * c.q, scale, min = 0, error;
    if (det > 0) {
        scale = (s->w * c.xq - s->x * c.q) / det;
        min = (c.qq * s->x - c.q * c.xq) / det;
    }
    if (!(det > 0) || (s->below_zero && min > 0)) {
        if (!(c.qq > 0))
            return false;
        scale = c.xq / c.qq;
        min = 0;
    }
    error = s->xx - scale * c.xq - min * s->x; /* of a regression; the codes that it gives in turn are no worse */
    if (!(scale > 0) || !(s->error < 0 || error < s->error * (1 - 1e-9)))
        return false;
    s->error = error > 0 ? error : 0;
    s->best = (struct fit){(float)scale, (float)min};
    return true;
}

struct fit fit_affine(const struct fit_group *g, bool below_zero)
{
    static const float cuts[] = {-0.4f, 0.0f, 0.5f, 1.1f, 1.8f}; /* levels that an extreme is beyond the last one */
    const int n_cuts = (int)(sizeof(cuts) / sizeof(cuts[0]));
    struct fit_sums all = fit_sums(g, (struct fit){0, 0});
    struct affine_search s = {.g = g, .w = all.w, .x = all.x, .xx = all.xx, .below_zero = below_zero, .error = -1};
    float min = g->x[0], max = g->x[0];
    for (int i = 1; i < g->n; i++) {
        min = g->x[i] < min ? g->x[i] : min;
        max = g->x[i] > max ? g->x[i] : max;
    }
    min = below_zero && min > 0 ? 0 : min;
    s.best.min = min;
    if (!(max > min))
        return s.best;
    for (int a = 0; a < n_cuts; a++) {
        for (int b = 0; b < n_cuts; b++) {
            float scale = (max - min) / (g->hi + cuts[a] + cuts[b]);
            try_affine(&s, (struct fit){scale, min == 0 && below_zero ? 0 : min + cuts[a] * scale});
        }
    }
    for (int i = 0; i < MAX_ROUNDS && s.error >= 0 && try_affine(&s, s.best); i++)
        ;
    return s.best;
}
