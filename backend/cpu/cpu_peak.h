/* What an instruction set can do at most: loops that do nothing but read memory, or nothing but multiply and add. One
 * set of loops per kernel table; cpu_limits.h times them. Their results are returned so that no compiler drops them,
 * and mean nothing.
 *
 * A chain of multiply-adds feeds its sum back as one of its factors, so that nothing can be computed once and used
 * again; there are enough independent chains, all in registers, to hide the latency. */
#ifndef TANDEM_BACKEND_CPU_CPU_PEAK_H
#define TANDEM_BACKEND_CPU_CPU_PEAK_H

#include <stddef.h>
#include <stdint.h>

#define CPU_PEAK_READ_STEP 4096 /* sizes of reads are multiples of it */

struct cpu_peak_loop {
    uint64_t (*run)(int64_t rounds);
    int macs;         /* multiply-adds of a round */
    const char *what; /* the instructions */
};

struct cpu_peak {
    /* Reads all of it, in several streams at once. */
    uint64_t (*read)(const void *data, size_t size);
    /* Exact products of 8 bits, summed in 32 bits: for any unsigned byte times any signed one of at most 127. */
    struct cpu_peak_loop int8;
    /* The same where one factor has at most 4 bits, which lets AVX2 sum eight products in 16 bits first. */
    struct cpu_peak_loop int4;
    struct cpu_peak_loop f32;
};

extern const struct cpu_peak cpu__peak_reference;
extern const struct cpu_peak cpu__peak_avx2;
extern const struct cpu_peak cpu__peak_avx512;
extern const struct cpu_peak cpu__peak_neon;
extern const struct cpu_peak cpu__peak_i8mm;

#endif
