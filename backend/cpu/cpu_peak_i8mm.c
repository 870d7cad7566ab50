/* arm64 with SMMLA: 2 rows by 2 columns of 8 products each, twice those of an SDOT. */
#include "backend/cpu/cpu_body.h"
#include "backend/cpu/cpu_peak.h"
#include "base/array.h"

#include <arm_neon.h>

#include "backend/cpu/cpu_peak_neon_body.h"

INLINE vi vi_dot(vi acc, vi x, vi w)
{
    return vmmlaq_s32(acc, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

#include "backend/cpu/cpu_peak_body.h"

#define SMMLA_LOOP                                                           \
    {                                                                        \
        multiply_int8, 2 * DOT_CHAINS *(int)sizeof(vi), "smmla, 2 by 8 by 2" \
    }

const struct cpu_peak cpu__peak_i8mm = {
    .read = read_memory,
    .int8 = SMMLA_LOOP,
    .int4 = SMMLA_LOOP,
    .f32 = F32_LOOP("fmla, 4 lanes"),
};
