#include "backend/mlx/mlx_repack.h"

#include <math.h>
#include <string.h>

/* One block: its codes in column order, and scale and bias of each group of 32. Layouts: dtype_dequantize.c. */
struct groups {
    uint8_t codes[256];
    float scales[8], biases[8];
};
typedef void unpack_fn(const uint8_t *block, struct groups *out);

static float f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return f16_to_f32(h);
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void nibbles(const uint8_t *qs, uint8_t *codes)
{
    for (int i = 0; i < 16; i++) {
        codes[i] = qs[i] & 15;
        codes[i + 16] = qs[i] >> 4;
    }
}

/* Bit i of the word is the fifth bit of code i. */
static void fifth_bits(uint32_t word, uint8_t *codes)
{
    for (int i = 0; i < 32; i++)
        codes[i] = (uint8_t)(codes[i] | (word >> i & 1) << 4);
}

static void q4_0(const uint8_t *block, struct groups *out)
{
    out->scales[0] = f16_at(block);
    out->biases[0] = -8 * out->scales[0];
    nibbles(block + 2, out->codes);
}

static void q4_1(const uint8_t *block, struct groups *out)
{
    out->scales[0] = f16_at(block);
    out->biases[0] = f16_at(block + 2);
    nibbles(block + 4, out->codes);
}

static void q5_0(const uint8_t *block, struct groups *out)
{
    out->scales[0] = f16_at(block);
    out->biases[0] = -16 * out->scales[0];
    nibbles(block + 6, out->codes);
    fifth_bits(u32_at(block + 2), out->codes);
}

static void q5_1(const uint8_t *block, struct groups *out)
{
    out->scales[0] = f16_at(block);
    out->biases[0] = f16_at(block + 2);
    nibbles(block + 8, out->codes);
    fifth_bits(u32_at(block + 4), out->codes);
}

static void q8_0(const uint8_t *block, struct groups *out)
{
    out->scales[0] = f16_at(block);
    out->biases[0] = -128 * out->scales[0];
    for (int i = 0; i < 32; i++)
        out->codes[i] = (uint8_t)(block[2 + i] + 128); /* two's complement plus 128, modulo 256 */
}

/* Six-bit scale and minimum of group g, packed in 12 bytes. */
static void k_scale(const uint8_t *s, int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = s[g] & 63;
        *min = s[g + 4] & 63;
    } else {
        *scale = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
        *min = (s[g + 4] >> 4) | (s[g] >> 6) << 4;
    }
}

static void k_scales(const uint8_t *block, struct groups *out)
{
    float d = f16_at(block), dmin = f16_at(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, min;
        k_scale(block + 4, g, &scale, &min);
        out->scales[g] = d * (float)scale;
        out->biases[g] = -(dmin * (float)min);
    }
}

/* Groups 2i and 2i + 1 share 32 bytes: low and high nibbles. */
static void k_nibbles(const uint8_t *qs, uint8_t *codes)
{
    for (int i = 0; i < 128; i++) {
        uint8_t *pair = codes + i / 32 * 64 + i % 32;
        pair[0] = qs[i] & 15;
        pair[32] = qs[i] >> 4;
    }
}

static void q4_k(const uint8_t *block, struct groups *out)
{
    k_scales(block, out);
    k_nibbles(block + 16, out->codes);
}

static void q5_k(const uint8_t *block, struct groups *out)
{
    k_scales(block, out);
    k_nibbles(block + 48, out->codes);
    for (int i = 0; i < 256; i++) /* bit g of byte i % 32 is the fifth bit of group g */
        out->codes[i] = (uint8_t)(out->codes[i] | (block[16 + i % 32] >> (i / 32) & 1) << 4);
}

static unpack_fn *const unpackers[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = q4_0, [DTYPE_Q4_1] = q4_1, [DTYPE_Q5_0] = q5_0, [DTYPE_Q5_1] = q5_1,
    [DTYPE_Q8_0] = q8_0, [DTYPE_Q4_K] = q4_k, [DTYPE_Q5_K] = q5_k,
};

/* Little-endian, lowest bit first. n is a multiple of 8, so that the stream is whole bytes. */
static uint8_t *write_codes(const uint8_t *codes, int n, int bits, uint8_t *dst)
{
    unsigned word = 0;
    int held = 0;
    for (int i = 0; i < n; i++) {
        word |= (unsigned)codes[i] << held;
        for (held += bits; held >= 8; held -= 8, word >>= 8)
            *dst++ = (uint8_t)word;
    }
    return dst;
}

static const uint8_t *block_row(const struct tensor_view *t, uint64_t row, size_t *n_blocks)
{
    const struct dtype_info *info = dtype_info(t->type);
    *n_blocks = (size_t)(t->shape[1] / (uint64_t)info->block_len);
    return (const uint8_t *)t->data + (size_t)row * *n_blocks * (size_t)info->block_size;
}

void mlx_repack_row(const struct tensor_view *t, uint64_t row, int bits, uint8_t *codes, float *scales, float *biases)
{
    const struct dtype_info *info = dtype_info(t->type);
    size_t n_blocks, n_groups = (size_t)info->block_len / 32;
    const uint8_t *block = block_row(t, row, &n_blocks);
    for (size_t i = 0; i < n_blocks; i++, block += info->block_size) {
        struct groups g;
        unpackers[t->type](block, &g);
        codes = write_codes(g.codes, info->block_len, bits, codes);
        memcpy(scales + i * n_groups, g.scales, n_groups * sizeof *scales);
        memcpy(biases + i * n_groups, g.biases, n_groups * sizeof *biases);
    }
}

void mlx_repack_mxfp4_row(const struct tensor_view *t, uint64_t row, uint8_t *codes, uint8_t *scales)
{
    size_t n_blocks;
    const uint8_t *block = block_row(t, row, &n_blocks);
    for (size_t i = 0; i < n_blocks; i++, block += dtype_info(t->type)->block_size) {
        uint8_t unpacked[32];
        nibbles(block + 1, unpacked);
        codes = write_codes(unpacked, 32, 4, codes);
        scales[i] = block[0];
    }
}

static void requantize_group(const float *x, uint8_t *codes, float *scale, float *bias)
{
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    *scale = (high - low) / 255;
    *bias = low;
    for (int i = 0; i < 32; i++) {
        float q = *scale > 0 ? rintf((x[i] - low) / *scale) : 0;
        codes[i] = q > 0 ? q < 255 ? (uint8_t)q : 255 : 0; /* a NaN gives 0 */
    }
}

void mlx_requantize_row(const float *x, uint64_t k, uint8_t *codes, float *scales, float *biases)
{
    for (uint64_t g = 0; g < k / 32; g++)
        requantize_group(x + g * 32, codes + g * 32, scales + g, biases + g);
}
