/* A run of `tandem bench-serve` over time, as SVG: tokens a second above, each request as a bar below, from its sending
 * over its first token to its end. Requests share a lane when one follows the other, so that the lanes in use are the
 * requests in flight. Colours as in loadgen_plot.h. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_TIMELINE_H
#define TANDEM_CLI_LOADGEN_TIMELINE_H

#include "cli/loadgen.h"

#define LOADGEN_TIMELINE_REQUESTS 2000 /* shown at most; the report says so when there are more */
#define LOADGEN_TIMELINE_LANES    128

/* name: what it shows, for those who cannot see it. span_s: the length of the time axis, so that several pictures can
 * have the same; 0: the run's. */
void loadgen_timeline(const struct loadgen_run *run, const char *name, int color, double span_s, struct buf *out);

#endif
