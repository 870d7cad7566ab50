/* The results of `tandem bench-serve` as text for a terminal. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_REPORT_H
#define TANDEM_CLI_LOADGEN_REPORT_H

#include "cli/loadgen_result.h"

#define LOADGEN_REPORT_MAX ((size_t)1 << 30) /* bytes of one report */

/* What is measured, how, a table of throughput and one of latencies with a row per point and target (medians of its
 * runs), ratios to the first target, failures. */
void loadgen_report_text(const struct loadgen_result *r, struct buf *out);

#endif
