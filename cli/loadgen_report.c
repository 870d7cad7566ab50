#include "cli/loadgen_report.h"

#include "base/array.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CELL        64
#define MAX_COLUMNS 16
#define LABEL_SHOWN 24 /* characters of a label in a table */

/* ---- a table: cells first, widths when it is printed ---- */

struct table {
    const char *const *groups, *const *titles; /* [n_columns]; a group's name stands over its first column */
    int n_columns, n_rows;
    char (*cells)[CELL]; /* [n_rows][n_columns] */
    size_t cells_cap;
    bool failed;
};

static char (*add_row(struct table *t))[CELL]
{
    size_t need = (size_t)(t->n_rows + 1) * (size_t)t->n_columns;
    if (need > t->cells_cap) {
        void *more = realloc(t->cells, 2 * need * sizeof *t->cells);
        if (!more) {
            t->failed = true;
            return NULL;
        }
        t->cells = more;
        t->cells_cap = 2 * need;
    }
    char(*row)[CELL] = t->cells + (size_t)t->n_rows++ * (size_t)t->n_columns;
    memset(row, 0, (size_t)t->n_columns * sizeof *row);
    return row;
}

static int width_of(const char *s)
{
    return (int)utf8_count(str_of(s));
}

/* Row GROUPS, TITLES, or one of the table's. */
enum { GROUPS = -2, TITLES = -1 };

static const char *text_of(const struct table *t, int row, int column)
{
    return row == GROUPS   ? t->groups[column]
           : row == TITLES ? t->titles[column]
                           : t->cells[(size_t)row * (size_t)t->n_columns + (size_t)column];
}

/* The first two columns are words and lean to the left, as a group's name does over its columns. */
static void put_row(struct buf *out, const struct table *t, const int *widths, int row)
{
    for (int c = 0; c < t->n_columns; c++) {
        const char *text = text_of(t, row, c);
        int pad = widths[c] - width_of(text);
        bool left = c < 2 || row == GROUPS;
        buf_printf(out, "%s%*s%s%*s", c ? "  " : "", left ? 0 : pad, "", text, left ? pad : 0, "");
    }
    while (out->len && out->data[out->len - 1] == ' ') {
        buf_truncate(out, out->len - 1);
    }
    buf_putc(out, '\n');
}

static void print_table(struct table *t, struct buf *out)
{
    int widths[MAX_COLUMNS] = {0};
    for (int row = GROUPS; row < t->n_rows; row++) {
        for (int c = 0; c < t->n_columns; c++) {
            int w = width_of(text_of(t, row, c));
            widths[c] = w > widths[c] ? w : widths[c];
        }
    }
    for (int row = GROUPS; row < t->n_rows; row++) {
        put_row(out, t, widths, row);
    }
    if (t->failed) {
        buf_puts(out, "(no memory for the rest)\n");
    }
    free(t->cells);
}

/* ---- the two tables ---- */

/* What a column shows: a figure, or something made of several. */
enum shown { SHOWN_FIGURE, SHOWN_COUNT, SHOWN_CHECKS, SHOWN_SHARE };

struct column {
    const char *group, *title;
    enum shown shown;
    int figure; /* of loadgen_figure */
};

#define LATENCY(name, part) (LOADGEN_N_SCALARS + LOADGEN_LATENCY_##name * LOADGEN_N_PARTS + (part))

static const struct column throughput[] = {
    {"", "requests/s", SHOWN_FIGURE, LOADGEN_SCALAR_requests_per_s},
    {"tokens/s", "output", SHOWN_FIGURE, LOADGEN_SCALAR_output_tokens_per_s},
    {"", "total", SHOWN_FIGURE, LOADGEN_SCALAR_total_tokens_per_s},
    {"tokens", "prompt", SHOWN_FIGURE, LOADGEN_SCALAR_prompt_tokens},
    {"", "output", SHOWN_FIGURE, LOADGEN_SCALAR_output_tokens},
    {"", "cached", SHOWN_SHARE, LOADGEN_SCALAR_cached_share},
    {"goodput", "good/s", SHOWN_FIGURE, LOADGEN_SCALAR_good_requests_per_s},
    {"", "good", SHOWN_SHARE, LOADGEN_SCALAR_good_share},
    {"", "requests", SHOWN_COUNT, LOADGEN_SCALAR_completed},
    {"", "failed", SHOWN_COUNT, LOADGEN_SCALAR_failed},
    {"", "checks", SHOWN_CHECKS, LOADGEN_SCALAR_checks_passed},
};

static const struct column latencies[] = {
    {"TTFT ms", "p50", SHOWN_FIGURE, LATENCY(ttft, LOADGEN_P50)},
    {"", "p95", SHOWN_FIGURE, LATENCY(ttft, LOADGEN_P95)},
    {"", "p99", SHOWN_FIGURE, LATENCY(ttft, LOADGEN_P99)},
    {"ITL ms", "p50", SHOWN_FIGURE, LATENCY(itl, LOADGEN_P50)},
    {"", "p95", SHOWN_FIGURE, LATENCY(itl, LOADGEN_P95)},
    {"", "p99", SHOWN_FIGURE, LATENCY(itl, LOADGEN_P99)},
    {"TPOT ms", "p50", SHOWN_FIGURE, LATENCY(tpot, LOADGEN_P50)},
    {"E2E ms", "p50", SHOWN_FIGURE, LATENCY(e2e, LOADGEN_P50)},
    {"", "p95", SHOWN_FIGURE, LATENCY(e2e, LOADGEN_P95)},
    {"", "p99", SHOWN_FIGURE, LATENCY(e2e, LOADGEN_P99)},
};

static void fill_cell(char cell[CELL], const struct column *c, const struct loadgen_figures *f)
{
    double v = loadgen_figure(f, c->figure);
    if (c->shown == SHOWN_SHARE && !isnan(v)) {
        snprintf(cell, CELL, "%.0f%%", 100 * v);
    } else if (c->shown == SHOWN_COUNT) {
        snprintf(cell, CELL, "%.10g", v);
    } else if (c->shown == SHOWN_CHECKS && !isnan(v)) {
        snprintf(cell, CELL, "%.0f/%.0f", v, v + f->checks_failed);
    } else {
        loadgen_number(v, cell, CELL);
    }
}

static void fill_ratio(char cell[CELL], const struct column *c, const struct loadgen_figures *ratio)
{
    double v = loadgen_figure(ratio, c->figure);
    if (loadgen_figure_better(c->figure) != 0 && c->shown == SHOWN_FIGURE && !isnan(v)) {
        snprintf(cell, CELL, "%.2fx", v);
    }
}

static bool any_value(const struct loadgen_result *r, int figure)
{
    struct loadgen_figures f;
    for (int p = 0; p < r->n_points; p++) {
        for (int t = 0; t < r->n_targets; t++) {
            if (loadgen_result_summary(r, p, t, &f) && !isnan(loadgen_figure(&f, figure))) {
                return true;
            }
        }
    }
    return false;
}

static void short_label(const char *label, char cell[CELL])
{
    struct str s = str_of(label);
    size_t n = utf8_cut(s, LABEL_SHOWN);
    snprintf(cell, CELL, "%.*s%s", (int)n, label, n < s.len ? "~" : "");
}

static void fill_rows(const struct loadgen_result *r, int point, const struct column *const *columns, struct table *t)
{
    struct loadgen_figures first, f, ratio;
    bool has_first = loadgen_result_summary(r, point, 0, &first) > 0;
    for (int target = 0; target < r->n_targets; target++) {
        char(*row)[CELL] = loadgen_result_summary(r, point, target, &f) ? add_row(t) : NULL;
        if (!row) {
            continue;
        }
        loadgen_point_load(&r->points[point], row[0], CELL);
        short_label(r->targets[target].label, row[1]);
        for (int c = 2; c < t->n_columns; c++) {
            fill_cell(row[c], columns[c - 2], &f);
        }
        if (target == 0 || !has_first || !(row = add_row(t))) {
            continue;
        }
        loadgen_figures_ratio(&f, &first, &ratio);
        snprintf(row[1], CELL, "  : first");
        for (int c = 2; c < t->n_columns; c++) {
            fill_ratio(row[c], columns[c - 2], &ratio);
        }
    }
}

static void put_table(const struct loadgen_result *r, const struct column *all, size_t n, struct buf *out)
{
    const char *groups[MAX_COLUMNS] = {"", ""}, *titles[MAX_COLUMNS] = {"", "target"};
    const struct column *columns[MAX_COLUMNS];
    struct table t = {.groups = groups, .titles = titles, .n_columns = 2};
    titles[0] = r->points[0].mode == LOADGEN_REPLAY ? "" : loadgen_mode_name(r->points[0].mode);
    for (size_t i = 0; i < n; i++) {
        if (any_value(r, all[i].figure)) {
            columns[t.n_columns - 2] = &all[i];
            groups[t.n_columns] = all[i].group;
            titles[t.n_columns++] = all[i].title;
        }
    }
    for (int p = 0; p < r->n_points; p++) {
        fill_rows(r, p, columns, &t);
    }
    print_table(&t, out);
}

/* ---- around them ---- */

/* What a server says reaches the terminal without control characters. */
static void put_clean(struct buf *out, const char *text)
{
    char clean[400];
    loadgen_clean_text(str_of(text), clean, sizeof clean);
    buf_puts(out, clean);
}

static void put_head(const struct loadgen_result *r, struct buf *out)
{
    for (int i = 0; i < r->n_targets; i++) {
        const struct loadgen_target *t = &r->targets[i];
        const char *const parts[] = {t->label, ": ", t->url, ", model ", t->model};
        const char *const said[] = {t->server, t->fingerprint};
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            put_clean(out, parts[k]);
        }
        for (size_t k = 0; k < ARRAY_LEN(said); k++) {
            buf_puts(out, said[k][0] ? ", " : "");
            put_clean(out, said[k]);
        }
        buf_putc(out, '\n');
    }
    buf_printf(out, "%s; %s; seed %llu", r->facts.workload, r->facts.stream ? "streams" : "whole answers",
               (unsigned long long)r->facts.seed);
    if (r->n_repeats > 1) {
        buf_printf(out, "; medians of %d runs, in turns", r->n_repeats);
    }
    buf_puts(out, "\n\n");
}

static void put_notes(const struct loadgen_result *r, struct buf *out)
{
    struct loadgen_figures f;
    bool counted = false, busy = false;
    for (int p = 0; p < r->n_points; p++) {
        for (int t = 0; t < r->n_targets; t++) {
            loadgen_result_summary(r, p, t, &f);
            counted = counted || f.counted_share > 0;
            busy = busy || f.client_cpu > 0.5;
        }
    }
    if (counted) {
        buf_puts(out,
                 "Some answers came without usage: their tokens are token events, which may hold more than one.\n");
    }
    if (busy) {
        buf_puts(out, "This client used more than half a core in some runs: it may be what limits them.\n");
    }
    if (r->interrupted) {
        buf_puts(out, "Interrupted: the last run is not complete.\n");
    }
}

static void put_failures_of_run(const struct loadgen_measured *m, const char *who, struct buf *out)
{
    for (int k = 0; k < m->run.n_failures; k++) {
        const struct loadgen_failure *f = &m->run.failures[k];
        buf_printf(out, "%s: %llu x %s", who, (unsigned long long)f->n, loadgen_outcome_name(f->outcome));
        if (f->outcome == LOADGEN_STATUS) {
            buf_printf(out, " %d", f->status);
        }
        buf_printf(out, ": %s\n", f->message);
    }
    for (int k = 0; k < m->run.n_examples; k++) {
        const struct loadgen_example *e = &m->run.examples[k];
        char beginning[160];
        loadgen_clean_text(str_of(e->text), beginning, sizeof beginning);
        buf_printf(out, "%s: line %llu: %s It is: %s\n", who, (unsigned long long)e->line, e->complaint, beginning);
    }
    if (m->run.gave_up) {
        buf_printf(out, "%s: ended early, since nobody answers any more\n", who);
    }
}

static void put_failures(const struct loadgen_result *r, int point, struct buf *out)
{
    char where[80], who[160];
    loadgen_point_name(&r->points[point], where, sizeof where);
    for (int t = 0; t < r->n_targets; t++) {
        snprintf(who, sizeof who, "%s, %s", r->targets[t].label, where);
        for (int i = 0; i < r->n_repeats; i++) {
            const struct loadgen_measured *m = loadgen_result_run(r, point, i, t);
            if (m->done) {
                put_failures_of_run(m, who, out);
            }
        }
    }
}

void loadgen_report_text(const struct loadgen_result *r, struct buf *out)
{
    put_head(r, out);
    put_table(r, throughput, ARRAY_LEN(throughput), out);
    buf_putc(out, '\n');
    put_table(r, latencies, ARRAY_LEN(latencies), out);
    buf_putc(out, '\n');
    put_notes(r, out);
    for (int p = 0; p < r->n_points; p++) {
        put_failures(r, p, out);
    }
}
