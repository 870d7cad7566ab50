/* AVX2 has no product of bytes that sums up in 32 bits: vpmaddubsw sums two products in 16 bits, vpmaddwd by ones
 * widens. Both run on the ports of the multipliers, so widening every product costs half of the rate; codes of 4 bits
 * leave room for eight products in 16 bits (8 x 2 x 15 x 127 < 2^15). */
#include "backend/cpu/cpu_body.h"
#include "backend/cpu/cpu_peak.h"
#include "base/array.h"

#include <immintrin.h>

#define DOT_CHAINS    12 /* latency of 11, one a cycle */
#define FMA_CHAINS    12 /* latency of 4, two a cycle */
#define NARROW_CHAINS 10 /* latency of 4, two a cycle; the widened sums need registers too */
#define NARROW_RUN    8

typedef __m256i vi;
typedef __m256 vf;

INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

INLINE vi vi_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}

INLINE vi vi_splat8(int v)
{
    return _mm256_set1_epi8((char)v);
}

INLINE vi widen(vi products)
{
    return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

INLINE vi vi_dot(vi acc, vi x, vi w)
{
    return _mm256_add_epi32(acc, widen(_mm256_maddubs_epi16(x, w)));
}

INLINE vf vf_splat(float v)
{
    return _mm256_set1_ps(v);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vi vi_of_f32(vf v)
{
    return _mm256_castps_si256(v);
}

#include "backend/cpu/cpu_peak_body.h"

static uint64_t multiply_int4(int64_t rounds)
{
    vi part[NARROW_CHAINS], acc[2] = {vi_splat8(0), vi_splat8(0)}, w = vi_splat8(3);
    UNROLL for (int i = 0; i < NARROW_CHAINS; i++) part[i] = vi_splat8((int)rounds + i);
    for (int64_t r = 0; r < rounds; r++) {
        UNROLL for (int k = 0; k < NARROW_RUN; k++)
        {
            UNROLL for (int i = 0; i < NARROW_CHAINS; i++) part[i] =
                _mm256_add_epi16(part[i], _mm256_maddubs_epi16(part[i], w));
        }
        UNROLL for (int i = 0; i < NARROW_CHAINS; i++) acc[i % 2] = _mm256_add_epi32(acc[i % 2], widen(part[i]));
    }
    return fold(acc, 2);
}

const struct cpu_peak cpu__peak_avx2 = {
    .read = read_memory,
    .int8 = INT8_LOOP("vpmaddubsw, vpmaddwd, vpaddd"),
    .int4 = {multiply_int4, NARROW_CHAINS *NARROW_RUN *(int)sizeof(vi), "8 of vpmaddubsw, vpaddw; vpmaddwd, vpaddd"},
    .f32 = F32_LOOP("vfmadd, 8 lanes"),
};
