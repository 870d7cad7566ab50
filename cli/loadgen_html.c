#include "cli/loadgen_html.h"

#include "cli/loadgen_html_internal.h"
#include "cli/loadgen_html_style.h"
#include "cli/loadgen_plot.h"

#include "base/array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const struct loadgen_figures *html__summary(const struct page *p, int point, int target)
{
    return &p->summaries[point * p->r->n_targets + target];
}

bool html__has_values(const struct page *p, int figure)
{
    for (int i = 0; i < p->r->n_points * p->r->n_targets; i++) {
        if (!isnan(loadgen_figure(&p->summaries[i], figure))) {
            return true;
        }
    }
    return false;
}

/* ---- head ---- */

static void put_time(struct buf *out, int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm utc;
    char text[64] = "";
    if (gmtime_r(&t, &utc)) {
        strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &utc);
    }
    buf_puts(out, text);
}

static void put_slo(const struct loadgen_slo *slo, struct buf *out)
{
    const double limits[LOADGEN_N_LATENCIES] = {slo->ttft, slo->itl, slo->tpot, slo->e2e};
    const char *separator = "; service level: ";
    for (int i = 0; i < LOADGEN_N_LATENCIES; i++) {
        if (limits[i] > 0) {
            buf_printf(out, "%s%s at most %g ms", separator, loadgen_latency_name((enum loadgen_latency)i), limits[i]);
            separator = ", ";
        }
    }
}

static void put_head(const struct page *p)
{
    const struct loadgen_facts *f = &p->r->facts;
    struct buf *out = p->out;
    buf_puts(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                  "'unsafe-inline'\">\n<title>Serving benchmark</title>\n<style>\n");
    buf_puts(out, loadgen_html_style);
    buf_puts(out, "</style>\n</head>\n<body>\n<main>\n<h1>Serving benchmark</h1>\n<p class=\"soft\">");
    loadgen_escape(out, f->workload);
    buf_printf(out, "; %s", f->stream ? "streamed answers" : "whole answers");
    put_slo(&p->r->slo, out);
    buf_puts(out, ".</p>\n<p class=\"soft small\">");
    put_time(out, f->started_s);
    buf_puts(out, " &middot; ");
    loadgen_escape(out, f->version);
    buf_puts(out, " &middot; client on ");
    loadgen_escape(out, f->processor);
    buf_printf(out, ", %d processors &middot; seed %llu", f->n_processors, (unsigned long long)f->seed);
    if (p->r->n_repeats > 1) {
        buf_printf(out, " &middot; medians of %d runs, taken in turns", p->r->n_repeats);
    }
    buf_printf(out, "%s</p>\n", p->r->interrupted ? " &middot; <b class=\"bad\">interrupted</b>" : "");
}

/* ---- a card for each target ---- */

void html__swatch(const struct page *p, int target)
{
    buf_printf(p->out, "<i class=\"swatch\" style=\"background:var(--c%d)\"></i>", target % PLOT_COLORS);
}

/* The point where a figure is best, or -1. */
static int best_point(const struct page *p, int target, int figure)
{
    int best = -1;
    for (int i = 0; i < p->r->n_points; i++) {
        double v = loadgen_figure(html__summary(p, i, target), figure),
               than = best < 0 ? NAN : loadgen_figure(html__summary(p, best, target), figure);
        bool better = loadgen_figure_better(figure) > 0 ? v > than : v < than;
        best = !isnan(v) && (best < 0 || better) ? i : best;
    }
    return best;
}

static void put_tile(const struct page *p, int target, const char *title, int figure, const char *unit)
{
    int point = best_point(p, target, figure), first = best_point(p, 0, figure);
    char number[40], where[80];
    if (point < 0) {
        return;
    }
    double v = loadgen_figure(html__summary(p, point, target), figure);
    buf_printf(p->out, "<div class=\"tile\"><span>%s</span><b>%s <small>%s</small></b><span>at %s", title,
               loadgen_number(v, number, sizeof number), unit,
               loadgen_point_name(&p->r->points[point], where, sizeof where));
    if (target > 0 && first >= 0) {
        double base = loadgen_figure(html__summary(p, first, 0), figure);
        if (base > 0) {
            buf_printf(p->out, "</span><em>%.2f&times; the first</em><span>", v / base);
        }
    }
    buf_puts(p->out, "</span></div>\n");
}

static void put_card(const struct page *p, int target)
{
    const struct loadgen_target *t = &p->r->targets[target];
    struct buf *out = p->out;
    buf_puts(out, "<div class=\"card\"><div class=\"name\">");
    html__swatch(p, target);
    loadgen_escape(out, t->label);
    buf_puts(out, "</div><div class=\"where\">");
    loadgen_escape(out, t->model);
    buf_puts(out, " &middot; ");
    loadgen_escape(out, t->url);
    if (t->server[0] || t->fingerprint[0]) {
        buf_puts(out, "<br>");
        loadgen_escape(out, t->server);
        buf_puts(out, t->server[0] && t->fingerprint[0] ? " &middot; " : "");
        loadgen_escape(out, t->fingerprint);
    }
    buf_puts(out, "</div>\n<div class=\"tiles\">\n");
    put_tile(p, target, "Most output", LOADGEN_SCALAR_output_tokens_per_s, "tokens/s");
    put_tile(p, target, "First token, median", LATENCY(ttft, LOADGEN_P50), "ms");
    put_tile(p, target, "Between tokens, median", LATENCY(itl, LOADGEN_P50), "ms");
    put_tile(p, target, "Goodput", LOADGEN_SCALAR_good_requests_per_s, "requests/s");
    put_tile(p, target, "Whole answer, median", LATENCY(e2e, LOADGEN_P50), "ms");
    buf_puts(out, "</div></div>\n");
}

void html__legend(const struct page *p)
{
    if (p->r->n_targets < 2) {
        return;
    }
    buf_puts(p->out, "<div class=\"legend\">");
    for (int i = 0; i < p->r->n_targets; i++) {
        buf_puts(p->out, "<span>");
        html__swatch(p, i);
        loadgen_escape(p->out, p->r->targets[i].label);
        buf_puts(p->out, "</span>");
    }
    buf_puts(p->out, "</div>\n");
}

/* ---- all figures ---- */

static const struct {
    const char *group, *title;
    int figure;
    bool share;
} columns[] = {
    {"Throughput", "requests/s", LOADGEN_SCALAR_requests_per_s, false},
    {"", "output tok/s", LOADGEN_SCALAR_output_tokens_per_s, false},
    {"", "total tok/s", LOADGEN_SCALAR_total_tokens_per_s, false},
    {"Goodput", "requests/s", LOADGEN_SCALAR_good_requests_per_s, false},
    {"", "share", LOADGEN_SCALAR_good_share, true},
    {"TTFT ms", "mean", LATENCY(ttft, LOADGEN_MEAN), false},
    {"", "p50", LATENCY(ttft, LOADGEN_P50), false},
    {"", "p95", LATENCY(ttft, LOADGEN_P95), false},
    {"", "p99", LATENCY(ttft, LOADGEN_P99), false},
    {"ITL ms", "mean", LATENCY(itl, LOADGEN_MEAN), false},
    {"", "p50", LATENCY(itl, LOADGEN_P50), false},
    {"", "p95", LATENCY(itl, LOADGEN_P95), false},
    {"", "p99", LATENCY(itl, LOADGEN_P99), false},
    {"TPOT ms", "mean", LATENCY(tpot, LOADGEN_MEAN), false},
    {"", "p50", LATENCY(tpot, LOADGEN_P50), false},
    {"", "p99", LATENCY(tpot, LOADGEN_P99), false},
    {"E2E ms", "mean", LATENCY(e2e, LOADGEN_MEAN), false},
    {"", "p50", LATENCY(e2e, LOADGEN_P50), false},
    {"", "p95", LATENCY(e2e, LOADGEN_P95), false},
    {"", "p99", LATENCY(e2e, LOADGEN_P99), false},
    {"Tokens", "prompt", LOADGEN_SCALAR_prompt_tokens, false},
    {"", "output", LOADGEN_SCALAR_output_tokens, false},
    {"", "cached", LOADGEN_SCALAR_cached_share, true},
    {"Requests", "completed", LOADGEN_SCALAR_completed, false},
    {"", "failed", LOADGEN_SCALAR_failed, false},
    {"Checks", "passed", LOADGEN_SCALAR_checks_passed, false},
    {"", "failed", LOADGEN_SCALAR_checks_failed, false},
    {"Client", "CPU", LOADGEN_SCALAR_client_cpu, true},
};

static void put_cell(const struct page *p, int point, int target, size_t c)
{
    double v = loadgen_figure(html__summary(p, point, target), columns[c].figure);
    double base = loadgen_figure(html__summary(p, point, 0), columns[c].figure);
    bool failed =
        (columns[c].figure == LOADGEN_SCALAR_failed || columns[c].figure == LOADGEN_SCALAR_checks_failed) && v > 0;
    char number[40];
    buf_puts(p->out, failed ? "<td class=\"bad\">" : "<td>");
    if (columns[c].share && !isnan(v)) {
        buf_printf(p->out, "%.0f%%", 100 * v);
    } else {
        buf_puts(p->out, loadgen_number(v, number, sizeof number));
    }
    if (target > 0 && !columns[c].share && loadgen_figure_better(columns[c].figure) && base > 0 && !isnan(v)) {
        buf_printf(p->out, "<small>%.2f&times;</small>", v / base);
    }
    buf_puts(p->out, "</td>");
}

/* How many of the columns from c on, up to the next group, are shown. */
static int group_width(const struct page *p, size_t c)
{
    int n = html__has_values(p, columns[c].figure);
    for (c++; c < ARRAY_LEN(columns) && !columns[c].group[0]; c++) {
        n += html__has_values(p, columns[c].figure);
    }
    return n;
}

static void put_table_head(const struct page *p)
{
    buf_puts(p->out, "<thead><tr><th colspan=\"2\"></th>");
    for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
        int width = columns[c].group[0] ? group_width(p, c) : 0;
        if (width) {
            buf_printf(p->out, "<th class=\"group\" colspan=\"%d\">%s</th>", width, columns[c].group);
        }
    }
    buf_printf(p->out, "</tr><tr><th class=\"l\">%s</th><th class=\"l\">target</th>",
               loadgen_mode_name(p->r->points[0].mode));
    for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
        if (html__has_values(p, columns[c].figure)) {
            buf_printf(p->out, "<th>%s</th>", columns[c].title);
        }
    }
    buf_puts(p->out, "</tr></thead>\n<tbody>\n");
}

static void put_table(const struct page *p)
{
    char load[40];
    buf_puts(p->out, "<h2>All figures</h2>\n<div class=\"wide\"><table>\n");
    put_table_head(p);
    for (int i = 0; i < p->r->n_points; i++) {
        for (int t = 0; t < p->r->n_targets; t++) {
            buf_printf(p->out, "<tr%s><td class=\"l\">%s</td><td class=\"l\">", t ? "" : " class=\"first\"",
                       t ? "" : loadgen_point_load(&p->r->points[i], load, sizeof load));
            html__swatch(p, t);
            buf_puts(p->out, " ");
            loadgen_escape(p->out, p->r->targets[t].label);
            buf_puts(p->out, "</td>");
            for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
                if (html__has_values(p, columns[c].figure)) {
                    put_cell(p, i, t, c);
                }
            }
            buf_puts(p->out, "</tr>\n");
        }
    }
    buf_puts(p->out, "</tbody></table></div>\n");
}

/* ---- what went wrong ---- */

static void put_failures_of_run(const struct page *p, const struct loadgen_run *run, const char *label,
                                const char *where)
{
    struct buf *out = p->out;
    for (int i = 0; i < run->n_failures; i++) {
        const struct loadgen_failure *f = &run->failures[i];
        buf_puts(out, "<li><b>");
        loadgen_escape(out, label);
        buf_printf(out, "</b>, %s: %llu &times; <span class=\"bad\">%s", where, (unsigned long long)f->n,
                   loadgen_outcome_name(f->outcome));
        if (f->outcome == LOADGEN_STATUS) {
            buf_printf(out, " %d", f->status);
        }
        buf_puts(out, "</span> <span class=\"soft\">");
        loadgen_escape(out, f->message);
        buf_puts(out, "</span></li>\n");
    }
    for (int i = 0; i < run->n_examples; i++) {
        buf_puts(out, "<li><b>");
        loadgen_escape(out, label);
        buf_printf(out, "</b>, %s, line %llu: <span class=\"bad\">", where, (unsigned long long)run->examples[i].line);
        loadgen_escape(out, run->examples[i].complaint);
        buf_puts(out, "</span> <span class=\"soft\">");
        loadgen_escape(out, run->examples[i].text);
        buf_puts(out, "</span></li>\n");
    }
}

static void put_failures(const struct page *p)
{
    const struct loadgen_result *r = p->r;
    char where[80];
    if (loadgen_result_failed(r) + loadgen_result_checks_failed(r) == 0) {
        return;
    }
    buf_puts(p->out, "<h2>What went wrong</h2>\n<ul class=\"plain\">\n");
    for (int i = 0; i < r->n_points; i++) {
        for (int k = 0; k < r->n_repeats; k++) {
            for (int t = 0; t < r->n_targets; t++) {
                const struct loadgen_measured *m = loadgen_result_run(r, i, k, t);
                put_failures_of_run(p, &m->run, r->targets[t].label,
                                    loadgen_point_name(&r->points[i], where, sizeof where));
            }
        }
    }
    buf_puts(p->out, "</ul>\n");
}

static void put_definitions(struct buf *out)
{
    buf_puts(
        out,
        "<h2>What the figures mean</h2>\n<div class=\"card\"><dl>\n"
        "<dt>TTFT</dt><dd>Time to first token: from sending a request to the first event with output.</dd>\n"
        "<dt>ITL</dt><dd>Inter-token latency: between one event with output and the next of the same answer, over "
        "all answers.</dd>\n"
        "<dt>TPOT</dt><dd>Time per output token: (E2E &minus; TTFT) / (output tokens &minus; 1) of each answer.</dd>\n"
        "<dt>E2E</dt><dd>End to end: from sending a request to the last event of its answer.</dd>\n"
        "<dt>Throughput</dt><dd>What was completed, by the time from the start of the run to the end of its last "
        "answer.</dd>\n"
        "<dt>Goodput</dt><dd>Requests that keep every limit of the service level, by the same time; the share is of "
        "all requests, failed ones too.</dd>\n"
        "<dt>Cached</dt><dd>Share of the prompt tokens that the server says it had in its prefix cache.</dd>\n"
        "<dt>&times;</dt><dd>Ratio to the first target at the same load.</dd>\n"
        "<dt>Whiskers</dt><dd>Least and most of the runs of a point.</dd>\n</dl></div>\n");
}

/* ---- the page ---- */

static bool prepare(struct page *p)
{
    const struct loadgen_result *r = p->r;
    size_t n_points = (size_t)r->n_points, n_targets = (size_t)r->n_targets;
    p->summaries = calloc(n_points * n_targets, sizeof *p->summaries);
    p->loads = calloc(n_points, sizeof *p->loads);
    p->values = calloc(n_points * n_targets * HTML_COLUMNS, sizeof *p->values);
    for (int i = 0; p->summaries && p->loads && i < r->n_points; i++) {
        p->loads[i] = r->points[i].load;
        for (int t = 0; t < r->n_targets; t++) {
            loadgen_result_summary(r, i, t, &p->summaries[i * r->n_targets + t]);
        }
    }
    return p->summaries && p->loads && p->values;
}

void loadgen_html(const struct loadgen_result *r, struct buf *out)
{
    struct page p = {.r = r, .out = out};
    if (prepare(&p)) {
        put_head(&p);
        buf_puts(out, "<div class=\"cards\">\n");
        for (int i = 0; i < r->n_targets; i++) {
            put_card(&p, i);
        }
        buf_puts(out, "</div>\n");
        html__sweeps(&p);
        buf_puts(out, "<h2>Each load</h2>\n");
        for (int i = 0; i < r->n_points; i++) {
            html__point(&p, i, i == r->n_points - 1);
        }
        put_table(&p);
        put_failures(&p);
        put_definitions(out);
        buf_puts(out, "</main>\n</body>\n</html>\n");
    } else {
        out->failed = out->no_memory = true;
    }
    free(p.summaries);
    free(p.loads);
    free(p.values);
}
