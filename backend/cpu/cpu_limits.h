/* The machine's limits as its own kernels could reach them, measured: what `tandem bench` and `tandem bench-kernels`
 * print their figures beside.
 *
 *     read   bytes per second from memory: a buffer far larger than the last-level cache, cut into pieces that threads
 *            claim as they claim tiles of weights, each piece read in several streams with vector loads
 *     int8   multiply-adds per second of bytes into sums of 32 bits, exact, in registers alone: vpmaddubsw with
 *            vpmaddwd and vpaddd on AVX2, vpdpbusd, sdot, smmla. The yardstick of weight products
 *     int4   the same where one factor has at most 4 bits. On AVX2, where products may then be summed in 16 bits, it is
 *            higher than int8; elsewhere it is equal
 *     f32    fused multiply-adds of f32 per second. The yardstick of attention and of weights in f16, bf16 and f32
 *
 * Each is the best of as many runs of about a millisecond as fit into a fifth of a second without getting better:
 * another program on the machine, a clock that has not risen yet, or a thread that woke up late costs single runs. All
 * four take a second on an idle machine; on a busy one several threads hardly ever run at once, and the figures are too
 * low. A rate may be exceeded a little: it is measured, too.
 *
 * What to expect, from a core of AMD's Zen 4 at 2.87 GHz that shows AVX2 only: f32 45.9 G, 16 a cycle, two vfmadd of 8
 * lanes; int8 91.9 G, 32 a cycle, as its two multipliers take a vpmaddubsw and a vpmaddwd for 32 products; int4 122.8
 * G, 43 a cycle of the 57 that nine multiplications for 256 products leave at best. Two cores have twice that. One core
 * reads some 30 GB/s, two some 60.
 */
#ifndef TANDEM_BACKEND_CPU_CPU_LIMITS_H
#define TANDEM_BACKEND_CPU_CPU_LIMITS_H

#include "backend/backend.h"

enum cpu_limit { CPU_LIMIT_READ, CPU_LIMIT_INT8, CPU_LIMIT_INT4, CPU_LIMIT_F32, CPU_LIMIT_COUNT };

struct cpu_limit_info {
    const char *name; /* "int8" */
    const char *unit; /* of per_second: "B/s", "multiply-adds/s" */
};
const struct cpu_limit_info *cpu_limit_info(enum cpu_limit limit); /* static storage */

struct cpu_limits {
    const char *kernels;                /* "avx2": the table whose loops measured; static storage */
    int n_threads;                      /* that measured */
    double per_second[CPU_LIMIT_COUNT]; /* positive */
    const char *how[CPU_LIMIT_COUNT];   /* the instructions: "vpdpbusd, 64 bytes"; static storage */
};

/* Takes kernel set and threads as cpu_backend_create does, with its errors; NO_MEMORY for the buffer. Blocks the
 * calling thread, which works too. */
NODISCARD bool cpu_limits_measure(const struct cpu_backend_options *options, struct cpu_limits *out, struct error *err);

#endif
