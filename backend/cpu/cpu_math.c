#include "backend/cpu/cpu_math.h"

#include <string.h>

/* x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716, whose Taylor
 * series needs 10 terms for 2^-56. */
double cpu_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
    int64_t e = (int64_t)((bits - sqrt_half) >> 52);
    e = e >= 2048 ? e - 4096 : e; /* the difference wraps for x < sqrt(1/2) */
    bits -= (uint64_t)e << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    double f = m - 1.0, s = f / (2.0 + f), s2 = s * s, series = 0;
    for (int k = 10; k >= 1; k--)
        series = (series + 1.0 / (2 * k + 1)) * s2;
    /* 2 s + 2 s series, with 2 s = f - s f so that the rounding of s counts only in small terms */
    double tail = s * (2.0 * series - f);
    /* ln 2 in two parts: the first has 33 bits, so its product with e is exact */
    const double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
    return (double)e * ln2_high + (f + (tail + (double)e * ln2_low));
}
