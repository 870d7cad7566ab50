/* The table for arm64 with SDOT. */
#include "backend/cpu/cpu_neon_body.h"

#define MULTIPLY multiply

#include "backend/cpu/cpu_codes_body.h"
#include "backend/cpu/cpu_packed_body.h"
#include "backend/cpu/cpu_vector_body.h"

#include "backend/cpu/cpu_attention_body.h"

static bool usable(const struct cpu_features *cpu)
{
    return cpu->neon_dotprod;
}

const struct cpu_kernel_table cpu__neon_table = {
    .name = "neon-dotprod",
    .kind = CPU_KERNELS_NEON,
    .usable = usable,
    .peak = &cpu__peak_neon,
    .pack_rows = VL,
    .row_step = VL,
    .linear = {[DTYPE_F32] = linear_f32, [DTYPE_F16] = linear_f16, [DTYPE_BF16] = linear_bf16},
    .packed = {PACKED_TABLE},
    .adapt = adapt,
    .quantize = quantize,
    .norm = norm,
    .add = add,
    .mul = mul,
    .convolve = convolve,
    .delta = delta,
    .scale = scale,
    .softcap = softcap,
    .activate = activate,
    .activate_mul = activate_mul,
    .rope = rope,
    .attend_prepare = attend_prepare,
    .attend = attend,
    .attend_join = join,
    .kv_store = kv_store,
};
