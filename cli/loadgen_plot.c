#include "cli/loadgen_plot.h"

#include "base/array.h"

#include <math.h>
#include <stdio.h>

/* The picture in its own units; the page scales it. */
#define WIDTH  560.0
#define HEIGHT 300.0
#define LEFT   58.0
#define RIGHT  18.0
#define TAGS   26.0 /* more room on the right when lines have tags */
#define TOP    14.0
#define BOTTOM 46.0

#define MIN_TICK_GAP 30.0 /* between the labels of the x axis */
#define MIN_TAG_GAP  12.0 /* between the tags of lines */
#define MAX_TAGS     16
#define MAX_TICKS    24

/* ---- text and numbers ---- */

void loadgen_escape(struct buf *out, const char *text)
{
    static const struct {
        char c;
        const char *reference;
    } references[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (const char *c = text; *c; c++) {
        const char *reference = NULL;
        for (size_t i = 0; i < ARRAY_LEN(references); i++) {
            reference = *c == references[i].c ? references[i].reference : reference;
        }
        if (reference) {
            buf_puts(out, reference);
        } else if ((unsigned char)*c >= 0x20 && *c != 0x7f) {
            buf_putc(out, *c);
        } else {
            buf_putc(out, ' ');
        }
    }
}

double loadgen_plot_step(double max)
{
    static const double factors[] = {1, 2, 5, 10};
    double rough = max / 5, base = max > 0 ? pow(10, floor(log10(rough))) : 1;
    for (size_t i = 0; max > 0 && i < ARRAY_LEN(factors); i++) {
        if (base * factors[i] >= rough * 0.999) {
            return base * factors[i];
        }
    }
    return 1;
}

const char *loadgen_plot_number(double v, char *out, size_t size)
{
    snprintf(out, size, fabs(v) >= 1e4 ? "%.4gk" : "%.4g", fabs(v) >= 1e4 ? v / 1000 : v);
    return out;
}

/* ---- scales ---- */

struct scale {
    double x_min, x_max, y_min, y_max;
    bool log_x, log_y;
    double right; /* where the plot ends */
};

/* Where v lies between low and high, 0 to 1. */
static double share_of(double v, double low, double high, bool log_scale)
{
    double from = log_scale ? log(low) : low, to = log_scale ? log(high) : high, at = log_scale ? log(v) : v;
    double share = to > from ? (at - from) / (to - from) : 0.5;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static double at_x(const struct scale *s, double x)
{
    return LEFT + share_of(x, s->x_min, s->x_max, s->log_x) * (s->right - LEFT);
}

static double at_y(const struct scale *s, double y)
{
    return TOP + (1 - share_of(y, s->y_min, s->y_max, s->log_y)) * (HEIGHT - TOP - BOTTOM);
}

static bool is_shown(const struct plot_line *line, const struct scale *s, size_t i)
{
    return !isnan(line->y[i]) && !isnan(line->x[i]) && !(s->log_x && line->x[i] <= 0) && !(s->log_y && line->y[i] <= 0);
}

static void widen(struct scale *s, const struct plot_line *line)
{
    for (size_t i = 0; i < line->n; i++) {
        double x = line->x[i], high = line->high && !isnan(line->high[i]) ? line->high[i] : line->y[i];
        if (!is_shown(line, s, i)) {
            continue;
        }
        s->x_min = isnan(s->x_min) || x < s->x_min ? x : s->x_min;
        s->x_max = isnan(s->x_max) || x > s->x_max ? x : s->x_max;
        s->y_min = isnan(s->y_min) || line->y[i] < s->y_min ? line->y[i] : s->y_min;
        s->y_max = isnan(s->y_max) || high > s->y_max ? high : s->y_max;
    }
}

/* The nearest of 1, 2, 5, 10, 20 ... that is not above v, or not below it. */
static double round_log(double v, bool up)
{
    static const double factors[] = {1, 2, 5, 10};
    double base = pow(10, floor(log10(v) + 1e-9)), down = base;
    for (size_t i = 0; i < ARRAY_LEN(factors); i++) {
        if (base * factors[i] >= v * 0.999999) {
            return up || base * factors[i] <= v * 1.000001 ? base * factors[i] : down;
        }
        down = base * factors[i];
    }
    return down;
}

/* From zero to a line of the grid; in logarithms from one line to another. */
static void round_y(struct scale *s, double fixed_max)
{
    if (s->log_y) {
        s->y_min = round_log(s->y_min, false);
        s->y_max = round_log(s->y_max, true);
        s->y_max = s->y_max > s->y_min ? s->y_max : 10 * s->y_min;
        return;
    }
    double max = fixed_max > 0 ? fixed_max : s->y_max > 0 ? s->y_max * 1.04 : 1, step = loadgen_plot_step(max);
    s->y_min = 0;
    s->y_max = fixed_max > 0 ? fixed_max : ceil(max / step) * step;
}

static struct scale scale_of(const struct plot *p)
{
    struct scale s = {.x_min = NAN, .x_max = NAN, .y_min = NAN, .y_max = NAN, .log_x = p->log_x, .log_y = p->log_y};
    s.right = WIDTH - RIGHT;
    for (size_t i = 0; i < p->n_lines; i++) {
        widen(&s, &p->lines[i]);
        s.right = p->lines[i].tag ? WIDTH - RIGHT - TAGS : s.right;
    }
    if (isnan(s.x_min)) { /* nothing to show: any axes do */
        s = (struct scale){.x_min = 1, .x_max = 2, .y_min = 1, .y_max = 1, .log_y = p->log_y, .right = s.right};
    }
    s.x_min = s.log_x || p->n_x_ticks ? s.x_min : 0;
    round_y(&s, p->y_max);
    return s;
}

/* ---- axes ---- */

/* 1, 2, 5, 10, 20 ... between the ends; only powers of ten where there would be too many. */
static size_t log_ticks(double min, double max, double *ticks)
{
    static const double factors[] = {1, 2, 5};
    size_t n = 0, n_factors = max / min > 2000 ? 1 : ARRAY_LEN(factors);
    for (double base = pow(10, floor(log10(min))); base <= max * 1.001 && n < MAX_TICKS; base *= 10) {
        for (size_t i = 0; i < n_factors && n < MAX_TICKS; i++) {
            double tick = base * factors[i];
            if (tick >= min * 0.999 && tick <= max * 1.001) {
                ticks[n++] = tick;
            }
        }
    }
    return n;
}

static size_t round_ticks(double max, double *ticks)
{
    double step = loadgen_plot_step(max);
    size_t n = 0;
    for (; n < MAX_TICKS && (double)n * step <= max * 1.0001; n++) {
        ticks[n] = (double)n * step;
    }
    return n;
}

static void put_y_axis(const struct plot *p, const struct scale *s, struct buf *out)
{
    char number[40];
    double ticks[MAX_TICKS];
    size_t n = s->log_y ? log_ticks(s->y_min, s->y_max, ticks) : round_ticks(s->y_max, ticks);
    for (size_t i = 0; i < n; i++) {
        double y = at_y(s, ticks[i]);
        buf_printf(out, "<path class=\"%s\" d=\"M%.1f %.1fH%.1f\"/>", i ? "grid" : "base", LEFT, y, s->right);
        buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 8, y + 4,
                   loadgen_plot_number(ticks[i], number, sizeof number));
    }
    buf_printf(out, "<text class=\"axis\" transform=\"translate(14 %.1f) rotate(-90)\" text-anchor=\"middle\">",
               (TOP + HEIGHT - BOTTOM) / 2);
    loadgen_escape(out, p->y_title);
    buf_puts(out, "</text>\n");
}

static void put_x_axis(const struct plot *p, const struct scale *s, struct buf *out)
{
    double chosen[MAX_TICKS], last = -MIN_TICK_GAP;
    const double *ticks = p->n_x_ticks ? p->x_ticks : chosen;
    size_t n = p->n_x_ticks ? p->n_x_ticks
               : s->log_x   ? log_ticks(s->x_min, s->x_max, chosen)
                            : round_ticks(s->x_max, chosen);
    char number[40];
    for (size_t i = 0; i < n; i++) {
        double x = at_x(s, ticks[i]);
        if (x - last < MIN_TICK_GAP) {
            continue;
        }
        last = x;
        buf_printf(out, "<path class=\"base\" d=\"M%.1f %.1fv4\"/>", x, HEIGHT - BOTTOM);
        buf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x,
                   HEIGHT - BOTTOM + 18, loadgen_plot_number(ticks[i], number, sizeof number));
    }
    buf_printf(out, "<text class=\"axis\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (LEFT + s->right) / 2,
               HEIGHT - 8);
    loadgen_escape(out, p->x_title);
    buf_puts(out, "</text>\n");
}

/* ---- lines ---- */

static void put_path(const struct plot_line *line, const struct scale *s, struct buf *out)
{
    static const char *const dashes[] = {
        [PLOT_SOLID] = "", [PLOT_DASHED] = " stroke-dasharray=\"6 4\"", [PLOT_DOTTED] = " stroke-dasharray=\"1.5 4\""};
    bool first = true;
    buf_printf(out, "<path class=\"line\" style=\"stroke:var(--c%d)\"%s%s d=\"", line->color % PLOT_COLORS,
               dashes[line->style], line->style == PLOT_SOLID ? "" : " stroke-width=\"1.6\"");
    for (size_t i = 0; i < line->n; i++) {
        if (is_shown(line, s, i)) {
            buf_printf(out, "%c%.1f %.1f", first ? 'M' : 'L', at_x(s, line->x[i]), at_y(s, line->y[i]));
            first = false;
        }
    }
    buf_puts(out, first ? "M0 0\"/>\n" : "\"/>\n");
}

static void put_whisker(const struct plot_line *line, const struct scale *s, size_t i, struct buf *out)
{
    if (line->low && line->high && line->high[i] > line->low[i]) {
        buf_printf(out, "<path class=\"whisker\" style=\"stroke:var(--c%d)\" d=\"M%.1f %.1fV%.1f\"/>",
                   line->color % PLOT_COLORS, at_x(s, line->x[i]), at_y(s, line->low[i]), at_y(s, line->high[i]));
    }
}

/* Marks, with a larger invisible one around each that is easy to point at. */
static void put_points(const struct plot *p, const struct plot_line *line, const struct scale *s, struct buf *out)
{
    char x[40], y[40];
    for (size_t i = 0; i < line->n; i++) {
        if (!is_shown(line, s, i)) {
            continue;
        }
        double px = at_x(s, line->x[i]), py = at_y(s, line->y[i]);
        put_whisker(line, s, i, out);
        buf_printf(out, "<g><circle class=\"dot\" style=\"fill:var(--c%d)\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>",
                   line->color % PLOT_COLORS, px, py, line->style == PLOT_SOLID ? "4" : "2.5");
        buf_printf(out, "<circle class=\"hit\" cx=\"%.1f\" cy=\"%.1f\" r=\"10\"/><title>", px, py);
        loadgen_escape(out, line->label);
        buf_printf(out, "\n%s %s: %s %s</title></g>\n", loadgen_plot_number(line->x[i], x, sizeof x), p->x_unit,
                   loadgen_plot_number(line->y[i], y, sizeof y), p->y_unit);
    }
}

struct tag {
    const struct plot_line *line;
    double x, y;
};

/* Tags lie at the ends of their lines, pushed apart from the top down where they would touch. */
static void put_tags(const struct plot *p, const struct scale *s, struct buf *out)
{
    struct tag tags[MAX_TAGS];
    size_t n = 0;
    for (size_t i = 0; i < p->n_lines && n < MAX_TAGS; i++) {
        const struct plot_line *line = &p->lines[i];
        size_t last = line->n;
        while (last > 0 && !is_shown(line, s, last - 1)) {
            last--;
        }
        if (!line->tag || last == 0) {
            continue;
        }
        struct tag t = {line, at_x(s, line->x[last - 1]), at_y(s, line->y[last - 1])};
        size_t at = n++;
        for (; at > 0 && tags[at - 1].y > t.y; at--) {
            tags[at] = tags[at - 1];
        }
        tags[at] = t;
    }
    double floor_y = HEIGHT - BOTTOM;
    for (size_t i = n; i-- > 0;) { /* up from the base, so that all have room */
        tags[i].y = tags[i].y > floor_y ? floor_y : tags[i].y;
        floor_y = tags[i].y - MIN_TAG_GAP;
    }
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "<text class=\"tag\" x=\"%.1f\" y=\"%.1f\">", tags[i].x + 8, tags[i].y + 4);
        loadgen_escape(out, tags[i].line->tag);
        buf_puts(out, "</text>\n");
    }
}

void loadgen_plot(const struct plot *p, struct buf *out)
{
    struct scale s = scale_of(p);
    buf_printf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\"><title>", WIDTH, HEIGHT);
    loadgen_escape(out, p->name);
    buf_puts(out, "</title>\n");
    put_y_axis(p, &s, out);
    put_x_axis(p, &s, out);
    for (size_t i = 0; i < p->n_lines; i++) {
        put_path(&p->lines[i], &s, out);
    }
    for (size_t i = 0; i < p->n_lines; i++) {
        if (p->lines[i].points) {
            put_points(p, &p->lines[i], &s, out);
        }
    }
    put_tags(p, &s, out);
    buf_puts(out, "</svg>\n");
}
