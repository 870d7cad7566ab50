/* What `tandem bench-serve` has measured, for its reports: every run of every target at every point, and how they came
 * about. Filled by the command, run by run; the reports only read it. */
#ifndef TANDEM_CLI_BENCH_RESULT_H
#define TANDEM_CLI_BENCH_RESULT_H

#include "cli/bench_stats.h"

struct bench_facts {                            /* for the head of a report; strings are the caller's */
    const char *version, *processor, *workload; /* workload: a sentence */
    int n_processors;
    int64_t started_s; /* seconds since 1970 */
    uint64_t seed;
    enum bench_api api;
    bool stream;
    int64_t n_requests, n_warmup; /* n_requests 0: chosen for each point */
    double duration_s;            /* 0: no limit */
};

struct bench_measured { /* one run */
    bool done;          /* it has happened, if only in part */
    struct bench_run run;
    struct bench_figures figures;
};

struct bench_result {
    struct bench_facts facts;
    struct bench_slo slo;
    const struct bench_target *targets; /* [n_targets] */
    const struct bench_point *points;   /* [n_points] */
    int n_targets, n_points, n_repeats;
    struct bench_measured *runs; /* [n_points][n_repeats][n_targets] */
    bool interrupted;
};

NODISCARD bool bench_result_init(struct bench_result *r, struct error *err); /* counts are set; makes the runs */
void bench_result_release(struct bench_result *r);

struct bench_measured *bench_result_run(const struct bench_result *r, int point, int repeat, int target);

/* Medians of what was measured of a target at a point; returns of how many runs. 0: *out is all NAN. */
int bench_result_summary(const struct bench_result *r, int point, int target, struct bench_figures *out);

/* "concurrency 8", "2.5 requests/s", "replay"; and without the unit. */
const char *bench_point_name(const struct bench_point *p, char *out, size_t size);
const char *bench_point_load(const struct bench_point *p, char *out, size_t size);
const char *bench_mode_name(enum bench_mode mode); /* "concurrency", "rate", "replay" */

/* A figure for people: "-" for NAN, about three digits, none of them behind the point from 100 on. */
const char *bench_number(double v, char *out, size_t size);

uint64_t bench_result_failed(const struct bench_result *r);        /* requests */
uint64_t bench_result_checks_failed(const struct bench_result *r); /* answers */

#endif
