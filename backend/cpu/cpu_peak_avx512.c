/* AVX-512 with VNNI: vpdpbusd does it all. */
#include "backend/cpu/cpu_body.h"
#include "backend/cpu/cpu_peak.h"
#include "base/array.h"

#include <immintrin.h>

#define DOT_CHAINS 16 /* latency of 5, two a cycle */
#define FMA_CHAINS 16 /* latency of 4, two a cycle */

typedef __m512i vi;
typedef __m512 vf;

INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

INLINE vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

INLINE vi vi_splat8(int v)
{
    return _mm512_set1_epi8((char)v);
}

INLINE vi vi_dot(vi acc, vi x, vi w)
{
    return _mm512_dpbusd_epi32(acc, x, w);
}

INLINE vf vf_splat(float v)
{
    return _mm512_set1_ps(v);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vi vi_of_f32(vf v)
{
    return _mm512_castps_si512(v);
}

#include "backend/cpu/cpu_peak_body.h"

const struct cpu_peak cpu__peak_avx512 = {
    .read = read_memory,
    .int8 = INT8_LOOP("vpdpbusd, 64 bytes"),
    .int4 = INT8_LOOP("vpdpbusd, 64 bytes"),
    .f32 = F32_LOOP("vfmadd, 16 lanes"),
};
