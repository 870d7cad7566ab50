/* What this machine's processor is and how much of it this process may use. Any thread. */
#ifndef TANDEM_BASE_SYS_CPU_H
#define TANDEM_BASE_SYS_CPU_H

#include <stdbool.h>
#include <stddef.h>

struct cpu_features { /* usable: the operating system saves the registers too */
    bool avx2, fma, f16c;
    bool avx512f, avx512bw, avx512dq, avx512vl, avx512vnni, avx_vnni, avx512bf16;
    bool neon_dotprod, neon_i8mm, neon_fp16, neon_bf16;
};

struct cpu_features sys_cpu_features(void);
void sys_cpu_relax(void);                         /* a pause in a spin loop */
const char *sys_cpu_name(char *out, size_t size); /* "AMD EPYC ..."; "unknown" when the system does not say */
int sys_cpu_usable(void); /* affinity and cgroup quota respected (rounded up); performance cores on Apple; at least 1 */

#endif
