/* The plots of the page: each figure over the load, then each load by itself. */
#include "cli/loadgen_html_internal.h"
#include "cli/loadgen_plot.h"
#include "cli/loadgen_timeline.h"

#include "base/array.h"

#include <math.h>
#include <stdlib.h>

#define CDF_POINTS 160

/* ---- plots over the load ---- */

struct sweep {
    const char *title, *note, *unit;
    int figure;    /* the first; the others follow it: p50, p95, p99 */
    int n_figures; /* as solid, dashed and dotted lines */
};

static const struct sweep sweeps[] = {
    {"Output throughput", "Output tokens a second, all requests together", "tokens/s",
     LOADGEN_SCALAR_output_tokens_per_s, 1},
    {"Requests completed", "Requests a second", "requests/s", LOADGEN_SCALAR_requests_per_s, 1},
    {"Goodput", "Requests a second that keep the service level", "requests/s", LOADGEN_SCALAR_good_requests_per_s, 1},
    {"Time to first token", "Solid: median; dashed: p95; dotted: p99", "ms", LATENCY(ttft, LOADGEN_P50), 3},
    {"Inter-token latency", "Solid: median; dashed: p95; dotted: p99", "ms", LATENCY(itl, LOADGEN_P50), 3},
    {"Whole answer", "Solid: median; dashed: p95; dotted: p99", "ms", LATENCY(e2e, LOADGEN_P50), 3},
};

#define LOG_FROM 20.0 /* a latency that varies by more than this gets a logarithmic axis */

static double *scratch(const struct page *p, size_t i)
{
    return p->values + i * (size_t)p->r->n_points;
}

/* Least and most of a figure over the runs of a point. */
static void fill_range(const struct page *p, int point, int target, int figure, double *low, double *high)
{
    *low = *high = NAN;
    for (int i = 0; i < p->r->n_repeats; i++) {
        const struct loadgen_measured *m = loadgen_result_run(p->r, point, i, target);
        double v = m->done ? loadgen_figure(&m->figures, figure) : NAN;
        *low = !isnan(v) && !(v >= *low) ? v : *low;
        *high = !isnan(v) && !(v <= *high) ? v : *high;
    }
}

static void fill_line(const struct page *p, const struct sweep *s, int target, int k, struct plot_line *line)
{
    static const char *const tags[] = {"p50", "p95", "p99"};
    size_t at = (size_t)(target * HTML_COLUMNS + k * 3);
    double *y = scratch(p, at), *low = scratch(p, at + 1), *high = scratch(p, at + 2);
    for (int i = 0; i < p->r->n_points; i++) {
        y[i] = loadgen_figure(html__summary(p, i, target), s->figure + k);
        fill_range(p, i, target, s->figure + k, &low[i], &high[i]);
    }
    *line = (struct plot_line){.label = p->r->targets[target].label,
                               .tag = s->n_figures > 1 && p->r->n_targets == 1 ? tags[k] : NULL,
                               .color = target,
                               .style = (enum plot_style)k,
                               .x = p->loads,
                               .y = y,
                               .low = s->n_figures == 1 ? low : NULL,
                               .high = s->n_figures == 1 ? high : NULL,
                               .n = (size_t)p->r->n_points,
                               .points = true};
}

static void begin_figure(const struct page *p, const char *title, const char *note)
{
    buf_printf(p->out, "<figure><figcaption><b>%s</b><span>%s</span></figcaption>\n", title, note);
}

static bool varies_much(const struct plot_line *lines, size_t n)
{
    double low = NAN, high = NAN;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < lines[i].n; k++) {
            double y = lines[i].y[k];
            low = y > 0 && !(y >= low) ? y : low;
            high = y > 0 && !(y <= high) ? y : high;
        }
    }
    return high > LOG_FROM * low;
}

static void put_sweep(const struct page *p, const struct sweep *s, struct plot_line *lines)
{
    const struct loadgen_result *r = p->r;
    size_t n = 0;
    if (!html__has_values(p, s->figure)) {
        return;
    }
    for (int k = s->n_figures - 1; k >= 0; k--) { /* the medians last, above the others */
        for (int t = 0; t < r->n_targets; t++) {
            fill_line(p, s, t, k, &lines[n++]);
        }
    }
    bool rate = r->points[0].mode == LOADGEN_POISSON;
    double ratio = p->loads[r->n_points - 1] / p->loads[0];
    struct plot plot = {.name = s->title,
                        .x_title = rate ? "requests sent a second" : "requests in flight",
                        .y_title = s->unit,
                        .x_unit = rate ? "requests/s" : "in flight",
                        .y_unit = s->unit,
                        .lines = lines,
                        .n_lines = n,
                        .log_x = ratio > 4,
                        .log_y = s->n_figures > 1 && varies_much(lines, n),
                        .x_ticks = p->loads,
                        .n_x_ticks = (size_t)r->n_points};
    begin_figure(p, s->title, s->note);
    loadgen_plot(&plot, p->out);
    buf_puts(p->out, "</figure>\n");
}

/* What one user gets against what all get together: each point of the sweep a step along the line. */
static void put_trade_off(const struct page *p, struct plot_line *lines)
{
    const struct loadgen_result *r = p->r;
    if (!html__has_values(p, LATENCY(tpot, LOADGEN_P50))) {
        return;
    }
    for (int t = 0; t < r->n_targets; t++) {
        double *x = scratch(p, (size_t)t * HTML_COLUMNS), *y = scratch(p, (size_t)t * HTML_COLUMNS + 1);
        for (int i = 0; i < r->n_points; i++) {
            x[i] = 1000 / loadgen_figure(html__summary(p, i, t), LATENCY(tpot, LOADGEN_P50));
            y[i] = isnan(x[i]) ? NAN : loadgen_figure(html__summary(p, i, t), LOADGEN_SCALAR_output_tokens_per_s);
        }
        lines[t] = (struct plot_line){
            .label = r->targets[t].label, .color = t, .x = x, .y = y, .n = (size_t)r->n_points, .points = true};
    }
    struct plot plot = {.name = "Throughput against speed of one answer",
                        .x_title = "tokens a second of one answer (1000 / median TPOT)",
                        .y_title = "tokens/s",
                        .x_unit = "tokens/s for one",
                        .y_unit = "tokens/s for all",
                        .lines = lines,
                        .n_lines = (size_t)r->n_targets};
    begin_figure(p, "What one gets and what all get", "Up and to the right is better; each point is a load");
    loadgen_plot(&plot, p->out);
    buf_puts(p->out, "</figure>\n");
}

void html__sweeps(const struct page *p)
{
    struct plot_line *lines = calloc((size_t)p->r->n_targets * 3, sizeof *lines);
    if (lines && p->r->n_points > 1) {
        buf_puts(p->out, "<h2>Over the load</h2>\n");
        html__legend(p);
        buf_puts(p->out, "<div class=\"plots\">\n");
        for (size_t i = 0; i < ARRAY_LEN(sweeps); i++) {
            put_sweep(p, &sweeps[i], lines);
        }
        put_trade_off(p, lines);
        buf_puts(p->out, "</div>\n");
    }
    free(lines);
}

/* ---- one point: distributions and what happened when ---- */

/* All values of a target's runs at a point, sorted; free(). */
static double *pooled_values(const struct page *p, int point, int target, enum loadgen_latency latency, size_t *n)
{
    double *all = NULL;
    *n = 0;
    for (int i = 0; i < p->r->n_repeats; i++) {
        size_t k;
        double *values = loadgen_latency_values(&loadgen_result_run(p->r, point, i, target)->run, latency, &k);
        double *more = k ? realloc(all, (*n + k) * sizeof *all) : NULL;
        if (more) {
            all = more;
            memcpy(all + *n, values, k * sizeof *all);
            *n += k;
        }
        free(values);
    }
    loadgen_sort(all, *n);
    return all;
}

struct cdf {
    double x[CDF_POINTS], y[CDF_POINTS];
};

/* Percentiles at even distances, closer together towards the end, where the slow ones are. */
static size_t fill_cdf(const double *sorted, size_t n, struct cdf *c)
{
    size_t points = n < CDF_POINTS ? n : CDF_POINTS;
    for (size_t i = 0; i < points; i++) {
        double share = points > 1 ? (double)i / (double)(points - 1) : 1;
        double q = n <= CDF_POINTS ? 100 * share : 100 * (1 - (1 - share) * (1 - share));
        c->x[i] = loadgen_percentile(sorted, n, q);
        c->y[i] = q;
    }
    return points;
}

static void put_cdf(const struct page *p, int point, enum loadgen_latency latency, const char *title)
{
    const struct loadgen_result *r = p->r;
    struct cdf *cdfs = calloc((size_t)r->n_targets, sizeof *cdfs);
    struct plot_line *lines = calloc((size_t)r->n_targets, sizeof *lines);
    size_t n_lines = 0;
    bool spread = false;
    for (int t = 0; cdfs && lines && t < r->n_targets; t++) {
        size_t n;
        double *values = pooled_values(p, point, t, latency, &n);
        size_t points = fill_cdf(values, n, &cdfs[t]);
        spread = spread || (n && loadgen_percentile(values, n, 100) > LOG_FROM * loadgen_percentile(values, n, 50));
        free(values);
        if (points) {
            lines[n_lines++] = (struct plot_line){
                .label = r->targets[t].label, .color = t, .x = cdfs[t].x, .y = cdfs[t].y, .n = points};
        }
    }
    if (n_lines) {
        struct plot plot = {.name = title,
                            .x_title = "ms",
                            .y_title = "percent",
                            .x_unit = "ms",
                            .y_unit = "%",
                            .lines = lines,
                            .n_lines = n_lines,
                            .log_x = spread,
                            .y_max = 100};
        begin_figure(p, title, "Share that took at most so long");
        loadgen_plot(&plot, p->out);
        buf_puts(p->out, "</figure>\n");
    }
    free(cdfs);
    free(lines);
}

/* The last run of each target, all with the same time axis. */
static void put_timelines(const struct page *p, int point)
{
    const struct loadgen_result *r = p->r;
    double span_s = 0;
    for (int t = 0; t < r->n_targets; t++) {
        double s = html__summary(p, point, t)->duration_s;
        span_s = s > span_s ? s : span_s;
    }
    for (int t = 0; t < r->n_targets; t++) {
        const struct loadgen_measured *m = NULL;
        for (int i = 0; i < r->n_repeats; i++) {
            m = loadgen_result_run(r, point, i, t)->done ? loadgen_result_run(r, point, i, t) : m;
        }
        if (!m || m->run.n_samples == 0) {
            continue;
        }
        span_s = m->figures.duration_s > span_s ? m->figures.duration_s : span_s;
        buf_puts(p->out, "<figure><figcaption><b>Requests over time: ");
        loadgen_escape(p->out, r->targets[t].label);
        buf_puts(p->out,
                 "</b><span>Pale: until the first token; full: until the end; red: failed. Above: tokens a second");
        if (m->run.n_samples > LOADGEN_TIMELINE_REQUESTS) {
            buf_printf(p->out, "; the first %d of %zu requests", LOADGEN_TIMELINE_REQUESTS, m->run.n_samples);
        }
        buf_puts(p->out, "</span></figcaption>\n");
        loadgen_timeline(&m->run, "Requests over time", t, span_s, p->out);
        buf_puts(p->out, "</figure>\n");
    }
}

void html__point(const struct page *p, int point, bool open)
{
    char name[80];
    buf_printf(p->out,
               "<details%s><summary>%s<span>distributions and timeline</span></summary><div class=\"inside\">\n",
               open ? " open" : "", loadgen_point_name(&p->r->points[point], name, sizeof name));
    html__legend(p);
    buf_puts(p->out, "<div class=\"plots\">\n");
    put_cdf(p, point, LOADGEN_LATENCY_ttft, "Time to first token");
    put_cdf(p, point, LOADGEN_LATENCY_itl, "Inter-token latency");
    put_cdf(p, point, LOADGEN_LATENCY_tpot, "Time per output token");
    put_cdf(p, point, LOADGEN_LATENCY_e2e, "Whole answer");
    buf_puts(p->out, "</div>\n");
    put_timelines(p, point);
    buf_puts(p->out, "</div></details>\n");
}
