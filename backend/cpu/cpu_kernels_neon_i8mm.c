/* The table for arm64 with SMMLA, which multiplies 2 rows by 2 tokens of 8 columns at once: twice the products of an
 * SDOT. All else, tokens alone too, goes as in cpu_kernels_neon.c. Sums of products are exact integers, so a token's
 * bits are the same alone and in a pair. */
#include "backend/cpu/cpu_neon_body.h"

#define MULTIPLY multiply_pairs

#include "backend/cpu/cpu_codes_body.h"

/* Two chunks of codes, [4 rows][4 columns] each, as rows 0 and 1, and rows 2 and 3, of 8 columns. */
INLINE void join_chunks(const struct code_spec s, const uint8_t *codes, vi table, const int c, int8x16_t out[2])
{
    vi first = code_ready(decode(s, codes, table, c), s.kind);
    vi second = code_ready(decode(s, codes, table, c + 1), s.kind);
    out[0] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
    out[1] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
}

/* 8 columns of two tokens, from chunk c on */
INLINE int8x16_t act_pair(const struct act_group *first, const struct act_group *second, int c)
{
    int8x8_t low, high;
    memcpy(&low, first->q + 4 * c, sizeof(low));
    memcpy(&high, second->q + 4 * c, sizeof(high));
    return vcombine_s8(low, high);
}

INLINE void multiply_pairs(const struct code_spec s, const uint8_t *const *codes, vi table,
                           const struct act_group *const *x, const int begin, const int n_chunks, const int n_panels,
                           const int n_tokens, vi acc[PANELS][TOKENS])
{
    vi sums[PANELS][2][TOKENS / 2]; /* of 2 rows by 2 tokens */
    if (n_tokens % 2 != 0) {
        multiply(s, codes, table, x, begin, n_chunks, n_panels, n_tokens, acc);
        return;
    }
    UNROLL for (int p = 0; p < n_panels; p++) UNROLL for (int t = 0; t < n_tokens; t += 2)
    {
        sums[p][0][t / 2] = vzip1q_s32(acc[p][t], acc[p][t + 1]);
        sums[p][1][t / 2] = vzip2q_s32(acc[p][t], acc[p][t + 1]);
    }
    UNROLL for (int c = begin; c < begin + n_chunks; c += 2)
    {
        int8x16_t w[PANELS][2];
        UNROLL for (int p = 0; p < n_panels; p++) join_chunks(s, codes[p], table, c, w[p]);
        UNROLL for (int t = 0; t < n_tokens; t += 2)
        {
            int8x16_t a = act_pair(x[t], x[t + 1], c);
            UNROLL for (int p = 0; p < n_panels; p++) UNROLL for (int i = 0; i < 2; i++) sums[p][i][t / 2] =
                vmmlaq_s32(sums[p][i][t / 2], w[p][i], a);
        }
    }
    UNROLL for (int p = 0; p < n_panels; p++) UNROLL for (int t = 0; t < n_tokens; t += 2)
    {
        acc[p][t] = vuzp1q_s32(sums[p][0][t / 2], sums[p][1][t / 2]);
        acc[p][t + 1] = vuzp2q_s32(sums[p][0][t / 2], sums[p][1][t / 2]);
    }
}

#include "backend/cpu/cpu_packed_body.h"
#include "backend/cpu/cpu_vector_body.h"

#include "backend/cpu/cpu_attention_body.h"

static bool usable(const struct cpu_features *cpu)
{
    return cpu->neon_dotprod && cpu->neon_i8mm;
}

const struct cpu_kernel_table cpu__neon_i8mm_table = {
    .name = "neon-i8mm",
    .kind = CPU_KERNELS_I8MM,
    .usable = usable,
    .peak = &cpu__peak_i8mm,
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
