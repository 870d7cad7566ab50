#include "cli/loadgen_result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static size_t n_runs(const struct loadgen_result *r)
{
    return (size_t)r->n_points * (size_t)r->n_repeats * (size_t)r->n_targets;
}

bool loadgen_result_init(struct loadgen_result *r, struct error *err)
{
    r->runs = calloc(n_runs(r), sizeof *r->runs);
    return r->runs || error_set(err, ERR_NO_MEMORY, "no memory for the results.");
}

void loadgen_result_release(struct loadgen_result *r)
{
    for (size_t i = 0; r->runs && i < n_runs(r); i++) {
        loadgen_run_release(&r->runs[i].run);
    }
    free(r->runs);
    r->runs = NULL;
}

struct loadgen_measured *loadgen_result_run(const struct loadgen_result *r, int point, int repeat, int target)
{
    return &r->runs[((size_t)point * (size_t)r->n_repeats + (size_t)repeat) * (size_t)r->n_targets + (size_t)target];
}

int loadgen_result_summary(const struct loadgen_result *r, int point, int target, struct loadgen_figures *out)
{
    struct loadgen_figures *figures = malloc(((size_t)r->n_repeats + 1) * sizeof *figures);
    int n = 0;
    for (int i = 0; figures && i < r->n_repeats; i++) {
        const struct loadgen_measured *m = loadgen_result_run(r, point, i, target);
        if (m->done) {
            figures[n++] = m->figures;
        }
    }
    loadgen_figures_median(figures, (size_t)n, out);
    free(figures);
    return n;
}

const char *loadgen_mode_name(enum loadgen_mode mode)
{
    static const char *const names[] = {
        [LOADGEN_CLOSED] = "concurrency", [LOADGEN_POISSON] = "rate", [LOADGEN_REPLAY] = "replay"};
    return names[mode];
}

const char *loadgen_point_load(const struct loadgen_point *p, char *out, size_t size)
{
    snprintf(out, size, p->mode == LOADGEN_REPLAY ? "replay" : "%.10g", p->load);
    return out;
}

const char *loadgen_point_name(const struct loadgen_point *p, char *out, size_t size)
{
    switch (p->mode) {
    case LOADGEN_CLOSED:
        snprintf(out, size, "concurrency %.10g", p->load);
        break;
    case LOADGEN_POISSON:
        snprintf(out, size, "%.10g requests/s", p->load);
        break;
    case LOADGEN_REPLAY:
        snprintf(out, size, "replay");
        break;
    }
    return out;
}

const char *loadgen_number(double v, char *out, size_t size)
{
    double a = fabs(v);
    if (isnan(v)) {
        snprintf(out, size, "-");
    } else {
        snprintf(out, size, "%.*f", a == 0 || a >= 99.95 ? 0 : a >= 9.995 ? 1 : a >= 0.0995 ? 2 : 3, v);
    }
    return out;
}

uint64_t loadgen_result_failed(const struct loadgen_result *r)
{
    double n = 0;
    for (size_t i = 0; i < n_runs(r); i++) {
        n += r->runs[i].done ? r->runs[i].figures.failed : 0;
    }
    return (uint64_t)n;
}

uint64_t loadgen_result_checks_failed(const struct loadgen_result *r)
{
    double n = 0;
    for (size_t i = 0; i < n_runs(r); i++) {
        n += r->runs[i].done && r->runs[i].figures.checks_failed > 0 ? r->runs[i].figures.checks_failed : 0;
    }
    return (uint64_t)n;
}
