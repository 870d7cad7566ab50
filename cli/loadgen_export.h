/* The results of `tandem bench-serve` for other programs: JSON and CSV. docs/BENCH_SERVE.md describes both. Any thread.
 */
#ifndef TANDEM_CLI_LOADGEN_EXPORT_H
#define TANDEM_CLI_LOADGEN_EXPORT_H

#include "cli/loadgen_result.h"

/* Everything that was measured; details: with every request. */
void loadgen_export_json(const struct loadgen_result *r, bool details, struct buf *out);

/* A row per run: mode, load, target, repeat, then the figures by their names; empty where there is none. Quoted as in
 * RFC 4180; a label that a spreadsheet would take for a formula gets an apostrophe before it. */
void loadgen_export_csv(const struct loadgen_result *r, struct buf *out);

#endif
