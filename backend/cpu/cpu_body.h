/* What the bodies of kernel files (cpu_vector_body.h, cpu_packed_body.h) and the files that include them share. */
#ifndef TANDEM_BACKEND_CPU_CPU_BODY_H
#define TANDEM_BACKEND_CPU_CPU_BODY_H

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_pack.h"

#include <math.h>
#include <string.h>

#define INLINE  static inline __attribute__((always_inline)) /* constants become code: one function per tile shape */
#define UNROLL  _Pragma(TANDEM_UNROLL)                       /* fully: arrays of vectors become registers */
#define ALIGNED __attribute__((aligned(64)))

/* Scale of a group from the bits of its largest magnitude; false when *out is finished: all zero, or not finite. */
INLINE bool act_scale(int32_t top_bits, float *d, float *inverse, struct act_group *out)
{
    float top;
    memcpy(&top, &top_bits, sizeof(top));
    if (top >= ACT_TINY && top_bits < 0x7f800000) {
        *d = top / 127;
        *inverse = 127 / top;
        return true;
    }
    memset(out, 0, sizeof(*out));
    if (top_bits >= 0x7f800000)
        out->d = out->sum = out->sum16[0] = out->sum16[1] = NAN;
    return false;
}

/* All but q. */
INLINE void act_sums(int32_t first_half, int32_t second_half, float d, struct act_group *out)
{
    out->d = d;
    out->sum = d * (float)(first_half + second_half);
    out->sum16[0] = d * (float)first_half;
    out->sum16[1] = d * (float)second_half;
    out->minus_q = -(first_half + second_half);
    out->minus_q16[0] = -first_half;
    out->minus_q16[1] = -second_half;
    out->unused = 0;
}

#endif
