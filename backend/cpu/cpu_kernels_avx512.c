/* AVX-512 (F, BW, DQ, VL) with VNNI: primitives for the bodies. Products of codes: vpdpbusd adds four products of
 * unsigned by signed bytes to 32 bits. 8-bit codes become unsigned by adding 128, which the start of the accumulators
 * takes off again. */
#include "backend/cpu/cpu_body.h"

#include <immintrin.h>

#define VL                16
#define PANELS            2
#define TOKENS            6
#define TILE_SHAPES(X, n) X(n, 6, 2) X(n, 6, 1) X(n, 4, 2) X(n, 4, 1) X(n, 2, 1) X(n, 1, 1)
#define MULTIPLY          multiply
#define WIDE_SHIFT        7

typedef __m512 vf;
typedef __m512i vi;

INLINE vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf vf_splat(const float *p)
{
    return _mm512_set1_ps(*p);
}

INLINE vf vf_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

INLINE __mmask16 first_lanes(int n)
{
    return (__mmask16)((1u << n) - 1);
}

INLINE vf vf_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

INLINE void vf_store_n(float *p, vf v, int n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf vf_round(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^128 is not a float: it is made as infinity, which the product keeps */
INLINE vf vf_exp2_mul(vf x, vf n)
{
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
}

INLINE vf vf_below(vf a, vf b, vf x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x);
}

INLINE vf vf_abs(vf x)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x);
}

INLINE vf vf_copy_sign(vf x, vf s)
{
    return _mm512_or_ps(vf_abs(x), _mm512_and_ps(_mm512_set1_ps(-0.0f), s));
}

INLINE float vf_sum(vf v)
{
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

INLINE float vf_max_lane(vf v)
{
    __m256 y = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

INLINE vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

INLINE void vf_store_f16(void *p, vf v)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

INLINE vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

INLINE vf vf_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
}

INLINE vf vf_load_i8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

INLINE vf vf_of_i32(vi v)
{
    return _mm512_cvtepi32_ps(v);
}

INLINE vf vf_pairs(const float *p)
{
    const __m512i indexes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(indexes, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

INLINE vf vf_swap_pairs(vf v)
{
    return _mm512_permute_ps(v, 0xB1);
}

INLINE vf vf_add_sub(vf a, vf b)
{
    return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0x5555, a, b);
}

INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}

INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE vi vi_splat32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm512_set1_epi32(v);
}

INLINE vi vi_splat8(int v)
{
    return _mm512_set1_epi8((char)v);
}

INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

INLINE vi vi_srl16(vi v, int n)
{
    return _mm512_srli_epi16(v, (unsigned)n);
}

INLINE vi vi_sll16(vi v, int n)
{
    return _mm512_slli_epi16(v, (unsigned)n);
}

INLINE vi vi_sll32(vi v, int n)
{
    return _mm512_slli_epi32(v, (unsigned)n);
}

INLINE vi vi_table(const int8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)p));
}

INLINE vi vi_lookup(vi table, vi indexes)
{
    return _mm512_shuffle_epi8(table, indexes);
}

INLINE vi code_ready(vi w, const int is_signed)
{
    return is_signed ? _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80)) : w;
}

INLINE vi act_chunk(const int8_t *q, int c)
{
    return vi_splat32(q + 4 * c);
}

INLINE void dot_step(vi *acc, vi *part, vi w, vi a, int c, const int is_signed, const bool first, const bool last)
{
    (void)c;
    (void)part;
    (void)is_signed;
    (void)first;
    (void)last;
    *acc = _mm512_dpbusd_epi32(*acc, w, a);
}

typedef vi vcodes; /* 16 bits */
typedef vi vpair;

INLINE vcodes vcodes_load(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)p));
}

INLINE vpair vpair_zero(void)
{
    return vi_zero();
}

INLINE vpair vpair_dot(vpair sums, vi x, vcodes b)
{
    return _mm512_dpwssd_epi32(sums, x, b);
}

INLINE vf vf_of_pairs(vpair sums)
{
    return vf_of_i32(sums);
}

INLINE void vf_store_i16(int16_t *p, vf v)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(v)));
}

#include "backend/cpu/cpu_codes_body.h"
#include "backend/cpu/cpu_packed_body.h"

#define SUM_MAX_QUERIES 8
#define SUM_MAX_VECTORS 4
#define SUM_SHAPES(X, n) \
    X(n, 8, 2)           \
    X(n, 8, 1)           \
    X(n, 4, 4)           \
    X(n, 4, 2)           \
    X(n, 4, 1) X(n, 3, 4) X(n, 3, 2) X(n, 3, 1) X(n, 2, 4) X(n, 2, 2) X(n, 2, 1) X(n, 1, 4) X(n, 1, 2) X(n, 1, 1)
#define PAIR_SHAPES  SUM_SHAPES
#define FLOAT_ROWS   4
#define FLOAT_TOKENS 4

#include "backend/cpu/cpu_vector_body.h"

#include "backend/cpu/cpu_attention_body.h"

/* ---- quantization ---- */

static void quantize_group(const float *x, struct act_group *out)
{
    __m512i first = _mm512_loadu_si512(x), second = _mm512_loadu_si512(x + 16);
    /* Largest magnitude as bits: NaN and infinity are above all numbers. */
    __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    int32_t top = _mm512_reduce_max_epi32(
        _mm512_max_epi32(_mm512_and_si512(first, magnitude), _mm512_and_si512(second, magnitude)));
    float inverse, d;
    if (!act_scale(top, &d, &inverse, out))
        return;
    __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(first), _mm512_set1_ps(inverse)));
    __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_castsi512_ps(second), _mm512_set1_ps(inverse)));
    _mm_storeu_si128((void *)out->q, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((void *)(out->q + 16), _mm512_cvtepi32_epi8(q1));
    act_sums(_mm512_reduce_add_epi32(q0), _mm512_reduce_add_epi32(q1), d, out);
}

static void quantize(const float *x, int n, struct act_group *out)
{
    for (int g = 0; g < n / 32; g++)
        quantize_group(x + 32 * g, &out[g]);
}

static bool usable(const struct cpu_features *cpu)
{
    return cpu->avx512f && cpu->avx512bw && cpu->avx512dq && cpu->avx512vl && cpu->avx512vnni && cpu->fma && cpu->f16c;
}

const struct cpu_kernel_table cpu__avx512_table = {
    .name = "avx512-vnni",
    .kind = CPU_KERNELS_AVX512,
    .usable = usable,
    .peak = &cpu__peak_avx512,
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
