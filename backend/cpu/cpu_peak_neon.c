/* arm64 with SDOT. */
#include "backend/cpu/cpu_body.h"
#include "backend/cpu/cpu_peak.h"
#include "base/array.h"

#include <arm_neon.h>

#include "backend/cpu/cpu_peak_neon_body.h"

INLINE vi vi_dot(vi acc, vi x, vi w)
{
    return vdotq_s32(acc, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

#include "backend/cpu/cpu_peak_body.h"

const struct cpu_peak cpu__peak_neon = {
    .read = read_memory,
    .int8 = INT8_LOOP("sdot, 16 bytes"),
    .int4 = INT8_LOOP("sdot, 16 bytes"),
    .f32 = F32_LOOP("fmla, 4 lanes"),
};
