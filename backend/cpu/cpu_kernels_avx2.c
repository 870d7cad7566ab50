/* AVX2 with FMA and F16C: primitives for the bodies. Products of codes: vpmaddubsw takes unsigned by signed bytes to
 * sums of two in 16 bits. Codes of up to 6 bits are unsigned and some chunks may be summed before they widen; 8-bit
 * codes lend their sign to the activations. */
#include "backend/cpu/cpu_body.h"

#include <immintrin.h>

#define VL                8
#define PANELS            1
#define TOKENS            8
#define TILE_SHAPES(X, n) X(n, 8, 1) X(n, 4, 1) X(n, 2, 1) X(n, 1, 1)
#define MULTIPLY          multiply
#define WIDE_SHIFT        0

typedef __m256 vf;
typedef __m256i vi;

INLINE vf vf_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vf vf_splat(const float *p)
{
    return _mm256_broadcast_ss(p);
}

INLINE vf vf_load(const void *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vf vf_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}

INLINE void vf_store_n(float *p, vf v, int n)
{
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf vf_round(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^128 is not a float: it is made as infinity, which the product keeps */
INLINE vf vf_exp2_mul(vf x, vf n)
{
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

INLINE vf vf_below(vf a, vf b, vf x)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), x);
}

INLINE vf vf_abs(vf x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

INLINE vf vf_copy_sign(vf x, vf s)
{
    return _mm256_or_ps(vf_abs(x), _mm256_and_ps(_mm256_set1_ps(-0.0f), s));
}

INLINE float vf_sum(vf v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

INLINE float vf_max_lane(vf v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

INLINE vf vf_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

INLINE void vf_store_f16(void *p, vf v)
{
    _mm_storeu_si128(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

INLINE vf vf_load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

INLINE vf vf_load_u8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)));
}

INLINE vf vf_load_i8(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

INLINE vf vf_of_i32(vi v)
{
    return _mm256_cvtepi32_ps(v);
}

INLINE vf vf_pairs(const float *p)
{
    __m256 four = _mm256_castps128_ps256(_mm_loadu_ps(p));
    return _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

INLINE vf vf_swap_pairs(vf v)
{
    return _mm256_permute_ps(v, 0xB1);
}

INLINE vf vf_add_sub(vf a, vf b)
{
    return _mm256_addsub_ps(a, b);
}

INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}

INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE vi vi_splat32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm256_set1_epi32(v);
}

INLINE vi vi_splat8(int v)
{
    return _mm256_set1_epi8((char)v);
}

INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

INLINE vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

INLINE vi vi_srl16(vi v, int n)
{
    return _mm256_srli_epi16(v, n);
}

INLINE vi vi_sll16(vi v, int n)
{
    return _mm256_slli_epi16(v, n);
}

INLINE vi vi_sll32(vi v, int n)
{
    return _mm256_slli_epi32(v, n);
}

INLINE vi vi_table(const int8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)p));
}

INLINE vi vi_lookup(vi table, vi indexes)
{
    return _mm256_shuffle_epi8(table, indexes);
}

INLINE vi code_ready(vi w, int is_signed)
{
    (void)is_signed;
    return w;
}

INLINE vi act_chunk(const int8_t *q, int c)
{
    return vi_splat32(q + 4 * c);
}

INLINE void dot_step(vi *acc, vi *part, vi w, vi a, int c, const int is_signed, const bool first, const bool last)
{
    (void)c;
    vi products =
        is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)) : _mm256_maddubs_epi16(w, a);
    *part = first ? products : _mm256_add_epi16(*part, products);
    __asm__("" : "+x"(*part)); /* in this order: reassociated, all products would be held, and spilled */
    if (last)
        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(*part, _mm256_set1_epi16(1)));
}

typedef vi vcodes; /* 16 bits */
typedef vi vpair;

INLINE vcodes vcodes_load(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p));
}

INLINE vpair vpair_zero(void)
{
    return vi_zero();
}

INLINE vpair vpair_dot(vpair sums, vi x, vcodes b)
{
    return _mm256_add_epi32(sums, _mm256_madd_epi16(x, b));
}

INLINE vf vf_of_pairs(vpair sums)
{
    return vf_of_i32(sums);
}

INLINE void vf_store_i16(int16_t *p, vf v)
{
    vi i = _mm256_cvtps_epi32(v);
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1)));
}

#include "backend/cpu/cpu_codes_body.h"
#include "backend/cpu/cpu_packed_body.h"

#define SUM_MAX_QUERIES 6
#define SUM_MAX_VECTORS 4
#define SUM_SHAPES(X, n) \
    X(n, 6, 2) X(n, 6, 1) X(n, 4, 2) X(n, 4, 1) X(n, 3, 4) X(n, 3, 1) X(n, 2, 4) X(n, 2, 1) X(n, 1, 4) X(n, 1, 1)
#define PAIR_SHAPES  SUM_SHAPES
#define FLOAT_ROWS   4
#define FLOAT_TOKENS 2

#include "backend/cpu/cpu_vector_body.h"

#include "backend/cpu/cpu_attention_body.h"

/* ---- quantization ---- */

static int32_t sum_i32(__m256i v)
{
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xB1)));
}

/* Largest magnitude as bits: NaN and infinity are above all numbers. */
static int32_t top_bits(const __m256i *x)
{
    __m256i magnitude = _mm256_set1_epi32(0x7fffffff), top = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++)
        top = _mm256_max_epi32(top, _mm256_and_si256(x[i], magnitude));
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}

static void quantize_group(const float *x, struct act_group *out)
{
    __m256i bits[4], q[4];
    for (int i = 0; i < 4; i++)
        bits[i] = _mm256_loadu_si256((const void *)(x + 8 * i));
    float inverse, d;
    if (!act_scale(top_bits(bits), &d, &inverse, out))
        return;
    for (int i = 0; i < 4; i++)
        q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(bits[i]), _mm256_set1_ps(inverse)));
    act_sums(sum_i32(_mm256_add_epi32(q[0], q[1])), sum_i32(_mm256_add_epi32(q[2], q[3])), d, out);
    __m256i low = _mm256_packs_epi32(q[0], q[1]), high = _mm256_packs_epi32(q[2], q[3]);
    __m256i bytes =
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((void *)out->q, bytes);
}

static void quantize(const float *x, int n, struct act_group *out)
{
    for (int g = 0; g < n / 32; g++)
        quantize_group(x + 32 * g, &out[g]);
}

static bool usable(const struct cpu_features *cpu)
{
    return cpu->avx2 && cpu->fma && cpu->f16c;
}

const struct cpu_kernel_table cpu__avx2_table = {
    .name = "avx2",
    .kind = CPU_KERNELS_AVX2,
    .usable = usable,
    .peak = &cpu__peak_avx2,
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
