#include "base/sys_cpu.h"

#include <stdio.h>

#if defined(__APPLE__)
#include <sys/sysctl.h>

static bool has(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

struct cpu_features sys_cpu_features(void)
{
    return (struct cpu_features){
        .neon_dotprod = has("hw.optional.arm.FEAT_DotProd"),
        .neon_i8mm = has("hw.optional.arm.FEAT_I8MM"),
        .neon_fp16 = has("hw.optional.arm.FEAT_FP16"),
        .neon_bf16 = has("hw.optional.arm.FEAT_BF16"),
    };
}

const char *sys_cpu_name(char *out, size_t size)
{
    size_t n = size;
    if (sysctlbyname("machdep.cpu.brand_string", out, &n, NULL, 0) != 0) {
        snprintf(out, size, "unknown");
    }
    return out;
}
#else
#include <sys/auxv.h>

/* Bits of the kernel's ABI (asm/hwcap.h), fixed for ever. */
#define HWCAP_ASIMDHP_BIT (1ul << 10)
#define HWCAP_ASIMDDP_BIT (1ul << 20)
#define HWCAP2_I8MM_BIT   (1ul << 13)
#define HWCAP2_BF16_BIT   (1ul << 14)

struct cpu_features sys_cpu_features(void)
{
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    return (struct cpu_features){
        .neon_dotprod = (caps & HWCAP_ASIMDDP_BIT) != 0,
        .neon_i8mm = (caps2 & HWCAP2_I8MM_BIT) != 0,
        .neon_fp16 = (caps & HWCAP_ASIMDHP_BIT) != 0,
        .neon_bf16 = (caps2 & HWCAP2_BF16_BIT) != 0,
    };
}

const char *sys_cpu_name(char *out, size_t size)
{
    snprintf(out, size, "arm64");
    return out;
}
#endif

void sys_cpu_relax(void)
{
    __asm__ volatile("yield");
}
