/* How far `tandem bench-serve` is, on standard error: at a terminal a bar that is drawn again and again, and a line for
 * each run that is over; elsewhere the lines alone. The loop's thread. */
#ifndef TANDEM_CLI_BENCH_PROGRESS_H
#define TANDEM_CLI_BENCH_PROGRESS_H

#include "cli/bench_stats.h"

struct bench_screen {
    bool quiet, terminal, unicode;
    int n_runs, n_begun; /* n_runs 0: not counted (probe, warm-up) */
    char what[160];      /* of the run that is going on */
};

void bench_screen_init(struct bench_screen *s, bool quiet, int n_runs);

void bench_screen_begin(struct bench_screen *s, const char *what);    /* "concurrency 8, tandem" */
void bench_screen_show(void *screen, const struct bench_progress *p); /* for bench_load_options.on_progress */
void bench_screen_end(struct bench_screen *s, const struct bench_figures *f);
void bench_screen_clear(struct bench_screen *s); /* takes the bar away, before something else is printed */

/* The bar's line, cut to so many characters. For bench_screen_show, and its test. */
void bench_screen_line(const struct bench_screen *s, const struct bench_progress *p, int width, struct buf *out);

#endif
