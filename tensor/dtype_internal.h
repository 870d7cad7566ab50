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

static inline float dtype__load_f16(const uint8_t *p)
{
    return f16_to_f32(dtype__load_u16(p));
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

extern const int8_t dtype__iq4_values[16];   /* IQ4_NL and IQ4_XS */
extern const int8_t dtype__mxfp4_values[16]; /* e2m1, doubled; both zeros are +0 */

/* Half of 2^(e - 127): e8m0 scale for the doubled values above. e = 0 and 1 give subnormals, 255 is not special. */
float dtype__e8m0_half(uint8_t e);

#endif
