/* The machine's limits for the benchmarks: measured once for each number of threads, printed, written, looked up. */
#ifndef TANDEM_CLI_BENCH_LIMITS_H
#define TANDEM_CLI_BENCH_LIMITS_H

#include "backend/cpu/cpu_limits.h"
#include "base/json.h"
#include "cli/bench_stats.h"
#include "cli/options.h"

struct bench_limits {
    int n;
    struct cpu_limits of[BENCH_MAX_LIST]; /* [n] in the order of the threads given */
};

/* --threads as a list; NULL or "0": `fallback` (0 in it: as many threads as this process may use). */
NODISCARD bool bench_threads_parse(const char *text, const char *fallback, struct bench_list *out, struct error *err);

/* Takes about a second for each number of threads. */
NODISCARD bool bench_limits_measure(const struct cpu_backend_options *cpu, const struct bench_list *threads,
                                    struct bench_limits *out, struct error *err);
const struct cpu_limits *bench_limits_of(const struct bench_limits *l, int n_threads); /* NULL when not measured */

/* Processor, build and limits, a line each, to standard output or, when that is a report's, to standard error. */
void bench_limits_print(const struct bench_limits *l, const struct options *o);
/* The same as members of an object: "build", "cpu", "kernels", "limits". */
void bench_limits_put(const struct bench_limits *l, struct json_writer *w);

#endif
