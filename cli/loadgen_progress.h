/* How far `tandem bench-serve` is, on standard error: at a terminal a bar that is drawn again and again, and a line for
 * each run that is over; elsewhere the lines alone. The loop's thread. */
#ifndef TANDEM_CLI_LOADGEN_PROGRESS_H
#define TANDEM_CLI_LOADGEN_PROGRESS_H

#include "cli/loadgen_stats.h"

struct loadgen_screen {
    bool quiet, terminal, unicode;
    int n_runs, n_begun; /* n_runs 0: not counted (probe, warm-up) */
    char what[160];      /* of the run that is going on */
};

void loadgen_screen_init(struct loadgen_screen *s, bool quiet, int n_runs);

void loadgen_screen_begin(struct loadgen_screen *s, const char *what);    /* "concurrency 8, tandem" */
void loadgen_screen_show(void *screen, const struct loadgen_progress *p); /* for loadgen_options.on_progress */
void loadgen_screen_end(struct loadgen_screen *s, const struct loadgen_figures *f);
void loadgen_screen_clear(struct loadgen_screen *s); /* takes the bar away, before something else is printed */

/* The bar's line, cut to so many characters. For loadgen_screen_show, and its test. */
void loadgen_screen_line(const struct loadgen_screen *s, const struct loadgen_progress *p, int width, struct buf *out);

#endif
