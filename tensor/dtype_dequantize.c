/* Blocks to f32. The formats are those of ggml; the order of float operations is that of the gguf package (quants.py),
 * so that results are equal bit for bit. The build forbids contraction into fused multiply-adds.
 *
 * Legend: d, m: scale and offset of a block; q: a small integer; l: index in a run of 32 elements. */
#include "tensor/dtype_internal.h"

#include <assert.h>

typedef void block_fn(const uint8_t *block, float *dst);

static void q4_0_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block);
    const uint8_t *qs = block + 2;
    for (int l = 0; l < 16; l++) {
        dst[l] = d * (float)((qs[l] & 15) - 8);
        dst[l + 16] = d * (float)((qs[l] >> 4) - 8);
    }
}

static void q4_1_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block), m = dtype__load_f16(block + 2);
    const uint8_t *qs = block + 4;
    for (int l = 0; l < 16; l++) {
        dst[l] = d * (float)(qs[l] & 15) + m;
        dst[l + 16] = d * (float)(qs[l] >> 4) + m;
    }
}

/* By masks that are constants: few processors shift each element of a vector by a count of its own. */
static inline int fifth_bit(uint32_t bits, int l)
{
    static const uint32_t masks[16] = {1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                                       1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
    return bits & masks[l] ? 16 : 0;
}

static void q5_0_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block);
    uint32_t qh = dtype__load_u32(block + 2); /* bit i: fifth bit of element i */
    const uint8_t *qs = block + 6;
    for (int l = 0; l < 16; l++) {
        int low = (qs[l] & 15) | fifth_bit(qh, l);
        int high = (qs[l] >> 4) | fifth_bit(qh >> 16, l);
        dst[l] = d * (float)(low - 16);
        dst[l + 16] = d * (float)(high - 16);
    }
}

static void q5_1_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block), m = dtype__load_f16(block + 2);
    uint32_t qh = dtype__load_u32(block + 4);
    const uint8_t *qs = block + 8;
    for (int l = 0; l < 16; l++) {
        int low = (qs[l] & 15) | fifth_bit(qh, l);
        int high = (qs[l] >> 4) | fifth_bit(qh >> 16, l);
        dst[l] = d * (float)low + m;
        dst[l + 16] = d * (float)high + m;
    }
}

static void q8_0_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block);
    const int8_t *qs = (const int8_t *)(block + 2);
    for (int i = 0; i < 32; i++)
        dst[i] = (float)qs[i] * d;
}

/* scales[16] (low nibble scale, high nibble offset), qs[64], d, dmin. Element 128 h + 32 j + l has its two bits at 2 j
 * of byte 32 h + l; a scale covers 16 elements. */
static void q2_k_block(const uint8_t *block, float *dst)
{
    const uint8_t *scales = block, *qs = block + 16;
    float d = dtype__load_f16(block + 80), dmin = dtype__load_f16(block + 82);
    for (int g = 0; g < 16; g++) {
        float dl = d * (float)(scales[g] & 15);
        float ml = dmin * (float)(scales[g] >> 4);
        const uint8_t *q = qs + 32 * (g / 8) + 16 * (g % 2);
        int shift = 2 * (g % 8 / 2);
        for (int l = 0; l < 16; l++)
            dst[16 * g + l] = dl * (float)((q[l] >> shift) & 3) - ml;
    }
}

/* hmask[32], qs[64] as in Q2_K, scales[12], d. Bit i / 32 of hmask[i % 32] set means "do not subtract 4". Scale g has
 * its low four bits in a nibble of the first eight bytes and its high two in the last four. */
static void q3_k_block(const uint8_t *block, float *dst)
{
    const uint8_t *hmask = block, *qs = block + 32, *scales = block + 96;
    float d = dtype__load_f16(block + 108);
    for (int g = 0; g < 16; g++) {
        int low = (scales[g % 8] >> (4 * (g / 8))) & 15;
        int high = (scales[8 + g % 4] >> (2 * (g / 4))) & 3;
        float dl = d * (float)((low | high << 4) - 32);
        const uint8_t *q = qs + 32 * (g / 8) + 16 * (g % 2);
        const uint8_t *h = hmask + 16 * (g % 2);
        int shift = 2 * (g % 8 / 2), bit = g / 2;
        for (int l = 0; l < 16; l++)
            dst[16 * g + l] = dl * (float)(((q[l] >> shift) & 3) - ((h[l] >> bit) & 1 ? 0 : 4));
    }
}

/* Q4_K and Q5_K pack eight 6-bit scales and eight 6-bit offsets in 12 bytes: the first four of each in the low six bits
 * of bytes 0-3 and 4-7, the others' low nibbles in bytes 8-11 and their high bits atop bytes 0-7. */
static void unpack_scale_min(const uint8_t packed[12], int g, int *scale, int *min)
{
    if (g < 4) {
        *scale = packed[g] & 63;
        *min = packed[g + 4] & 63;
    } else {
        *scale = (packed[g + 4] & 15) | ((packed[g - 4] >> 2) & 0x30);
        *min = (packed[g + 4] >> 4) | ((packed[g] >> 2) & 0x30);
    }
}

/* d, dmin, scales[12], qs[128]: runs of 32 elements take turns in the low and high nibbles of 32 bytes. */
static void q4_k_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block), dmin = dtype__load_f16(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, min;
        unpack_scale_min(block + 4, g, &scale, &min);
        float dl = d * (float)scale, ml = dmin * (float)min;
        const uint8_t *q = block + 16 + 32 * (g / 2);
        int shift = 4 * (g % 2);
        for (int l = 0; l < 32; l++)
            dst[32 * g + l] = dl * (float)((q[l] >> shift) & 15) - ml;
    }
}

/* As Q4_K with qh[32] before qs: bit g of qh[l] is the fifth bit of element 32 g + l. */
static void q5_k_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block), dmin = dtype__load_f16(block + 2);
    const uint8_t *qh = block + 16;
    for (int g = 0; g < 8; g++) {
        int scale, min;
        unpack_scale_min(block + 4, g, &scale, &min);
        float dl = d * (float)scale, ml = dmin * (float)min;
        const uint8_t *q = block + 48 + 32 * (g / 2);
        int shift = 4 * (g % 2);
        for (int l = 0; l < 32; l++)
            dst[32 * g + l] = dl * (float)(((q[l] >> shift) & 15) | ((qh[l] >> g) & 1) << 4) - ml;
    }
}

/* ql[128], qh[64], scales[16] (int8), d. In half h, element 32 j + l has its low bits in nibble j / 2 of
 * ql[64 h + 32 (j % 2) + l] and its high two bits at 2 j of qh[32 h + l]; a scale covers 16 elements. */
static void q6_k_block(const uint8_t *block, float *dst)
{
    const int8_t *scales = (const int8_t *)(block + 192);
    float d = dtype__load_f16(block + 208);
    for (int g = 0; g < 16; g++) {
        int h = g / 8, j = g % 8 / 2;
        float dl = d * (float)scales[g];
        const uint8_t *ql = block + 64 * h + 32 * (j % 2) + 16 * (g % 2);
        const uint8_t *qh = block + 128 + 32 * h + 16 * (g % 2);
        for (int l = 0; l < 16; l++) {
            int q = ((ql[l] >> (4 * (j / 2))) & 15) | ((qh[l] >> (2 * j)) & 3) << 4;
            dst[16 * g + l] = dl * (float)(q - 32);
        }
    }
}

/* d (f32), qs[256] (int8), bsums[16] (int16 sums of 16 elements, redundant). */
static void q8_k_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f32(block);
    const int8_t *qs = (const int8_t *)(block + 4);
    for (int i = 0; i < 256; i++)
        dst[i] = d * (float)qs[i];
}

static void iq4_nl_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block);
    const uint8_t *qs = block + 2;
    for (int l = 0; l < 16; l++) {
        dst[l] = d * (float)dtype__iq4_values[qs[l] & 15];
        dst[l + 16] = d * (float)dtype__iq4_values[qs[l] >> 4];
    }
}

/* d, scales_h (u16, two bits each), scales_l[4] (nibbles), qs[128]: eight runs laid out as in IQ4_NL. */
static void iq4_xs_block(const uint8_t *block, float *dst)
{
    float d = dtype__load_f16(block);
    unsigned scales_h = dtype__load_u16(block + 2);
    for (int g = 0; g < 8; g++) {
        int low = (block[4 + g / 2] >> (4 * (g % 2))) & 15;
        int high = (int)((scales_h >> (2 * g)) & 3);
        float dl = d * (float)((low | high << 4) - 32);
        const uint8_t *qs = block + 8 + 16 * g;
        for (int l = 0; l < 16; l++) {
            dst[32 * g + l] = dl * (float)dtype__iq4_values[qs[l] & 15];
            dst[32 * g + l + 16] = dl * (float)dtype__iq4_values[qs[l] >> 4];
        }
    }
}

static void mxfp4_block(const uint8_t *block, float *dst)
{
    float d = dtype__e8m0_half(block[0]);
    const uint8_t *qs = block + 1;
    for (int l = 0; l < 16; l++) {
        dst[l] = d * (float)dtype__mxfp4_values[qs[l] & 15];
        dst[l + 16] = d * (float)dtype__mxfp4_values[qs[l] >> 4];
    }
}

/* "Blocks" of one element. The float types have loops of their own below. */
static void i8_block(const uint8_t *block, float *dst)
{
    *dst = (float)(int8_t)*block;
}

static void i16_block(const uint8_t *block, float *dst)
{
    *dst = (float)(int16_t)dtype__load_u16(block);
}

static void i32_block(const uint8_t *block, float *dst)
{
    *dst = (float)(int32_t)dtype__load_u32(block);
}

static void i64_block(const uint8_t *block, float *dst)
{
    int64_t v;
    memcpy(&v, block, sizeof(v));
    *dst = (float)v;
}

static void f64_block(const uint8_t *block, float *dst)
{
    double v;
    memcpy(&v, block, sizeof(v));
    *dst = (float)v;
}

static void u8_block(const uint8_t *block, float *dst)
{
    *dst = (float)*block;
}

static void u16_block(const uint8_t *block, float *dst)
{
    *dst = (float)dtype__load_u16(block);
}

static void u32_block(const uint8_t *block, float *dst)
{
    *dst = (float)dtype__load_u32(block);
}

static void u64_block(const uint8_t *block, float *dst)
{
    uint64_t v;
    memcpy(&v, block, sizeof(v));
    *dst = (float)v;
}

static void bool_block(const uint8_t *block, float *dst)
{
    *dst = *block != 0;
}

static void f8_e4m3_block(const uint8_t *block, float *dst)
{
    *dst = f8_e4m3_to_f32(*block);
}

static block_fn *const block_fns[DTYPE_COUNT] = {
    [DTYPE_Q4_0] = q4_0_block,       [DTYPE_Q4_1] = q4_1_block, [DTYPE_Q5_0] = q5_0_block,
    [DTYPE_Q5_1] = q5_1_block,       [DTYPE_Q8_0] = q8_0_block, [DTYPE_Q2_K] = q2_k_block,
    [DTYPE_Q3_K] = q3_k_block,       [DTYPE_Q4_K] = q4_k_block, [DTYPE_Q5_K] = q5_k_block,
    [DTYPE_Q6_K] = q6_k_block,       [DTYPE_Q8_K] = q8_k_block, [DTYPE_IQ4_NL] = iq4_nl_block,
    [DTYPE_IQ4_XS] = iq4_xs_block,   [DTYPE_I8] = i8_block,     [DTYPE_I16] = i16_block,
    [DTYPE_I32] = i32_block,         [DTYPE_I64] = i64_block,   [DTYPE_F64] = f64_block,
    [DTYPE_MXFP4] = mxfp4_block,     [DTYPE_U8] = u8_block,     [DTYPE_U16] = u16_block,
    [DTYPE_U32] = u32_block,         [DTYPE_U64] = u64_block,   [DTYPE_BOOL] = bool_block,
    [DTYPE_F8_E4M3] = f8_e4m3_block,
};

static void f16_run(const uint8_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = dtype__load_f16(src + 2 * i);
}

/* By way of integers: a signalling NaN keeps its bits also where floats pass through x87 registers. */
static void bf16_run(const uint8_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)dtype__load_u16(src + 2 * i) << 16;
        memcpy(dst + i, &bits, sizeof(bits));
    }
}

void dtype_to_f32(enum dtype type, const void *src, size_t n, float *dst)
{
    const struct dtype_info *info = dtype_info(type);
    size_t block_len = (size_t)info->block_len, block_size = (size_t)info->block_size;
    assert(n % block_len == 0);
    const uint8_t *block = src;
    if (n == 0)
        return;
    switch (type) {
    case DTYPE_F32:
        memcpy(dst, src, n * sizeof(float));
        return;
    case DTYPE_F16:
        f16_run(src, n, dst);
        return;
    case DTYPE_BF16:
        bf16_run(src, n, dst);
        return;
    default:
        break;
    }
    block_fn *fn = block_fns[type];
    for (size_t i = 0; i < n / block_len; i++)
        fn(block + i * block_size, dst + i * block_len);
}
