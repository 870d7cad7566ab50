/* Plots for the HTML report of `tandem bench-serve`: SVG without scripts, coloured by the page's variables (--c0 to
 * --c7, --ink, --faint, --grid), so that one picture serves light and dark. All texts are escaped here. Any thread. */
#ifndef TANDEM_CLI_LOADGEN_PLOT_H
#define TANDEM_CLI_LOADGEN_PLOT_H

#include "base/buf.h"

#define PLOT_COLORS 8 /* then they begin again */

enum plot_style { PLOT_SOLID, PLOT_DASHED, PLOT_DOTTED };

struct plot_line {
    const char *label; /* in the tips of its points */
    const char *tag;   /* a short word at its end, such as "p95"; NULL: none */
    int color;
    enum plot_style style;
    const double *x, *y;      /* [n] ascending x; points whose y is NAN are left out */
    const double *low, *high; /* [n] whiskers, or NULL */
    size_t n;
    bool points; /* marks with tips at each */
};

struct plot {
    const char *name; /* what it shows, for those who cannot see it */
    const char *x_title, *y_title;
    const char *x_unit, *y_unit;   /* in tips: "ms" */
    const struct plot_line *lines; /* [n_lines] */
    size_t n_lines;
    bool log_x, log_y;
    const double *x_ticks; /* [n_x_ticks], or none: round ones are chosen */
    size_t n_x_ticks;
    double y_max; /* 0: from the data; not with log_y */
};

void loadgen_plot(const struct plot *p, struct buf *out); /* <svg>...</svg> */

/* Round numbers that divide [0, max] into 4 to 6 parts: their distance. */
double loadgen_plot_step(double max);

/* A number as axes show it: "0.5", "12", "1500", "20k". */
const char *loadgen_plot_number(double v, char *out, size_t size);

/* Appends text with & < > " ' as references and without control characters. */
void loadgen_escape(struct buf *out, const char *text);

#endif
