/* The results of `tandem bench-serve` as text for a terminal. Any thread. */
#ifndef TANDEM_CLI_BENCH_REPORT_H
#define TANDEM_CLI_BENCH_REPORT_H

#include "cli/bench_result.h"

#define BENCH_REPORT_MAX ((size_t)1 << 30) /* bytes of one report */

/* What is measured, how, a table of throughput and one of latencies with a row per point and target (medians of its
 * runs), ratios to the first target, failures. */
void bench_report_text(const struct bench_result *r, struct buf *out);

#endif
