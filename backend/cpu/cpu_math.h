/* exp and log of the sampler: no libm, so that every compiler, ISA and machine gives the same bits (with
 * -ffp-contract=off). Pure functions, any thread. */
#ifndef TANDEM_BACKEND_CPU_CPU_MATH_H
#define TANDEM_BACKEND_CPU_CPU_MATH_H

#include <stdint.h>

typedef double f64x2 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));
typedef int64_t i64x2 __attribute__((vector_size(16)));

#define CPU_LOG2_E 0x1.71547652b82fep+0 /* 1 / ln 2 */

/* Natural logarithm of a positive normal number; at most 2 units in the last place off. */
double cpu_log(double x);

/* ---- weights ----
 * A weight is a probability before division by the total, in fixed point: round(2^42 * 2^y) for y <= 0, so 2^42 for the
 * most likely token and 0 for those over 29.8 nats below it. Sums of integers are exact: they do not depend on their
 * order, so a part of the vocabulary can be added up by itself, in any order and vector width, and the result of a
 * draw stays the same to the bit. 2^20 weights (the largest vocabulary) stay below 2^63. */

#define CPU_WEIGHT_BITS  42
#define CPU_WEIGHT_ONE   ((int64_t)1 << CPU_WEIGHT_BITS)
#define CPU_WEIGHT_DEPTH 44.0 /* y below minus this: weight 0 */

/* Adding 1.5 * 2^52 rounds to an integer (half to even) and leaves it in the low bits of the mantissa. */
#define CPU_ROUNDER 0x1.8p52

/* 2^f = 1 + f q(f) on [-1/2, 1/2]: minimax of degree 10, relative error under 2^-51. */
static inline f64x2 cpu_exp2_fraction(f64x2 f)
{
    f64x2 f2 = f * f, f4 = f2 * f2;
    f64x2 a = 1.0 + f * 0x1.62e42fefa3a28p-1;
    f64x2 b = 0x1.ebfbdff82c61fp-3 + f * 0x1.c6b08d703955ap-5;
    f64x2 c = 0x1.3b2ab6fb82094p-7 + f * 0x1.5d87fea4a74c7p-10;
    f64x2 d = 0x1.43091387c5a70p-13 + f * 0x1.ffcb3f1b369b8p-17;
    f64x2 e = 0x1.62be6867acf70p-20 + f * 0x1.b689b497139dep-24;
    f64x2 high = e + f2 * 0x1.e8b75b98b857dp-28;
    return (a + b * f2) + f4 * ((c + d * f2) + f4 * high);
}

/* Weights of two tokens; y in log2 units, <= 0, may be -inf, not NaN. */
static inline i64x2 cpu_weight2(f64x2 y)
{
    const f64x2 least = {-60.0, -60.0}, rounder = {CPU_ROUNDER, CPU_ROUNDER};
    i64x2 below = y < least;
    y = (f64x2)(((i64x2)y & ~below) | ((i64x2)least & below));
    f64x2 shifted = y + rounder;
    f64x2 p = cpu_exp2_fraction(y - (shifted - rounder));
    u64x2 exponent = ((u64x2)shifted << 52) + ((uint64_t)CPU_WEIGHT_BITS << 52);
    f64x2 weight = (f64x2)((u64x2)p + exponent);
    return (i64x2)(weight + rounder) - (i64x2)rounder;
}

static inline int64_t cpu_weight(double y)
{
    f64x2 pair = {y, y};
    return cpu_weight2(pair)[0];
}

#endif
