/* From fits of groups (quantize_fit.h) to blocks. What a block stores is coarser than a fit: scales are f16, or a few
 * bits of a scale of the block; so the neighbours of what rounding gives are tried too, by their true error. */
#include "tensor/quantize.h"

#include "tensor/dtype_internal.h"
#include "tensor/quantize_fit.h"

#include <assert.h>
#include <math.h>

#define SUPER 256 /* elements of a K block */

typedef void block_fn(enum dtype type, const float *x, const float *w, uint8_t *block);

static float inverse(float d)
{
    return d == 0.0f ? 0.0f : 1.0f / d;
}

static int clamp_int(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* The nearest integer; 0 of what is none. */
static int to_int(float v)
{
    return fabsf(v) < 1e6f ? (int)lrintf(v) : 0;
}

/* ---- one scale, 32 elements ---- */

static void scale_block(enum dtype type, const float *x, const float *w, uint8_t *block)
{
    float half = type == DTYPE_Q4_0 ? 8 : 16;
    struct fit_group g = {x, w, 32, -half, half - 1};
    struct fit f = fit_scale(&g);
    uint8_t q[32];
    f.scale = dtype__as_f16(f.scale);
    fit_codes(&g, f, q);
    dtype__pack_32(type, f.scale, 0, q, block);
}

static void q8_0_block(enum dtype type, const float *x, const float *w, uint8_t *block)
{
    struct fit_group g = {x, w, 32, -127, 127};
    struct fit f = fit_scale(&g);
    uint8_t q[32];
    (void)type;
    f.scale = dtype__store_f16(block, f.scale);
    fit_codes(&g, f, q);
    for (int i = 0; i < 32; i++)
        block[2 + i] = (uint8_t)(q[i] - 127);
}

/* ---- scale and minimum ---- */

typedef float store_fn(float v); /* as it will be read */

static float as_f32(float v)
{
    return v;
}

static float as_bf16(float v)
{
    return bf16_to_f32(f32_to_bf16(v));
}

static float as_f16(float v)
{
    return dtype__as_f16(v);
}

/* Rounds a fit to what is stored: the scale first, then the minimum that suits the codes it gives. */
static struct fit stored_affine(const struct fit_group *g, struct fit f, store_fn *store)
{
    struct fit out = {store(f.scale), store(f.min)};
    double error = fit_error(g, out);
    for (int i = 0; i < 2; i++) {
        struct fit_sums s = fit_sums(g, out);
        struct fit next = {out.scale, store((float)((s.x - (double)out.scale * s.q) / (s.w > 0 ? s.w : 1)))};
        double next_error = fit_error(g, next);
        if (!(next_error < error))
            break;
        out = next;
        error = next_error;
    }
    return out;
}

static void affine_block(enum dtype type, const float *x, const float *w, uint8_t *block)
{
    struct fit_group g = {x, w, 32, 0, type == DTYPE_Q4_1 ? 15 : 31};
    struct fit f = stored_affine(&g, fit_affine(&g, false), as_f16);
    uint8_t q[32];
    fit_codes(&g, f, q);
    dtype__pack_32(type, f.scale, f.min, q, block);
}

/* ---- Q4_K, Q5_K: 8 groups of 32 with 6 bits of scale and minimum each ---- */

struct k_search {
    struct fit_group groups[SUPER / 32];
    struct fit fits[SUPER / 32];
    struct scale_min_block b;
    double error;
};

static struct fit k_fit(const struct scale_min_block *b, int scale, int min)
{
    return (struct fit){b->d * (float)scale, -b->dmin * (float)min};
}

/* The best of a group's scale and minimum around what its fit rounds to. */
static double choose_scale_min(const struct k_search *s, int g, struct scale_min_block *b)
{
    int scale = to_int(s->fits[g].scale * inverse(b->d)), min = to_int(-s->fits[g].min * inverse(b->dmin));
    double best = -1;
    for (int i = -1; i <= 1; i++) {
        for (int j = -1; j <= 1; j++) {
            int sc = clamp_int(scale + i, 0, 63), m = clamp_int(min + j, 0, 63);
            double error = fit_error(&s->groups[g], k_fit(b, sc, m));
            if (best < 0 || error < best) {
                best = error;
                b->scales[g] = (uint8_t)sc;
                b->mins[g] = (uint8_t)m;
            }
        }
    }
    return best;
}

static void try_k(struct k_search *s, float d, float dmin)
{
    struct scale_min_block b = {.d = dtype__as_f16(d), .dmin = dtype__as_f16(dmin)};
    double error = 0;
    for (int g = 0; g < SUPER / 32; g++)
        error += choose_scale_min(s, g, &b);
    if (s->error < 0 || error < s->error) {
        s->error = error;
        s->b = b;
    }
}

/* d and dmin by regression on all that is chosen; the block's element is d * (scale q) + dmin * (-min). */
static struct fit refit_k(const struct k_search *s)
{
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int g = 0; g < SUPER / 32; g++) {
        double scale = s->b.scales[g], min = s->b.mins[g];
        struct fit_sums m = fit_sums(&s->groups[g], k_fit(&s->b, s->b.scales[g], s->b.mins[g]));
        aa += scale * scale * m.qq;
        ab -= scale * min * m.q;
        bb += min * min * m.w;
        xa += scale * m.xq;
        xb -= min * m.x;
    }
    double det = aa * bb - ab * ab;
    if (det > 1e-12 * aa * bb)
        return (struct fit){(float)((xa * bb - xb * ab) / det), (float)((xb * aa - xa * ab) / det)};
    return (struct fit){aa > 0 ? (float)(xa / aa) : s->b.d, s->b.dmin};
}

static void scale_min_super(enum dtype type, const float *x, const float *w, uint8_t *block)
{
    struct k_search s = {.error = -1};
    float hi = type == DTYPE_Q4_K ? 15 : 31, max_scale = 0, max_min = 0;
    for (int g = 0; g < SUPER / 32; g++) {
        s.groups[g] = (struct fit_group){x + 32 * g, w + 32 * g, 32, 0, hi};
        s.fits[g] = fit_affine(&s.groups[g], true);
        max_scale = s.fits[g].scale > max_scale ? s.fits[g].scale : max_scale;
        max_min = -s.fits[g].min > max_min ? -s.fits[g].min : max_min;
    }
    try_k(&s, max_scale / 63, max_min / 63);
    for (int i = 0; i < 2; i++) {
        double before = s.error;
        struct fit f = refit_k(&s);
        if (f.scale > 0 && f.min >= 0)
            try_k(&s, f.scale, f.min);
        if (!(s.error < before))
            break;
    }
    for (int g = 0; g < SUPER / 32; g++)
        fit_codes(&s.groups[g], k_fit(&s.b, s.b.scales[g], s.b.mins[g]), s.b.q + 32 * g);
    dtype__pack_scale_min(type, &s.b, block);
}

/* ---- Q6_K: 16 groups of 16 with 8 bits of scale each ---- */

struct q6_search {
    struct fit_group groups[SUPER / 16];
    struct fit fits[SUPER / 16];
    float d;
    int8_t scales[SUPER / 16];
    double error;
};

static void try_q6(struct q6_search *s, float d)
{
    int8_t scales[SUPER / 16] = {0};
    double error = 0;
    d = dtype__as_f16(d);
    for (int g = 0; g < SUPER / 16; g++) {
        int middle = to_int(s->fits[g].scale * inverse(d));
        double best = -1;
        for (int i = -1; i <= 1; i++) {
            int scale = clamp_int(middle + i, -128, 127);
            double e = fit_error(&s->groups[g], (struct fit){d * (float)scale, 0});
            if (best < 0 || e < best) {
                best = e;
                scales[g] = (int8_t)scale;
            }
        }
        error += best;
    }
    if (s->error < 0 || error < s->error) {
        s->error = error;
        s->d = d;
        memcpy(s->scales, scales, sizeof(scales));
    }
}

static float refit_q6(const struct q6_search *s)
{
    double aa = 0, xa = 0;
    for (int g = 0; g < SUPER / 16; g++) {
        double scale = s->scales[g];
        struct fit_sums m = fit_sums(&s->groups[g], (struct fit){s->d * (float)s->scales[g], 0});
        aa += scale * scale * m.qq;
        xa += scale * m.xq;
    }
    return aa > 0 ? (float)(xa / aa) : s->d;
}

static void q6_k_super(enum dtype type, const float *x, const float *w, uint8_t *block)
{
    struct q6_search s = {.error = -1};
    float max = 0;
    uint8_t q[SUPER];
    (void)type;
    for (int g = 0; g < SUPER / 16; g++) {
        s.groups[g] = (struct fit_group){x + 16 * g, w + 16 * g, 16, -32, 31};
        s.fits[g] = fit_scale(&s.groups[g]);
        max = fabsf(s.fits[g].scale) > fabsf(max) ? s.fits[g].scale : max;
    }
    try_q6(&s, max / -128);
    try_q6(&s, refit_q6(&s));
    for (int g = 0; g < SUPER / 16; g++)
        fit_codes(&s.groups[g], (struct fit){s.d * (float)s.scales[g], 0}, q + 16 * g);
    dtype__pack_q6_k(s.d, s.scales, q, block);
}

/* ---- rows ---- */

static block_fn *const block_fns[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = scale_block,  [DTYPE_Q5_0] = scale_block,     [DTYPE_Q4_1] = affine_block,
    [DTYPE_Q5_1] = affine_block, [DTYPE_Q8_0] = q8_0_block,      [DTYPE_Q4_K] = scale_min_super,
    [DTYPE_Q6_K] = q6_k_super,   [DTYPE_Q5_K] = scale_min_super,
};

bool quantize_type_known(enum dtype type)
{
    return block_fns[type] != NULL;
}

/* The weights of elements [at, at + n): the importance, made so that its mean is 1 and no column is without any. */
static const float *weights_of(const float *importance, size_t at, size_t n, float buf[FIT_MAX])
{
    float sum = 0;
    for (size_t i = 0; importance && i < n; i++)
        sum += importance[at + i];
    bool usable = sum > 0 && isfinite(sum);
    for (size_t i = 0; i < n; i++)
        buf[i] = usable ? importance[at + i] * (float)n / sum + 1e-6f : 1;
    return buf;
}

void quantize_row(enum dtype type, const float *x, size_t n, const float *importance, void *dst)
{
    const struct dtype_info *info = dtype_info(type);
    size_t block_len = (size_t)info->block_len;
    uint8_t *block = dst;
    float w[FIT_MAX];
    assert(quantize_type_known(type) && n % block_len == 0);
    for (size_t i = 0; i < n; i += block_len, block += info->block_size)
        block_fns[type](type, x + i, weights_of(importance, i, block_len, w), block);
}

/* ---- MLX's groups ---- */

static void store_scale(enum dtype type, float v, size_t i, void *dst)
{
    uint16_t half = type == DTYPE_F16 ? f32_to_f16(v) : f32_to_bf16(v);
    if (type == DTYPE_F32)
        memcpy((uint8_t *)dst + 4 * i, &v, 4);
    else
        memcpy((uint8_t *)dst + 2 * i, &half, 2);
}

/* One little-endian stream of codes, the first in the lowest bits. */
static void append_codes(const uint8_t *codes, int n, int bits, uint8_t *dst)
{
    unsigned word = 0;
    int have = 0;
    for (int i = 0; i < n; i++) {
        word |= (unsigned)codes[i] << have;
        for (have += bits; have >= 8; have -= 8, word >>= 8)
            *dst++ = (uint8_t)word;
    }
}

/* MLX's own choice: the larger extreme is a level, and so is zero. */
static struct fit mlx_fit(const struct fit_group *g, store_fn *store)
{
    float min = g->x[0], max = g->x[0];
    for (int i = 1; i < g->n; i++) {
        min = g->x[i] < min ? g->x[i] : min;
        max = g->x[i] > max ? g->x[i] : max;
    }
    bool low = fabsf(min) > fabsf(max);
    float scale = (max - min) / g->hi, edge = low ? min : max;
    scale = scale > 1e-7f ? scale : 1e-7f;
    scale = low ? scale : -scale;
    float zero = rintf(edge / scale);
    if (zero == 0)
        return (struct fit){store(scale), 0};
    return (struct fit){store(edge / zero), store(edge)};
}

void quantize_affine_row(const struct group_quant *q, const float *x, size_t n, const float *importance, void *codes,
                         void *scales, void *biases)
{
    store_fn *store = q->scale_type == DTYPE_F32 ? as_f32 : q->scale_type == DTYPE_F16 ? as_f16 : as_bf16;
    size_t size = (size_t)q->group_size;
    float w[FIT_MAX];
    uint8_t group_codes[FIT_MAX], *out = codes;
    assert(size <= FIT_MAX && n % size == 0 && n % 32 == 0);
    for (size_t i = 0; i < n / size; i++) {
        struct fit_group g = {x + i * size, weights_of(importance, i * size, size, w), (int)size, 0,
                              (float)((1 << q->bits) - 1)};
        struct fit f = stored_affine(&g, fit_affine(&g, false), store), plain = mlx_fit(&g, store);
        if (fit_error(&g, plain) < fit_error(&g, f))
            f = plain;
        fit_codes(&g, f, group_codes);
        append_codes(group_codes, (int)size, q->bits, out);
        store_scale(q->scale_type, f.scale, i, scales);
        store_scale(q->scale_type, f.min, i, biases);
        out += size * (size_t)q->bits / 8;
    }
}
