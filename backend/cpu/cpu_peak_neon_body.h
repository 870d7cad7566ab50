/* Primitives of arm64 for cpu_peak_body.h but for the product of bytes, which the including file defines before. */
#define DOT_CHAINS 16 /* latency of 4, four a cycle on the widest */
#define FMA_CHAINS 16

typedef int32x4_t vi;
typedef float32x4_t vf;

INLINE vi vi_load(const void *p)
{
    return vld1q_s32(p);
}

INLINE vi vi_xor(vi a, vi b)
{
    return veorq_s32(a, b);
}

INLINE vi vi_splat8(int v)
{
    return vreinterpretq_s32_s8(vdupq_n_s8((int8_t)v));
}

INLINE vf vf_splat(float v)
{
    return vdupq_n_f32(v);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

INLINE vi vi_of_f32(vf v)
{
    return vreinterpretq_s32_f32(v);
}
