/* f32 to blocks, round to nearest; quantize.c searches, and packs through what is here. The formats the gguf package
 * can write (F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4) follow its quants.py operation by operation. The others
 * take the extreme of each group as its scale, without the search that ggml does; the group's elements are rounded
 * against the scale as stored. */
#include "tensor/dtype_internal.h"

#include <assert.h>
#include <math.h>

typedef void quantize_fn(const float *x, uint8_t *block);

/* Truncates to an integer in [lo, hi]; NaN gives lo. */
static int clamp_trunc(float x, int lo, int hi)
{
    if (!(x > (float)lo))
        return lo;
    return x >= (float)hi ? hi : (int)x;
}

static int clamp_round(float x, int lo, int hi)
{
    return clamp_trunc(floorf(x + 0.5f), lo, hi);
}

static float inverse(float d)
{
    return d == 0.0f ? 0.0f : 1.0f / d;
}

/* The first element of largest magnitude, with its sign. */
static float extreme(const float *x, int n)
{
    float best = x[0];
    for (int i = 1; i < n; i++) {
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    }
    return best;
}

static void min_max(const float *x, int n, float *min, float *max)
{
    *min = *max = x[0];
    for (int i = 1; i < n; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

static void pack_nibbles(const uint8_t q[32], uint8_t out[16])
{
    for (int l = 0; l < 16; l++)
        out[l] = (uint8_t)((q[l] & 15) | q[l + 16] << 4);
}

static void pack_fifth_bits(const uint8_t q[32], uint8_t out[4])
{
    memset(out, 0, 4);
    for (int i = 0; i < 32; i++)
        out[i / 8] = (uint8_t)(out[i / 8] | ((q[i] >> 4) & 1) << (i % 8));
}

void dtype__pack_32(enum dtype type, float d, float min, const uint8_t q[32], uint8_t *block)
{
    (void)dtype__store_f16(block, d);
    block += 2;
    if (type == DTYPE_Q4_1 || type == DTYPE_Q5_1) {
        (void)dtype__store_f16(block, min);
        block += 2;
    }
    if (type == DTYPE_Q5_0 || type == DTYPE_Q5_1) {
        pack_fifth_bits(q, block);
        block += 4;
    }
    pack_nibbles(q, block);
}

static void q4_0_quantize(const float *x, uint8_t *block)
{
    float d = extreme(x, 32) / -8.0f, id = inverse(d);
    uint8_t q[32];
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)clamp_trunc(x[i] * id + 8.5f, 0, 15);
    dtype__pack_32(DTYPE_Q4_0, d, 0, q, block);
}

static void q4_1_quantize(const float *x, uint8_t *block)
{
    float min, max;
    min_max(x, 32, &min, &max);
    float d = (max - min) / 15.0f, id = inverse(d);
    uint8_t q[32];
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)clamp_trunc((x[i] - min) * id + 0.5f, 0, 15);
    dtype__pack_32(DTYPE_Q4_1, d, min, q, block);
}

static void q5_0_quantize(const float *x, uint8_t *block)
{
    float d = extreme(x, 32) / -16.0f, id = inverse(d);
    uint8_t q[32];
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)clamp_trunc(x[i] * id + 16.5f, 0, 31);
    dtype__pack_32(DTYPE_Q5_0, d, 0, q, block);
}

static void q5_1_quantize(const float *x, uint8_t *block)
{
    float min, max;
    min_max(x, 32, &min, &max);
    float d = (max - min) / 31.0f, id = inverse(d);
    uint8_t q[32];
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)clamp_trunc((x[i] - min) * id + 0.5f, 0, 31);
    dtype__pack_32(DTYPE_Q5_1, d, min, q, block);
}

static void q8_0_quantize(const float *x, uint8_t *block)
{
    float d = fabsf(extreme(x, 32)) / 127.0f, id = inverse(d);
    (void)dtype__store_f16(block, d);
    for (int i = 0; i < 32; i++)
        block[2 + i] = (uint8_t)clamp_trunc(roundf(x[i] * id), -128, 127);
}

static int nearest_value(const int8_t values[16], float d, float x)
{
    int best = 0;
    float best_error = fabsf(d * (float)values[0] - x);
    for (int i = 1; i < 16; i++) {
        float e = fabsf(d * (float)values[i] - x);
        if (e < best_error) {
            best_error = e;
            best = i;
        }
    }
    return best;
}

static void quantize_by_values(const int8_t values[16], float d, const float *x, uint8_t out[16])
{
    uint8_t q[32];
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)nearest_value(values, d, x[i]);
    pack_nibbles(q, out);
}

static void mxfp4_quantize(const float *x, uint8_t *block)
{
    float max = fabsf(extreme(x, 32));
    int exponent = -127 + 2; /* of an all-zero block: stored as 0 */
    if (max > 0.0f)
        (void)frexpf(max, &exponent), exponent -= 1; /* floor(log2(max)) */
    int e = exponent - 2 + 127;
    block[0] = (uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e);
    quantize_by_values(dtype__mxfp4_values, dtype__e8m0_half(block[0]), x, block + 1);
}

static void iq4_nl_quantize(const float *x, uint8_t *block)
{
    float d = dtype__store_f16(block, extreme(x, 32) / -127.0f);
    quantize_by_values(dtype__iq4_values, d, x, block + 2);
}

static void iq4_xs_quantize(const float *x, uint8_t *block)
{
    float scales[8];
    for (int g = 0; g < 8; g++)
        scales[g] = extreme(x + 32 * g, 32) / -127.0f;
    float d = dtype__store_f16(block, extreme(scales, 8) / -32.0f), id = inverse(d);
    unsigned scales_h = 0;
    memset(block + 4, 0, 4);
    for (int g = 0; g < 8; g++) {
        int scale = clamp_round(scales[g] * id, -32, 31);
        unsigned packed = (unsigned)(scale + 32);
        block[4 + g / 2] = (uint8_t)(block[4 + g / 2] | (packed & 15) << (4 * (g % 2)));
        scales_h |= packed >> 4 << (2 * g);
        quantize_by_values(dtype__iq4_values, d * (float)scale, x + 32 * g, block + 8 + 16 * g);
    }
    dtype__store_u16(block + 2, (uint16_t)scales_h);
}

static void q2_k_quantize(const float *x, uint8_t *block)
{
    float scales[16], mins[16];
    for (int g = 0; g < 16; g++) {
        float min, max;
        min_max(x + 16 * g, 16, &min, &max);
        min = min > 0.0f ? 0.0f : min;
        scales[g] = (max - min) / 3.0f;
        mins[g] = -min;
    }
    float d = dtype__store_f16(block + 80, extreme(scales, 16) / 15.0f), id = inverse(d);
    float dmin = dtype__store_f16(block + 82, extreme(mins, 16) / 15.0f), idmin = inverse(dmin);
    memset(block + 16, 0, 64);
    for (int g = 0; g < 16; g++) {
        int scale = clamp_round(scales[g] * id, 0, 15), min = clamp_round(mins[g] * idmin, 0, 15);
        block[g] = (uint8_t)(scale | min << 4);
        float il = inverse(d * (float)scale), ml = dmin * (float)min;
        uint8_t *q = block + 16 + 32 * (g / 8) + 16 * (g % 2);
        for (int l = 0; l < 16; l++)
            q[l] = (uint8_t)(q[l] | clamp_round((x[16 * g + l] + ml) * il, 0, 3) << (2 * (g % 8 / 2)));
    }
}

static void q3_k_quantize(const float *x, uint8_t *block)
{
    float group_scales[16];
    for (int g = 0; g < 16; g++)
        group_scales[g] = extreme(x + 16 * g, 16) / -4.0f;
    float d = dtype__store_f16(block + 108, extreme(group_scales, 16) / -32.0f), id = inverse(d);
    uint8_t *hmask = block, *qs = block + 32, *scales = block + 96;
    memset(block, 0, 108);
    for (int g = 0; g < 16; g++) {
        int scale = clamp_round(group_scales[g] * id, -32, 31);
        int packed = scale + 32;
        scales[g % 8] = (uint8_t)(scales[g % 8] | (packed & 15) << (4 * (g / 8)));
        scales[8 + g % 4] = (uint8_t)(scales[8 + g % 4] | packed >> 4 << (2 * (g / 4)));
        float il = inverse(d * (float)scale);
        uint8_t *q = qs + 32 * (g / 8) + 16 * (g % 2), *h = hmask + 16 * (g % 2);
        for (int l = 0; l < 16; l++) {
            int v = clamp_round(x[16 * g + l] * il, -4, 3) + 4;
            q[l] = (uint8_t)(q[l] | (v & 3) << (2 * (g % 8 / 2)));
            h[l] = (uint8_t)(h[l] | v >> 2 << (g / 2));
        }
    }
}

static void pack_scale_min(uint8_t packed[12], int g, int scale, int min)
{
    if (g < 4) {
        packed[g] = (uint8_t)(packed[g] | scale);
        packed[g + 4] = (uint8_t)(packed[g + 4] | min);
    } else {
        packed[g + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        packed[g - 4] = (uint8_t)(packed[g - 4] | scale >> 4 << 6);
        packed[g] = (uint8_t)(packed[g] | min >> 4 << 6);
    }
}

/* Runs of 32 elements take turns in the low and high nibbles of 32 bytes. */
static void pack_runs(const uint8_t q[256], uint8_t out[128])
{
    for (int g = 0; g < 8; g += 2) {
        for (int l = 0; l < 32; l++)
            out[16 * g + l] = (uint8_t)((q[32 * g + l] & 15) | q[32 * (g + 1) + l] << 4);
    }
}

void dtype__pack_scale_min(enum dtype type, const struct scale_min_block *b, uint8_t *block)
{
    (void)dtype__store_f16(block, b->d);
    (void)dtype__store_f16(block + 2, b->dmin);
    memset(block + 4, 0, 12);
    for (int g = 0; g < 8; g++)
        pack_scale_min(block + 4, g, b->scales[g], b->mins[g]);
    if (type == DTYPE_Q4_K) {
        pack_runs(b->q, block + 16);
        return;
    }
    uint8_t *qh = block + 16;
    memset(qh, 0, 32);
    for (int i = 0; i < 256; i++)
        qh[i % 32] = (uint8_t)(qh[i % 32] | b->q[i] >> 4 << (i / 32));
    pack_runs(b->q, block + 48);
}

/* Q4_K and Q5_K: integers of 0 to q_max. */
static void scale_min_quantize(enum dtype type, int q_max, const float *x, uint8_t *block)
{
    struct scale_min_block b;
    float scales[8], mins[8];
    for (int g = 0; g < 8; g++) {
        float min, max;
        min_max(x + 32 * g, 32, &min, &max);
        min = min > 0.0f ? 0.0f : min;
        scales[g] = (max - min) / (float)q_max;
        mins[g] = -min;
    }
    b.d = dtype__as_f16(extreme(scales, 8) / 63.0f);
    b.dmin = dtype__as_f16(extreme(mins, 8) / 63.0f);
    float id = inverse(b.d), idmin = inverse(b.dmin);
    for (int g = 0; g < 8; g++) {
        b.scales[g] = (uint8_t)clamp_round(scales[g] * id, 0, 63);
        b.mins[g] = (uint8_t)clamp_round(mins[g] * idmin, 0, 63);
        float il = inverse(b.d * (float)b.scales[g]), ml = b.dmin * (float)b.mins[g];
        for (int l = 0; l < 32; l++)
            b.q[32 * g + l] = (uint8_t)clamp_round((x[32 * g + l] + ml) * il, 0, q_max);
    }
    dtype__pack_scale_min(type, &b, block);
}

static void q4_k_quantize(const float *x, uint8_t *block)
{
    scale_min_quantize(DTYPE_Q4_K, 15, x, block);
}

static void q5_k_quantize(const float *x, uint8_t *block)
{
    scale_min_quantize(DTYPE_Q5_K, 31, x, block);
}

void dtype__pack_q6_k(float d, const int8_t scales[16], const uint8_t q[256], uint8_t *block)
{
    memset(block, 0, 192);
    (void)dtype__store_f16(block + 208, d);
    for (int g = 0; g < 16; g++) {
        block[192 + g] = (uint8_t)scales[g];
        int h = g / 8, j = g % 8 / 2;
        uint8_t *ql = block + 64 * h + 32 * (j % 2) + 16 * (g % 2);
        uint8_t *qh = block + 128 + 32 * h + 16 * (g % 2);
        for (int l = 0; l < 16; l++) {
            int v = q[16 * g + l];
            ql[l] = (uint8_t)(ql[l] | (v & 15) << (4 * (j / 2)));
            qh[l] = (uint8_t)(qh[l] | v >> 4 << (2 * j));
        }
    }
}

static void q6_k_quantize(const float *x, uint8_t *block)
{
    float group_scales[16];
    int8_t scales[16];
    uint8_t q[256];
    for (int g = 0; g < 16; g++)
        group_scales[g] = extreme(x + 16 * g, 16) / -32.0f;
    float d = dtype__as_f16(extreme(group_scales, 16) / -128.0f), id = inverse(d);
    for (int g = 0; g < 16; g++) {
        scales[g] = (int8_t)clamp_round(group_scales[g] * id, -128, 127);
        float il = inverse(d * (float)scales[g]);
        for (int l = 0; l < 16; l++)
            q[16 * g + l] = (uint8_t)(clamp_round(x[16 * g + l] * il, -32, 31) + 32);
    }
    dtype__pack_q6_k(d, scales, q, block);
}

static void q8_k_quantize(const float *x, uint8_t *block)
{
    float d = extreme(x, 256) / -127.0f, id = inverse(d);
    memcpy(block, &d, sizeof(d));
    for (int g = 0; g < 16; g++) {
        int sum = 0;
        for (int l = 0; l < 16; l++) {
            int q = clamp_round(x[16 * g + l] * id, -128, 127);
            block[4 + 16 * g + l] = (uint8_t)q;
            sum += q;
        }
        dtype__store_u16(block + 260 + 2 * g, (uint16_t)sum);
    }
}

static void f16_quantize(const float *x, uint8_t *block)
{
    dtype__store_u16(block, f32_to_f16(*x));
}

static void bf16_quantize(const float *x, uint8_t *block)
{
    dtype__store_u16(block, f32_to_bf16(*x));
}

static quantize_fn *const quantize_fns[DTYPE_COUNT] = {
    [DTYPE_F16] = f16_quantize,     [DTYPE_BF16] = bf16_quantize,     [DTYPE_Q4_0] = q4_0_quantize,
    [DTYPE_Q4_1] = q4_1_quantize,   [DTYPE_Q5_0] = q5_0_quantize,     [DTYPE_Q5_1] = q5_1_quantize,
    [DTYPE_Q8_0] = q8_0_quantize,   [DTYPE_Q2_K] = q2_k_quantize,     [DTYPE_Q3_K] = q3_k_quantize,
    [DTYPE_Q4_K] = q4_k_quantize,   [DTYPE_Q5_K] = q5_k_quantize,     [DTYPE_Q6_K] = q6_k_quantize,
    [DTYPE_Q8_K] = q8_k_quantize,   [DTYPE_IQ4_NL] = iq4_nl_quantize, [DTYPE_IQ4_XS] = iq4_xs_quantize,
    [DTYPE_MXFP4] = mxfp4_quantize,
};

bool dtype_from_f32(enum dtype type, const float *src, size_t n, void *dst)
{
    const struct dtype_info *info = dtype_info(type);
    size_t block_len = (size_t)info->block_len, block_size = (size_t)info->block_size;
    assert(n % block_len == 0);
    if (type == DTYPE_F32) {
        if (n > 0)
            memcpy(dst, src, n * sizeof(float));
        return true;
    }
    quantize_fn *fn = quantize_fns[type];
    if (!fn)
        return false;
    uint8_t *block = dst;
    for (size_t i = 0; i < n / block_len; i++)
        fn(src + i * block_len, block + i * block_size);
    return true;
}
