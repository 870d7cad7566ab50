#include "base/sys_cpu.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bits of XCR0: the system saves SSE and AVX registers; and the three parts of the AVX-512 state. */
#define XCR0_AVX    0x06u
#define XCR0_AVX512 0xE6u

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

struct cpu_features sys_cpu_features(void)
{
    struct cpu_features f = {0};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) {
        return f;
    }
    uint64_t xcr0 = read_xcr0();
    bool avx = (xcr0 & XCR0_AVX) == XCR0_AVX && (c & bit_AVX);
    bool avx512 = (xcr0 & XCR0_AVX512) == XCR0_AVX512;
    f.fma = avx && (c & bit_FMA);
    f.f16c = avx && (c & bit_F16C);
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        f.avx2 = avx && (b & bit_AVX2);
        f.avx512f = avx512 && (b & bit_AVX512F);
        f.avx512bw = avx512 && (b & bit_AVX512BW);
        f.avx512dq = avx512 && (b & bit_AVX512DQ);
        f.avx512vl = avx512 && (b & bit_AVX512VL);
        f.avx512vnni = avx512 && (c & bit_AVX512VNNI);
    }
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        f.avx_vnni = avx && (a & (1u << 4));
        f.avx512bf16 = avx512 && (a & (1u << 5));
    }
    return f;
}

void sys_cpu_relax(void)
{
    _mm_pause();
}

const char *sys_cpu_name(char *out, size_t size)
{
    char brand[49] = {0};
    for (unsigned i = 0; i < 3; i++) {
        unsigned regs[4];
        if (!__get_cpuid(0x80000002u + i, &regs[0], &regs[1], &regs[2], &regs[3])) {
            snprintf(out, size, "unknown");
            return out;
        }
        memcpy(brand + 16 * i, regs, 16);
    }
    const char *start = brand + strspn(brand, " ");
    snprintf(out, size, "%s", start);
    return out;
}
