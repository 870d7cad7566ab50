/* What loadgen_html.c (the page, cards, tables) and loadgen_html_plots.c (its plots) share. */
#ifndef TANDEM_CLI_LOADGEN_HTML_INTERNAL_H
#define TANDEM_CLI_LOADGEN_HTML_INTERNAL_H

#include "cli/loadgen_html.h"

/* The index of a latency's part among the figures. */
#define LATENCY(name, part) (LOADGEN_N_SCALARS + LOADGEN_LATENCY_##name * LOADGEN_N_PARTS + (part))

struct page {
    const struct loadgen_result *r;
    struct buf *out;
    struct loadgen_figures *summaries; /* [n_points][n_targets] */
    double *loads;                     /* [n_points] */
    double *values;                    /* scratch of the plots: [n_targets][HTML_COLUMNS][n_points] */
};

#define HTML_COLUMNS 9 /* three lines of a plot, each with the ends of its whiskers */

const struct loadgen_figures *html__summary(const struct page *p, int point, int target);
bool html__has_values(const struct page *p, int figure); /* of any target at any point */
void html__swatch(const struct page *p, int target);
void html__legend(const struct page *p); /* which colour is which target; nothing with one target */

void html__sweeps(const struct page *p);                      /* plots over the load */
void html__point(const struct page *p, int point, bool open); /* distributions and timelines of one load */

#endif
