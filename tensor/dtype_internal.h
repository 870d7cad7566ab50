/* Shared by dtype's files: little-endian loads and stores at any address, and the code books of the 4-bit formats. */
#ifndef TANDEM_TENSOR_DTYPE_INTERNAL_H
#define TANDEM_TENSOR_DTYPE_INTERNAL_H

#include "tensor/dtype.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are little-endian and are read in place");

static inline uint16_t dtype__load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t dtype__load_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline float dtype__load_f32(const uint8_t *p)
{
    float v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* f16_to_f32: all three cases are computed and one is chosen, so that compilers convert several at once. */
static inline float dtype__f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff, small;
    float multiple = (float)(int32_t)magnitude * 0x1p-24f; /* of zero and subnormals; exact in f32 */
    memcpy(&small, &multiple, sizeof(small));
    uint32_t normal = (magnitude << 13) + (112u << 23); /* exponent bias 15 becomes 127 */
    uint32_t quiet = (0u - (magnitude > 0x7c00)) & 0x00400000;
    uint32_t special = 0x7f800000 | quiet | (magnitude & 0x3ff) << 13;
    uint32_t is_small = 0u - (magnitude < 0x0400), is_special = 0u - (magnitude >= 0x7c00);
    uint32_t bits = sign | (small & is_small) | (special & is_special) | (normal & ~(is_small | is_special));
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline float dtype__load_f16(const uint8_t *p)
{
    return dtype__f16(dtype__load_u16(p));
}

static inline void dtype__store_u16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* Stores x as f16 and returns the value that a reader will see. */
static inline float dtype__store_f16(uint8_t *p, float x)
{
    uint16_t h = f32_to_f16(x);
    dtype__store_u16(p, h);
    return f16_to_f32(h);
}

static inline float dtype__as_f16(float x)
{
    return f16_to_f32(f32_to_f16(x));
}

/* ---- packing of blocks (dtype_quantize.c); d and min are stored as f16 ---- */

/* Q4_0, Q4_1, Q5_0, Q5_1: unsigned codes. min: of the types with one. */
void dtype__pack_32(enum dtype type, float d, float min, const uint8_t q[32], uint8_t *block);

/* Q4_K, Q5_K: element = d * scales[g] * q - dmin * mins[g], g = its group of 32. */
struct scale_min_block {
    float d, dmin;
    uint8_t scales[8], mins[8]; /* 6 bits */
    uint8_t q[256];
};
void dtype__pack_scale_min(enum dtype type, const struct scale_min_block *b, uint8_t *block);

/* Element = d * scales[g] * (q - 32), g = its group of 16. */
void dtype__pack_q6_k(float d, const int8_t scales[16], const uint8_t q[256], uint8_t *block);

extern const int8_t dtype__iq4_values[16];   /* IQ4_NL and IQ4_XS */
extern const int8_t dtype__mxfp4_values[16]; /* e2m1, doubled; both zeros are +0 */

/* Half of 2^(e - 127): e8m0 scale for the doubled values above. e = 0 and 1 give subnormals, 255 is not special. */
float dtype__e8m0_half(uint8_t e);

#endif
