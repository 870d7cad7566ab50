/* NEON with the dot product instructions: primitives for the bodies, and quantization. Included once by each table of
 * arm64 (cpu_kernels_neon*.c). Not a header of its own.
 *
 * Panels have 4 rows: one 128-bit vector is then one chunk of each row, as SDOT takes it, and four f32 sums. Products
 * of codes are signed by signed, so that unsigned codes (63 at most) and 8-bit codes go the same way. SDOT by element
 * takes its chunk out of 16 activations in a register: activations are loaded once for four chunks. A tile of 2 panels
 * by 8 tokens has 16 sums, 8 vectors of activations and 2 of codes in 32 registers. */
#include "backend/cpu/cpu_body.h"

#include <arm_neon.h>

#define VL                4
#define PANELS            2
#define TOKENS            8
#define TILE_SHAPES(X, n) X(n, 8, 2) X(n, 8, 1) X(n, 4, 2) X(n, 4, 1) X(n, 2, 1) X(n, 1, 1)
#define WIDE_SHIFT        0

typedef float32x4_t vf;
typedef int32x4_t vi;

INLINE vf vf_set1(float x)
{
    return vdupq_n_f32(x);
}

INLINE vf vf_zero(void)
{
    return vf_set1(0);
}

INLINE vf vf_splat(const float *p)
{
    return vf_set1(*p);
}

INLINE vf vf_load(const void *p) /* of any alignment, as all loads here */
{
    vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof(v));
}

INLINE vf vf_load_n(const float *p, int n)
{
    float lanes[VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(float));
    return vf_load(lanes);
}

INLINE void vf_store_n(float *p, vf v, int n)
{
    float lanes[VL];
    vf_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof(float));
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

/* Not FMAX and FMIN: those make a NaN of either operand the result. */
INLINE vf vf_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

INLINE vf vf_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

INLINE vf vf_round(vf x)
{
    return vrndnq_f32(x);
}

/* 2^128 is not a float: it is made as infinity, which the product keeps */
INLINE vf vf_exp2_mul(vf x, vf n)
{
    int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    return x * vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}

INLINE vf vf_below(vf a, vf b, vf x)
{
    return vreinterpretq_f32_u32(vandq_u32(vcltq_f32(a, b), vreinterpretq_u32_f32(x)));
}

INLINE vf vf_abs(vf x)
{
    return vabsq_f32(x);
}

INLINE vf vf_copy_sign(vf x, vf s)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), s, x);
}

INLINE float vf_sum(vf v)
{
    return vaddvq_f32(v);
}

INLINE float vf_max_lane(vf v)
{
    return vmaxvq_f32(v);
}

INLINE uint16x4_t load_u16(const void *p)
{
    uint16x4_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE vf vf_load_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(load_u16(p)));
}

INLINE void vf_store_f16(void *p, vf v)
{
    float16x4_t h = vcvt_f16_f32(v);
    memcpy(p, &h, sizeof(h));
}

INLINE vf vf_load_bf16(const void *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(load_u16(p), 16));
}

INLINE uint64_t load_4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE vf vf_load_u8(const uint8_t *p)
{
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(load_4(p))))));
}

INLINE vf vf_load_i8(const uint8_t *p)
{
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(load_4(p))))));
}

INLINE vf vf_of_i32(vi v)
{
    return vcvtq_f32_s32(v);
}

INLINE vf vf_pairs(const float *p)
{
    float32x2_t two;
    memcpy(&two, p, sizeof(two));
    vf v = vcombine_f32(two, two);
    return vzip1q_f32(v, v);
}

INLINE vf vf_swap_pairs(vf v)
{
    return vrev64q_f32(v);
}

INLINE vf vf_add_sub(vf a, vf b)
{
    const uint32x4_t signs = {0x80000000u, 0, 0x80000000u, 0};
    return a + vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(b), signs));
}

INLINE vi vi_zero(void)
{
    return vdupq_n_s32(0);
}

INLINE vi vi_load(const void *p)
{
    vi v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE vi vi_splat32(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return vdupq_n_s32(v);
}

INLINE vi vi_splat8(int v)
{
    return vreinterpretq_s32_s8(vdupq_n_s8((int8_t)v));
}

INLINE vi vi_and(vi a, vi b)
{
    return vandq_s32(a, b);
}

INLINE vi vi_or(vi a, vi b)
{
    return vorrq_s32(a, b);
}

/* Bytes by themselves: of a high nibble nothing is left to mask. */
INLINE vi vi_srl16(vi v, int n)
{
    return vreinterpretq_s32_u8(vreinterpretq_u8_s32(v) >> vdupq_n_u8((uint8_t)n));
}

INLINE vi vi_sll16(vi v, int n)
{
    return vreinterpretq_s32_u8(vreinterpretq_u8_s32(v) << vdupq_n_u8((uint8_t)n));
}

INLINE vi vi_sll32(vi v, int n)
{
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(v) << vdupq_n_u32((uint32_t)n));
}

INLINE vi vi_table(const int8_t *p)
{
    return vi_load(p);
}

INLINE vi vi_lookup(vi table, vi indexes)
{
    return vreinterpretq_s32_s8(vqtbl1q_s8(vreinterpretq_s8_s32(table), vreinterpretq_u8_s32(indexes)));
}

INLINE vi code_ready(vi w, int kind)
{
    (void)kind;
    return w;
}

/* The 16 activations around chunk c */
INLINE vi act_chunk(const int8_t *q, int c)
{
    return vi_load(q + 16 * (c / 4));
}

INLINE void dot_step(vi *acc, vi *part, vi w, vi a, int c, int kind, bool first, bool last)
{
    int8x16_t codes = vreinterpretq_s8_s32(w), q = vreinterpretq_s8_s32(a);
    (void)part;
    (void)kind;
    (void)first;
    (void)last;
    switch (c % 4) { /* a lane is part of the instruction */
    case 0:
        *acc = vdotq_laneq_s32(*acc, codes, q, 0);
        break;
    case 1:
        *acc = vdotq_laneq_s32(*acc, codes, q, 1);
        break;
    case 2:
        *acc = vdotq_laneq_s32(*acc, codes, q, 2);
        break;
    default:
        *acc = vdotq_laneq_s32(*acc, codes, q, 3);
        break;
    }
}

typedef int16x8_t vcodes;
typedef struct {
    int32x4_t low, high; /* each lane a number, or the other, of two pairs: added when all is done */
} vpair;

INLINE vcodes vcodes_load(const int8_t *p)
{
    int8x8_t bytes;
    memcpy(&bytes, p, sizeof(bytes));
    return vmovl_s8(bytes);
}

INLINE vpair vpair_zero(void)
{
    return (vpair){vi_zero(), vi_zero()};
}

INLINE vpair vpair_dot(vpair sums, vi x, vcodes b)
{
    int16x8_t codes = vreinterpretq_s16_s32(x);
    return (vpair){vmlal_s16(sums.low, vget_low_s16(b), vget_low_s16(codes)), vmlal_high_s16(sums.high, b, codes)};
}

INLINE vf vf_of_pairs(vpair sums)
{
    return vf_of_i32(vpaddq_s32(sums.low, sums.high));
}

INLINE void vf_store_i16(int16_t *p, vf v)
{
    int16x4_t codes = vqmovn_s32(vcvtnq_s32_f32(v));
    memcpy(p, &codes, sizeof(codes));
}

#define SUM_MAX_QUERIES 6
#define SUM_MAX_VECTORS 8
#define SUM_SHAPES(X, n) \
    X(n, 6, 4)           \
    X(n, 6, 1)           \
    X(n, 4, 4)           \
    X(n, 4, 1) X(n, 3, 8) X(n, 3, 4) X(n, 3, 1) X(n, 2, 8) X(n, 2, 4) X(n, 2, 1) X(n, 1, 8) X(n, 1, 4) X(n, 1, 1)
#define PAIR_SHAPES(X, n) \
    X(n, 6, 2) X(n, 6, 1) X(n, 4, 2) X(n, 4, 1) X(n, 3, 4) X(n, 3, 1) X(n, 2, 4) X(n, 2, 1) X(n, 1, 8) X(n, 1, 1)
#define FLOAT_ROWS   4
#define FLOAT_TOKENS 4

/* ---- quantization ---- */

/* Largest magnitude as bits: NaN and infinity are above all numbers. */
static int32_t top_bits(const int32x4_t bits[8])
{
    int32x4_t magnitude = vdupq_n_s32(0x7fffffff), top = vi_zero();
    for (int i = 0; i < 8; i++)
        top = vmaxq_s32(top, vandq_s32(bits[i], magnitude));
    return vmaxvq_s32(top);
}

static void quantize_group(const float *x, struct act_group *out)
{
    int32x4_t bits[8];
    float inverse, d;
    for (int i = 0; i < 8; i++)
        bits[i] = vi_load(x + 4 * i);
    if (!act_scale(top_bits(bits), &d, &inverse, out))
        return;
    int32_t sums[2];
    for (int half = 0; half < 2; half++) {
        int32x4_t q[4];
        for (int i = 0; i < 4; i++)
            q[i] = vcvtnq_s32_f32(vreinterpretq_f32_s32(bits[4 * half + i]) * vf_set1(inverse));
        int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]));
        int16x8_t high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
        int8x16_t bytes = vcombine_s8(vmovn_s16(low), vmovn_s16(high));
        memcpy(out->q + 16 * half, &bytes, sizeof(bytes));
        sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(q[0], q[1]), vaddq_s32(q[2], q[3])));
    }
    act_sums(sums[0], sums[1], d, out);
}

static void quantize(const float *x, int n, struct act_group *out)
{
    for (int g = 0; g < n / 32; g++)
        quantize_group(x + 32 * g, &out[g]);
}
